import pytest
import structlog

from headrace.errors import InvalidRequest, Unsupported
from headrace.events import BreakerChanged, VersionChanged, VersionLoaded, WorkerDied
from headrace.telemetry.logs import LogObserver, LogSettings

AT_FIRST = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


def written(settings):
    return [level for level in ("debug", "info", "warning", "error") if settings.logs(level)]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_least_level_says_what_is_written(level):
    levels = ["debug", "info", "warning", "error"]
    assert written(LogSettings(level)) == levels[levels.index(level) :]


def test_all_six_settings_are_shown():
    assert LogSettings("info").json() == AT_FIRST


def test_each_level_has_its_own_switch():
    settings = LogSettings("info")
    settings.change({"log_warning": False, "log_verbose_level": 2, "log_info": None})
    assert written(settings) == ["debug", "info", "error"]
    assert settings.json() == AT_FIRST | {"log_warning": False, "log_verbose_level": 2}
    assert not settings.logs("warning")
    assert settings.logs("critical")


def test_what_is_switched_off_ends_there():
    settings = LogSettings("warning")
    with pytest.raises(structlog.DropEvent):
        settings.drop(None, "info", {})
    assert settings.drop(None, "warning", {"event": "x"}) == {"event": "x"}


@pytest.mark.parametrize(
    ("log_format", "shape"), [("default", "0000-00-00 00:00:00"), ("ISO8601", "0000-00-00T00:00:00.000000Z")]
)
def test_the_time_is_written_as_the_format_says(log_format, shape):
    settings = LogSettings("info")
    settings.change({"log_format": log_format})
    stamp = settings.stamp(None, "info", {})["timestamp"]
    assert "".join("0" if each.isdigit() else each for each in stamp) == shape


@pytest.mark.parametrize(
    "wanted",
    [
        {"log_info": 1},
        {"log_error": "true"},
        {"log_verbose_level": -1},
        {"log_verbose_level": True},
        {"log_verbose_level": 1.5},
        {"log_format": "iso"},
        {"log_format": []},
        {"log_colour": True},
    ],
    ids=str,
)
def test_what_cannot_be_set_is_refused_and_changes_nothing(wanted):
    settings = LogSettings("info")
    with pytest.raises(InvalidRequest, match=next(iter(wanted))):
        settings.change({"log_info": False} | wanted)
    assert settings.json() == AT_FIRST


def test_the_file_cannot_be_set():
    with pytest.raises(Unsupported, match="log file location can not be updated through network protocol"):
        LogSettings("info").change({"log_file": "x.log"})
    LogSettings("info").change({"log_file": None})


def logged(*events) -> list[dict]:
    with structlog.testing.capture_logs() as lines:
        observer = LogObserver()
        for event in events:
            observer(event)
    return list(lines)


def test_a_death_is_written_down_with_where_its_threads_were_if_that_is_known():
    known, unknown = logged(
        WorkerDied("m", "1", "was killed by SIGSEGV", 1, "Thread 1: in run"), WorkerDied("m", "1", "ended", 2)
    )
    assert (known["log_level"], known["trace"]) == ("error", "Thread 1: in run")
    assert "trace" not in unknown


def test_a_breaker_that_opens_is_a_warning_and_one_that_closes_is_none():
    opened, closed = logged(
        BreakerChanged("m", "1", "open", "5 runs in a row failed"), BreakerChanged("m", "1", "closed", "")
    )
    assert (opened["event"], opened["log_level"], opened["state"]) == ("breaker_changed", "warning", "open")
    assert opened["reason"] == "5 runs in a row failed"
    assert closed["log_level"] == "info"


def test_who_comes_into_memory_and_goes_is_written_down_with_why_and_is_no_warning():
    came, went = logged(
        VersionLoaded("m", "1", "asked", 0.61234), VersionChanged("m", "1", "ABSENT", "n came in its place")
    )
    assert (came["event"], came["cause"], came["seconds"]) == ("version_loaded", "asked", 0.612)
    assert (went["event"], went["reason"]) == ("version_changed", "n came in its place")
    assert came["log_level"] == went["log_level"] == "info"
