"""What all tests share: the way to tests/fakes.py, and how long hypothesis may look."""

import asyncio
import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

# Tests are imported by file (importlib mode), so what they share is put where an import finds it.
sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile(
    "headrace",
    max_examples=60,
    deadline=None,  # a slow machine is no failure
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("headrace")

# Otherwise pytest-asyncio asks for the current loop, which makes one that nobody closes, and warnings are errors.
asyncio.set_event_loop(None)
