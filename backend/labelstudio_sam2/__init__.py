"""A Label Studio ML backend for SAM 2."""
