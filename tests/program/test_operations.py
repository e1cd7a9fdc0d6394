"""What a program says of itself, against the networks in torch and against counting by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from gdq_cli.errors import WeightsError
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.networks import CompactConfig, EdsrConfig, NetworkConfig, SrresnetConfig, outline
from gdq_cli.program.operations import (
    Codes,
    Conv,
    Epilogue,
    Head,
    Operation,
    Pixels,
    Program,
    Quantize,
    last_reads,
    place_buffers,
)
from tests.helpers.integers import codes_of
from tests.helpers.networks import make_positive

CONFIGS: list[NetworkConfig] = [
    EdsrConfig(2, 2, 4),
    EdsrConfig(3, 1, 4),
    EdsrConfig(4, 2, 4, static_bits=(8, 8, 6, 8)),
    EdsrConfig(3, 2, 4, upsampler="pixelshuffledirect"),
    EdsrConfig(4, 1, 4, upsampler="pixelshuffledirect"),
    CompactConfig(2, 1, 4),
    CompactConfig(3, 3, 4),
    CompactConfig(4, 2, 4),
    SrresnetConfig(2, 1, 4),
    SrresnetConfig(4, 2, 4),
]
every_network = pytest.mark.parametrize("config", CONFIGS, ids=str)


def layers_of(operations: Sequence[Operation]) -> list[Head | Conv | Pixels]:
    return [operation for operation in operations if isinstance(operation, Head | Conv | Pixels)]


# --- How far a pixel reaches ----------------------------------------------------------------------------------------


@every_network
def test_a_pixel_reaches_as_far_as_the_radius_and_no_further(config: NetworkConfig) -> None:
    """Change one LR pixel: the LR pixels whose outputs change lie within the radius, and reach it on every side."""
    radius, scale, network = outline(config).radius, config.scale, make_positive(config)
    middle = radius + 2
    pixels = torch.zeros((1, 3, 2 * middle + 1, 2 * middle + 1))
    changed = pixels.clone()
    changed[..., middle, middle] = 1e15  # seen through the smallest product of weights
    with torch.inference_mode():
        difference = (network(changed) - network(pixels)).abs().amax((0, 1))
    reached = difference.unfold(0, scale, scale).unfold(1, scale, scale).amax((2, 3)) > 0
    rows, cols = (torch.nonzero(reached.any(axis)).flatten() - middle for axis in (1, 0))
    for places in (rows, cols):
        assert (int(places.min()), int(places.max())) == (-radius, radius)


def test_radius_by_hand() -> None:
    assert outline(CompactConfig(4, 32, 64)).radius == 34
    assert outline(EdsrConfig(2, 16, 64)).radius == 36  # head, 32, body conv, 1, and a tail at twice the size: 35.5
    assert outline(EdsrConfig(4, 16, 64)).radius == 36  # 1 + 32 + 1 + 1 + 1/2 + 1/4
    assert outline(EdsrConfig(4, 16, 64, upsampler="pixelshuffledirect")).radius == 35
    assert outline(SrresnetConfig(4)).radius == 40  # 4 + 32 + 1 + 1 + 1/2 + 4/4


def test_the_radius_takes_the_longest_way() -> None:
    """A skip is shorter than what it skips, and what happens at twice the size reaches half as far."""
    steps = outline(EdsrConfig(2, 1, 4)).at(4)
    (head, *_), conv = steps, next(step.layer for step in steps if isinstance(step, Conv))
    assert isinstance(head, Head)
    codes = (Codes(1, (-8, 7)), Codes(3, (-8, 7)), Codes(4, (0, 255)), Codes(6, (-8, 7)))
    program = Program(
        2,
        {
            4: (
                replace(head, epilogue=Epilogue(keep=0, codes=codes[0])),  # 1
                Conv(1, conv, Epilogue(keep=2, codes=codes[1])),  # 2
                Conv(3, conv, Epilogue(add=0, codes=codes[2]), 2),  # 3, twice the size from here
                Conv(4, conv, Epilogue(keep=5)),  # 3 1/2
                Quantize(5, codes[3]),
                Pixels(6, conv),  # 4
            )
        },
    )
    assert program.radius == 4
    longer = (*program.at(4)[:-1], Conv(6, conv, Epilogue(codes=Codes(7, (0, 15)))), Pixels(7, conv))
    assert Program(2, {4: longer}).radius == 5  # 4 1/2


# --- Buffers --------------------------------------------------------------------------------------------------------


@every_network
def test_buffers_are_written_once_and_before_they_are_read(config: NetworkConfig) -> None:
    for operations in outline(config).operations.values():
        written: set[int] = set()
        for operation in operations:
            assert set(operation.reads) <= written
            assert not set(operation.writes) & written
            assert len(set(operation.writes)) == len(operation.writes)
            written.update(operation.writes)
        assert written == {buffer for operation in operations for buffer in operation.reads}, "nothing is for nobody"
        assert operations[-1].writes == ()


@every_network
def test_all_widths_have_the_same_list(config: NetworkConfig) -> None:
    """But for the layers whose width is the patch's; those of one width for all are one object."""
    program = outline(config)
    assert tuple(program.operations) == config.bit_widths == (4, 5, 6, 8)
    for steps in zip(*program.operations.values(), strict=True):
        assert len({type(step) for step in steps}) == 1
        assert len({(step.reads, step.writes, getattr(step, "shuffle", 1)) for step in steps}) == 1
        for step in steps:
            if isinstance(step, Pixels) or (isinstance(step, Conv) and step.layer is layers_of(steps)[0].layer):
                assert step.layer is layers_of(steps)[0].layer
    static = {"edsr": len(getattr(config, "static_bits", ())), "compact": 1, "srresnet": 0}[config.name]
    count = sum(isinstance(step, Conv | Pixels) for step in program.at(4))
    assert len(program.convs) == 4 * (count - static) + static
    assert len({id(conv) for conv in program.convs}) == len(program.convs)


