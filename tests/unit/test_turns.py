"""What comes all at once is done a little in each turn of the loop, and in order."""

import pytest

from headrace.frontends import turns
from headrace.frontends.turns import Turns


class Loop:
    """Turns of a loop, and a clock that work moves on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.called: list = []
        self.done: list[int] = []
        self.turns = Turns(lambda: self.now, self.called.append)

    def come(self, *which: int) -> None:
        """These want to be done now; each takes two fifths of a turn."""
        for each in which:
            if self.turns.has_time():
                self.work(each)
            else:
                self.turns.put(lambda each=each: self.work(each))

    def work(self, which: int) -> None:
        self.now += 0.4 * turns.TURN_S
        self.done.append(which)

    def turn(self) -> list[int]:
        """The next turn of the loop; what was done up to then."""
        called, self.called[:] = self.called.copy(), []
        for each in called:
            each()
        return self.done


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_what_there_is_time_for_is_done_at_once(loop):
    loop.come(1, 2, 3)
    assert loop.done == [1, 2, 3]


def test_the_rest_waits_for_the_next_turns_and_keeps_its_order(loop):
    loop.come(*range(8))
    assert loop.done == [0, 1, 2]
    assert loop.turn() == [0, 1, 2, 3, 4, 5]
    loop.come(8)
    assert loop.turn() == [*range(9)]


def test_each_turn_does_something_however_long_it_takes(loop):
    loop.come(0, 1, 2, 3, 4)
    loop.now += 100 * turns.TURN_S
    loop.turn()
    assert 3 in loop.done


def test_nothing_is_called_where_nothing_comes(loop):
    loop.come(1)
    loop.turn()
    assert not loop.called


def test_work_that_fails_keeps_none_waiting(loop):
    def fail() -> None:
        raise ZeroDivisionError

    loop.come(1, 2, 3)
    loop.turns.put(fail)
    loop.turns.put(lambda: loop.work(4))
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    assert loop.turn() == [1, 2, 3, 4]
