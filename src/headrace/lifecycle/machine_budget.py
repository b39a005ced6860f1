"""The budget of this machine, read anew each time."""

from collections.abc import Callable
from pathlib import Path

from headrace.config import Settings
from headrace.lifecycle.budget import Budget


def budget_reader(settings: Settings) -> Callable[[int], Budget]:
    """Gives the budget, from the private bytes that workers have."""

    def read(used: int) -> Budget:
        total = int(Path("/proc/meminfo").read_text().split()[1]) << 10
        reserve = total // 20
        budget = min(total - reserve, settings.memory_budget or total)
        return Budget(total, reserve, 0, budget, "machine")

    return read
