"""Made-up views of memory."""

from headrace.lifecycle.memory_view import DeviceMemory, ModelMemory

MIB = 1 << 20


def device(**given) -> DeviceMemory:
    """One of 8 GiB, of which models may have 6."""
    said = {
        "device": "cpu",
        "total": 8192 * MIB,
        "reserve": 512 * MIB,
        "external": 1536 * MIB,
        "budget": 6144 * MIB,
        "limit": "the machine's memory",
        "resident": 600 * MIB,
        "scratch": 100 * MIB,
        "used": 500 * MIB,
        "slots": 2,
    }
    return DeviceMemory(**said | given)


def model(name: str, **given) -> ModelMemory:
    """One that is measured, and in memory."""
    said = {
        "version": "1",
        "device": "cpu",
        "state": "READY",
        "is_pinned": False,
        "is_measured": True,
        "gives_back": False,
        "resident": 60 * MIB,
        "scratch": 10 * MIB,
        "used": 50 * MIB,
        "cap": 0,
        "reload_s": 0.5,
        "idle_s": 3.0,
        "rate": 1.5,
        "priority": 0.1,
        "evictions": 0,
        "reason": "",
    }
    return ModelMemory(name=name, **said | given)
