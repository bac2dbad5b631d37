"""Finds out why a click is not answered: from the settings to a mask, one finding after the other."""
