"""How many CPU threads a run uses, torch's included. torch is not imported for it."""

from __future__ import annotations

import os
import sys

_chosen: int | None = None


def thread_count() -> int:
    """What was set; else torch's own choice where it is loaded, else ``OMP_NUM_THREADS``, else the usable cores."""
    if "torch" in sys.modules:
        count: int = sys.modules["torch"].get_num_threads()
        return count
    if _chosen is not None:
        return _chosen
    wish = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(wish) if wish.isdigit() and int(wish) else usable_cores()


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_thread_count(count: int) -> None:
    """Use so many threads, in torch too if it is loaded now or later."""
    global _chosen
    _chosen = count
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    else:  # read by torch's OpenMP when it is loaded
        os.environ["OMP_NUM_THREADS"] = str(count)
