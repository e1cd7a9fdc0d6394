"""Where docs/python-api.md of version 0.1 had ``overlay_image``; now ``gdq_cli.bitmaps.overlay``."""

from gdq_cli.bitmaps.overlay import overlay_image

__all__ = ["overlay_image"]
