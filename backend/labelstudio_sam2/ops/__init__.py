"""Running it: logging, metrics, readiness, and what becomes of a process."""
