"""What is promised of memory, measured: `python benchmarks/memory/run.py [--quick] [ROW ...]`, or `make memory`."""

import sys
from pathlib import Path

# Behind this folder's own modules: the other benchmarks', and what the tests share.
sys.path += [
    str(Path(__file__).parents[2] / each)
    for each in ("benchmarks", "benchmarks/faults", "benchmarks/pressure", "tests")
]

from rows import main

if __name__ == "__main__":
    sys.exit(main())
