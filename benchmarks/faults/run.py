"""What becomes of faults, measured: `python benchmarks/faults/run.py [--quick] [ROW ...]`, or `make faults`."""

import sys
from pathlib import Path

# Behind this folder's own modules.
sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "pressure")]

from rows import main

if __name__ == "__main__":
    sys.exit(main())
