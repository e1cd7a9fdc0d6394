"""What the tests of the Hub share."""

from __future__ import annotations

import pytest

from gdq_cli.models.checkpoint import Checkpoint, write_checkpoint


@pytest.fixture(scope="session")
def weights(small_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a small checkpoint."""
    path = tmp_path_factory.mktemp("hub") / "small_x2.safetensors"
    write_checkpoint(path, small_checkpoint)
    return path.read_bytes()
