"""A browser, where there is one."""

from collections.abc import Iterator

import pytest

from tests.helpers.chromium import PROGRAM, Chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if PROGRAM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium
