import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest

from headrace.loadtest.analysis import Window, analyse, jain, percentiles, recovery_s, windows
from headrace.loadtest.plan import Caller
from headrace.loadtest.record import GAVE_UP, LOST, NOT_SENT, Record

ANYBODY = (Caller(deadline_s=0.1),)


def record(
    scheduled: Sequence[float],
    latency: Sequence[float] | float = 0.05,
    status: Sequence[int] | int = 200,
    *,
    callers: Sequence[int] | int = 0,
    attempt: Sequence[int] | int = 0,
    who: tuple[Caller, ...] = ANYBODY,
    seconds: float = 1.0,
) -> Record:
    times = np.array(scheduled, float)

    def column(values: object, kind: str) -> np.ndarray:
        return np.broadcast_to(np.array(values, kind), times.shape).copy()

    return Record(
        scheduled=times,
        sent=times.copy(),
        ended=times + column(latency, "f8"),
        status=column(status, "i2"),
        callers=column(callers, "i2"),
        keys=column(0, "i4"),
        attempt=column(attempt, "i2"),
        who=who,
        seconds=seconds,
    )


def late(run: Record, lag: Sequence[float]) -> Record:
    return replace(run, sent=run.scheduled + np.array(lag))


def test_good_is_success_in_time_from_when_it_was_scheduled() -> None:
    whole = analyse(
        record([0, 0.1, 0.2, 0.3], [0.1, 0.11, 0.05, 0.05], [200, 200, 503, 200], seconds=2)
    ).whole
    assert (whole.calls, whole.good, whole.goodput) == (4, 2, 1.0)
    assert whole.served == 1.5
    assert whole.statuses == {"200": 3, "503": 1}


def test_without_a_deadline_every_success_is_good() -> None:
    assert analyse(record([0, 0.1], [5, 50], who=(Caller(),))).whole.good == 2


def test_retries_are_attempts_and_no_calls() -> None:
    whole = analyse(record([0, 0.2, 0.3], 0.01, [503, 503, 200], attempt=[0, 1, 2])).whole
    assert (whole.calls, whole.attempts, whole.offered, whole.attempted) == (1, 3, 1.0, 3.0)
    assert (whole.good, whole.good_calls) == (1, 0)


def test_outcomes_without_a_status_have_names() -> None:
    found = analyse(record([0, 0.1, 0.2, 0.3], status=[GAVE_UP, LOST, NOT_SENT, 200]))
    assert found.whole.statuses == {"gave_up": 1, "lost": 1, "not_sent": 1, "200": 1}


def test_times_of_answers_and_of_refusals_are_kept_apart() -> None:
    whole = analyse(record([0.0] * 4, [0.2, 0.001, 0.002, 9.0], [200, 503, 429, 500])).whole
    assert (whole.latency.count, whole.latency.max) == (1, pytest.approx(0.2))
    assert (whole.refusal.count, whole.refusal.max) == (2, pytest.approx(0.002))


def test_percentiles_are_true_to_three_digits() -> None:
    seconds = np.random.default_rng(1).lognormal(-4, 1, 100_000)
    found = percentiles(seconds)
    for value, percent in ((found.p50, 50), (found.p90, 90), (found.p99, 99), (found.p999, 99.9)):
        assert value == pytest.approx(np.percentile(seconds, percent), rel=2e-3)
    assert found.max == seconds.max()


def test_percentiles_of_nothing_are_zero_and_of_one_are_it() -> None:
    assert percentiles(np.zeros(0)).max == 0
    one = percentiles(np.array([0.0123456]))
    assert one.p50 == one.p999 == one.max == 0.0123456
    assert percentiles(np.array([1e9])).p50 == pytest.approx(100, rel=1e-3)  # as far as the histogram reaches


def test_a_run_whose_calls_were_late_is_void_and_says_why() -> None:
    found = analyse(late(record(np.arange(100) / 100), [0.004] * 98 + [0.02] * 2))
    assert found.is_void
    assert "20.0 ms" in str(found.void)
    assert not analyse(late(record(np.arange(200) / 200), [0.004] * 199 + [0.02])).is_void


