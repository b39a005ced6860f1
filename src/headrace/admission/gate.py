"""Who may enter the queue. Pure."""

from headrace.errors import HeadraceError, QueueFull


def admit(model: str, nbytes: int, waiting_bytes: int, max_queue_bytes: int) -> HeadraceError | None:
    """The reason to refuse a request of that many bytes, or None.

    One request larger than the whole bound may enter an empty queue: it was received already.
    """
    if waiting_bytes and waiting_bytes + nbytes > max_queue_bytes:
        return QueueFull(model, max_queue_bytes)
    return None
