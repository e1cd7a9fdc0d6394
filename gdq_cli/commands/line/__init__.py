"""Command lines: the options that commands share, help, the tab key, and what can be wrong with a line."""
