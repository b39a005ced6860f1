"""What nobody who does not know the future can do better: whoever is asked for again last leaves first (Belady 1966). Pure."""

from collections.abc import Hashable, Mapping, Sequence
from heapq import heappop, heappush
from math import inf
from typing import TypeVar

Model = TypeVar("Model", bound=Hashable)


def belady(trace: Sequence[Model], sizes: Mapping[Model, int], capacity: int) -> float:
    """Part of the requests that find their model in memory, which is empty at first; 0 for an empty trace.

    Who is asked for comes in, as it does in a server that answers everybody: as many leave as it takes, whoever is asked for
    again last before the others. That is the best there is where all sizes are equal, and close to it where they are not;
    what is larger than the capacity is never there.
    """
    resident: dict[Model, float] = {}
    leaving: list[
        tuple[float, int, Model]
    ] = []  # with places of old, which say something else than `resident` does
    used = hits = 0
    for place, (model, again) in enumerate(zip(trace, asked_again(trace), strict=True)):
        if sizes[model] > capacity:
            continue
        is_hit = model in resident
        hits += is_hit
        used += 0 if is_hit else sizes[model]
        while used > capacity:
            negative, _, last = heappop(leaving)
            if resident.get(last) == -negative:
                used -= sizes[last]
                del resident[last]
        resident[model] = again
        heappush(leaving, (-again, place, model))
    return hits / len(trace) if trace else 0.0


def asked_again(trace: Sequence[Model]) -> list[float]:
    """For each request, the place of the next one for the same model; infinite if there is none."""
    following: dict[Model, int] = {}
    places: list[float] = []
    for place in range(len(trace) - 1, -1, -1):
        places.append(following.get(trace[place], inf))
        following[trace[place]] = place
    return places[::-1]
