"""How fast the backend is beside the obvious code: `make bench`, or `python -m benchmarks --help`. Not installed."""
