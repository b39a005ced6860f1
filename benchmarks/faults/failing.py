"""A variant fails, hangs, becomes slow, gives NaN or crashes for a while, with and without something to fall back on."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import journal
import numpy as np
from asking import Asked, Asking, Heard
from bench import spread
from faulty import Faults, count_text
from report import Row, Target

from headrace.events import BreakerChanged, Event
from headrace.testing import run_server

SKILL = "ranker"
FAULTS = {
    "fails": {"fault": "raise"},
    "hangs": {"fault": "hang"},
    "slows down": {"fault": "slow", "seconds": 0.2},
    "gives NaN": {"fault": "nan"},
    "aborts": {"fault": "abort"},
    "breaks its memory": {"fault": "segfault"},
}
RUN_S = 0.005
RATE = 100.0
DEADLINE_S = 1.0
MARGIN_S = 0.25
"""After its deadline a caller may still be told so: the loop, the kernel and the callers' process take their time."""
BEFORE_S = 1.5
FAULT_S, AFTER_S = 5.0, 10.0
QUICK_FAULT_S, QUICK_AFTER_S = 3.0, 5.0
SLOW_S = 13.0
"""At least, of what is slow: what ran before, in no time, is to leave the breaker's window."""
MAX_ROWS = 8
"""Of which it is known from the start how long they take."""
SLACK_S = 0.5
"""What was sent before the breaker opened, a batch that runs and one that waits for it, may begin so much later."""
CHAIN = """fallback:
  chain: [{variant: small}]
"""
SKILL_YAML = """format: 1
finite_outputs: true
variants: {{full: {{model: full.fake}}, small: {{model: small.fake}}}}
{chain}"""


@dataclass
class Found:
    """One fault's run. `states`: what the breaker became when; all times in seconds of the run."""

    heard: Heard
    began: float
    ended: float
    states: list[tuple[float, str]] = field(default_factory=list)
    probes: int = 0

    @property
    def late(self) -> int:
        """Callers who heard nothing by their deadline and a little."""
        return int((self.heard.latency > DEADLINE_S + MARGIN_S).sum())

    @property
    def latest_s(self) -> float:
        """The longest time after its deadline that a caller heard something."""
        return max(0.0, float(self.heard.latency.max()) - DEADLINE_S)

    @property
    def has_opened(self) -> bool:
        return any(state == "open" for _, state in self.states)

    @property
    def again_s(self) -> float:
        """From the fault's end until the breaker was closed for good; infinity if it is not, 0 if it was before."""
        if self.states and self.states[-1][1] != "closed":
            return float("inf")
        return max(0.0, self.states[-1][0] - self.ended) if self.states else 0.0

    def good(self, since: float, until: float) -> float:
        """Part of the calls that came then which were answered in time."""
        kept = self.heard.of(0, since, until)
        return float((kept.is_good & (kept.latency <= DEADLINE_S)).mean())


def measure(bench: Faults) -> Row:
    row = Row("Variants that misbehave", HOW)
    row.columns = [
        "fault",
        "chain",
        "statuses",
        "good before",
        "during",
        "after",
        "late",
        "opened",
        "closed after s",
        "probes paid by users",
    ]
    everything = []
    for at, (name, switch) in enumerate(FAULTS.items()):
        for has_chain in (at % 2 == 1,) if bench.is_quick else (False, True):
            found = once(bench, switch, has_chain=has_chain)
            everything.append(found)
            bench.say(
                f"{name}{', chain' if has_chain else ''}: {count_text(found.heard)}, {found.late} late, {found.states}"
            )
            row.lines.append(line(name, found, has_chain=has_chain))
            row.notes += [f"{name}: {fault}" for fault in found.heard.faults[:1]]
    calls = sum(len(each.heard.status) for each in everything)
    late, lost = sum(each.late for each in everything), sum(each.heard.unanswered for each in everything)
    wrong = sum(each.heard.wrong for each in everything)
    again = [each.again_s for each in everything]
    row.targets = [
        Target(
            "callers answered in time", not late and not lost, f"{late} late and {lost} unanswered of {calls}"
        ),
        Target("0 wrong answers", not wrong, f"{wrong}"),
        Target(
            "breaker opens and closes by itself",
            all(each.has_opened for each in everything) and max(again) < float("inf"),
            f"opened in {sum(each.has_opened for each in everything)} of {len(everything)}, "
            f"closed {spread(again)} s after the fault",
        ),
        Target(
            "0 user requests spent on probes",
            not any(each.probes for each in everything),
            str(sum(each.probes for each in everything)),
        ),
    ]
    return row


