"""Progress of two pieces of work as that of one."""

from gdq_cli.upscaling.progress import in_turn


def test_two_pieces_in_turn() -> None:
    told: list[tuple[int, int]] = []
    first, second = in_turn(lambda done, total: told.append((done, total)), 1, 9)
    for done in (1, 4):
        first(done, 4)
    for done in (0, 2, 4):
        second(done, 4)
    assert told == [(1, 40), (4, 40), (4, 40), (22, 40), (40, 40)]
