"""What of l(b) is kept for the next start."""

from headrace.execution.wire import Profile
from headrace.lifecycle.version import worth_keeping


def test_a_quiet_measurement_is_not_replaced_by_what_was_seen_under_load():
    measured = Profile(latencies={100: {1: 0.01, 16: 0.02}})
    learned = {101: {1: 0.05, 17: 0.09, 40: 0.03}, 500: {1: 0.2}}
    assert worth_keeping(measured, learned) == {100: {1: 0.01, 16: 0.02, 40: 0.03}, 500: {1: 0.2}}


def test_a_noisy_one_is():
    learned = {100: {1: 0.05}}
    assert worth_keeping(Profile(latencies={100: {1: 0.01}}, is_noisy=True), learned) == learned
