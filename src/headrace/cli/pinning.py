"""On which core the load generator runs, and what that leaves for a server on the same machine."""

import ipaddress
import os
from dataclasses import dataclass

import click


@dataclass(frozen=True)
class Pinning:
    """The generator's core, None for any; and what is to be known of it, in sentences."""

    core: int | None
    words: tuple[str, ...]


def pin(wanted: int | None, host: str, *, is_wanted: bool) -> Pinning:
    """The core that was asked for, or the last one where there are two or more.

    Raises:
        click.BadParameter: this process may not run there.
    """
    cores = sorted(os.sched_getaffinity(0))
    if wanted is not None and wanted not in cores:
        there = ", ".join(map(str, cores))
        raise click.BadParameter(f"this process may run on {there}, not on {wanted}", param_hint="'--core'")
    if not is_wanted:
        return Pinning(None, ("The generator runs on any core.",))
    if wanted is None and len(cores) == 1:
        return Pinning(None, ("There is one core: the generator and whatever else runs here share it.",))
    core = cores[-1] if wanted is None else wanted
    words = f"The generator runs on core {core}."
    others = [each for each in cores if each != core]
    if not is_local(host) or not others:
        return Pinning(core, (words,))
    left = ",".join(map(str, others))
    hint = f"The server is on this machine: keep it on the others, as in: taskset -c {left} headrace serve …"
    return Pinning(core, (words, hint))


def is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
