"""What can go wrong while a checkpoint is fetched."""


class WeightsError(Exception):
    """A checkpoint cannot be had; the message says why and what to do."""
