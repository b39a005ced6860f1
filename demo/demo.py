"""`make demo`: three real models, served by `headrace serve`, and what they answer.

1. Real files, photos and sentences go in; each answer is printed beside its latency.
2. Ten seconds of mixed traffic, with a live table.
3. Every answer is compared with the bare runtime's.
4. Three `curl` lines, tried out, to go on with. The server stays until Ctrl-C, or ends at once where CI=true.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import curl
import traffic
import tritonclient.http as triton
from rich.console import Console
from rich.table import Table
from rich.text import Text
from served import Failure, Served, serving
from skills import REPOSITORY, Skill, all_skills
from tritonclient.utils import InferenceServerException

FOLDER = REPOSITORY / ".demo"
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # ends as Ctrl-C does: nothing stays behind
    try:
        skills = all_skills()
        with serving(arrange(skills), FOLDER, console) as served:
            show(skills, served)
            if os.environ.get("CI") != "true":
                wait(served)
    except (Failure, InferenceServerException, OSError) as exc:
        sys.exit(f"demo: {exc}")
    except KeyboardInterrupt:
        sys.exit(130)


def arrange(skills: list[Skill]) -> Path:
    """A folder of models, each called what it is served as."""
    models = FOLDER / "models"
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir(parents=True)
    (FOLDER / ".gitignore").write_text("*\n")
    for skill in skills:
        (models / f"{skill.name}.onnx").symlink_to(skill.model)
    return models


def show(skills: list[Skill], served: Served) -> None:
    """What main's docstring promises.

    Raises:
        Failure: an answer is wrong, or missing.
    """
    console.print(f"headrace serves {', '.join(each.name for each in skills)} on http://{served.address}")
    for skill in skills:
        console.print()
        head(f"{skill.name}: {skill.what}")
        console.print(answers(skill, served.address))
    with console.status("asking the bare runtime"):
        loads = [traffic.Load(skill, traffic.bare_answers(skill)) for skill in skills]
    console.print()
    head(f"{traffic.SECONDS:g} seconds of mixed traffic")
    traffic.send(served.address, loads, console)
    if not console.is_terminal:
        console.print()  # only on a terminal does a live table end its last line
    console.print()
    head("all those answers compared with onnxruntime by itself")
    compare(loads)
    console.print()
    head("go on by yourself")
    for each in curl.lines(skills, f"http://{served.address}", FOLDER):
        curl.verify(each)
        console.print(each.command, soft_wrap=True)
    console.print()


def head(text: str) -> None:
    console.print(Text(text, "bold"))


def answers(skill: Skill, address: str) -> Table:
    """One request a sample, one after the other."""
    shown = Table("input", "answer")
    shown.add_column("ms", justify="right")
    outputs, latencies = [], []
    with contextlib.closing(triton.InferenceServerClient(address)) as client:
        client.is_server_ready()  # the connection is not what is measured
        for sample in skill.samples:
            inputs = traffic.encoded(triton, sample)
            output = [triton.InferRequestedOutput(skill.output)]
            started = time.perf_counter()
            result = client.infer(skill.name, inputs, outputs=output)
            latencies.append(time.perf_counter() - started)
            outputs.append(result.as_numpy(skill.output))
    for sample, meaning, seconds in zip(skill.samples, skill.meanings(outputs), latencies, strict=True):
        shown.add_row(Text(sample.label), Text(meaning), f"{seconds * 1000:.1f}")
    return shown


def compare(loads: list[traffic.Load]) -> None:
    """How far the answers of the traffic were from the bare runtime's.

    Raises:
        Failure: too far.
    """
    shown = Table("model")
    for heading in ("answers", "largest difference", "allowed"):
        shown.add_column(heading, justify="right")
    wrong = []
    for load in loads:
        is_right = bool(load.latencies) and load.largest <= traffic.TOLERANCE
        if not is_right:
            wrong.append(load.skill.name)
        difference = Text(f"{load.largest:.1e}", "green" if is_right else "bold red")
        shown.add_row(load.skill.name, str(len(load.latencies)), difference, f"{traffic.TOLERANCE:.0e}")
    console.print(shown)
    console.print("differences are relative to the largest element of the right answer", style="dim")
    if wrong:
        raise Failure(f"answers differ from the bare runtime's: {', '.join(wrong)}")


def wait(served: Served) -> None:
    console.print(
        f"Serving on http://{served.address} until Ctrl-C; its log is {os.path.relpath(served.log)}"
    )
    with contextlib.suppress(KeyboardInterrupt):
        served.wait()


if __name__ == "__main__":
    main()
