"""What both models need to run: devices, files, token ids, batches, and calls that end in time."""
