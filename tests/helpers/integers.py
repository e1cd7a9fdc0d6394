"""Integer layers in torch, for oracles that are written in it, and engines for programs that no checkpoint holds."""

from __future__ import annotations

import copy
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from gdq_cli.networks import CompactConfig, Network, Parameters, controller_head
from gdq_cli.program.layers import IntegerConv
from gdq_cli.program.operations import Codes, Conv, Head, Operation, Program, Quantize


def as_tensors(layer: Any) -> Any:
    """The fields of an IntegerConv or IntegerHead, its arrays as tensors."""
    values = {field.name: getattr(layer, field.name) for field in fields(layer)}
    return SimpleNamespace(**{k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in values.items()})


def exact_accumulators(codes: torch.Tensor, conv: IntegerConv) -> torch.Tensor:
    """What a convolution sums, in float64: (N, I, h, w) codes -> (N, O, h, w) int32."""
    weight = as_tensors(conv).weight.double()
    return torch.nn.functional.conv2d(codes.double(), weight, padding=1).to(torch.int32)


def with_integer_head(network: Network) -> Network:
    """A copy whose head has the 12-bit weights of the program, so that only roundings tell it from the integers."""
    network, head = copy.deepcopy(network), as_tensors(controller_head(network))
    weight: torch.Tensor = network.head.weight  # type: ignore[assignment, union-attr]
    with torch.no_grad():
        weight.copy_(head.weight.double() * 255 * head.multiplier.double().reshape(-1, 1, 1, 1))
    return network


def extreme_codes(conv: IntegerConv, generator: torch.Generator, size: tuple[int, int] = (6, 7)) -> torch.Tensor:
    """Smallest and largest codes at random, (1, I, h, w) int16."""
    low, high = conv.input_range
    shape = (1, conv.weight.shape[1], *size)
    return torch.where(torch.rand(shape, generator=generator) < 0.5, low, high).to(torch.int16)


def codes_of(operation: Operation) -> Codes | None:
    """The codes that an operation makes."""
    if isinstance(operation, Quantize):
        return operation.codes
    return operation.epilogue.codes if isinstance(operation, Head | Conv) else None


def program_of(*operations: Operation, scale: int = 1, bits: int = 8) -> Program:
    """A program of one bit-width."""
    return Program(scale, {bits: operations})


def parameters_with(program: Program, features: int) -> Parameters:
    """Parameters for an engine that is to run a program which was lowered from nothing."""
    parameters = Parameters(CompactConfig(max(program.scale, 2), 1, features), {})
    parameters.__dict__.update(program=program, module=torch.nn.Identity())
    return parameters
