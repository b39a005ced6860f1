"""What is no answer, again and again against a pipeline of puppets, with looks in between at what it leaves behind."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path as File

from fakes import WIDTH, ClientTicket, Path, ticket

from headrace import CircuitBreaker
from headrace.batching.ticket import State
from headrace.errors import CircuitOpen, DeadlineInfeasible, HeadraceError, QueueFull
from headrace.faults.breaker import BreakerPolicy, BreakerState
from headrace.faults.guard import Trust

AT_ONCE = 100
"""Of them in a tick of the loop."""
LONG_RUN = {WIDTH: {1: 1000.0}}
QUEUE_BYTES = 1 << 10
Look = Callable[[int], None]
"""Called with how many there have been, now and then."""
Repeat = Callable[[int, Look], Awaitable[None]]


async def refusals(count: int, look: Look) -> None:
    """By turns for want of time and for want of room; while one runs and one waits."""
    path = begin(known=LONG_RUN)
    for _ in range(2):
        path.submit(0, within=10_000)
        await asyncio.sleep(0)
    for done in range(0, count, AT_ONCE):
        for _ in range(AT_ONCE // 2):
            expect(hurried(path), DeadlineInfeasible)
            expect(path.submit(1, rows=2 * QUEUE_BYTES // WIDTH), QueueFull)
        await tidy(path, done, look)
    path.close()


async def cancellations(count: int, look: Look) -> None:
    """By turns of what waits and of what runs."""
    path = begin()
    channel = path.channels[0]
    for done in range(0, count, AT_ONCE):
        for _ in range(AT_ONCE // 2):
            running = path.submit(1)
            path.pipeline.dispatch()
            waiting = path.submit(2)
            path.pipeline.drop(waiting)
            path.pipeline.drop(running)
            channel.finish(1e-4)
            assert running.state is waiting.state is State.DROPPED
            assert not running.client.ends + waiting.client.ends
        await tidy(path, done, look)
    path.close()


async def rejections(count: int, look: Look) -> None:
    """By a breaker that is open."""
    path = begin()
    path.pipeline.force_breaker(BreakerState.FORCED_OPEN)
    for done in range(0, count, AT_ONCE):
        for _ in range(AT_ONCE):
            expect(path.submit(1), CircuitOpen)
        await tidy(path, done, look)
    path.close()


async def own_rejections(count: int, look: Look) -> None:
    """By a breaker around a function of one's own, by turns with calls that are let through and fail."""
    forced, counting = CircuitBreaker(), CircuitBreaker(max_failures=count)
    forced.force_open()
    for done in range(0, count, AT_ONCE):
        for _ in range(AT_ONCE):
            expect_raised(forced(unreliable), CircuitOpen)
        expect_raised(counting(unreliable), ConnectionError)
        look(done + AT_ONCE)


def unreliable() -> None:
    raise ConnectionError("told to fail")


def expect_raised(guarded: Callable[[], None], kind: type[Exception]) -> None:
    try:
        guarded()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was to be raised")


REPEATED: dict[str, Repeat] = {
    "refusals": refusals,
    "cancellations": cancellations,
    "rejections": rejections,
    "rejections of one's own": own_rejections,
}


def begin(known: dict[int, dict[int, float]] | None = None) -> Path:
    clock = asyncio.get_running_loop().time
    path = Path(clock, max_queue_bytes=QUEUE_BYTES, trust=Trust(BreakerPolicy()))
    path.start_worker(known=known)
    return path


def hurried(path: Path) -> ClientTicket:
    """It asks for an answer long before it could have one."""
    now = path.clock()
    asked = ticket(1, arrived=now, deadline=now + 1)
    asked.is_asked = True
    path.pipeline.submit(asked)
    return asked


def expect(refused: ClientTicket, kind: type[HeadraceError]) -> None:
    assert isinstance(refused.client.error, kind), refused.client.error


async def tidy(path: Path, done: int, look: Look) -> None:
    """What the fakes remember is theirs."""
    await asyncio.sleep(0)
    path.events.clear()
    for channel in path.channels:
        channel.given.clear()
        channel.begun.clear()
        channel.gave_back.clear()
    look(done + AT_ONCE)


def resident_bytes() -> int:
    """Of this process."""
    return int(File("/proc/self/statm").read_text().split()[1]) << 12


def main(name: str, count: int, looks: int = 200) -> None:
    """Print [how many, resident bytes] as often as there are looks."""
    series: list[tuple[int, int]] = []

    def look(done: int) -> None:
        if done // (count // looks) > len(series):
            series.append((done, resident_bytes()))

    asyncio.run(REPEATED[name](count, look))
    json.dump(series, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
