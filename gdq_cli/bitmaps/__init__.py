"""Bit maps to look at: terminal, overlay, table, web page."""
