"""The rows in order, and their report.

Servers run inside a memory limit that the kernel keeps, where control groups can be made; else --memory-budget is the only
one, and the report says so. Leaves .bench/memory/report.md and report.json, and with --plot docs/memory.svg. The full run
takes up to 40 minutes, a quick one up to 8: it shows that things work, not how well. Ends with 1 if a row could not be
measured. A missed target is not an error: the report says so.
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import failures
import golden
import many
import overhead
import oversize
import prediction
import report
from harness import ARRANGEMENTS, SPREAD
from limited import Memory
from report import Row

ROWS: dict[str, Callable[[Memory], Row]] = {
    "many": many.own,
    "shared": many.shared,
    "unmeasured": many.unmeasured,
    "prediction": lambda bench: prediction.row(is_quick=bench.is_quick),
    "oversize": lambda bench: oversize.row(is_quick=bench.is_quick),
    "overhead": lambda _: overhead.row(),
    "golden": lambda bench: golden.row(is_quick=bench.is_quick),
    "failures": failures.measure,
}
ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--cores", choices=ARRANGEMENTS, default=SPREAD, help="as benchmarks/pressure has it")
    parser.add_argument("--plot", action="store_true", help="draw the row many into docs/memory.svg")
    asked = parser.parse_args()
    if unknown := [name for name in asked.rows if name not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    bench = Memory(ROOT / ".bench", is_quick=asked.quick, where=asked.cores)
    folder = bench.folder / "memory"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(bench.profiles, ignore_errors=True)  # of another version, or measured beside other work
    heading = report.heading("Memory", bench.pinning, is_quick=bench.is_quick)
    rows, failed = report.measure_all(ROWS, asked.rows, bench, folder, lambda: heading)
    print(report.table(rows))
    if asked.plot and "many" in rows and "many" not in failed:
        many.plot(rows["many"], ROOT / "docs" / "memory.svg")
    bench.say(f"done; the report is in {folder / 'report.md'}")
    return 1 if failed else 0
