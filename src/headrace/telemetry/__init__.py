"""Listens to the core's events: metrics.py for Prometheus, statistics.py for the protocol, logs.py for people.

The only place that knows Prometheus or structlog's set-up. The core never asks it anything.
"""
