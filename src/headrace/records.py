"""What became of one request, step by step, with the numbers that decided; for whoever asks later.

Only a request with an id has a record, since nobody could ask for another's: for all others nothing is written down.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator

Value = str | float | int | bool | None

MOST_NOTES = 64
"""Of one request; a request of many items would have more."""
USUAL_NOTES = 16
"""Of one request: all that are kept have no more than so many times as many. Where they are longer, fewer are kept."""
LONGEST_TEXT = 300
"""Characters of a reason that are kept."""
LONGEST_ID = 128
"""Characters; a longer one is not kept, as no header could hold it to ask for it."""


class Note:
    """Something that happened to it: seconds on the loop's clock, what, and the numbers that go with it."""

    __slots__ = ("at", "numbers", "what")

    def __init__(self, at: float, what: str, numbers: dict[str, Value]) -> None:
        self.at = at
        self.what = what
        self.numbers = numbers


class Pages:
    """The notes of one record, and the tally of all that are kept; None once they are not."""

    __slots__ = ("notes", "tally")

    def __init__(self, tally: list[int] | None) -> None:
        self.notes: list[Note] = []
        self.tally = tally

    def add(self, note: Note) -> None:
        """Of very many, the first and the last are kept."""
        if len(self.notes) >= MOST_NOTES:
            del self.notes[MOST_NOTES // 2]
        elif self.tally is not None:
            self.tally[0] += 1
        self.notes.append(note)

    def leave(self) -> None:
        """They count no more; whoever still writes to them may."""
        if self.tally is not None:
            self.tally[0] -= len(self.notes)
            self.tally = None


class Record:
    """Of one request. Whoever handles it writes to it, on the loop."""

    __slots__ = ("_labels", "arrived", "came", "id", "model", "pages")

    def __init__(self, request_id: str, model: str, arrived: float, came: float = 0.0) -> None:
        """`model` is what was asked for; `arrived` is on the loop's clock, `came` the time of day, since the epoch."""
        self.id = request_id
        self.model = model
        self.arrived = arrived
        self.came = came
        self.pages = Pages(None)
        self._labels: dict[str, Value] = {}

    @property
    def notes(self) -> list[Note]:
        """What happened, in its order."""
        return self.pages.notes

    def note(self, at: float, what: str, **numbers: Value) -> None:
        """Write down what happened."""
        for name, value in numbers.items():
            if isinstance(value, str) and len(value) > LONGEST_TEXT:
                numbers[name] = value[:LONGEST_TEXT] + "…"
        self.pages.add(Note(at, what, {**self._labels, **numbers} if self._labels else numbers))

    def of(self, **labels: Value) -> "Record":
        """The same record for a part of the request, as one of its items: what is noted there says which."""
        part = Record(self.id, self.model, self.arrived, self.came)
        part.pages = self.pages
        part._labels = {**self._labels, **labels}
        return part


class Records:
    """Those of the last requests that had an id. Lives on the loop."""

    def __init__(self, most: int, clock: Callable[[], float], time_of_day: Callable[[], float]) -> None:
        """How many are kept, 0 for none; the loop's clock, and the time since the epoch."""
        self.most = most
        self._clock = clock
        self._time_of_day = time_of_day
        # The mutable state: by id, the newest last; and how many notes they have in all.
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._tally = [0]

    def __len__(self) -> int:
        return len(self._records)

    def open(self, request_id: str, model: str, arrived: float) -> Record | None:
        """The record of the request with that id and arrival, made if it is not there.

        None where it is not to be kept: none are, its id is too long, or a later request has come with the same one.
        """
        if not self.most or len(request_id) > LONGEST_ID:
            return None
        known = self._records.get(request_id)
        if known is not None:
            if known.arrived >= arrived:
                return known if known.arrived == arrived else None
            self._forget(request_id)
        while self._records and self._is_full:
            self._forget(next(iter(self._records)))
        came = self._time_of_day() - (self._clock() - arrived)
        record = self._records[request_id] = Record(request_id, model, arrived, came)
        record.pages.tally = self._tally
        return record

    @property
    def _is_full(self) -> bool:
        return len(self._records) >= self.most or self._tally[0] > USUAL_NOTES * self.most

    def _forget(self, request_id: str) -> None:
        self._records.pop(request_id).pages.leave()

    def find(self, request_id: str) -> Record | None:
        """The newest with that id."""
        return self._records.get(request_id)

    def newest(self) -> Iterator[Record]:
        """All of them, the newest first; not to be held on to."""
        return reversed(self._records.values())

    def oldest_age_s(self) -> float:
        """How far back they go; 0 if there are none."""
        first = next(iter(self._records.values()), None)
        return 0.0 if first is None else self._clock() - first.arrived
