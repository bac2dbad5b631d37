"""Running it: logging, metrics, readiness, memory, and an end for a worker whose device is lost."""
