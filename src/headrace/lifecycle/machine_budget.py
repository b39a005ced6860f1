"""The budget of this machine, read anew each time."""

import time
from collections.abc import Callable

from headrace.config import Settings
from headrace.execution.machine_memory import MachineMemory
from headrace.lifecycle.budget import Allowance, Budget, places


def budget_reader(settings: Settings) -> Callable[[int], Budget]:
    """Gives the budget as it is now, from the private bytes that workers have; once a second."""
    memory, allowance = MachineMemory(), Allowance(settings.memory_budget)

    def read(used: int) -> Budget:
        return allowance.look(places(memory.read(), used), time.monotonic())

    return read
