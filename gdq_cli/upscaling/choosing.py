"""Bit-widths of all patches of a picture by its controller: compiled where the extension runs, otherwise in NumPy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gdq_cli.bits.controller import BitChoice, Controller, band_energy, described_size
from gdq_cli.bits.controller_release import ReleaseHead
from gdq_cli.bits.entropy import entropies
from gdq_cli.bits.patches import Patch, PatchPlan
from gdq_cli.engines import kernels
from gdq_cli.engines.threads import thread_count
from gdq_cli.errors import DeviceError
from gdq_cli.program.layers import IntegerHead
from gdq_cli.upscaling.progress import Progress

_PATCHES = 64  # between two calls of progress, which are also where Ctrl-C ends it


class Chooser:
    """Decides for patches of pictures; the result is the same whatever computes it.

    Args:
        controller: of a checkpoint.
        head: of its network.

    Attributes:
        is_compiled: whether the extension does it.
        weighs_bits: whether the controller's logits say what bits are worth, as ours do, the release's not.
    """

    def __init__(self, controller: Controller, head: IntegerHead | ReleaseHead) -> None:
        self._controller, self._head = controller, head
        self.is_compiled = True
        self._texture: kernels.Texture | None = None
        try:
            kernels.choose_isa()
        except DeviceError:
            self.is_compiled = False
        self.weighs_bits = controller.descriptor == "band_energy"
        if self.is_compiled and self.weighs_bits and isinstance(head, IntegerHead) and head.weight.shape[-1] == 3:
            self._texture = kernels.Texture(head)

    def choose(
        self, image: NDArray[np.uint8], patches: PatchPlan, progress: Progress | None = None
    ) -> tuple[BitChoice, ...]:
        """The choice for each patch, in the order of the plan.

        Args:
            image: (H, W, 3) uint8.
            patches: of the same (H, W).
            progress: called with (finished, all) patches; may raise to end it.
        """
        choices: list[BitChoice] = []
        step = _PATCHES if self.is_compiled else 8
        for start in range(0, len(patches), step):
            some = [patches[index] for index in range(start, min(start + step, len(patches)))]
            choices += self._controller.decide(self._descriptors(image, some), self._entropies(image, some))
            if progress is not None:
                progress(len(choices), len(patches))
        return tuple(choices)

    def _descriptors(self, image: NDArray[np.uint8], patches: Sequence[Patch]) -> NDArray[np.float64]:
        if self._texture is None:  # one at a time: its features stay in the cache
            found = [self._controller.descriptors(_core(image, patch)[None], self._head) for patch in patches]
            return np.concatenate(found)
        sums = self._texture.band_sums(image, _rectangles(patches), threads=thread_count())
        sizes = np.array([described_size(patch.core.size) for patch in patches])
        return band_energy(sums, sizes, self._texture.multiplier)

    def _entropies(self, image: NDArray[np.uint8], patches: Sequence[Patch]) -> Iterable[float]:
        if not self.is_compiled:
            return [self._controller.entropy(_core(image, patch)) for patch in patches]
        rectangles = _rectangles(patches)
        rectangles[:, 2:] = [self._controller.counted_size(size) for size in rectangles[:, 2:].tolist()]
        found: list[float] = entropies(kernels.grey_sums(image, rectangles, threads=thread_count())).tolist()
        return found


def _core(image: NDArray[np.uint8], patch: Patch) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image[patch.core_slices])


def _rectangles(patches: Sequence[Patch]) -> NDArray[np.int32]:
    """(N, 4) rows (y, x, h, w)."""
    return np.array([patch.core for patch in patches], np.int32)
