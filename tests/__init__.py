"""Tests, a folder per room of the package."""

import pytest

pytest.register_assert_rewrite("tests.helpers")
