"""A request's record as it is told: JSON's types, and one sentence that sums it up. Pure."""

from typing import Any

from headrace.records import Note, Record, Value

OK = 200
ON_ARRIVAL_MS = 2.0
"""Whoever is refused this soon after it asked to be taken in has not waited."""
REFUSED = frozenset(
    {
        *("deadline_infeasible", "overloaded", "queue_full", "circuit_open", "gateway_busy", "bodies_full"),
        *("not_ready", "exiting"),
    }
)
"""Codes of errors that say that nothing was run."""
SINCE = {
    "overload": "too much waited",
    "deadline": "it would have been too late",
    "breaker": "the breaker was open",
    "loading": "it was loading",
    "error": "it failed",
}
"""Reasons to fall back, in words."""
COUNTS = {"sent": 1, "ran": -1}
"""What is sent and does not run to its end is run in vain: it failed, or its worker died."""
EXPIRED = frozenset({"timeout", "deadline_exceeded"})

Told = dict[str, Any]
Numbers = dict[str, Value]


def told(record: Record, now: float) -> Told:
    """All that is known of a request: times in milliseconds, those of notes from its arrival on; `came` since the epoch."""
    return {**told_shortly(record, now), "notes": [told_note(record, each) for each in record.notes]}


def told_shortly(record: Record, now: float) -> Told:
    """The same without its notes. `status` and `total_ms` are None until it is answered."""
    end = last(record, "answered")
    return {
        "id": record.id,
        "model": record.model,
        "came": round(record.came, 6),
        "status": None if end is None else end.numbers["status"],
        "total_ms": None if end is None else after_ms(record, end),
        "summary": summary(record, now),
    }


def told_note(record: Record, note: Note) -> Told:
    numbers = {name: value for name, value in note.numbers.items() if value is not None}
    return {"at_ms": after_ms(record, note), "what": note.what, **numbers}


def summary(record: Record, now: float) -> str:
    """One sentence: how it ended, and what decided that."""
    end = last(record, "answered")
    if end is None:
        left = last(record, "left")
        if left is not None:
            return f"the client went away after {shown(after_ms(record, left))}"
        return f"not answered yet, after {shown((now - record.arrived) * 1e3)}"
    if end.numbers["status"] == OK:
        return answered(record, end)
    return refused(record, end)


def answered(record: Record, end: Note) -> str:
    sentence = f"answered after {shown(after_ms(record, end))}"
    runs = [each.numbers for each in record.notes if each.what == "ran"]
    fallen = last(record, "falls back")
    if fallen is not None and "item" not in fallen.numbers:
        step, reason = str(fallen.numbers["step"]).replace(":", " "), str(fallen.numbers["reason"])
        since = SINCE.get(reason, reason)
        sentence = f"answered degraded by {step} after {shown(after_ms(record, end))}, since {since}"
        runs = runs if step.startswith("variant") else []  # of those that came to nothing
    if how := how_run(runs):
        sentence += f": {how}"
    degraded, failed = items(record)
    if degraded:
        sentence += f"; degraded: {degraded}"
    if failed:
        return f"{sentence}; refused or failed: {failed}"
    in_vain = 0 if has_items(record) else sum(COUNTS.get(each.what, 0) for each in record.notes)
    why = ", for want of memory" if last(record, "out_of_memory") is not None else ""
    return sentence + (f", runs in vain before that: {in_vain}{why}" if in_vain > 0 else "")


def has_items(record: Record) -> bool:
    """It has items, each with a story of its own."""
    return any("item" in each.numbers for each in record.notes)


def items(record: Record) -> tuple[int, int]:
    """How many of a request's items got a lesser answer, and how many none."""
    fates = {each.numbers["item"]: each.what for each in record.notes if is_fate(each)}
    failed = {item for item, what in fates.items() if what == "refused"}
    fallen = {each.numbers["item"] for each in record.notes if is_fate(each) and each.what == "falls back"}
    return len(fallen - failed), len(failed)


def is_fate(note: Note) -> bool:
    """It says what becomes of an item, unless something else comes after it."""
    return "item" in note.numbers and note.what in {"ran", "refused", "falls back"}


def how_run(runs: list[Numbers]) -> str:
    """What was waited for and run: of one run, of the stages of a skill, or of a request's items."""
    if not runs:
        return ""
    if "item" in runs[0]:
        items = len({each["item"] for each in runs})
        queue_ms, run_ms = (max(number(each[key]) for each in runs) for key in ("queue_ms", "run_ms"))
        return (
            f"{items} item{'s' if items > 1 else ''}, at most {shown(queue_ms)} queue and {shown(run_ms)} run"
        )
    if len(runs) > 1:
        return ", ".join(f"{shown(each['run_ms'])} {each.get('stage', 'again')}" for each in runs) + " run"
    (run,) = runs
    rows = "by itself" if run["requests"] == 1 else f"in a batch of {run['rows']} rows"
    return f"{shown(run['queue_ms'])} queue, {shown(run['run_ms'])} run {rows}"


def refused(record: Record, end: Note) -> str:
    """Why it was answered with an error."""
    numbers, after = end.numbers, after_ms(record, end)
    code, reason = numbers.get("code"), numbers.get("reason")
    asked = next((each for each in record.notes if each.what == "asked"), None)
    was_run = any(each.what == "sent" for each in record.notes)
    if code in EXPIRED:
        where = "while it was run" if was_run else "while it waited: it was not run"
        return f"its deadline passed after {shown(after)}, {where}"
    if code in REFUSED and not was_run:
        waited_ms = 0.0 if asked is None else (end.at - asked.at) * 1e3
        when = "on arrival" if waited_ms < ON_ARRIVAL_MS else f"after {shown(waited_ms)} in the queue"
        if "expected_ms" in numbers:
            expected, allowed = shown(numbers["expected_ms"]), shown(numbers["allowed_ms"])
            return f"refused {when}: {expected} expected, {allowed} allowed"
        return f"refused {when}: {reason}"
    how = "failed" if was_run else "not taken"
    return f"{how} after {shown(after)} with status {numbers['status']}: {reason}"


def last(record: Record, what: str) -> Note | None:
    return next((each for each in reversed(record.notes) if each.what == what), None)


def after_ms(record: Record, note: Note) -> float:
    """Milliseconds from the request's arrival to the note."""
    return round((note.at - record.arrived) * 1e3, 3)


def shown(milliseconds: object) -> str:
    """For people: three digits are enough."""
    value = number(milliseconds)
    return f"{value / 1e3:.3g} s" if value >= 1e3 else f"{value:.3g} ms"  # noqa: PLR2004 - milliseconds of a second


def number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
