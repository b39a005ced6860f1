"""Servers in turn, round by round, so that what slows the machine for a while slows everybody."""

from pathlib import Path

import servers
from bench import Bench
from load import Seen
from servers import Launch, NotServing

Runs = dict[str, dict[int, list[Seen]]]
"""Server → connections → one a round."""


class Turns:
    """Launches that take turns under the same load."""

    def __init__(self, bench: Bench, launches: list[Launch], request: bytes, workload: Path) -> None:
        self._bench = bench
        self._launches = launches
        self._request = request
        self._workload = workload
        self.runs: Runs = {}
        self.missing: list[str] = []

    def take(self, rounds: int, connections: tuple[int, ...], seconds: float) -> Runs:
        """Start each server anew for its turn; one that does not come up is left out from then on."""
        for _ in range(rounds):
            for launch in list(self._launches):
                self._turn(launch, connections, seconds)
        return self.runs

    def _turn(self, launch: Launch, connections: tuple[int, ...], seconds: float) -> None:
        try:
            with servers.running(launch, self._request, self._bench.logs) as server:
                found = {
                    count: self._bench.load(server, self._workload, count, seconds) for count in connections
                }
        except NotServing as exc:
            self._bench.say(str(exc))
            self.missing.append(str(exc))
            self._launches.remove(launch)
            return
        for count, seen in found.items():
            self.runs.setdefault(launch.name, {}).setdefault(count, []).append(seen)

    def raw(self) -> dict[str, dict[int, list[dict[str, object]]]]:
        """For the JSON report."""
        return {
            name: {count: [seen.__dict__ for seen in each] for count, each in of.items()}
            for name, of in self.runs.items()
        }
