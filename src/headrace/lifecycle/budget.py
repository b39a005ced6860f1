"""How much memory models may have."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes; as of memory_view.DeviceMemory."""

    total: int
    reserve: int
    external: int
    budget: int
    limit: str
