"""Loads models as the server does, waits until all is known of them, and lets go of them again."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from msgspec import to_builtins
from rich.console import Console
from rich.text import Text

from headrace.config import Settings
from headrace.execution.linux import allow_open_files
from headrace.lifecycle.catalog import Catalog
from headrace.lifecycle.state import VersionState
from headrace.lifecycle.version import ModelVersion
from headrace.messages import TensorSpec
from headrace.repository.source import Source
from headrace.routing.entry import entry_of

POLL_S = 0.05
SAID_EVERY_S = 10.0
"""How often it is said what still loads, where no terminal shows it all the time."""

Found = dict[str, Any]


async def survey(settings: Settings, sources: Iterable[Source]) -> list[Found]:
    """What was found out of each version, in JSON's types. Where there is no memory for all at once they are loaded in turn.

    Its processes have ended when this returns or is cancelled. What models take of memory is a server's to find out, in quiet
    moments: here it would be waited for.
    """
    allow_open_files()
    settings = settings.model_copy(update={"measure_memory": False})
    catalog = Catalog(settings, time.perf_counter, lambda _: None)
    progress = Progress()
    found: dict[ModelVersion, Found] = {}
    asked: set[ModelVersion] = set()
    try:
        catalog.start(sources)
        versions = list(catalog)
        while pending := [each for each in versions if each not in found]:
            progress.say(pending, len(versions), time.perf_counter())
            catalog.watch()
            await asyncio.sleep(POLL_S)
            found |= {each: described(each) for each in pending if is_known(each)}
            absent = next(filter(is_out, pending), None)
            if absent is None or not all(is_out(each) or each in found for each in pending):
                continue
            if absent in asked and not catalog.residency.is_coming(absent):
                found[absent] = described(absent)  # there is no room for it, and its reason says so
            else:
                asked.add(absent)
                catalog.residency.want(absent)
        return [found[version] for version in versions]
    finally:
        progress.close()
        await catalog.stop()


def is_known(version: ModelVersion) -> bool:
    """All that can be found out of it was, or it cannot be loaded."""
    return version.is_settled and not version.is_measuring and not is_out(version)


def is_out(version: ModelVersion) -> bool:
    return version.state is VersionState.ABSENT


class Progress:
    """What is still being loaded, on stderr: live on a terminal, else a line every now and then."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status("")
        self._said_at: float | None = None

    def say(self, pending: list[ModelVersion], total: int, now: float) -> None:
        doing = ", ".join(
            f"{'measuring' if each.is_settled else 'loading'} {each.source.name}/{each.source.version}"
            for each in pending
        )
        text = Text(f"{total - len(pending)} of {total} done; {doing}", overflow="ellipsis")
        if self._console.is_terminal:
            self._status.update(text)
            self._status.start()
        elif self._said_at is None:
            self._said_at = now
        elif now - self._said_at >= SAID_EVERY_S:
            self._said_at = now
            self._console.print(text, soft_wrap=True)

    def close(self) -> None:
        self._status.stop()


def described(version: ModelVersion) -> Found:
    snapshot, source = version.snapshot(), version.source
    spec = entry_of(version).spec
    found: Found = {
        "name": source.name,
        "version": source.version,
        "state": snapshot.state.value,
        "reason": snapshot.reason,
        "path": str(source.path),
        "backend": source.backend,
        "fallback": to_builtins(source.config.fallback) if source.config.fallback.chain else None,
    }
    if snapshot.state is not VersionState.READY:
        crash = snapshot.crash
        found["crash"] = None if crash is None else asdict(crash)
        return found
    return found | {
        "platform": spec.platform,
        "inputs": [described_input(each) for each in spec.inputs],
        "outputs": [described_output(each) for each in spec.outputs],
        "max_batch_size": spec.max_batch_size,
        "joins_requests": spec.joins_requests,
        "notes": list(spec.notes),
        "instances": snapshot.instances,
        "threads": snapshot.threads,
        "latencies": [
            {"row_elements": cost, "seconds": {str(rows): taken for rows, taken in seconds.items()}}
            for cost, seconds in sorted(version.pipeline.latency.known().items())
        ],
    }


def described_input(spec: TensorSpec) -> Found:
    return described_tensor(spec) | {"pad_value": spec.pad_value if spec.is_padded else None}


def described_output(spec: TensorSpec) -> Found:
    return described_tensor(spec) | {"survives_padding": spec.survives_padding}


def described_tensor(spec: TensorSpec) -> Found:
    return {
        "name": spec.name,
        "datatype": spec.datatype.value,
        "shape": list(spec.shape),
        "batch_axis": spec.batch_axis,
        "lengths": list(spec.lengths) or [None] * len(spec.shape),
    }
