"""Which versions are loaded and why.

repository.py finds them on disk, version.py takes one through its states with a worker under it, catalog.py holds all
by name, profiles.py keeps what was measured between starts.
"""
