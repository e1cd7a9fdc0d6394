"""Checkpoints: format, names, the Hub, conversion."""
