"""Who is to blame for the end of a process that several models shared."""

import signal

import pytest

from headrace.execution.death import Death, Suspect, Verdict, culprits, judge

TRACE = (
    "Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f0000000b0b (most recent call first):\n"
)
A = Suspect("a/1", frozenset({0x7F0000000A0A}))
B = Suspect("b/1", frozenset({0x7F0000000B0B, 0x7F0000000B1B}))
SEGFAULT, KILLED = -signal.SIGSEGV, -signal.SIGKILL


def busy(suspect: Suspect) -> Suspect:
    return Suspect(suspect.label, suspect.threads, was_busy=True)


def hung(suspect: Suspect, *, is_excused: bool = False) -> Suspect:
    return Suspect(suspect.label, suspect.threads, True, "was ended: a run hung for 9 s", is_excused)


def test_who_was_alone_is_to_blame_as_it_ever_was():
    assert judge(SEGFAULT, TRACE, [A]) == [Verdict(Death("was killed by SIGSEGV", TRACE, "SIGSEGV"))]
    killed = Death("was killed by SIGKILL", "", "SIGKILL", is_own_doing=False)
    assert judge(KILLED, "", [A]) == [Verdict(killed)]
    assert judge(70, "", [A]) == [Verdict(Death("ended with status 70"))]


def test_whose_thread_crashed_is_to_blame_and_whoever_ran_something_beside_it_is_not():
    a, b = judge(SEGFAULT, TRACE, [busy(A), busy(B)])
    assert b == Verdict(Death("was killed by SIGSEGV", TRACE, "SIGSEGV"))
    reason = "shared a process with b/1, and that was killed by SIGSEGV"
    assert a == Verdict(Death(reason, "", "SIGSEGV", is_own_doing=False), is_excused=True)


def test_where_no_thread_of_theirs_is_named_whoever_was_busy_is_to_blame():
    for trace in ("", TRACE.replace("0b0b", "0c0c"), "Current thread 0x12 [what is no address"):
        a, b = judge(SEGFAULT, trace, [busy(A), B])
        assert not a.is_excused
        assert a.death.is_own_doing
        assert b.is_excused


def test_where_nobody_was_busy_nobody_is_to_blame():
    a, b = judge(KILLED, "", [A, B])
    assert a == b == Verdict(Death("was killed by SIGKILL", "", "SIGKILL", is_own_doing=False), True)


def test_who_was_ended_since_it_hung_is_to_blame_whatever_else_ran():
    a, b = judge(KILLED, TRACE, [hung(A), busy(B)])
    assert a == Verdict(Death("was ended: a run hung for 9 s", TRACE))
    assert b.is_excused
    assert b.death.reason == "shared a process with a/1, and that was ended: a run hung for 9 s"


def test_what_ended_for_want_of_means_is_nobodys_doing():
    verdicts = judge(KILLED, "", [hung(A, is_excused=True), hung(B, is_excused=True)])
    assert all(each.is_excused and not each.death.is_own_doing for each in verdicts)


@pytest.mark.parametrize("code", [SEGFAULT, KILLED, 0, 1])
def test_a_process_without_models_ends_without_anybody_to_blame(code):
    assert judge(code, TRACE, []) == []


def test_several_may_be_to_blame():
    assert culprits("", [busy(A), busy(B)]) == [busy(A), busy(B)]
