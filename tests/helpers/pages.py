"""Pages of the documentation as text."""

from __future__ import annotations

import re
from pathlib import Path


def prose(page: Path) -> str:
    """Text without fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
