"""The rows in order, and their report.

Open-loop load by headrace's own generator, which has a core to itself. Leaves .bench/pressure/report.md and report.json, and
with --plot docs/pressure.svg. The full run takes up to 25 minutes, a quick one up to 5: it shows that things work, not how
well. Ends with 1 if a row could not be measured. A missed target is not an error, and neither is a void run: the report says so.
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import burst
import classes
import lengths
import overload
import report
import sharing
import tenants
from harness import ARRANGEMENTS, FRONT, Pressure
from report import Row

from headrace.loadtest.plots import goodput_plot

ROWS: dict[str, Callable[[Pressure], Row]] = {
    "overload": overload.measure,
    "burst": burst.measure,
    "classes": classes.measure,
    "sharing": sharing.measure,
    "tenants": tenants.measure,
    "lengths": lengths.measure,
}
ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument(
        "--cores",
        choices=ARRANGEMENTS,
        default=FRONT,
        help="""where servers run; the generator is pinned to the last core
apart: all of the server on the other cores
front: the process that speaks HTTP on a core apart from those that compute, on two cores the generator's
    (the default: refusing is work too, and on a core of the worker's it would be taken from the runs)
spread: wherever the system puts them, the generator's core too""",
    )
    parser.add_argument("--plot", action="store_true", help="draw the overload row into docs/pressure.svg")
    asked = parser.parse_args()
    if unknown := [name for name in asked.rows if name not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    bench = Pressure(ROOT / ".bench", is_quick=asked.quick, where=asked.cores)
    folder = bench.folder / "pressure"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(bench.profiles, ignore_errors=True)  # of another version, or measured beside other work
    heading = report.heading("Under pressure", bench.pinning, is_quick=bench.is_quick)
    rows, failed = report.measure_all(ROWS, asked.rows, bench, folder, lambda: heading)
    if asked.plot and "overload" in rows and "overload" not in failed:
        plot(rows["overload"], ROOT / "docs" / "pressure.svg")
    bench.say(f"done; the report is in {folder / 'report.md'}")
    return 1 if failed else 0


def plot(row: Row, path: Path) -> None:
    path.write_text(
        goodput_plot(
            overload.points(row.raw),
            title="Goodput under overload",
            x_label="offered, requests/s",
            y_label="answered in time, requests/s",
        )
    )
