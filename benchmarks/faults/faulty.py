"""What the rows share: a server that faults happen to, and how what was heard is said."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import servers
from asking import Asked, Asking, Heard
from harness import Pressure, Subject
from servers import Launch, Server

from headrace.loadtest.plan import Caller

WARM_S = 2.0
FIRST = 1.0
"""The number of the request that is asked until it is answered."""


class Faults(Pressure):
    """One run of these benchmarks."""

    @property
    def profiles(self) -> Path:
        return self.folder / "faults" / f"profiles-{self.where}"

    def kills(self, full: int, quick: int) -> int:
        return quick if self.is_quick else full

    @contextmanager
    def served(
        self, paths: list[Path], asked: tuple[Asked, ...], name: str, *options: str, port: int = 0
    ) -> Iterator[Server]:
        """A server of these models, on its cores, until the block ends; on this port, or any."""
        launch = replace(self.launch(paths, name, *options), port=port)
        first = asked[0].requests_of([FIRST])[0]
        with self.serving(Subject(launch, [(Caller(), [first])])) as server:
            yield server

    def launch(self, paths: list[Path], name: str, *options: str) -> Launch:
        """How such a server is started."""
        return servers.headrace(paths, self.profiles, *options, name=name)

    def log_of(self, server: Server) -> list[str]:
        """Lines that it has logged so far."""
        path = self.logs / f"{server.name.replace(' ', '-')}.log"
        return path.read_text(errors="replace").splitlines()

    def warm(self, server: Server, asked: tuple[Asked, ...]) -> Heard:
        """Ask for a while: what is measured or started by the first requests is then done."""
        return Asking(server.port, asked, WARM_S, 0, self.core).heard()


def count_text(heard: Heard) -> str:
    """In a few words."""
    statuses = ", ".join(f"{count} of {status}" for status, count in sorted(heard.statuses().items()))
    degraded = int(heard.is_degraded.sum())
    return f"{statuses}; {heard.wrong} wrong{f', {degraded} degraded' if degraded else ''}"
