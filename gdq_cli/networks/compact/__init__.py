"""Compact (SRVGGNetCompact)."""
