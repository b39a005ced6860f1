"""How a worker process ended, and which of the models in it is to blame. Pure.

Models that share a process share its end. Whoever ran what ended it is to blame, as far as can be told; the others are
excused, and nothing is held against them.
"""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace

NO_MEMORY = 71
"""Status of a worker that ended itself for want of memory."""
KILLED_FOR_MEMORY = "was killed by the kernel: out of memory"
OF_OTHERS = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT})
"""Signals that a process gets from somebody, or from the kernel where memory runs out."""
CURRENT_THREAD = re.compile(r"^Current thread (0x[0-9a-f]+)", re.MULTILINE)
"""How faulthandler writes which thread a fatal signal befell; of threads that are not Python's it says nothing."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a process ended, and where its threads were then.

    Attributes:
        reason: as in "was killed by SIGSEGV".
        trace: what it wrote down itself, or "".
        signal: name of the one that ended it; "" if it ended by itself, or was ended since it hung.
        is_own_doing: what it ran made it end, as far as can be told, and nobody from outside.
        is_memory: there was too little memory for it.
    """

    reason: str
    trace: str = ""
    signal: str = ""
    is_own_doing: bool = True
    is_memory: bool = False


@dataclass(frozen=True, slots=True)
class Suspect:
    """A model that was in the process.

    Attributes:
        label: as in "skill/1".
        threads: its threads, as a trace names them.
        was_busy: it was loaded just then, or ran something.
        hung: why the gateway ended the process on its account, as a predicate; "" if it did not.
        is_excused: that was for want of means, and is nobody's fault.
    """

    label: str
    threads: frozenset[int] = frozenset()
    was_busy: bool = False
    hung: str = ""
    is_excused: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the end of a process means to one model that was in it."""

    death: Death
    is_excused: bool = False


def judge(code: int, trace: str, suspects: Sequence[Suspect], *, is_memory: bool = False) -> list[Verdict]:
    """What each of them is to hear of a process that ended with the code, as Popen has it. `is_memory`: as of death_of."""
    guilty = culprits(trace, suspects)
    ended = death_of(code, "", guilty[0].hung if guilty else "", is_memory=is_memory)
    names = " and ".join(each.label for each in guilty)
    reason = f"shared a process with {names}, and that {ended.reason}" if guilty else ended.reason
    shared = Verdict(Death(reason, "", ended.signal, is_own_doing=False), is_excused=True)
    return [judged(code, trace, each, is_memory=is_memory) if each in guilty else shared for each in suspects]


def judged(code: int, trace: str, culprit: Suspect, *, is_memory: bool) -> Verdict:
    """What the one is to hear that is to blame."""
    death = death_of(code, trace, culprit.hung, is_memory=is_memory)
    if not culprit.is_excused:
        return Verdict(death)
    return Verdict(replace(death, is_own_doing=False), is_excused=True)


def culprits(trace: str, suspects: Sequence[Suspect]) -> list[Suspect]:
    """Who is to blame: who hung, whose thread it was, the only one, or else whoever was busy; nobody if none was."""
    if hung := [each for each in suspects if each.hung]:
        return hung
    if len(suspects) == 1:
        return list(suspects)
    if (found := CURRENT_THREAD.search(trace)) is not None:
        thread = int(found[1], 16)
        if its := [each for each in suspects if thread in each.threads]:
            return its
    return [each for each in suspects if each.was_busy]


def death_of(code: int, trace: str, hung: str, *, is_memory: bool = False) -> Death:
    """How a process ended with the code, of which the gateway said that it hung, or nothing.

    `is_memory`: the kernel has killed somebody meanwhile, since memory ran out.
    """
    if hung:
        return Death(hung, trace)
    if code == NO_MEMORY:
        return Death("ran out of memory", trace, is_own_doing=False, is_memory=True)
    if is_memory and code == -signal.SIGKILL:
        return Death(KILLED_FOR_MEMORY, trace, "SIGKILL", is_own_doing=False, is_memory=True)
    if code >= 0:
        return Death(f"ended with status {code}", trace)
    name = signal_name(-code)
    return Death(f"was killed by {name}", trace, name, is_own_doing=-code not in OF_OTHERS)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have none
        return f"signal {number}"
