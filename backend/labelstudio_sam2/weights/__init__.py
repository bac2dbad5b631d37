"""Gets official checkpoints into the weights folder: from the web, from a mirror, or from a file."""
