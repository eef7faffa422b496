"""BioASQ Task B: its own measures, golden files and submissions."""
