"""The steps of a worker's life, and faults that tests have it suffer at one of them.

The environment variable HEADRACE_FAULT asks for one: STEP:KIND or STEP:KIND:N for the N-th time the step is reached, as
in `ran:kill` or `replied:hang:3`; several are separated by commas. HEADRACE_FAULT_MODEL is the one model it befalls, and
HEADRACE_FAULT_ONCE a file whose presence says that it has happened, to whichever process. `headrace.testing.fault` sets
them. Where none is asked for, a step costs a look into an empty dictionary.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

VARIABLE, MODEL_VARIABLE, ONCE_VARIABLE = "HEADRACE_FAULT", "HEADRACE_FAULT_MODEL", "HEADRACE_FAULT_ONCE"
EXIT_STATUS = 70
HANGS_S = 3600.0


class Step(StrEnum):
    """In the order in which a worker passes them; those from RUN_RECEIVED to REPLIED once a batch.

    A model that says itself what it can do is not warmed up, run or probed; one whose profile is known is not probed or
    measured; one that is slow is probed and measured by a process of its own.
    """

    LOAD_RECEIVED = "load_received"
    OPENED = "opened"
    WARMED_UP = "warmed_up"
    FIRST_RUN = "first_run"
    PROBED = "probed"
    MEASURED = "measured"
    ARENAS_MADE = "arenas_made"
    READY_SENT = "ready_sent"
    RUN_RECEIVED = "run_received"
    INPUTS_READ = "inputs_read"
    RAN = "ran"
    OUTPUTS_PLACED = "outputs_placed"
    REPLIED = "replied"
    ENDING = "ending"


class FaultKind(StrEnum):
    """What befalls the worker: SIGKILL, SIGABRT, an exit, an exception, too little memory, a thread that sleeps on, SIGSTOP."""

    KILL = "kill"
    ABORT = "abort"
    EXIT = "exit"
    RAISE = "raise"
    MEMORY = "memory"
    HANG = "hang"
    STOP = "stop"


@dataclass(slots=True)
class InjectedFault:
    """Befalls the worker when `left` more reaches of its step have come. `once`: the file that says that it has."""

    step: Step
    kind: FaultKind
    left: int = 1
    once: str = ""

    def count(self) -> None:
        """The step was reached."""
        self.left -= 1
        if self.left == 0 and (not self.once or is_created(self.once)):
            self._strike()

    def _strike(self) -> None:
        match self.kind:
            case FaultKind.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case FaultKind.ABORT:
                os.abort()
            case FaultKind.EXIT:
                os._exit(EXIT_STATUS)
            case FaultKind.RAISE:
                raise RuntimeError(f"told to fail at step '{self.step}'")
            case FaultKind.MEMORY:
                raise MemoryError(f"told to run out of memory at step '{self.step}'")
            case FaultKind.HANG:
                time.sleep(HANGS_S)
            case FaultKind.STOP:
                os.kill(os.getpid(), signal.SIGSTOP)


INJECTED: dict[tuple[int, Step], InjectedFault] = {}
"""By the number of the model in the process; filled by `arm`, once for each of them."""
WORK = threading.local()
"""`number` is that of the model that the thread works for; the only one's where nothing is said."""
ONLY = 0


def work_for(number: int) -> None:
    """What this thread does from now on, it does for the model of that number."""
    WORK.number = number


def arm(model: str, environment: Mapping[str, str] = os.environ) -> None:
    """Take over the faults that the environment asks for, if they are for this model, which the thread works for.

    Raises:
        ValueError: they are not written as they should be.
    """
    asked = environment.get(VARIABLE)
    if not asked or environment.get(MODEL_VARIABLE, model) != model:
        return
    sys.stderr.write(f"faults are injected, as {VARIABLE} says: {asked}\n")
    for each in asked.split(","):
        fault = parse_fault(each.strip())
        fault.once = environment.get(ONCE_VARIABLE, "")
        INJECTED[getattr(WORK, "number", ONLY), fault.step] = fault


def reached(step: Step) -> None:
    """To be called where the step is done."""
    if INJECTED and (fault := INJECTED.get((getattr(WORK, "number", ONLY), step))) is not None:
        fault.count()


def parse_fault(text: str) -> InjectedFault:
    """A fault as it is written.

    Raises:
        ValueError: it is not STEP:KIND or STEP:KIND:N; the sentence says what there is.
    """
    parts = text.split(":")
    try:
        step, kind, left = Step(parts[0]), FaultKind(parts[1]), int(parts[2]) if parts[2:] else 1
    except (ValueError, IndexError):
        step, kind, left = Step.ENDING, FaultKind.EXIT, 0
    if left < 1 or len(parts) > len(("step", "kind", "time")):
        raise ValueError(
            f"{VARIABLE}: '{text}' is not STEP:KIND or STEP:KIND:N, where STEP is one of {', '.join(Step)}, "
            f"KIND one of {', '.join(FaultKind)}, and N at least 1"
        )
    return InjectedFault(step, kind, left)


def is_created(path: str) -> bool:
    """Make the file; False if it was there."""
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