HOW = f"""A skill whose variant takes {1e3 * RUN_S:.0f} ms a run is asked {RATE:.0f} times a second with a deadline of {DEADLINE_S:g} s. After a while each of \
its runs misbehaves, its golden inputs' too, and later does no more. It writes down what it runs, so that what users' requests were run while its \
breaker was open or half open can be counted. Late: not answered {MARGIN_S:g} s after the deadline. With a chain another variant answers."""


def once(bench: Faults, switch: dict[str, object], *, has_chain: bool) -> Found:
    fault_s = QUICK_FAULT_S if bench.is_quick else FAULT_S
    if "seconds" in switch:
        fault_s = max(fault_s, SLOW_S)
    after_s = QUICK_AFTER_S if bench.is_quick else AFTER_S
    folder = bench.folder / "models" / "failing" / SKILL
    folder.mkdir(parents=True, exist_ok=True)
    file, ran = folder.parent / "switch.json", folder.parent / "ran.jsonl"
    file.unlink(missing_ok=True)
    ran.unlink(missing_ok=True)
    (folder / "skill.yaml").write_text(SKILL_YAML.format(chain=CHAIN if has_chain else ""))
    (folder / "full.fake").write_text(
        json.dumps({"seconds": RUN_S, "switch": str(file), "journal": str(ran)})
    )
    (folder / "small.fake").write_text(json.dumps({"seconds": RUN_S}))
    asked = Asked(SKILL, "x", "y", 4, RATE, DEADLINE_S, {"": 2.0, "variant:small": 2.0}, {})
    changes: list[tuple[float, str]] = []

    def hear(event: Event) -> None:
        if isinstance(event, BreakerChanged) and event.model == SKILL:
            changes.append((time.perf_counter(), event.state))

    options = {"profile_dir": bench.profiles, "instances": 1, "max_rows": MAX_ROWS}
    with run_server([folder], **options) as server:
        server.server._observers.append(hear)
        asking = Asking(server.port, (asked,), BEFORE_S + fault_s + after_s, 1, bench.core)
        asking.wait_until(BEFORE_S)
        file.write_text(json.dumps(switch))
        began = asking.now
        asking.wait_until(BEFORE_S + fault_s)
        file.unlink()
        ended = asking.now
        heard = asking.heard()
    states = [(at - asking.zero, state) for at, state in changes]
    return Found(heard, began, ended, states, probes_of_users(ran, heard, states, asking.zero))


def probes_of_users(ran: Path, heard: Heard, states: list[tuple[float, str]], zero: float) -> int:
    """Rows of callers that were run while the breaker was not closed."""
    numbers = set(heard.number.tolist())
    count = 0
    for run in journal.read(ran):
        at = run.at - zero
        state, since = "closed", 0.0
        for changed, became in states:
            if changed <= at:
                state, since = became, changed
        if state in {"open", "half_open"} and at > since + SLACK_S * (state == "open"):
            count += len(numbers.intersection(run.numbers))
    return count


def line(name: str, found: Found, *, has_chain: bool) -> list[str]:
    statuses = ", ".join(f"{count} of {status}" for status, count in sorted(found.heard.statuses().items()))
    ends = float(np.max(found.heard.scheduled))
    return [
        name,
        "another variant" if has_chain else "none",
        statuses,
        f"{found.good(0, found.began):.2f}",
        f"{found.good(found.began, found.ended):.2f}",
        f"{found.good(min(ends, found.ended + found.again_s), ends):.2f}"
        if found.again_s < float("inf")
        else "-",
        f"{found.late} ({found.latest_s:.2f} s)",
        "yes" if found.has_opened else "no",
        f"{found.again_s:.2f}",
        str(found.probes),
    ]
