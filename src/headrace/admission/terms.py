"""How long a request may take, and at which level it waits: what it asks for, its model's policies, the skill's promise. Pure."""

from typing import NamedTuple

from headrace.admission.gate import patience
from headrace.errors import DeadlineExceeded, RequestTimeout
from headrace.model_config import ModelConfig


class Terms(NamedTuple):
    """What a request is taken in under. Seconds from its arrival.

    Attributes:
        level: it waits at.
        allowed_s: until it is answered at the latest.
        target_s: until it is to be answered to be taken in while others wait; at most `allowed_s`.
        is_asked: `allowed_s` is the caller's own wish, as far as the server grants it.
        timeout_error: what it is answered with when `allowed_s` have passed.
    """

    level: int
    allowed_s: float
    target_s: float
    is_asked: bool = False
    timeout_error: type[DeadlineExceeded | RequestTimeout] = RequestTimeout


def terms(
    config: ModelConfig,
    server_s: float,
    priority: int = 0,
    asked_s: float | None = None,
    header_s: float | None = None,
) -> Terms:
    """The earliest of all deadlines that concern a request.

    A caller's own deadline takes the place of what the skill promises, also where it is later; the server's stays.

    Args:
        config: the model's.
        server_s: what no request is allowed longer than.
        priority: as the request names it; 0 if it does not.
        asked_s: what its parameters ask for, None for nothing.
        header_s: what its headers ask for, None for nothing.
    """
    level, allowed_s = patience(config, priority, asked_s, server_s)
    is_asked = asked_s is not None and config.policy(level).allow_timeout_override
    promised_s = allowed_s if config.latency_p99_s is None else min(allowed_s, config.latency_p99_s)
    return with_header(Terms(level, allowed_s, allowed_s if is_asked else promised_s, is_asked), header_s)


def best_terms(config: ModelConfig, server_s: float, header_s: float | None = None) -> Terms:
    """The best that a request could ask for whose parameters nobody has read yet. Args as for `terms`."""
    levels = sorted(config.levels) or [0]
    allowed_s = max(patience(config, level, None, server_s)[1] for level in levels)
    return with_header(Terms(levels[0], allowed_s, allowed_s), header_s)


def with_header(granted: Terms, header_s: float | None) -> Terms:
    """The terms with what the headers ask for."""
    if header_s is None:
        return granted
    level, allowed_s, _, _, error = granted
    if header_s < allowed_s:
        allowed_s, error = header_s, DeadlineExceeded
    return Terms(level, allowed_s, allowed_s, is_asked=True, timeout_error=error)
