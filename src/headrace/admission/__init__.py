"""May this enter now: gate.py."""
