"""Models without padding: texts lie one behind the other, and each attends to itself alone."""
