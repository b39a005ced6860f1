"""Runtimes, one file each: base.py is the contract, registry.py says which file is whose.

A backend runs in a worker process only; the gateway never imports one.
"""
