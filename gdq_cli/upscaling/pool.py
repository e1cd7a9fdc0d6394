"""From options to a ready Upscaler: find the checkpoint, check it, choose the engine. One per model and scale."""

from __future__ import annotations

from gdq_cli.engines import choose_device, choose_engine
from gdq_cli.engines.threads import set_thread_count
from gdq_cli.errors import WeightsError
from gdq_cli.models import store as hub
from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint
from gdq_cli.models.hub.download import Watch
from gdq_cli.upscaling.upscaler import Upscaler


def load_checkpoint(model: str, scale: int, *, offline: bool = False, watch: Watch | None = None) -> Checkpoint:
    """Find and read a checkpoint.

    Args:
        model: a bare name, ``hf:owner/repo[@revision][/file]``, or the path of a .safetensors file.
        scale: native scale it must have.
        offline: never touch the network.
        watch: told about a download.

    Raises:
        WeightsError: if there is none, its hash is not the expected one, it is damaged, or of another scale.
    """
    path = hub.resolve(model, scale, offline=offline, watch=watch)
    checkpoint = read_checkpoint(path, expected_sha256=hub.expected_sha256(path))
    if checkpoint.scale != scale:
        raise WeightsError(
            f"{path}: an x{checkpoint.scale} checkpoint cannot upscale x{scale}; use `scale={checkpoint.scale}`"
        )
    return checkpoint


class UpscalerPool:
    """Upscalers on one device, loaded when first asked for.

    Args:
        model: the one meant where none is named; see ``load_checkpoint``.
        device: ``auto``, ``cpu``, ``cuda[:N]`` or ``mps``.
        threads: CPU threads; None for the cores this process may use.
        engine: ``auto`` or the name of one engine.
        offline: never touch the network.
        watch: told about a download.

    Raises:
        DeviceError: if there is no such device.
    """

    def __init__(
        self,
        model: str,
        device: str = "auto",
        threads: int | None = None,
        engine: str = "auto",
        *,
        offline: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self._model, self._engine = model, engine
        self._offline, self._watch = offline, watch
        self.device = choose_device(device)
        if threads is not None:
            set_thread_count(threads)
        self._ready: dict[tuple[str, int], Upscaler] = {}

    def get(self, scale: int, model: str | None = None) -> Upscaler:
        """The upscaler of a native scale, of the pool's model or of another.

        Raises:
            WeightsError: if the checkpoint cannot be had.
            DeviceError: if no engine runs it.
        """
        model = model or self._model
        if (model, scale) not in self._ready:
            checkpoint = load_checkpoint(model, scale, offline=self._offline, watch=self._watch)
            engine = choose_engine(checkpoint.parameters, self.device, self._engine).engine
            self._ready[model, scale] = Upscaler(checkpoint, engine)
        return self._ready[model, scale]
