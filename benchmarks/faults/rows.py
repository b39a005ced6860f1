"""The rows in order, and their report.

Open-loop load of calls with numbers of their own (asking.py). Leaves .bench/faults/report.md and report.json, and with --plot
docs/faults.svg. The full run takes up to 20 minutes, a quick one up to 4: it shows that things work, not how well. Ends with 1
if a row could not be measured. A missed target is not an error: the report says so.
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import failing
import gateway
import goodput
import growth
import injected
import kills
import poison
import report
from faulty import Faults
from harness import ARRANGEMENTS, SPREAD
from report import Row

ROWS: dict[str, Callable[[Faults], Row]] = {
    "kills": kills.measure,
    "goodput": goodput.measure,
    "failing": failing.measure,
    "poison": poison.measure,
    "injected": injected.measure,
    "growth": growth.measure,
    "gateway": gateway.measure,
}
ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--cores", choices=ARRANGEMENTS, default=SPREAD, help="as benchmarks/pressure has it")
    parser.add_argument("--plot", action="store_true", help="draw the goodput row into docs/faults.svg")
    asked = parser.parse_args()
    if unknown := [name for name in asked.rows if name not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    bench = Faults(ROOT / ".bench", is_quick=asked.quick, where=asked.cores)
    folder = bench.folder / "faults"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(bench.profiles, ignore_errors=True)  # of another version, or measured beside other work
    heading = report.heading("Faults", bench.pinning, is_quick=bench.is_quick)
    rows, failed = report.measure_all(ROWS, asked.rows, bench, folder, lambda: heading)
    print(report.table(rows))
    if asked.plot and "goodput" in rows and "goodput" not in failed:
        goodput.plot(rows["goodput"], ROOT / "docs" / "faults.svg")
    bench.say(f"done; the report is in {folder / 'report.md'}")
    return 1 if failed else 0
