"""Who may enter the queue. Pure."""

from headrace.errors import HeadraceError, QueueFull


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
