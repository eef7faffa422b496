"""Load, faults and hostile input."""
