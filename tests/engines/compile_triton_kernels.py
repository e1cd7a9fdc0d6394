"""Compile every kernel that the CUDA engine launches, for one architecture, without a GPU; one JSON line of facts each.

    python tests/engines/compile_triton_kernels.py 90

Triton decides at its import whether it interprets, so this is a program of its own.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gdq_cli.engines.cuda import triton_kernels
from gdq_cli.engines.cuda.network import CudaNetwork, make_output, place_sums, run_layer
from gdq_cli.networks import CompactConfig, outline
from gdq_cli.program.layers import IntegerConv
from gdq_cli.upscaling.pool import load_checkpoint

TYPES = {torch.uint8: "*u8", torch.int8: "*i8", torch.int32: "*i32", torch.float32: "*fp32"}


def describe(kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any]) -> ASTSource:
    """What a launch makes Triton compile: torch's allocations are aligned, whole numbers are not specialized."""
    signature: dict[str, str] = {}
    values: dict[tuple[int, ...], Any] = {}
    attributes = {}
    for index, (name, value) in enumerate(zip(kernel.arg_names, arguments, strict=False)):
        if value is None:
            signature[name], values[(index,)] = "constexpr", None
            continue
        signature[name] = TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32"
        if isinstance(value, torch.Tensor):
            attributes[(index,)] = [["tt.divisibility", 16]]
    for name, value in constants.items():
        signature[name] = "constexpr"
        values[(kernel.arg_names.index(name),)] = value
    return ASTSource(kernel, signature, values, attributes)


def main() -> None:
    launches: dict[str, ASTSource] = {}

    def record(kernel: Any, grid: Any, *arguments: Any, interpreted: bool, **constants: Any) -> None:
        source = describe(kernel, arguments, constants)
        absent = [name for name, kind in source.signature.items() if kind == "constexpr" and name not in constants]
        launches.setdefault(f"{kernel.fn.__name__} {constants}, without {absent}", source)

    triton_kernels.launch = record
    choice = torch.zeros(1, dtype=torch.int32)
    for scale in (2, 3, 4):
        for program in (load_checkpoint("edsr", scale).parameters.program, outline(CompactConfig(scale, convs=1))):
            CudaNetwork(program, "cpu")(torch.zeros((1, 2, 2, 3), dtype=torch.uint8), choice)
    unit = np.ones(64, np.float32)
    for bounds in ((0, 255), (-128, 127)):  # the self-test's accumulators
        sums = place_sums(IntegerConv(np.ones((64, 64, 3, 3), np.int8), unit, unit, bounds), "cpu")
        codes = torch.zeros((1, 2, 2, 64), dtype=torch.int8)
        run_layer(codes, sums, choice, make_output(codes, sums, torch.int32))
    target = GPUTarget("cuda", int(sys.argv[1]), 32)
    for name, source in launches.items():
        compiled = triton.compile(source, target=target, options=triton_kernels.OPTIONS)
        ptx = compiled.asm["ptx"]
        facts = {
            "kernel": name,
            "fused": ptx.count("fma.") + compiled.asm["sass"].count("FFMA"),
            "flushed": ptx.count(".ftz"),
            "int8_products": ptx.count(".s32.s8.s8"),
            "shared": compiled.metadata.shared,
            "binary": len(compiled.asm["cubin"]),
        }
        sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
