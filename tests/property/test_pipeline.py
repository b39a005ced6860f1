"""The pipeline against whatever may happen around it: each ticket is answered exactly once, or dropped, never both."""

import asyncio
from collections import Counter

import looptime
from fakes import WIDTH, Path
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.batching.ticket import State
from headrace.errors import (
    DeadlineInfeasible,
    InferenceFailed,
    InvalidRequest,
    NotReady,
    QueueFull,
    RequestTimeout,
    WorkerLost,
)
from headrace.events import BatchDone, RequestsDropped, RequestsFailed

EXPECTED = (
    DeadlineInfeasible,
    InferenceFailed,
    InvalidRequest,
    NotReady,
    QueueFull,
    RequestTimeout,
    WorkerLost,
)
PROFILES = [None, {WIDTH: {1: 0.0001}}, {WIDTH: {1: 0.5, 4: 0.6}}]
LONGEST_S = 10
RETRIES = 2


class PipelineMachine(RuleBasedStateMachine):
    """A real event loop whose time is virtual; between two rules nothing moves."""

    def __init__(self):
        super().__init__()
        self.loop = looptime.new_event_loop(start=0)
        self.tickets, self.dropped, self.values, self.faults = [], set(), 0, []
        self.loop.set_exception_handler(lambda _, context: self.faults.append(context))
        self.path = None

    def act(self, action):
        """Do it inside the loop, and let everything happen that is due."""

        async def inside():
            result = action()
            for _ in range(4):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(inside())

    @initialize(
        max_rows=st.integers(1, 6), max_queue=st.sampled_from([40, 200, 10_000]), has_worker=st.booleans()
    )
    def begin(self, max_rows, max_queue, has_worker):
        self.path = self.act(lambda: Path(self.loop.time, max_rows=max_rows, max_queue_bytes=max_queue))
        if has_worker:
            self.start_worker(1, None)

    @rule(rows=st.lists(st.integers(0, 4), min_size=1, max_size=6), within=st.integers(1, LONGEST_S))
    def submit(self, rows, within):
        def several():
            for each in rows:
                self.values += 1
                self.tickets.append(self.path.submit(self.values, each, within=within, is_alone=each == 0))

        self.act(several)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def client_goes(self, data):
        gone = data.draw(st.sampled_from(self.tickets))
        if gone.client.ends == 0:
            self.dropped.add(gone)
        self.act(lambda: self.path.pipeline.drop(gone))

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 0.001, 1.0]))
    def batch_finishes(self, data, seconds):
        channel = data.draw(st.sampled_from(self.busy()))
        self.act(lambda: channel.finish(seconds))

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), is_input=st.booleans())
    def rows_of_a_batch_fail(self, data, is_input):
        channel = data.draw(st.sampled_from(self.busy()))
        rows = len(next(iter(channel._in_flight.values()))[2])
        failed = data.draw(st.sets(st.integers(0, rows - 1))) if rows else ()
        self.act(lambda: channel.finish(errors=[(row, "told to fail", is_input) for row in sorted(failed)]))

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), is_input=st.booleans())
    def batch_fails(self, data, is_input):
        channel = data.draw(st.sampled_from(self.busy()))
        self.act(lambda: channel.fail(is_input=is_input))

    @precondition(lambda self: self.path.channels)
    @rule()
    def worker_dies(self):
        self.act(self.path.lose_worker)

    @precondition(lambda self: self.path.channels)
    @rule(data=st.data())
    def one_worker_dies(self, data):
        channel = data.draw(st.sampled_from(self.path.channels))
        self.act(lambda: self.path.lose_one(channel))

    @precondition(lambda self: self.path.channels)
    @rule()
    def one_more_worker_comes(self):
        self.act(self.path.add_worker)

    @precondition(lambda self: not self.path.channels)
    @rule(instances=st.integers(1, 3), known=st.sampled_from(PROFILES))
    def start_worker(self, instances, known):
        self.act(lambda: self.path.start_worker(instances, known))

    @rule(seconds=st.sampled_from([0.01, 0.7, 3.0]))
    def time_passes(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @rule()
    def everything_is_refused(self):
        self.act(lambda: self.path.pipeline.refuse_all(NotReady("m", "1", "told so")))

    def busy(self):
        return [channel for channel in self.path.channels if channel.in_flight()]

    @invariant()
    def each_is_answered_at_most_once_and_never_after_it_was_dropped(self):
        for each in self.tickets:
            client = each.client
            assert client.ends == (each.state in {State.ANSWERED, State.EXPIRED})
            assert not (each in self.dropped and client.ends)
            assert client.error is None or isinstance(client.error, EXPECTED)

    @invariant()
    def each_gets_its_own_rows(self):
        for value, each in enumerate(self.tickets, 1):
            if each.client.rows is not None:
                assert each.client.rows == [2 * value] * each.request.rows

    @invariant()
    def nobody_waits_beyond_the_deadline(self):
        now = self.loop.time()
        for each in self.tickets:
            assert each.state is not State.WAITING or each.deadline > now - 0.001

    @invariant()
    def what_is_held_is_what_was_not_answered(self):
        if self.path is None:
            return
        snapshot = self.path.pipeline.snapshot()
        waiting = [each for each in self.tickets if each.state is State.WAITING]
        running = {each for each in self.tickets if each.state is State.RUNNING}
        in_flight = {
            each for channel in self.path.channels for batch in channel.in_flight() for each in batch.tickets
        }
        assert snapshot.waiting == len(waiting)
        assert snapshot.waiting_bytes == sum(each.request.nbytes for each in waiting)
        expired = {each for each in self.tickets if each.state is State.EXPIRED}
        assert running <= in_flight <= running | self.dropped | expired

    @invariant()
    def no_work_waits_beside_an_idle_instance_but_for_a_suspect(self):
        if self.path is None or any(each.is_retry and each.client.ends == 0 for each in self.tickets):
            return
        if self.path.pipeline.is_trying_suspect:
            return  # it goes on running by itself after its deadline
        if self.path.pipeline.snapshot().waiting:
            assert not any(channel.is_idle for channel in self.path.channels)

    @invariant()
    def a_suspect_runs_with_nobody_beside_it(self):
        if self.path is None:
            return
        batches = [batch for channel in self.path.channels for batch in channel.in_flight()]
        if any(each.is_retry for batch in batches for each in batch.tickets):
            assert len(batches) == 1

    @invariant()
    def nothing_is_run_more_than_twice(self):
        if self.path is None:
            return
        runs = Counter(
            value for channel in self.path.all_channels for batch in channel.begun for value in set(batch)
        )
        assert max(runs.values(), default=0) <= RETRIES

    @invariant()
    def nothing_goes_wrong_on_the_loop(self):
        assert self.faults == []

    def teardown(self):
        try:
            if self.path is not None:
                self.come_to_an_end()
        finally:
            if self.path is not None:
                self.act(self.path.close)
            self.loop.close()

    def come_to_an_end(self):
        """However it went: in the end everybody has an answer, and it was reported."""
        if not self.path.channels:
            self.start_worker(1, None)
        while self.busy():
            self.act(self.busy()[0].finish)
        self.check_the_end()

    def check_the_end(self):
        assert all(each.client.ends == 1 for each in self.tickets if each not in self.dropped)
        events = self.path.events
        done = sum(len(each.latencies) for each in events if isinstance(each, BatchDone))
        failed = sum(len(each.waits) for each in events if isinstance(each, RequestsFailed))
        gone = sum(each.count for each in events if isinstance(each, RequestsDropped))
        answered = [each for each in self.tickets if each.client.ends]
        assert sum(each.client.error is not None for each in answered) == failed
        assert gone <= len(self.dropped)
        assert len(answered) <= done + failed <= len(self.tickets)


TestPipeline = PipelineMachine.TestCase
TestPipeline.settings = settings(max_examples=150, stateful_step_count=30)
