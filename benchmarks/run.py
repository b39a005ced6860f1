"""The benchmarks: `python benchmarks/run.py [quick] [ROW ...]`, or `make bench`.

Builds and installs what it needs under .bench/, measures row by row, and leaves .bench/report.md and report.json.
The full run takes up to 25 minutes, `quick` two; a short run shows that things work, not how fast they are.
Ends with 1 if an answer was wrong or missing, or a row could not be measured. A missed target is not an error.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import report
import row_binary
import row_gateway
import row_generator
import row_images
import row_mlp
import row_saturated
import row_skills
import row_start
from bench import Bench
from report import Row

ROWS: dict[str, Callable[[Bench], Row]] = {
    "generator": row_generator.measure,
    "gateway": row_gateway.measure,
    "start": row_start.measure,
    "mlp": row_mlp.measure,
    "binary": row_binary.measure,
    "resnet": row_saturated.resnet,
    "minilm": row_saturated.minilm,
    "images": row_images.measure,
    "skills": row_skills.measure,
    "hang": row_skills.beside_a_hang,
}
PINNING = "The load generator is pinned to one of these cores, servers may use all of them."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "what", nargs="*", metavar="quick|ROW", help=f"rows: {', '.join(ROWS)}; all if none is named"
    )
    names = parser.parse_args().what
    if unknown := [name for name in names if name not in {"quick", *ROWS}]:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    bench = Bench(Path(__file__).parents[1] / ".bench", is_quick="quick" in names)
    bench.folder.mkdir(exist_ok=True)
    heading = report.heading("Benchmarks", PINNING, is_quick=bench.is_quick)
    for folder in bench.folder.glob("profiles*"):
        shutil.rmtree(folder)  # what another version measured, or beside other work, is not to be trusted
    _, failed = report.measure_all(ROWS, names, bench, bench.folder, lambda: heading + verdict(bench))
    bench.say(f"done; the report is in {bench.folder / 'report.md'}")
    return 1 if failed or bench.faults else 0


def verdict(bench: Bench) -> str:
    """On the answers."""
    text = (
        f"\n\n{bench.answers:,} answers were measured and each was held against the bare runtime's: byte for byte "
        f"against answers found right before, else as numbers (|a - b| ≤ 10⁻⁵ + 10⁻⁴·|b|; padded sentences 10⁻⁴ + "
        f"10⁻⁴·|b|; {bench.checked:,} times)."
    )
    if bench.faults:
        return text + " **Wrong or missing:** " + "; ".join(bench.faults)
    return text + " None was wrong or missing."


if __name__ == "__main__":
    sys.exit(main())
