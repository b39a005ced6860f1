"""How much memory models may have: what there is, less a reserve and what others hold. Pure.

A machine has one budget for several places that each have a bound of their own: the machine itself, and each control group
with a limit. The least counts. A graphics card is a place, too. What others hold changes all the time; the budget follows
in steps, upwards only after a while, so that nobody is made to leave for a moment's sake.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from headrace.byte_sizes import in_words
from headrace.execution.machine_memory import Reading
from headrace.execution.nvml import Gpu

RESERVED, LEAST_RESERVE, MOST_RESERVED = 0.05, 512 << 20, 0.25
"""What is left to everything else: a part of the total, at least so many bytes, but never more than this part of it."""
GPU_USABLE = 0.9
"""Of a card's memory: the rest goes to what nobody can count, fragments and the runtime's own."""
STEP = 1 / 128
"""What others hold is rounded up to so much of the total."""
BY_OPERATOR = "--memory-budget"
"""The limit, where it is what the operator allows."""
RISE_S, FALL_S = 2.0, 10.0
"""Others hold more once they have for so long, and less once they have for so long."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes; as of memory_view.DeviceMemory.

    Attributes:
        total, reserve, external, budget, limit: as there.
        allowed: what the operator sets as the most, or None.
    """

    total: int
    reserve: int
    external: int
    budget: int
    limit: str
    allowed: int | None = None

    @property
    def room(self) -> int:
        """What there is for models, whatever the operator allows."""
        return max(0, self.total - self.reserve - self.external)


@dataclass(frozen=True, slots=True)
class Place:
    """Something with a bound of its own: in words, how much memory it has, and how much of that others hold; bytes."""

    words: str
    total: int
    external: int


def places(reading: Reading, own: int) -> list[Place]:
    """Of a machine whose models' workers have so many private bytes."""
    taken = reading.total - reading.available
    machine = Place(f"the machine has {in_words(reading.total)}", reading.total, max(0, taken - own))
    groups = [
        Place(f"{group.where} is limited to {in_words(group.limit)}", group.limit, max(0, group.used - own))
        for group in reading.groups
    ]
    return [machine, *groups]


def gpu_place(gpu: Gpu, own_pids: Collection[int], expected: int) -> Place:
    """Of a card on which the processes of `own_pids` are models' workers.

    Where the driver does not know them, as by the numbers of another namespace in a container, they are taken to hold the
    `expected` bytes: counted as others', what is loaded would be taken off the budget a second time.
    """
    known = [gpu.by_pid[pid] for pid in own_pids if pid in gpu.by_pid]
    own = sum(known) if known else min(expected, gpu.used)
    usable = round(GPU_USABLE * gpu.total)
    words = f"{in_words(usable)} of {gpu.device}'s {in_words(gpu.total)} can be used"
    return Place(words, usable, max(0, gpu.used - own))


def reserve(total: int) -> int:
    """What is left to everything that is no model."""
    return round(min(max(RESERVED * total, LEAST_RESERVE), MOST_RESERVED * total))


class Allowance:
    """A device's budget from one look to the next. `now` is in seconds and never goes back. Not thread-safe."""

    def __init__(self, allowed: int | None) -> None:
        """`allowed`: what the operator sets as the most, in bytes; None for as much as there is."""
        self._allowed = allowed
        # The mutable state: what others hold of each place, by its words.
        self._held: dict[str, Held] = {}

    def look(self, found: Sequence[Place], now: float) -> Budget:
        """The budget as of now; once a second. At least one place."""
        self._held = {each.words: self._held.get(each.words) or Held(each.total) for each in found}
        budgets = [self._budget(each, self._held[each.words].look(each.external, now)) for each in found]
        return min(budgets, key=lambda each: each.room)

    def _budget(self, place: Place, external: int) -> Budget:
        kept = reserve(place.total)
        room = max(0, place.total - kept - external)
        allowed = self._allowed
        if allowed is not None and allowed <= room:
            return Budget(place.total, kept, external, allowed, BY_OPERATOR, allowed)
        return Budget(place.total, kept, external, room, place.words, allowed)


class Held:
    """What others hold of one place, without the flutter. Not thread-safe."""

    def __init__(self, total: int) -> None:
        self._step = max(1, round(total * STEP))
        # The mutable state: the last readings with their times, and what was made of them.
        self._seen: deque[tuple[float, int]] = deque()
        self._bytes: int | None = None

    def look(self, external: int, now: float) -> int:
        """Bytes: at least what was held all of the last RISE_S, and at most the most that was held in the last FALL_S."""
        stepped = -(-external // self._step) * self._step
        self._seen.append((now, stepped))
        while self._seen[0][0] < now - FALL_S:
            self._seen.popleft()
        if self._bytes is None:
            self._bytes = stepped
        lasting = min(nbytes for then, nbytes in self._seen if then >= now - RISE_S)
        most = max(nbytes for _, nbytes in self._seen)
        self._bytes = max(lasting, min(self._bytes, most))
        return self._bytes


def mistakes(budget: Budget, parts: Sequence[tuple[str, int, bool]]) -> list[str]:
    """Sums that cannot come out, in sentences for the operator; none if all is well.

    Args:
        budget: of a device.
        parts: name of a model, bytes it takes alone, and whether it is pinned.
    """
    found = []
    if budget.allowed is not None and budget.allowed > budget.room:
        found.append(
            f"--memory-budget is {in_words(budget.allowed)}, and there are {in_words(budget.room)}: {budget.limit}, less "
            f"{in_words(budget.reserve)} of reserve and {in_words(budget.external)} that others hold; lower it, or leave it out"
        )
    has = f"the budget is {in_words(budget.budget)} ({budget.limit})"
    more = f"raise {BY_OPERATOR}" if budget.limit == BY_OPERATOR else "give it more memory"
    pinned = [(name, nbytes) for name, nbytes, is_pinned in parts if is_pinned]
    together = sum(nbytes for _, nbytes in pinned)
    if len(pinned) > 1 and together > budget.budget:
        summed = " + ".join(f"{name} {in_words(nbytes)}" for name, nbytes in pinned)
        found.append(f"pinned models take {summed} = {in_words(together)}, and {has}: pin fewer, or {more}")
    found += [
        f"{name} takes {in_words(nbytes)}, and {has}: it can never be loaded; {more}, or use a smaller one"
        for name, nbytes, _ in parts
        if nbytes > budget.budget
    ]
    return found