def test_the_lag_of_retries_voids_nothing() -> None:
    run = record([0, 0.1], attempt=[0, 1], status=[503, 200])
    assert not analyse(late(run, [0, 0.5])).is_void


def test_a_run_that_did_not_send_its_load_is_void() -> None:
    status = [200] * 97 + [NOT_SENT] * 3
    assert "3%" in str(analyse(record(np.arange(100) / 100, status=status)).void)
    assert "nothing was scheduled" in str(analyse(record([])).void)


def test_each_caller_has_its_own_figures() -> None:
    who = (Caller("slow", deadline_s=1), Caller("fast", deadline_s=0.01, tenant="t"))
    found = analyse(record([0, 0, 0], 0.05, who=who, callers=[0, 1, 1]))
    slow, fast = found.callers
    assert (slow.name, slow.calls, slow.good) == ("slow", 1, 1)
    assert (fast.tenant, fast.calls, fast.good) == ("t", 2, 0)
    assert found.whole.calls == 3


def test_fairness_is_of_tenants_by_their_weights() -> None:
    who = (Caller("a", tenant="a"), Caller("b", tenant="b"), Caller("b2", tenant="b"))
    run = record([0.0] * 4, who=who, callers=[0, 1, 2, 2])
    assert analyse(run).fairness == pytest.approx((1 + 3) ** 2 / (2 * (1 + 9)))
    assert analyse(run, {"b": 3}).fairness == 1.0
    assert analyse(replace(run, who=(Caller(), Caller(), Caller()))).fairness is None


def test_jain_is_one_for_equals_and_one_nth_for_a_monopoly() -> None:
    assert jain([3, 3, 3]) == 1
    assert jain([5, 0, 0, 0]) == 0.25
    assert jain([0, 0]) == 1


def test_an_attempt_counts_where_it_was_scheduled_and_its_answer_where_it_ended() -> None:
    first, second, third = windows(
        record([0.1, 0.2, 1.5], [0.05, 1.0, 0.05], [200, 200, 503], seconds=2.5, attempt=[0, 1, 0])
    )
    assert (first.offered, first.attempted, first.served, first.goodput, first.refused) == (1, 2, 1, 1, 0)
    assert (second.offered, second.served, second.goodput, second.refused) == (1, 1, 0, 1)
    assert second.p50 == pytest.approx(1, rel=1e-3)
    assert (third.start_s, third.width_s, third.offered) == (2, 0.5, 0)


def test_a_series_has_narrow_windows_and_single_callers_too() -> None:
    run = record(np.arange(100) / 100, 0.001, callers=np.arange(100) % 2, who=ANYBODY * 2)
    series = windows(run, 0.1, caller=1)
    assert [each.start_s for each in series] == pytest.approx(np.arange(10) / 10)
    assert [each.offered for each in series] == pytest.approx([50] * 10)


def test_what_is_answered_after_the_schedule_is_in_no_window() -> None:
    assert sum(each.served for each in windows(record([0.9], 0.5))) == 0


def a_series(goodput: Sequence[float]) -> list[Window]:
    return [Window(at * 0.5, 0.5, 0, 0, 0, each, 0, 0, 0, 0) for at, each in enumerate(goodput)]


def test_recovery_ends_with_the_first_window_from_which_on_goodput_stays() -> None:
    #                 before    burst 1-2    after: a dip at 3.0 comes too late for the window before it
    series = a_series([100, 100, 300, 300, 90, 99, 80, 96, 110])
    assert recovery_s(series, 1, 2) == 1.5
    assert recovery_s(series, 1, 2, part=0.5) == 0
    assert recovery_s(series, 1, 2, part=2) is None
    with pytest.raises(ValueError, match="narrower"):
        recovery_s(series, 0.2, 2)


def test_an_analysis_is_json() -> None:
    found = json.loads(json.dumps(asdict(analyse(record([0, 0.1], status=[200, LOST])))))
    assert found["whole"]["statuses"] == {"200": 1, "lost": 1}
