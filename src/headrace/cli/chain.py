"""What answers where a skill cannot, in words."""

from pathlib import Path

from headrace.model_config import FALLBACK_REASONS, Fallback, FallbackStep

SPANS = {"d": 86400, "h": 3600, "min": 60, "s": 1, "ms": 1e-3}
"""Unit → seconds, largest first."""


def in_words(fallback: Fallback) -> str:
    """As in `on overload or error: variant small, else an answer of up to 6 h ago, else popular.json`."""
    *others, last = fallback.on
    when = "whatever the reason"
    if set(fallback.on) != set(FALLBACK_REASONS):
        when = f"on {', '.join(others)} or {last}" if others else f"on {last}"
    return f"{when}: {', else '.join(map(step_in_words, fallback.chain))}"


def step_in_words(step: FallbackStep) -> str:
    if step.variant:
        return f"variant {step.variant}"
    if step.stale_s is not None:
        return f"its answer of up to {span(step.stale_s)} ago"
    return Path(step.static).name


def span(seconds: float) -> str:
    """In the largest unit that it has one of."""
    unit, size = next(((unit, size) for unit, size in SPANS.items() if seconds >= size), ("ms", 1e-3))
    return f"{seconds / size:.4g} {unit}"
