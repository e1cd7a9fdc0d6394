"""The pixels of integer runs, held: SHA-256 of outputs of the bundled checkpoints and of a small Compact.

``python -m tests.engines.test_pixels`` writes the hashes anew, which is right only where new weights or a new contract
are meant to change them.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from numpy.typing import NDArray

from gdq_cli.engines import choose_engine, kernels
from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint
from gdq_cli.upscaling.upscaler import Upscaler
from tests.helpers.engines import onednn_is_exact
from tests.helpers.paths import DATA, ROOT

HASHES = DATA / "pixels.json"
CHECKPOINTS = {path.stem: path for path in sorted((ROOT / "weights").glob("*.safetensors"))}
CHECKPOINTS["compact_x2"] = DATA / "compact_x2.safetensors"
BITS = ("4", "5", "6", "8", "auto")
ENGINES = {"reference": True, "native": bool(kernels.report().chosen), "onednn": onednn_is_exact()}


def picture(height: int = 337, width: int = 19) -> NDArray[np.uint8]:
    """Ramps, texture and strong edges, in integers alone; four patches of odd sides, two windows at least."""
    y, x = np.mgrid[0:height, 0:width]
    texture = np.random.default_rng(7).integers(0, 90, (height, width, 3))
    ramps = np.stack([(3 * x + y) % 256, (2 * y) % 256, (x * y // 16) % 256], axis=2)
    squares = np.where((x // 5 + y // 7) % 2 == 0, 255, 0)[:, :, None]
    mixed = np.where((y < 110)[:, :, None], ramps, np.where((y < 220)[:, :, None], texture + 80, squares))
    return mixed.astype(np.uint8)


def digest(checkpoint: Checkpoint, engine: str, bits: str) -> str:
    """SHA-256 of the output."""
    upscaler = Upscaler(checkpoint, choose_engine(checkpoint.network, "cpu", engine).engine)
    return hashlib.sha256(upscaler.upscale(picture(), bits=bits).image.tobytes()).hexdigest()


@pytest.mark.parametrize("engine", [name for name, here in ENGINES.items() if here])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_pixels_are_held(name: str, engine: str) -> None:
    checkpoint = read_checkpoint(CHECKPOINTS[name])
    expected = json.loads(HASHES.read_text())[name]
    bits = BITS if engine != "reference" else ("4", "8")  # the slow one: one width of either grid
    assert {b: digest(checkpoint, engine, b) for b in bits} == {b: expected[b] for b in bits}


def main() -> None:
    found = {}
    for name, path in CHECKPOINTS.items():
        checkpoint = read_checkpoint(path)
        found[name] = {bits: digest(checkpoint, "auto", bits) for bits in BITS}
    HASHES.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
