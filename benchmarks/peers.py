"""Other engines on the same float network, for benchmarks/engines.py: ONNX Runtime, OpenVINO and ncnn, FP32 and int8.

Their packages are optional (``pip install onnx onnxruntime openvino nncf ncnn``). The graph is built here, operator by
operator, so that no exporter decides what the peers get; the mean's factor 255 is folded into head and tail for them.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gdq_cli.networks.edsr.config import MEAN
from gdq_cli.networks.edsr.network import Edsr

F32 = NDArray[np.float32]
Run = Callable[[], F32]
"""Upscales the picture: () -> (3, H * scale, W * scale) grey levels."""


@dataclass(frozen=True)
class Operator:
    """A node of the graph: its inputs by name, the first output being its own name."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    weight: F32 | None = None
    bias: F32 | None = None
    factor: int = 0
    relu: bool = False


def graph_of(network: Edsr) -> list[Operator]:
    """The float network on centred pixels: convolutions with fused ReLU, additions, pixel shuffles."""
    operators: list[Operator] = []

    def conv(name: str, source: str, layer: Any, gain: float = 1.0, shift: Any = 0.0, relu: bool = False) -> str:
        weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
        if name == "head":
            weight = weight / 255
        pair = (weight * gain).float().numpy(), (bias * gain + torch.as_tensor(shift)).float().numpy()
        operators.append(Operator("conv", name, (source,), *pair, relu=relu))
        return name

    def add(name: str, left: str, right: str) -> str:
        operators.append(Operator("add", name, (left, right)))
        return name

    x = skip = conv("head", "centred", network.head)
    for index, block in enumerate(network.blocks):
        hidden = conv(f"block{index}_conv1", x, block.conv1, relu=True)
        x = add(f"block{index}", x, conv(f"block{index}_conv2", hidden, block.conv2))
    x = add("body", conv("body_conv", x, network.body_conv), skip)
    for index, (layer, stage) in enumerate(zip(network.upsampler_convs, network.config.stages, strict=True)):
        operators.append(Operator("shuffle", f"up{index}", (conv(f"up{index}_conv", x, layer),), factor=stage))
        x = f"up{index}"
    conv("tail", x, network.tail, 255.0, MEAN)
    return operators


def onnx_model(graph: Sequence[Operator], height: int, width: int, scale: int) -> Any:
    """ONNX model: ``pixels`` (1, 3, H, W) float32 grey levels -> ``tail`` (1, 3, H * scale, W * scale)."""
    from onnx import TensorProto, checker, helper, numpy_helper

    constants = [numpy_helper.from_array(np.array(MEAN, np.float32).reshape(1, 3, 1, 1), "mean")]
    nodes = [helper.make_node("Sub", ["pixels", "mean"], ["centred"])]
    for op in graph:
        if op.kind == "conv":
            constants += [
                numpy_helper.from_array(op.weight, f"{op.name}_weight"),
                numpy_helper.from_array(op.bias, f"{op.name}_bias"),
            ]
            inputs, output = [op.inputs[0], f"{op.name}_weight", f"{op.name}_bias"], op.name
            if op.relu:
                output += "_linear"
            nodes.append(helper.make_node("Conv", inputs, [output], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
            if op.relu:
                nodes.append(helper.make_node("Relu", [output], [op.name]))
        elif op.kind == "add":
            nodes.append(helper.make_node("Add", list(op.inputs), [op.name]))
        else:
            nodes.append(helper.make_node("DepthToSpace", list(op.inputs), [op.name], blocksize=op.factor, mode="CRD"))
    sizes = {"pixels": (height, width), "tail": (height * scale, width * scale)}
    ends = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, *size)) for name, size in sizes.items()}
    body = helper.make_graph(nodes, "edsr", [ends["pixels"]], [ends["tail"]], constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    return model


class Peers:
    """What the foreign engines need, prepared once.

    Args:
        network: float.
        image: (H, W, 3) uint8, the picture to time.
        samples: pictures of the same size for calibrating int8.
        folder: for model files; those that are there already are used.
    """

    def __init__(
        self, network: Edsr, image: NDArray[np.uint8], samples: Sequence[NDArray[np.uint8]], folder: Path
    ) -> None:
        self.folder = folder
        self.pixels = _planes(image)
        self.samples = [_planes(sample) for sample in samples]
        self.graph = graph_of(network)
        self.scale = network.config.scale

    def _file(self, name: str, make: Callable[[Path], object]) -> Path:
        file = self.folder / name
        if not file.exists():
            make(file)
        return file

    def onnx_file(self, int8: bool) -> Path:
        """The network as ONNX; int8 as ONNX Runtime's own static quantization makes it (QDQ)."""
        if int8:
            return self._file("int8.onnx", lambda file: _quantize_onnx(self.onnx_file(False), file, self.samples))
        import onnx

        sizes = (*self.pixels.shape[2:], self.scale)
        return self._file("fp32.onnx", lambda file: onnx.save(onnx_model(self.graph, *sizes), file))

    def onnxruntime(self, threads: int, int8: bool) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.force_spinning_stop", "1")  # or its threads disturb the next engine
        session = onnxruntime.InferenceSession(self.onnx_file(int8), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"pixels": self.pixels})[0][0]

    def openvino(self, threads: int, int8: bool) -> Run:
        import openvino

        def quantize(file: Path) -> None:
            import nncf

            nncf.set_log_level(logging.ERROR)
            model = openvino.Core().read_model(self.onnx_file(False))
            data = nncf.Dataset([{"pixels": sample} for sample in self.samples])
            openvino.save_model(nncf.quantize(model, data), file, compress_to_fp16=False)

        model = openvino.Core().read_model(self._file("int8.xml", quantize) if int8 else self.onnx_file(False))
        precision = {} if int8 else {"INFERENCE_PRECISION_HINT": "f32"}  # bfloat16 is its default where there is any
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **precision}
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        return lambda: request.infer({"pixels": self.pixels})[0][0]

    def ncnn(self, threads: int, int8: bool) -> Run:
        from peers_ncnn import ncnn_run

        mean = np.array(MEAN, np.float32).reshape(3, 1, 1)
        samples = [sample[0] - mean for sample in self.samples]
        return ncnn_run(self.graph, self.pixels[0] - mean, samples if int8 else None, threads, self.folder)


def find_peers(peers: Peers, threads: int) -> tuple[dict[str, Run], dict[str, str]]:
    """Every foreign engine that is installed, and for the others the reason."""
    runs: dict[str, Run] = {}
    missing: dict[str, str] = {}
    for title, make in (("ONNX Runtime", peers.onnxruntime), ("OpenVINO", peers.openvino), ("ncnn", peers.ncnn)):
        for kind in ("FP32", "int8"):
            try:
                runs[f"{title} {kind}"] = make(threads, kind == "int8")
            except ImportError as error:
                missing[f"{title} {kind}"] = f"not run: {error}"
    return runs, missing


def versions() -> str:
    """Names and versions of the packages that are there."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for package in ("torch", "onnxruntime", "openvino", "nncf", "ncnn"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _planes(image: NDArray[np.uint8]) -> F32:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def _quantize_onnx(source: Path, target: Path, samples: Sequence[F32]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest = iter(samples)

        def get_next(self) -> dict[str, F32] | None:
            sample = next(self._rest, None)
            return None if sample is None else {"pixels": sample}

    with tempfile.TemporaryDirectory() as folder:  # of the calibrator's own files
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"TempDir": folder},
        )
