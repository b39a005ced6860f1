"""What became of one request, step by step, with the numbers that decided; for whoever asks later.

Only a request with an id has a record, since nobody could ask for another's: for all others nothing is written down.
"""

Value = str | float | int | bool | None

MOST_NOTES = 64
"""Of one request; a request of many items would have more."""


class Note:
    """Something that happened to it: seconds on the loop's clock, what, and the numbers that go with it."""

    __slots__ = ("at", "numbers", "what")

    def __init__(self, at: float, what: str, numbers: dict[str, Value]) -> None:
        self.at = at
        self.what = what
        self.numbers = numbers


class Record:
    """Of one request. Whoever handles it writes to it, on the loop."""

    __slots__ = ("arrived", "id", "model", "notes")

    def __init__(self, request_id: str, model: str, arrived: float) -> None:
        self.id = request_id
        self.model = model
        self.arrived = arrived
        self.notes: list[Note] = []

    def note(self, at: float, what: str, **numbers: Value) -> None:
        """Write down what happened; of very many things, the first and the last."""
        if len(self.notes) >= MOST_NOTES:
            del self.notes[MOST_NOTES // 2]
        self.notes.append(Note(at, what, numbers))
