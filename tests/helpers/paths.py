"""Places that tests look in."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
"""Files that may not be distributed, beside the repository; tests skip where they are absent."""
DATA = ROOT / "tests" / "data"
