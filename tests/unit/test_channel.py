"""The gateway's end of an instance, with a test for the instance at the other end of the socket."""

import asyncio
import errno
import mmap
import os
import socket

import pytest
import pytest_asyncio

from headrace.execution.arena import SMALLEST, Region
from headrace.execution.channel import Channel
from headrace.execution.wire import CREDITS, LARGEST, SLOTS, Done, Failed, Placed, decode_run, encode


class Batch:
    gives_back = False

    def __init__(self):
        self.heard = []

    def on_done(self, done, outputs):
        placed = done.outputs[0]
        self.heard.append(bytes(outputs.view[placed.offset : placed.offset + placed.nbytes]))

    def on_failed(self, failed):
        self.heard.append(failed.reason)

    def on_unread(self, reason):
        self.heard.append(f"unread: {reason}")


class Instance:
    """What a worker does for one batch at a time: reads a run, writes outputs, answers."""

    def __init__(self):
        self.socket, self.gateway_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.slots = [(Region.create(), Region.create()) for _ in range(SLOTS)]
        self.runs = []

    def descriptors(self):
        """Copies, as the kernel makes them when they are passed on."""
        fds = [self.gateway_end.fileno(), *(region.fd for slot in self.slots for region in slot)]
        return [os.dup(fd) for fd in fds]

    def receive(self):
        run = decode_run(self.socket.recv(LARGEST))
        self.runs.append(run)
        return run

    def answer(self, data, run=None):
        run = run or self.receive()
        region = self.slots[run.slot][1]
        region.reserve(len(data))
        region.view[: len(data)] = data
        placed = (Placed(0, 0, len(data), (len(data),)),)
        self.socket.send(encode(Done(run.batch, region.size, placed, 0, 0, 0, 0)))

    def fail(self, reason):
        self.socket.send(encode(Failed(self.receive().batch, reason, is_input=False)))

    def close(self):
        self.socket.close()
        self.gateway_end.close()
        for slot in self.slots:
            for region in slot:
                region.close()


@pytest.fixture
def instance():
    made = Instance()
    yield made
    made.close()


@pytest_asyncio.fixture
async def channel(instance):
    made = Channel(asyncio.get_running_loop(), instance.descriptors(), lambda: None)
    yield made
    made.close()


def send(channel, data=b"in"):
    batch = Batch()
    region = channel.inputs()
    region.reserve(len(data))
    region.view[: len(data)] = data
    channel.send(batch, (Placed(0, 0, len(data), (len(data),)),), (0,))
    return batch


async def tick():
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_batch_goes_there_and_its_outputs_come_back(channel, instance):
    batch = send(channel, b"question")
    run = instance.receive()
    assert bytes(instance.slots[run.slot][0].view[:8]) == b"question"
    assert (run.wanted, run.inputs[0].nbytes) == ((0,), 8)
    instance.answer(b"answer", run)
    await tick()
    assert batch.heard == [b"answer"]
    assert channel.is_idle


async def test_a_credit_is_spent_by_a_batch_and_earned_by_its_answer(channel, instance):
    seen = [channel.credits]
    for _ in range(CREDITS):
        send(channel)
        seen.append(channel.credits)
    instance.answer(b"")
    await tick()
    assert [*seen, channel.credits] == [2, 1, 0, 1]


async def test_the_next_batch_may_be_sent_before_the_outputs_are_read(instance):
    """The slot of what is being read is not given to what is sent meanwhile."""
    sent = []
    channel = Channel(
        asyncio.get_running_loop(), instance.descriptors(), lambda: sent.append(send(channel, b"next"))
    )
    first, second = send(channel), send(channel)
    for data in (b"1", b"2"):
        instance.answer(data)
        await tick()
    while len(instance.runs) < 4:
        instance.receive()
    assert (first.heard, second.heard) == ([b"1"], [b"2"])
    slots = [run.slot for run in instance.runs]
    assert all(slots[at] not in slots[at + 1 : at + SLOTS] for at in range(2))
    channel.close()


async def test_a_failure_reaches_its_batch_only(channel, instance):
    first, second = send(channel), send(channel)
    instance.fail("no")
    instance.answer(b"yes")
    await tick()
    assert (first.heard, second.heard) == (["no"], [b"yes"])


async def test_a_second_answer_to_the_same_batch_is_nothing(channel, instance):
    # As from code that forked in the middle of a run: both processes go on.
    batch = send(channel)
    run = instance.receive()
    instance.answer(b"parent", run)
    await tick()
    instance.answer(b"child", run)
    await tick()
    other = send(channel)
    instance.answer(b"next")
    await tick()
    assert (batch.heard, other.heard) == ([b"parent"], [b"next"])
    assert channel.credits == CREDITS


async def test_outputs_that_cannot_be_mapped_are_said_to_be_and_the_next_ones_are_read(
    channel, instance, monkeypatch
):
    batch = send(channel)
    instance.answer(b"x" * (SMALLEST + 1))
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(mmap, "mmap", lacking)
        await tick()
    other = send(channel)
    instance.answer(b"next")
    await tick()
    assert (batch.heard, other.heard) == (["unread: Too many open files"], [b"next"])
    assert channel.credits == CREDITS


def lacking(*_):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_slots_are_used_again_for_ever(channel, instance):
    for at in range(10 * SLOTS):
        batch = send(channel)
        instance.answer(b"%d" % at)
        await tick()
        assert batch.heard == [b"%d" % at]


@pytest.mark.parametrize("nbytes", [1 << 16, (1 << 20) + 1])
async def test_large_batches_grow_their_slot_on_both_sides(channel, instance, nbytes):
    batch = send(channel, b"x" * nbytes)
    run = instance.receive()
    region = instance.slots[run.slot][0]
    region.follow(run.size)
    assert bytes(region.view[nbytes - 1 : nbytes]) == b"x"
    instance.answer(b"y" * 2 * nbytes, run)
    await tick()
    assert batch.heard == [b"y" * 2 * nbytes]


async def test_closing_gives_back_what_was_not_answered_oldest_first(channel, instance):
    batches = [send(channel), send(channel)]
    assert channel.close() == batches
    assert channel.close() == []
    assert [each.heard for each in batches] == [[], []]


async def test_an_instance_that_has_gone_keeps_its_batches_until_it_is_closed(channel, instance):
    before = send(channel)
    instance.socket.close()
    instance.gateway_end.close()
    await tick()
    after = send(channel)
    await tick()
    assert channel.close() == [before, after]
