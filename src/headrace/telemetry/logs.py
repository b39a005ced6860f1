"""Structured logs on standard error: past-tense facts with fields, one a transition, none a request."""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from headrace.byte_sizes import in_words
from headrace.errors import InvalidRequest, Unsupported
from headrace.events import (
    BreakerChanged,
    BudgetChanged,
    Event,
    FilesChanged,
    OutOfMemory,
    VersionChanged,
    VersionLoaded,
    WorkerDied,
)

ABSENT = "ABSENT"
"""State of a version that is not in memory, which is nothing to worry about."""
FLAGS = {"info": "log_info", "warning": "log_warning", "error": "log_error"}
"""Level → the setting of the protocol that switches it."""
DEFAULT, ISO8601 = "default", "ISO8601"
FORMATS = {DEFAULT: "%Y-%m-%d %H:%M:%S", ISO8601: "%Y-%m-%dT%H:%M:%S.%fZ"}
"""Of the time, which is UTC."""


class LogSettings:
    """What is logged. May be changed while serving, on the loop; everything logged from then on obeys."""

    def __init__(self, level: str, log_format: str = DEFAULT) -> None:
        """`level`: the least that is logged, one of debug, info, warning, error."""
        levels = list(FLAGS)
        least = levels.index(level) if level in levels else 0
        # The mutable state: what is logged, and how its time is written.
        self._is_on = {each: at >= least for at, each in enumerate(levels)}
        self._verbose_level = 1 if level == "debug" else 0
        self._format = log_format

    def json(self) -> dict[str, Any]:
        """As the protocol's logging extension shows them."""
        flags = {FLAGS[level]: is_on for level, is_on in self._is_on.items()}
        return {"log_file": "", **flags, "log_verbose_level": self._verbose_level, "log_format": self._format}

    def change(self, wanted: Mapping[str, Any]) -> None:
        """Take over the settings that are there and not null: all of them, or none.

        Raises:
            Unsupported: it names a log file.
            InvalidRequest: a setting is unknown or cannot have that value.
        """
        wanted = {name: value for name, value in wanted.items() if value is not None}
        if "log_file" in wanted:
            raise Unsupported("log file location can not be updated through network protocol")
        for name, value in wanted.items():
            check(name, value)
        for level, name in FLAGS.items():
            self._is_on[level] = wanted.get(name, self._is_on[level])
        self._verbose_level = wanted.get("log_verbose_level", self._verbose_level)
        self._format = wanted.get("log_format", self._format)

    def logs(self, level: str) -> bool:
        """Whether what is said at that level is written."""
        if level == "debug":
            return self._verbose_level > 0
        return self._is_on["error" if level in {"critical", "exception"} else level]

    def drop(self, _: object, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """Structlog's processor that ends what is not to be written.

        Raises:
            structlog.DropEvent: it is not.
        """
        if not self.logs(level):
            raise structlog.DropEvent
        return event

    def stamp(self, _: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """Structlog's processor that adds the time."""
        event["timestamp"] = datetime.now(UTC).strftime(FORMATS[self._format])
        return event

    def filter(self, record: logging.LogRecord) -> bool:
        """The same for what uvicorn and others say."""
        return self.logs(record.levelname.lower())


def check(name: str, value: object) -> None:
    """Whether a setting may have the value.

    Raises:
        InvalidRequest: it is not known, or may not.
    """
    if name in FLAGS.values():
        is_fit, kinds = isinstance(value, bool), "true or false"
    elif name == "log_verbose_level":
        is_fit, kinds = type(value) is int and 0 <= value < 1 << 32, "an unsigned integer"
    elif name == "log_format":
        is_fit, kinds = value in (DEFAULT, ISO8601), f"'{DEFAULT}' or '{ISO8601}'"
    else:
        raise InvalidRequest(
            f"there is no log setting '{name}': there are {', '.join(FLAGS.values())}, log_verbose_level, log_format"
        )
    if not is_fit:
        raise InvalidRequest(f"log setting '{name}' has to be {kinds}")


def set_up(level: str, *, as_json: bool) -> LogSettings:
    """Configure structlog, and take over what uvicorn and others say through the standard library."""
    settings = LogSettings(level, ISO8601 if as_json else DEFAULT)
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        settings.stamp,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[settings.drop, *shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(settings.filter)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer,
        ])
    )  # fmt: skip
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    return settings


class LogObserver:
    """Writes transitions down."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()

    def __call__(self, event: Event) -> None:
        match event:
            case VersionChanged(model, version, state, reason):
                is_expected = not reason or state == ABSENT
                log = self._log.info if is_expected else self._log.warning
                log("version_changed", model=model, version=version, state=state, **because(reason))
            case WorkerDied(model, version, reason, deaths, trace):
                where = {"trace": trace} if trace else {}
                self._log.error(
                    "worker_died", model=model, version=version, reason=reason, deaths=deaths, **where
                )
            case BreakerChanged(model, version, state, reason):
                log = self._log.warning if reason else self._log.info
                log("breaker_changed", model=model, version=version, state=state, **because(reason))
            case FilesChanged(model, version, reason):
                self._log.warning("files_changed", model=model, version=version, reason=reason)
            case VersionLoaded(model, version, cause, seconds):
                took = round(seconds, 3)
                self._log.info("version_loaded", model=model, version=version, cause=cause, seconds=took)
            case BudgetChanged(device, budget, limit):
                self._log.info("memory_budget", device=device, budget=in_words(budget), limit=limit)
            case OutOfMemory(model, version, rows, step, reason):
                self._log.warning(
                    "ran_out_of_memory", model=model, version=version, rows=rows, step=step, reason=reason
                )
            case _:
                pass


def because(reason: str) -> dict[str, str]:
    return {"reason": reason} if reason else {}
