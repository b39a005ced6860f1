"""`make demo`: four skills, served by one `headrace serve`.

1. The folder of skills is built from packages: models, heads trained in seconds, labels. `headrace check` looks at it.
2. Real messages, records, photos and files go in; each request is shown as the curl line for it, with its answer.
3. Each skill answers the cases held out, and so does its model without headrace: verdicts and accuracy must be equal.
4. Five seconds of mixed load, and how it was batched.

On a terminal the server then stays until Ctrl-C; elsewhere, and where CI=true, the demo ends.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import ask
import built
import judge
import traffic
from case import Case, Skill
from credit_risk import CreditRisk
from parcels import FOLDER, Failure
from photo_moderation import PhotoModeration
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sentiment import Sentiment
from served import Served, serving
from upload_guard import UploadGuard

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
LOAD_CASES = 32
CURL_S = 60


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # ends as Ctrl-C does: nothing stays behind
    skills: list[Skill] = [Sentiment(), CreditRisk(), PhotoModeration(), UploadGuard()]
    try:
        folder = built.folder_of(skills, console)
        check(folder)
        with serving(folder, FOLDER, console) as served:
            show(skills, served)
            if sys.stdout.isatty() and os.environ.get("CI") != "true":
                wait(served)
    except (Failure, OSError) as exc:
        sys.exit(f"demo: {exc}")
    except KeyboardInterrupt:
        sys.exit(130)


def check(folder: Path) -> None:
    """What `headrace check` says of the folder, in its last line.

    Raises:
        Failure: it would not be served as it is.
    """
    command = [sys.executable, "-m", "headrace", "check", str(folder)]
    with console.status("checking"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"headrace check ends with status {done.returncode}\n{done.stdout}\n{done.stderr}")
    console.print(Text(f"$ headrace check {os.path.relpath(folder)}", "bold"))
    console.print(Text(done.stdout.rstrip().splitlines()[-1]))


def show(skills: Sequence[Skill], served: Served) -> None:
    """Steps 2 to 4.

    Raises:
        Failure: an answer is wrong, or missing.
    """
    caller = ask.Caller(served.address)
    for skill in skills:
        console.print()
        head(skill.name)
        for case in skill.shown():
            show_answer(caller, skill, case, served.address)
    console.print()
    head("what is served, held against the model by itself")
    cases = {skill.name: skill.cases() for skill in skills}
    compare(caller, skills, cases)
    caller.close()
    console.print()
    head(f"{traffic.SECONDS:g} seconds of mixed load")
    traffic.send(
        served.address, [traffic.load_of(skill, cases[skill.name][:LOAD_CASES]) for skill in skills], console
    )
    console.print()


def head(text: str) -> None:
    console.print(Text(text, "bold"))


def show_answer(caller: ask.Caller, skill: Skill, case: Case, address: str) -> None:
    """A request as its curl line, which is run if there is a curl, and the answer.

    Raises:
        Failure: curl is answered otherwise than the demo's own client.
    """
    command = ask.curl(skill.name, case, address)
    started = time.perf_counter()
    answered = caller.ask(ask.one(skill.name, case))
    seconds = time.perf_counter() - started
    console.print(Text("$ " + ask.pasteable(command)), soft_wrap=True)
    console.print(
        Text(json.dumps(answered["answer"])), Text(f"  {seconds * 1000:.1f} ms", "dim"), soft_wrap=True
    )
    if shutil.which("curl"):
        by_curl = subprocess.run(command, capture_output=True, check=False, timeout=CURL_S).stdout
        label = judge.verdict(skill, json.loads(by_curl)["answer"]).label
        if label != judge.verdict(skill, answered["answer"]).label:
            raise Failure(f"this line is answered otherwise: {ask.pasteable(command)}\n{by_curl!r}")


def compare(caller: ask.Caller, skills: Sequence[Skill], cases: dict[str, list[Case]]) -> None:
    """The table of accuracies.

    Raises:
        Failure: a verdict or a probability differs.
    """
    found = []
    for skill in skills:
        with console.status(f"{skill.name}: {len(cases[skill.name])} cases, served and without headrace"):
            answers = caller.answers(skill.name, cases[skill.name])
            served = [judge.verdict(skill, answer) for answer in answers]
            bare = skill.bare(cases[skill.name])
        found.append(judge.compare(skill, cases[skill.name], served, bare))
    console.print(accuracies(found))
    note(
        "alone: the package's model in its own runtime, its input prepared by other code; usual: always saying "
        "the commonest label"
    )
    note("same: verdicts that are the same; difference: the largest between two probabilities")
    for skill in skills:
        if isinstance(skill, PhotoModeration):
            photos = cases[skill.name]
            own = judge.compare(skill, photos, skill.bare(photos), skill.packages_own(photos))
            note(
                f"{skill.name}: as its package prepares photos, read whole and through JPEG once more, {own.agreed} of "
                f"{own.cases} verdicts are the same, and probabilities differ by up to {own.largest:.1e}"
            )
    if wrong := [each.skill.name for each in found if not each.is_equal]:
        raise Failure(f"answers differ from those of the model by itself: {', '.join(wrong)}")


def accuracies(found: Sequence[judge.Comparison]) -> Table:
    shown = Table("skill", "judged on")
    for heading in ("cases", "served", "alone", "usual", "same", "difference"):
        shown.add_column(heading, justify="right")
    for each in found:
        shares = [
            "" if right is None else f"{right / each.cases:.1%}"
            for right in (each.right, each.bare_right, each.usual)
        ]
        style = "green" if each.is_equal else "bold red"
        same = Text(f"{each.agreed} of {each.cases}", style)
        difference = Text(f"{each.largest:.1e}", style)
        shown.add_row(each.skill.name, each.skill.judged_on, str(each.cases), *shares, same, difference)
    return shown


def note(text: str) -> None:
    console.print(text, style="dim", soft_wrap=True)


def wait(served: Served) -> None:
    log, folder = os.path.relpath(served.log), os.path.relpath(built.SKILLS)
    with contextlib.suppress(KeyboardInterrupt):
        console.print(f"Serving {folder} on http://{served.address} until Ctrl-C; its log is {log}")
        served.wait()


if __name__ == "__main__":
    main()
