"""Running it: logging, and later metrics and pages."""
