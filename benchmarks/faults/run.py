"""What becomes of faults, measured: `python benchmarks/faults/run.py [--quick] [ROW ...]`, or `make faults`."""

import sys
from pathlib import Path

# Behind this folder's own modules: the other benchmarks', the pressure's, and what the tests share.
sys.path += [str(Path(__file__).parents[2] / each) for each in ("benchmarks", "benchmarks/pressure", "tests")]

from rows import main

if __name__ == "__main__":
    sys.exit(main())
