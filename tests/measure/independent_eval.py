"""Score an EDSR checkpoint's float weights without any code of gdq, to check ``gdq eval`` against.

    python tests/measure/independent_eval.py SET_DIR weights/edsr_x4.safetensors

SET_DIR holds a set's pictures in HR and their LR versions, of the same names, in LR. Pillow reads, plain torch
convolutions run each picture whole, and scikit-image (``pip install scikit-image``) computes luma, PSNR and SSIM.
tests/measure/test_evaluation.py compares the means with those of ``gdq eval``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torch.nn.functional import conv2d, pixel_shuffle, relu

MEAN = torch.tensor([114.0, 111.0, 103.0]).reshape(1, 3, 1, 1)


class Score(NamedTuple):
    name: str
    psnr: float
    ssim: float


def run_edsr(tensors: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """EDSR-baseline in float32: (1, 3, H, W) in [0, 255] -> (1, 3, H * scale, W * scale), not clamped or rounded."""

    def conv(name: str, x: Tensor) -> Tensor:
        return conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=1)

    def count(part: str) -> int:
        return len({name.split(".")[1] for name in tensors if name.startswith(f"{part}.")})

    skip = x = conv("head", (pixels - MEAN) / 255)
    for block in range(count("body")):
        x = x + conv(f"body.{block}.conv2", relu(conv(f"body.{block}.conv1", x)))
    x = skip + conv("body_conv", x)
    for stage in range(count("upsampler")):
        wide = conv(f"upsampler.{2 * stage}", x)
        x = pixel_shuffle(wide, round((wide.shape[1] / x.shape[1]) ** 0.5))
    return conv("tail", x) * 255 + MEAN


def compare(sr: NDArray[np.uint8], hr: NDArray[np.uint8], shave: int) -> tuple[float, float]:
    """PSNR and SSIM of the luma by scikit-image."""
    a, b = (rgb2ycbcr(image)[shave:-shave, shave:-shave, 0] for image in (sr, hr))
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return peak_signal_noise_ratio(b, a, data_range=255), structural_similarity(a, b, data_range=255, **window)


def score_folder(folder: Path, checkpoint: Path) -> list[Score]:
    """Scores of the pictures in ``folder/HR``, whose LR versions of the same names are in ``folder/LR``."""
    tensors = load_file(checkpoint)
    scores = []
    for hr_file in sorted((folder / "HR").iterdir()):
        hr, lr = (np.array(Image.open(file).convert("RGB")) for file in (hr_file, folder / "LR" / hr_file.name))
        with torch.inference_mode():
            output = run_edsr(tensors, torch.from_numpy(lr).permute(2, 0, 1)[None].float())
        sr = output[0].clamp(0, 255).round().byte().permute(1, 2, 0).numpy()
        scores.append(Score(hr_file.name, *compare(sr, hr[: sr.shape[0], : sr.shape[1]], len(sr) // len(lr))))
    return scores


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.stderr.write(f"usage: {Path(__file__).name} SET_DIR CHECKPOINT\n")
        sys.exit(2)
    found = score_folder(Path(sys.argv[1]), Path(sys.argv[2]))
    means = Score("mean", *(float(np.mean([score[column] for score in found])) for column in (1, 2)))
    for score in [*found, means]:
        sys.stdout.write(f"{score.name:<16} {score.psnr:8.4f} dB  {score.ssim:.5f}\n")
