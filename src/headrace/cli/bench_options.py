"""The options of `headrace bench`: which go together, and the target, budget and callers they say."""

import os
from typing import Any
from urllib.parse import urlsplit

import click

from headrace.cli.load import Load, parse_callers, parse_steps, parse_viral, read_load
from headrace.loadtest.plan import Caller

SEARCH_S, QUICK_SEARCH_S = 300.0, 60.0
GIVE_UP_S = 10.0
PATIENCE = 4.0
"""While searching, a client gives up after so many times the objective, but not before a second: late is late."""
MOST_WAITING = 0.25
"""Of a budget, for waiting at the end of a run: clients give up by then, unless it is said when."""


def check_options(options: dict[str, Any]) -> None:
    """Refuse what does not go together."""
    if options["steps"] is not None:
        options["pattern"] = "steps"
    is_closed, is_stepped = options["concurrency"] is not None, options["pattern"] == "steps"
    mistakes = {
        "--pattern steps needs --steps, as in --steps 100:5,1000:5": is_stepped and options["steps"] is None,
        "--steps says rates and seconds itself: leave out --rate and --seconds": is_stepped
        and (options["rate"] or options["seconds"]),
        "--steps and --trace are two loads: give one": is_stepped and options["trace"],
        "--find-max needs --p99-ms, the objective": options["find_max"] and options["p99_ms"] is None,
        "--find-max finds the rate and the time: leave out --rate, --seconds, --steps and --concurrency": options[
            "find_max"
        ]
        and (options["rate"] or options["seconds"] or is_stepped or is_closed),
        "--concurrency sends as fast as it is answered: leave out --rate, --steps, --trace, --zipf and --viral": is_closed
        and any(options[each] for each in ("rate", "steps", "trace", "zipf", "viral")),
    }
    for mistake, is_made in mistakes.items():
        if is_made:
            raise click.UsageError(mistake)
    files = [options[each] for each in ("report", "json_file") if options[each] is not None]
    for each in files:
        if not each.parent.is_dir():
            raise click.BadParameter(f"there is no folder {each.parent}", param_hint=f"'{each}'")
        if each.is_dir() or not os.access(each if each.exists() else each.parent, os.W_OK):
            raise click.BadParameter("it cannot be written", param_hint=f"'{each}'")
    if len(set(files)) < len(files):
        raise click.UsageError("--report and --json write two files: give them two names")


def address(url: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        click.BadParameter: the generator cannot speak to such a URL.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname or parts.username or parts.path.rstrip("/"):
        raise click.BadParameter(
            f"'{url}' is not like http://127.0.0.1:8000: the generator speaks plain HTTP to a server's root",
            param_hint="'--url'",
        )
    return parts.hostname, parts.port or 80


def budget_end(started: float, options: dict[str, Any]) -> float | None:
    budget_s = options["budget_s"]
    if budget_s is None and options["find_max"]:
        budget_s = QUICK_SEARCH_S if options["quick"] else SEARCH_S
    return None if budget_s is None else started + budget_s


def load_of(options: dict[str, Any]) -> Load:
    base = single_caller(options)
    return read_load(
        options["trace"],
        base,
        parse_callers(options["callers"], base),
        pattern=options["pattern"],
        steps=parse_steps(options["steps"]),
        keys=options["keys"],
        zipf=options["zipf"],
        viral=parse_viral(options["viral"]),
    )


def single_caller(options: dict[str, Any]) -> Caller:
    """The caller where none is described. With an objective and no deadline, good is what keeps the objective."""
    deadline_ms, p99_ms, give_up_ms = options["deadline_ms"], options["p99_ms"], options["give_up_ms"]
    give_up_s = GIVE_UP_S if give_up_ms is None else give_up_ms / 1000
    if give_up_ms is None and options["find_max"]:
        give_up_s = min(give_up_s, max(1.0, PATIENCE * p99_ms / 1000))
    if give_up_ms is None and options["budget_s"] is not None:
        give_up_s = min(give_up_s, options["budget_s"] * MOST_WAITING)
    good_ms = p99_ms if deadline_ms is None else deadline_ms
    return Caller(
        deadline_s=None if good_ms is None else good_ms / 1000,
        give_up_s=give_up_s,
        retries=options["retries"],
        heeds_retry_after=options["heed_retry_after"],
        sends_deadline=deadline_ms is not None,
    )
