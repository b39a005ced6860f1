"""The process that several models share opens few of them at once, and refuses what cannot be opened."""

import threading

import pytest

from headrace.errors import LoadFailed
from headrace.execution import hosting
from headrace.execution.hosting import OPENED_AT_ONCE, Host
from headrace.execution.wire import Load, LoadRefused, Report, Threads, Unloaded

MODELS = 6
PATIENCE_S = 20.0


class Heard:
    """In place of the line to the gateway."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, Report]] = []
        self.all_have_left = threading.Event()

    def report(self, number: int, report: Report, _: object = ()) -> None:
        self.reports.append((number, report))
        if sum(isinstance(each, Unloaded) for _, each in self.reports) == MODELS:
            self.all_have_left.set()

    def of(self, kind: type) -> set[int]:
        return {number for number, report in self.reports if isinstance(report, kind)}


@pytest.mark.parametrize("raised", [LoadFailed("told to"), RuntimeError("of a library")])
def test_few_models_are_opened_at_once_and_each_gets_its_turn(
    monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    heard, lock, more = Heard(), threading.Lock(), threading.Event()
    inside: list[int] = []
    most = 0

    def open_model(_: Load) -> None:
        nonlocal most
        with lock:
            inside.append(1)
            most = max(most, len(inside))
            if most > OPENED_AT_ONCE:
                more.set()
        more.wait(0.05)  # for one that should not come
        with lock:
            inside.pop()
        raise raised

    monkeypatch.setattr(hosting, "open_model", open_model)
    monkeypatch.setattr(hosting, "setproctitle", lambda _: None)
    host = Host(heard, None)  # type: ignore[arg-type]
    for number in range(MODELS):
        host.take_in(number, Load(f"m{number}", "1", "/nowhere", "fake", 2, 8, 8))
    assert heard.all_have_left.wait(PATIENCE_S)
    assert most == OPENED_AT_ONCE
    assert heard.of(LoadRefused) == heard.of(Threads) == heard.of(Unloaded) == set(range(MODELS))
