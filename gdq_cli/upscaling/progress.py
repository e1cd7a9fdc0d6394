"""How far some work is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with the finished and all units of some work, such as patches; may raise to end it."""


def in_turn(progress: Progress, first: int, second: int) -> tuple[Progress, Progress]:
    """Progress of two pieces of work, one after the other, told as that of one.

    Args:
        progress: told.
        first, second: what a unit of each costs; both have as many units.
    """

    def of_first(done: int, total: int) -> None:
        progress(first * done, total * (first + second))

    def of_second(done: int, total: int) -> None:
        progress(first * total + second * done, total * (first + second))

    return of_first, of_second
