"""Which versions are loaded and why.

watcher.py looks at the paths, changes.py decides what that changes, catalog.py holds all versions by name and has copies
take each other's place, leaving.py ends those nobody is sent to any more, version.py takes one through its states
(state.py) with its workers (seat.py) under it.
"""
