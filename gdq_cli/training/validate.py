"""How good a network is on held-out images: PSNR of every bit-width, by the integer engine that will run it."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.engines import choose_engine
from gdq_cli.measure.metrics import psnr_y
from gdq_cli.measure.pairs import ImagePair
from gdq_cli.models.checkpoint import Checkpoint
from gdq_cli.networks import parameters_of
from gdq_cli.networks.edsr.network import Edsr
from gdq_cli.upscaling.upscaler import Upscaler


def validate_network(network: Edsr, pairs: list[ImagePair], widths: tuple[int, ...] | None = None) -> dict[int, float]:
    """Mean Y-PSNR in dB (shave = scale) of whole held-out images, per bit-width; 32 stands for the float network.

    Args:
        network: float32 or quantized; not changed.
        pairs: held-out images.
        widths: to measure; float and all of the network's by default.
    """
    engine = choose_engine(copy.deepcopy(network).cpu().eval()).engine
    figures = {}
    for bit_width in widths or (FP32_BITS, *network.config.bit_widths):
        values = []
        for pair in pairs:
            sr = engine.run_windows(pair.lr[None], bit_width)[0]
            values.append(psnr_y(sr, pair.hr, network.config.scale))
        figures[bit_width] = float(np.mean(values))
    return figures


def validate_auto(checkpoint: Checkpoint, pairs: list[ImagePair]) -> tuple[float, float]:
    """Mean Y-PSNR in dB and mean FAB of held-out images whose patches get the width that the controller chooses."""
    network = copy.deepcopy(checkpoint.network).cpu().eval()
    upscaler = Upscaler(replace(checkpoint, parameters=parameters_of(network)), choose_engine(network).engine)
    results = [upscaler.upscale(pair.lr) for pair in pairs]
    psnr = [psnr_y(r.image, pair.hr, upscaler.scale) for r, pair in zip(results, pairs, strict=True)]
    return float(np.mean(psnr)), float(np.mean([result.fab for result in results]))
