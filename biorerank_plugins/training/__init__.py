"""Training rows, their statistics, and recipes that make cross-encoders of them. Needs the extra ``train``."""
