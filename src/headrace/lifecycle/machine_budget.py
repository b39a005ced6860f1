"""The budget of this machine's memory, read anew each time."""

from collections.abc import Callable

from headrace.config import Settings
from headrace.execution.machine_memory import MachineMemory
from headrace.lifecycle.budget import Allowance, Budget, places


def budget_reader(settings: Settings, clock: Callable[[], float]) -> Callable[[int], Budget]:
    """Gives the budget as it is now, from the private bytes that workers have."""
    machine, allowance = MachineMemory(), Allowance(settings.memory_budget)

    def read(used: int) -> Budget:
        return allowance.look(places(machine.read(), used), clock())

    return read
