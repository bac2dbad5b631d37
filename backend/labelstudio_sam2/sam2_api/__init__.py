"""The SAM 2 API of the seed: a class, its prompts and pictures, and its HTTP routes."""
