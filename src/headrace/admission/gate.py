"""Who may enter the queue. Pure."""

from headrace.errors import HeadraceError, QueueFull
from headrace.model_config import ModelConfig


def admit(
    model: str, nbytes: int, waiting_bytes: int, max_queue_bytes: int, waiting: int = 0, max_waiting: int = 0
) -> HeadraceError | None:
    """The reason to refuse a request of that many bytes, or None.

    One request larger than the whole bound may enter an empty queue: it was received already. `max_waiting` bounds the
    requests that wait at the same level; 0 does not.
    """
    if max_waiting and waiting >= max_waiting:
        return QueueFull(model, f"{waiting} requests")
    if waiting_bytes and waiting_bytes + nbytes > max_queue_bytes:
        return QueueFull(model, f"{max_queue_bytes} bytes")
    return None


def patience(config: ModelConfig, priority: int, asked_s: float | None, server_s: float) -> tuple[int, float]:
    """The level a request waits at, and for how many seconds, by its model's queue policies.

    Args:
        config: the model's.
        priority: as the request names it; 0 if it does not.
        asked_s: seconds the request itself would wait, None if it does not say.
        server_s: what no request waits longer than.
    """
    level = config.level(priority)
    policy = config.policy(level)
    seconds = server_s if policy.default_timeout_s is None else min(server_s, policy.default_timeout_s)
    if asked_s is not None and policy.allow_timeout_override:
        seconds = min(seconds, asked_s)
    return level, seconds
