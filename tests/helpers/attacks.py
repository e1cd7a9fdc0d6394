"""Ways to make a checkpoint file hostile, and what counts as refusing it."""

from __future__ import annotations

import json
import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gdq_cli.errors import WeightsError
from gdq_cli.models.checkpoint import read_checkpoint
from tests.helpers.checkpoints import rewrite

Attack = Callable[[Path], None]


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> Attack:
    """A file of these bytes, with a length that may lie."""

    def attack(path: Path) -> None:
        path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)

    return attack


def metadata(**fields: Any) -> Attack:
    return lambda path: rewrite(path, metadata=fields)


def config(**fields: Any) -> Attack:
    def attack(path: Path) -> None:
        header = header_of(path)
        values = json.loads(header["__metadata__"]["gdq"])["config"]
        rewrite(path, metadata={"config": values | fields})

    return attack


def tensor(key: str, edit: Callable[[torch.Tensor], torch.Tensor]) -> Attack:
    return lambda path: rewrite(path, tensors={key: edit(load_file(path)[key].clone())})


def header_of(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])  # type: ignore[no-any-return]


def header(edit: Callable[[dict[str, Any]], Any]) -> Attack:
    """Edit the header itself, where tensors are declared; the data stay as they are."""

    def attack(path: Path) -> None:
        content = path.read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        values = json.loads(content[8 : 8 + length])
        edit(values)
        text = json.dumps(values).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return attack


def text(value: str) -> Attack:
    """Other text in place of our metadata."""
    return header(lambda values: values["__metadata__"].__setitem__("gdq", value))


def declare(key: str, **fields: Any) -> Attack:
    return header(lambda values: values[key].update(fields))


def one(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Change a single element, the last one."""

    def edit(x: torch.Tensor) -> torch.Tensor:
        x.view(-1)[-1] = value
        return x

    return edit


def sparse(path: Path) -> None:
    """A file that claims a terabyte and takes no room."""
    with path.open("r+b") as file:
        file.truncate(1 << 40)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def duplicate(path: Path) -> None:
    """Two different declarations of one tensor."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    declared = content[8 : 8 + length].rstrip()
    assert declared.endswith(b"}")
    declared = declared[:-1] + b',"tail.bias":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}'
    path.write_bytes(struct.pack("<Q", len(declared)) + declared + content[8 + length :])


def widest(path: Path) -> None:
    """The largest sizes the schema allows, over a file that does not hold them."""
    config(blocks=64, features=256)(path)


def assert_refused(path: Path, message: str) -> None:
    tracemalloc.start()
    start, processor = time.perf_counter(), time.process_time()
    try:
        with pytest.raises(WeightsError) as caught:
            read_checkpoint(path)
        seconds, worked = time.perf_counter() - start, time.process_time() - processor
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    line = str(caught.value)
    assert message in line
    assert line.startswith(str(path))
    assert line.isprintable()  # one line, and nothing that a terminal would obey
    assert len(line) < len(str(path)) + 400
    assert worked < 1
    assert seconds < 10  # under a second as well, unless other programs hold the processor
    assert peak < 32 << 20
    assert caught.value.exit_code == 4
