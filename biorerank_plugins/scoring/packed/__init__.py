"""Cross-encoders without padding: pairs lie one behind the other, and each attends to itself alone."""
