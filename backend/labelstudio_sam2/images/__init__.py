"""Untrusted pictures: fetched under guard, decoded within limits, known by their content."""
