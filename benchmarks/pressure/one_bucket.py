"""`headrace serve` with one length bucket for everything from 9 to 512: the same server, as it would be without buckets.

Batches are then made in the order of deadlines and padded to the longest in them, and short and long requests share one
turn. Takes the command line of `headrace`.
"""

import sys

from headrace import messages
from headrace.batching import latency  # noqa: F401 - l(b) is kept by finer steps of cost, which it takes over here
from headrace.cli.main import main

messages.BUCKET_RATIO = 64.0  # 8, then 512

if __name__ == "__main__":
    sys.exit(main())
