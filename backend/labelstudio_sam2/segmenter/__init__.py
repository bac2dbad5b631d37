"""Prompts in, masks out: SAM 2 behind a cache of embeddings. Knows no HTTP and no Label Studio."""
