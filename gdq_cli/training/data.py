"""Pictures for calibration and training: HR images, their LR versions, random patches of both."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gdq_cli.errors import OptionsError
from gdq_cli.measure.degradation import TrainingDegradation, degrade
from gdq_cli.measure.pairs import LR_MARGIN, ImagePair
from gdq_cli.training.graphics import draw_graphic

SMALLEST_ZOOM = 0.5
HIGHEST_GAIN = 2.0
DEGRADED_MARGIN = 8  # LR pixels around a patch that are degraded with it, so that no border shows inside


class PatchSampler:
    """Random pairs of patches, flipped and turned. The same seed gives the same sequence.

    Args:
        pairs: images to draw from; those smaller than a patch are left out.
        patch: side of an LR patch.
        seed: of the generator; ``state`` saves and restores it.
        by_texture: prefer detail, from which a network learns most; else every place of an image is as likely.
        vary: make most patches anew, from HR that is reduced, placed between the LR pixels, of permuted colours or less
            contrast: a small folder is learned by heart otherwise.
        raise_contrast: make half of the patches anew with up to twice the contrast, clipped as in an overexposed
            picture: quantizers otherwise reach for what the folder holds and clip what is stronger.
        degradation: what the LR side of every patch goes through, drawn anew each time.
        graphics: share of the patches that are drawn instead: flat saturated colours, edges, text (graphics.py).

    Raises:
        OptionsError: if no image is as large as a patch, or a patch has no pixel.
    """

    def __init__(
        self,
        pairs: list[ImagePair],
        patch: int,
        seed: int = 0,
        *,
        by_texture: bool = True,
        vary: bool = False,
        raise_contrast: bool = False,
        degradation: TrainingDegradation = "none",
        graphics: float = 0.0,
    ) -> None:
        if patch < 1:
            raise OptionsError(f"`patch` must be at least 1 LR pixel, not {patch}")
        self._pairs = [pair for pair in pairs if min(pair.lr.shape[:2]) >= patch]
        if not self._pairs:
            raise OptionsError(f"no training image is at least {patch} LR pixels on each side; use a smaller `patch`")
        self._patch = patch
        self._by_texture = by_texture
        self._vary = vary
        self._raise_contrast = raise_contrast
        self._degradation: TrainingDegradation = degradation
        self._graphics = graphics
        self._rng = np.random.default_rng(seed)
        sides = np.array([(pair.lr.shape[0] * pair.lr.shape[1]) ** 0.5 for pair in self._pairs])
        share = sides * [_texture(pair.lr) for pair in self._pairs] if by_texture else sides
        self._cumulative = np.cumsum(share) / share.sum()

    @property
    def settings(self) -> dict[str, object]:
        """What is drawn: size and variation of the patches."""
        return {
            "patch": self._patch,
            "vary": self._vary,
            "raise_contrast": self._raise_contrast,
            "degradation": self._degradation,
            "graphics": self._graphics,
        }

    @property
    def state(self) -> dict[str, object]:
        """State of the random generator."""
        return dict(self._rng.bit_generator.state)

    @state.setter
    def state(self, value: dict[str, object]) -> None:
        self._rng.bit_generator.state = value

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw patches.

        Returns:
            LR (count, 3, P, P) and HR (count, 3, P * scale, P * scale), float32 grey levels, channels_last.
        """
        lr, hr = stack_patches([self._draw_one() for _ in range(count)])
        return grey_levels(lr), grey_levels(hr)

    def _draw_one(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        pair = self._pairs[int(np.searchsorted(self._cumulative, self._rng.random()))]
        height, width = pair.lr.shape[:2]
        scale = pair.hr.shape[0] // height
        if self._graphics and self._rng.random() < self._graphics:
            return draw_graphic(self._patch, scale, self._rng)
        places = [
            (int(self._rng.integers(height - self._patch + 1)), int(self._rng.integers(width - self._patch + 1)))
            for _ in range(2 if self._by_texture else 1)
        ]
        y, x = max(places, key=lambda yx: _texture(pair.lr[yx[0] : yx[0] + self._patch, yx[1] : yx[1] + self._patch]))
        if self._vary or self._raise_contrast or self._degradation != "none":
            lr, hr = self._make_one(pair.hr, y * scale, x * scale, scale)
        else:
            lr = pair.lr[y : y + self._patch, x : x + self._patch]
            hr = pair.hr[y * scale : (y + self._patch) * scale, x * scale : (x + self._patch) * scale]
        turns, mirror = int(self._rng.integers(4)), bool(self._rng.integers(2))
        return _turn(lr, turns, mirror), _turn(hr, turns, mirror)

    def _make_one(
        self, image: NDArray[np.uint8], y: int, x: int, scale: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Reduce HR around a place, change its colours, and make the LR patch of it: none is ever drawn twice."""
        rng = self._rng
        margin = LR_MARGIN if self._degradation == "none" else DEGRADED_MARGIN
        margin = min(margin, (min(image.shape[:2]) // scale - self._patch) // 2)
        side = (self._patch + 2 * margin) * scale
        span, offset = side, [0, 0]
        if self._vary:
            smallest = max(SMALLEST_ZOOM, side / min(image.shape[:2]))
            span = min(round(side / rng.uniform(smallest, 1.0)), *image.shape[:2]) if rng.random() < 0.7 else side
            offset = [int(rng.integers(scale)) for _ in range(2)]
        top, left = (
            int(np.clip(start - margin * scale + by - (span - side) // 2, 0, end - span))
            for start, by, end in zip((y, x), offset, image.shape[:2], strict=True)
        )
        hr = image[top : top + span, left : left + span]
        if span != side:
            hr = np.asarray(Image.fromarray(hr).resize((side, side), Image.Resampling.LANCZOS))
        hr = np.ascontiguousarray(self._change_colours(hr))
        lr = degrade(hr, scale, self._degradation, rng)
        down = right = margin
        if self._degradation != "none":  # the place varies, so that a codec's blocks begin anywhere in a patch
            down, right = (int(rng.integers(margin // 2, 2 * margin - margin // 2 + 1)) for _ in range(2))
        rows, columns = (slice(start, start + self._patch) for start in (down, right))
        hr_rows, hr_columns = (slice(start * scale, (start + self._patch) * scale) for start in (down, right))
        return lr[rows, columns], hr[hr_rows, hr_columns]

    def _change_colours(self, hr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Permute channels, lower or raise the contrast: each of half of the patches, if at all."""
        rng = self._rng
        if self._vary and rng.random() < 0.5:
            hr = hr[:, :, rng.permutation(3)]
        if self._vary and rng.random() < 0.5:
            gain = rng.uniform(0.6, 1.0)
            hr = (hr * np.float32(gain) + np.float32(rng.uniform(0, 255 * (1 - gain)))).round().astype(np.uint8)
        if self._raise_contrast and rng.random() < 0.5:
            gain = rng.uniform(1.0, HIGHEST_GAIN)
            raised = hr * np.float32(gain) - np.float32(rng.uniform(0, 255 * (gain - 1)))
            hr = raised.round().clip(0, 255).astype(np.uint8)
        return hr


def stack_patches(drawn: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> list[NDArray[np.uint8]]:
    """LR and HR patches, each (N, H, W, 3), of N pairs."""
    return [np.stack(side) for side in zip(*drawn, strict=True)]


def grey_levels(patches: NDArray[np.uint8], device: str = "cpu") -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32, channels_last."""
    return torch.from_numpy(patches).to(device).permute(0, 3, 1, 2).float()


def _texture(lr: NDArray[np.uint8]) -> float:
    """Square root of the mean absolute gradient, a weight that favours detail without starving smooth areas."""
    green = lr[:, :, 1].astype(np.int16)
    gradient = sum(float(np.abs(np.diff(green, axis=axis)).mean()) for axis in (0, 1) if green.shape[axis] > 1)
    return float((gradient + 1.0) ** 0.5)


def _turn(image: NDArray[np.uint8], turns: int, mirror: bool) -> NDArray[np.uint8]:
    turned = np.rot90(image, turns)
    return np.ascontiguousarray(turned[:, ::-1] if mirror else turned)
