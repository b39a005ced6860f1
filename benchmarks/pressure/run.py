"""What is promised under pressure, measured: `python benchmarks/pressure/run.py [--quick] [ROW ...]`, or `make pressure`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from rows import main

if __name__ == "__main__":
    sys.exit(main())
