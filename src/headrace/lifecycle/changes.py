"""What a look at the paths changes. Pure: two scans and what was made of earlier ones in, changes out.

Only what was the same in two scans in a row counts, so that nothing is loaded while somebody still copies it, and nothing
goes because a folder was away for a moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.repository.scan import Found, Key, Scan


@dataclass(frozen=True, slots=True)
class Put:
    """Load this, in place of what has its name and version if there is such."""

    found: Found


@dataclass(frozen=True, slots=True)
class Keep:
    """What serves is what lies there: a newer copy that was tried has gone again."""

    key: Key


@dataclass(frozen=True, slots=True)
class Remove:
    """It is gone."""

    key: Key


Change = Put | Keep | Remove


def decide(
    previous: Scan, now: Scan, tried: Mapping[Key, Found], serving: Mapping[Key, Found]
) -> list[Change]:
    """What to do, models and versions in order.

    Args:
        previous: the scan before.
        now: this one.
        tried: the copy of each version that was last acted on, be it loaded, refused or unloaded.
        serving: the copy that each version serves.
    """
    if now.problem:
        return []
    changes: list[Change] = []
    for key, found in sorted(now.found.items()):
        if tried.get(key) == found or previous.found.get(key) != found:
            continue
        changes.append(Keep(key) if serving.get(key) == found else Put(found))
    gone = tried.keys() - now.found.keys() - previous.found.keys()
    return changes + [Remove(key) for key in sorted(gone)]
