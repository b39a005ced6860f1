"""When a run counts as hanging. Pure: what is seen of a worker every now and then goes in, a reason comes out.

A gateway that stands still sees nothing meanwhile, and a worker that got no core could do nothing: neither time is held
against a run. So a machine that stalls, or is overloaded, is not taken for a model that hangs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

HANGS_AFTER = 10
"""A run that takes so many times its usual upper bound is hanging."""
UNKNOWN_FLOOR = 5
"""The floor is so many times as high where nothing is known yet of how long runs take: the first one may compile."""
LONGEST_STEP_S = 1.0
"""More than that between two looks is the gateway's own delay."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What is to be seen of an instance that runs something.

    Attributes:
        done: batches it has done.
        age_s: since the oldest batch there began, or was thought to.
        usual_s: what it takes at most, mostly; 0 where that is not known.
    """

    done: int
    age_s: float
    usual_s: float


class Watchdog:
    """One worker's."""

    def __init__(self, floor_s: float, unknown_floor_s: float) -> None:
        """No run counts as hanging before so many seconds; the second of those where nothing is known of them."""
        self._floor_s = floor_s
        self._unknown_floor_s = unknown_floor_s
        # The mutable state: the last look, and for how long, as far as it counts, each instance has done nothing.
        self._at = self._starved_s = 0.0
        self._done: dict[int, int] = {}
        self._still_s: dict[int, float] = {}

    def look(self, now: float, sights: Mapping[int, Sight], starved_s: float) -> str | None:
        """The reason to end the worker, as a predicate, or None.

        Args:
            now: seconds.
            sights: of the instances that run something, by their number.
            starved_s: seconds so far in which the worker could run and got no core.
        """
        step_s = max(0.0, min(now - self._at, LONGEST_STEP_S) - max(0.0, starved_s - self._starved_s))
        self._at, self._starved_s = now, starved_s
        before, self._done = self._done, {each: sight.done for each, sight in sights.items()}
        self._still_s = {
            each: min(self._still_s.get(each, 0.0) + step_s, sight.age_s)
            for each, sight in sights.items()
            if before.get(each) == sight.done
        }
        for each, still_s in self._still_s.items():
            usual_s = sights[each].usual_s
            floor_s = self._floor_s if usual_s else self._unknown_floor_s
            if still_s > max(floor_s, HANGS_AFTER * usual_s):
                usual = f" that usually takes up to {usual_s * 1e3:.3g} ms" if usual_s else ""
                return f"was ended: a run{usual} hung for {still_s:.1f} s"
        return None
