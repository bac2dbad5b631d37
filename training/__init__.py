"""How nano, the small SAM 2 that ships, is made: pictures, composites, training and evaluation. Not installed."""
