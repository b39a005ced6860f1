"""What memory graphics cards have, and who holds it, by the driver's own library (NVML).

That is the one thing here that knows of it: package nvidia-ml-py, extra `gpu`. Without the package, or without a driver,
there are no cards.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card; bytes.

    Attributes:
        device: its name in the ledger: "gpu:0" and so on, in the driver's order.
        name: of the product.
        total, used: of its memory; `used` is what all processes and the driver hold.
        by_pid: what each process holds, where the driver says so; in a container it may not.
    """

    device: str
    name: str
    total: int
    used: int
    by_pid: dict[int, int]


class Nvml:
    """An open library. Close it when done; not thread-safe."""

    def __init__(self, library: Any) -> None:
        """`library` is the module `pynvml`, initialised, or one that does as it does."""
        self._library = library

    def read(self) -> list[Gpu]:
        """All cards as they are now. One that cannot be read just now, as while it is reset, is left out."""
        gpus = (self._gpu(index) for index in range(self._library.nvmlDeviceGetCount()))
        return [gpu for gpu in gpus if gpu is not None]

    def close(self) -> None:
        self._library.nvmlShutdown()

    def _gpu(self, index: int) -> Gpu | None:
        library = self._library
        try:
            card = library.nvmlDeviceGetHandleByIndex(index)
            memory = library.nvmlDeviceGetMemoryInfo(card)
            name = library.nvmlDeviceGetName(card)
        except library.NVMLError:
            return None
        by_pid: dict[int, int] = {}
        for processes in (
            library.nvmlDeviceGetComputeRunningProcesses,
            library.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            by_pid |= self._processes(processes, card)
        return Gpu(f"gpu:{index}", str(name), int(memory.total), int(memory.used), by_pid)

    def _processes(self, ask: Callable[[Any], list[Any]], card: Any) -> dict[int, int]:
        """None of them where the card does not tell."""
        try:
            return {each.pid: int(each.usedGpuMemory) for each in ask(card) if each.usedGpuMemory is not None}
        except self._library.NVMLError:
            return {}


def open_nvml() -> Nvml | None:
    """The driver's library; None where it is not installed, or where there is no driver."""
    try:
        import pynvml  # noqa: PLC0415 - an extra, and only for whoever asks for cards
    except ModuleNotFoundError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return Nvml(pynvml)
