"""ncnn's model files for the graph of peers.py, written directly: its quantizing tools are not in its Python package.

int8 as its tools make it: weights per output channel, activations symmetric per tensor by their largest value, and a
convolution that feeds another one only gives 8-bit codes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ncnn
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from peers import Operator

F32 = NDArray[np.float32]


def write_model(graph: Sequence[Operator], peaks: dict[str, float], stem: Path) -> None:
    """Write ``stem``.param and ``stem``.bin.

    Args:
        graph: on the blob ``centred``.
        peaks: largest magnitude of each convolution's input; empty for FP32.
        stem: path without suffix.
    """
    uses = Counter(name for op in graph for name in op.inputs)
    readers = {name: [op for op in graph if name in op.inputs] for name in uses}
    lines = ["Input centred 0 1 centred"]
    taken: Counter[str] = Counter()
    parts: list[bytes] = []
    blobs = 1

    def blob(name: str) -> str:  # a blob has one reader: several get copies from a Split layer
        if uses[name] < 2:
            return name
        taken[name] += 1
        return f"{name}_split{taken[name]}"

    for op in graph:
        sources = [blob(name) for name in op.inputs]
        head = f"{op.name} {len(sources)} 1 {' '.join(sources)} {op.name}"
        blobs += 1
        if op.kind == "conv":
            assert op.weight is not None
            assert op.bias is not None
            only_conv = uses[op.name] == 1 and readers[op.name][0].kind == "conv"
            term = 0 if not peaks else 102 if only_conv else 2
            shape = f"0={len(op.weight)} 1=3 4=1 5=1 6={op.weight.size} 8={term} 9={int(op.relu)}"
            lines.append(f"Convolution {head} {shape}")
            parts += [bytes(4), op.weight.tobytes(), op.bias.tobytes()]  # 4 bytes: float32 follows
            if peaks:
                largest = np.abs(op.weight).reshape(len(op.weight), -1).max(1)
                parts.append((127 / largest).astype(np.float32).tobytes())
                parts += [
                    np.float32(127 / max(peaks[name], 1e-6)).tobytes()
                    for name in (op.inputs[0], op.name)[: 1 + only_conv]
                ]
        else:
            lines.append(f"BinaryOp {head} 0=0" if op.kind == "add" else f"PixelShuffle {head} 0={op.factor}")
        if uses[op.name] > 1:
            copies = [f"{op.name}_split{i + 1}" for i in range(uses[op.name])]
            lines.append(f"Split {op.name}_split 1 {len(copies)} {op.name} {' '.join(copies)}")
            blobs += len(copies)
    stem.with_suffix(".param").write_text("\n".join(["7767517", f"{len(lines)} {blobs}", *lines]) + "\n")
    stem.with_suffix(".bin").write_bytes(b"".join(parts))


def ncnn_run(
    graph: Sequence[Operator], centred: F32, samples: Sequence[F32] | None, threads: int, folder: Path
) -> Callable[[], F32]:
    """Load the network into ncnn.

    Args:
        graph: of the network.
        centred: (3, H, W) picture minus the mean.
        samples: like it, to calibrate int8 with; None for FP32.
        threads: for its loops.
        folder: for model files.
    """
    stem = folder / f"ncnn_{'fp32' if samples is None else 'int8'}"
    if not stem.with_suffix(".bin").exists():
        write_model(graph, {} if samples is None else _peaks(graph, samples, folder), stem)
    net = _load(stem, threads)
    return lambda: _extract(net, centred, ["tail"])["tail"]


def _peaks(graph: Sequence[Operator], samples: Sequence[F32], folder: Path) -> dict[str, float]:
    """Largest magnitude of each convolution's input over some pictures."""
    write_model(graph, {}, folder / "ncnn_probe")
    probe = _load(folder / "ncnn_probe", 1, light=False)
    peaks: dict[str, float] = {}
    names = sorted({op.inputs[0] for op in graph if op.kind == "conv"})
    for sample in samples:
        outputs = _extract(probe, sample, names)
        peaks = {name: max(peaks.get(name, 0.0), float(np.abs(outputs[name]).max())) for name in names}
    return peaks


def _load(stem: Path, threads: int, light: bool = True) -> ncnn.Net:
    net = ncnn.Net()
    net.opt.num_threads, net.opt.use_vulkan_compute, net.opt.lightmode = threads, False, light
    if net.load_param(str(stem.with_suffix(".param"))) or net.load_model(str(stem.with_suffix(".bin"))):
        raise RuntimeError("ncnn does not take the model")
    return net


def _extract(net: ncnn.Net, centred: F32, names: Sequence[str]) -> dict[str, F32]:
    extractor = net.create_extractor()
    extractor.input("centred", ncnn.Mat(centred))
    found = {}
    for name in names:
        status, mat = extractor.extract(name)
        if status:
            raise RuntimeError(f"ncnn cannot compute {name}")
        found[name] = np.array(mat)
    return found
