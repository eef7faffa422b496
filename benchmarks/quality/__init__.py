"""What is found, ordered and answered."""