@every_network
def test_codes_are_read_in_the_range_they_are_made_in(config: NetworkConfig) -> None:
    for operations in outline(config).operations.values():
        bounds: dict[int, tuple[int, int]] = {}
        for operation in operations:
            if isinstance(operation, Conv | Pixels):
                assert operation.layer.input_range == bounds[operation.source]
            made = codes_of(operation)
            if made is not None:
                bounds[made.to] = made.bounds


@every_network
def test_last_reads_by_brute_force(config: NetworkConfig) -> None:
    for operations in outline(config).operations.values():
        found = last_reads(operations)
        for index, ends in enumerate(found):
            later = {buffer for operation in operations[index + 1 :] for buffer in operation.reads}
            assert set(ends) == set(operations[index].reads) - later
            assert len(set(ends)) == len(ends)


def test_a_buffer_that_is_read_twice_at_once_ends_once() -> None:
    steps = outline(EdsrConfig(2, 1, 4)).at(4)
    conv = next(step for step in steps if isinstance(step, Conv))
    assert last_reads((replace(conv, source=5, epilogue=Epilogue(add=5, keep=6)),)) == ((5,),)


def codes_or_streams(operations: Sequence[Operation]) -> dict[int, bool]:
    """Which buffers hold codes."""
    return {buffer: buffer == getattr(codes_of(step), "to", None) for step in operations for buffer in step.writes}


@every_network
def test_places_hold_what_is_read_later(config: NetworkConfig) -> None:
    """Walk the list with memory instead of buffers; codes are not written over while they are read."""
    for operations in outline(config).operations.values():
        places, kinds = place_buffers(operations), codes_or_streams(operations)
        memory: dict[tuple[bool, int], int] = {}
        for operation in operations:
            assert all(memory[kinds[buffer], places[buffer]] == buffer for buffer in operation.reads)
            for buffer in operation.writes:
                if kinds[buffer]:
                    assert places[buffer] not in {places[read] for read in operation.reads if kinds[read]}
                memory[kinds[buffer], places[buffer]] = buffer
        for kind in (True, False):
            used = {places[buffer] for buffer in places if kinds[buffer] == kind}
            assert used == set(range(len(used)))


def test_few_places_are_enough() -> None:
    """However deep a network is."""
    for config, streams, codes in ((EdsrConfig(4, 16, 4), 2, 2), (CompactConfig(4, 32, 4), 0, 2)):
        operations = outline(config).at(4)
        places, kinds = place_buffers(operations), codes_or_streams(operations)
        for kind, count in ((False, streams), (True, codes)):
            assert len({places[buffer] for buffer in places if kinds[buffer] == kind}) == count


# --- What else it says ----------------------------------------------------------------------------------------------


def test_a_width_that_is_not_there() -> None:
    program = outline(CompactConfig(2, 1, 4))
    with pytest.raises(WeightsError, match=r"^this checkpoint has no 7-bit patches; it has \[4, 5, 6, 8\]$"):
        program.at(7)
    assert program.at(5) is program.operations[5]


def test_which_programs_are_exact() -> None:
    assert [outline(config).is_exact for config in CONFIGS] == [config.name != "srresnet" for config in CONFIGS]


def test_an_outline_is_the_program_without_its_numbers(checkpoint: Checkpoint) -> None:
    program, bare = checkpoint.parameters.program, outline(checkpoint.config)
    assert program is checkpoint.parameters.outline
    assert (program.scale, program.radius, program.is_exact) == (bare.scale, bare.radius, bare.is_exact)
    for bits, operations in program.operations.items():
        for ours, theirs in zip(operations, bare.at(bits), strict=True):
            assert (type(ours), ours.reads, ours.writes) == (type(theirs), theirs.reads, theirs.writes)
        layers = [[layer.layer.weight.shape for layer in layers_of(steps)] for steps in (operations, bare.at(bits))]
        assert layers[0] == layers[1]


def test_a_float_network_has_an_outline_too() -> None:
    quantized, plain = EdsrConfig(4, 2, 8), EdsrConfig(4, 2, 8, bit_widths=())
    assert plain.static_bits == ()
    found, expected = outline(plain), outline(quantized)
    assert [conv.weight.shape for conv in found.convs] == [conv.weight.shape for conv in expected.convs]


def test_plain_epilogues() -> None:
    codes = Codes(1, (0, 15))
    assert Epilogue(codes=codes).is_plain
    one = np.ones(1, np.float32)
    for other in (
        Epilogue(),
        Epilogue(keep=2, codes=codes),
        Epilogue(add=2, codes=codes),
        Epilogue(slope=one, codes=codes),
        Epilogue(codes=replace(codes, factor=one)),
        Epilogue(codes=replace(codes, shift=one)),
    ):
        assert not other.is_plain
