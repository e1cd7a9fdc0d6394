"""Where docs/python-api.md of version 0.1 had ``compare_images``; now ``gdq_cli.measure.comparison``."""

from gdq_cli.measure.comparison import compare_images

__all__ = ["compare_images"]
