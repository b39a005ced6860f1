"""Structured logs on standard error: past-tense facts with fields, one a transition, none a request."""

import logging
import sys

import structlog

from headrace.events import Event, VersionChanged, WorkerDied

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def set_up(level: str, *, as_json: bool) -> None:
    """Configure structlog, and take over what uvicorn and others say through the standard library."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer,
        ])
    )  # fmt: skip
    logging.basicConfig(handlers=[handler], level=max(LEVELS[level], logging.WARNING), force=True)


class LogObserver:
    """Writes transitions down."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()

    def __call__(self, event: Event) -> None:
        match event:
            case VersionChanged(model, version, state, reason):
                log = self._log.warning if reason else self._log.info
                log("version_changed", model=model, version=version, state=state, **because(reason))
            case WorkerDied(model, version, reason, deaths):
                self._log.error("worker_died", model=model, version=version, reason=reason, deaths=deaths)
            case _:
                pass


def because(reason: str) -> dict[str, str]:
    return {"reason": reason} if reason else {}
