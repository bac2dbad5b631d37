"""A load test: annotators who work on the real server for minutes, and every answer is checked."""
