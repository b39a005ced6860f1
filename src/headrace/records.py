"""What became of one request, step by step, with the numbers that decided; for whoever asks later.

Only a request with an id has a record, since nobody could ask for another's: for all others nothing is written down.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator

Value = str | float | int | bool | None

MOST_NOTES = 64
"""Of one request; a request of many items would have more."""
LONGEST_TEXT = 500
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


class Record:
    """Of one request. Whoever handles it writes to it, on the loop."""

    __slots__ = ("_labels", "arrived", "came", "id", "model", "notes")

    def __init__(self, request_id: str, model: str, arrived: float, came: float = 0.0) -> None:
        """`model` is what was asked for; `arrived` is on the loop's clock, `came` the time of day, since the epoch."""
        self.id = request_id
        self.model = model
        self.arrived = arrived
        self.came = came
        self.notes: list[Note] = []
        self._labels: dict[str, Value] = {}

    def note(self, at: float, what: str, **numbers: Value) -> None:
        """Write down what happened; of very many things, the first and the last."""
        if len(self.notes) >= MOST_NOTES:
            del self.notes[MOST_NOTES // 2]
        for name, value in numbers.items():
            if isinstance(value, str) and len(value) > LONGEST_TEXT:
                numbers[name] = value[:LONGEST_TEXT] + "…"
        self.notes.append(Note(at, what, {**self._labels, **numbers} if self._labels else numbers))

    def of(self, **labels: Value) -> "Record":
        """The same record for a part of the request, as one of its items: what is noted there says which."""
        part = Record(self.id, self.model, self.arrived, self.came)
        part.notes = self.notes
        part._labels = {**self._labels, **labels}
        return part


class Records:
    """Those of the last requests that had an id. Lives on the loop."""

    def __init__(self, most: int, clock: Callable[[], float], time_of_day: Callable[[], float]) -> None:
        """How many are kept, 0 for none; the loop's clock, and the time since the epoch."""
        self.most = most
        self._clock = clock
        self._time_of_day = time_of_day
        # The mutable state: by id, the newest last.
        self._records: OrderedDict[str, Record] = OrderedDict()

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
            del self._records[request_id]
        elif len(self._records) >= self.most:
            self._records.popitem(last=False)
        came = self._time_of_day() - (self._clock() - arrived)
        record = self._records[request_id] = Record(request_id, model, arrived, came)
        return record

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
