"""The sender's sockets: requests out on idle connections or new ones, answers in, nothing waited for.

A call costs one look-up, one send, one poll and one receive. What an answer's head means is remembered by its bytes, since a
server says the same again and again.
"""

import errno
import select
import socket
import time
from array import array
from collections.abc import Callable

from headrace.loadtest.sender import Address
from headrace.loadtest.sender_answers import END, UNTIL_CLOSE, Head, body_end, read_head

CHUNK = 1 << 14
"""Bytes received at once."""
MOST_EVENTS = 64
"""Answers taken before the next calls are looked at: about a millisecond's work."""
MOST_HEADS = 4096

Ended = Callable[[int, float, Head | None, bytes | bytearray], None]
"""Told of each answer: its row, when it ended, its head, all of it. In place of a connection's last answer that did not come
whole: None, and why."""


class Connections:
    """Keep-alive connections to one address, each with at most one request on it.

    Args:
        address: whom to call.
        most: connections at a time.
        sent: by row, where the time goes at which it was given to a connection. Opening one is the server's and the
            network's time, not the sender's.
        ended: called within `ask` and `take`, once for each row that was asked for and not given up; it must not call back.
    """

    def __init__(self, address: Address, most: int, sent: "array[float]", ended: Ended) -> None:
        self._family, self._address = address
        self._most = most
        self._sent = sent
        self._ended = ended
        self._poll = select.epoll()
        # By descriptor: its socket, the row it was asked for, what there is of the answer, what is left of the request.
        self._sockets: dict[int, socket.socket] = {}
        self._asked: dict[int, int] = {}
        self._partial: dict[int, bytearray] = {}
        self._rest: dict[int, memoryview] = {}
        self._at: dict[int, int] = {}  # row → descriptor
        self._idle: dict[int, None] = {}  # the last used is taken first, so those too many grow old unused
        self._heads: dict[bytes, Head] = {}

    def fileno(self) -> int:
        return self._poll.fileno()

    def ask(self, row: int, request: bytes) -> bool:
        """Send it on an idle connection, else a new one; whether there was one."""
        if self._idle:
            fd = self._idle.popitem()[0]
        elif (opened := self._open()) is not None:
            fd = opened
        else:
            return False
        self._asked[fd] = row
        self._at[row] = fd
        self._sent[row] = time.perf_counter()
        try:
            written = self._sockets[fd].send(request)
        except BlockingIOError:  # it is still being opened
            written = 0
        except OSError as exc:
            self._lose(fd, exc)
            return True
        if written < len(request):
            self._rest[fd] = memoryview(request)[written:]
            self._poll.modify(fd, select.EPOLLIN | select.EPOLLOUT)
        return True

    def take(self) -> None:
        """What has come, without waiting; not all if much has."""
        asked, heads = self._asked, self._heads
        for fd, events in self._poll.poll(0, MOST_EVENTS):
            if fd in self._rest and events & select.EPOLLOUT:
                self._send_rest(fd)
            if not events & ~select.EPOLLOUT:
                continue
            try:
                data = self._sockets[fd].recv(CHUNK)
            except BlockingIOError:
                continue
            except OSError as exc:
                self._lose(fd, exc)
                continue
            end = data.find(END)
            head = heads.get(data[:end])
            is_whole = head is not None and head.length == len(data) - end - len(END)
            if not is_whole or fd in self._partial or fd not in asked or head is None:
                self._take_piece(fd, data)
                continue
            self._finish(fd, head, data)

    def give_up(self, row: int) -> None:
        """Close the connection on which the row still waits."""
        self._close(self._at[row])

    def close(self) -> None:
        for fd in list(self._sockets):
            self._close(fd)
        self._poll.close()

    def _open(self) -> int | None:
        """A connection that is about to be there; None if there cannot be one more."""
        if len(self._sockets) >= self._most:
            return None
        try:
            opened = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:
            return None
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # It is being opened now. Where that failed already, sending says so, unless it was for a port of our own.
        if opened.connect_ex(self._address) == errno.EADDRNOTAVAIL:
            opened.close()
            return None
        fd = opened.fileno()
        self._sockets[fd] = opened
        self._poll.register(fd, select.EPOLLIN)
        return fd

    def _send_rest(self, fd: int) -> None:
        rest = self._rest[fd]
        try:
            rest = rest[self._sockets[fd].send(rest) :]
        except BlockingIOError:
            return
        except OSError:
            rest = rest[:0]  # the server hears no more, but may have answered: the next receive tells
        if rest:
            self._rest[fd] = rest
        else:
            del self._rest[fd]
            self._poll.modify(fd, select.EPOLLIN)

    def _take_piece(self, fd: int, data: bytes) -> None:
        """Something other than a whole answer with a head seen before."""
        if fd not in self._asked:
            self._close(fd)  # the server ended it, or speaks unasked
            return
        pieces = self._partial.setdefault(fd, bytearray())
        pieces += data
        try:
            head, is_whole = self._look(pieces, is_closed=not data)
        except ValueError as exc:
            self._lose(fd, exc)
            return
        if is_whole and head is not None:
            self._finish(fd, head, pieces)
        elif not data:
            self._lose(
                fd, ConnectionError(f"the server closed the connection after {len(pieces)} bytes of answer")
            )

    def _look(self, pieces: bytearray, *, is_closed: bool) -> tuple[Head | None, bool]:
        """The answer's head if it is there, and whether the answer is whole.

        Raises:
            ValueError: this is no answer, or more than one.
        """
        end = pieces.find(END)
        if end < 0:
            return None, False
        key = bytes(pieces[:end])
        if (head := self._heads.get(key)) is None:
            head = read_head(key)
            if len(self._heads) >= MOST_HEADS:
                self._heads.clear()
            self._heads[key] = head
        if head.length == UNTIL_CLOSE:
            return head, is_closed
        stop = body_end(pieces, end + len(END), head)
        if stop is not None and stop < len(pieces):
            raise ValueError(f"bytes after the answer: {bytes(pieces[stop:])[:80]!r}")
        return head, stop is not None

    def _finish(self, fd: int, head: Head, answer: bytes | bytearray) -> None:
        now = time.perf_counter()
        if (
            head.closes or fd in self._rest
        ):  # an answer before the request was all sent: the rest would be taken for another
            row = self._close(fd)
            assert row is not None
        else:
            row = self._asked.pop(fd)
            del self._at[row]
            self._partial.pop(fd, None)
            self._idle[fd] = None
        self._ended(row, now, head, answer)

    def _lose(self, fd: int, why: Exception) -> None:
        row = self._close(fd)
        if row is not None:
            self._ended(row, time.perf_counter(), None, str(why).encode())

    def _close(self, fd: int) -> int | None:
        """Close it; the row that waited on it."""
        self._sockets.pop(fd).close()  # which takes it out of the poll
        self._idle.pop(fd, None)
        self._partial.pop(fd, None)
        self._rest.pop(fd, None)
        row = self._asked.pop(fd, None)
        if row is not None:
            del self._at[row]
        return row
