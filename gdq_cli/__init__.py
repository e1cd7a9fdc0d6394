"""gdq: fast image upscaling with real Granular-DQ."""

from gdq_cli._version import __version__

__all__ = ["__version__"]
