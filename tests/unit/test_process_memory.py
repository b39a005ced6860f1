import os

import numpy as np

from headrace.execution.process_memory import (
    forget_peak,
    in_bytes,
    peak_private_bytes,
    private_address_space,
    private_bytes,
    proportional_bytes,
)

MB = 1_000_000
ME = os.getpid()
NOBODY = 2**22 + 1  # above the highest number the kernel gives


def test_what_a_process_takes_is_its_own():
    before = private_bytes(ME)
    held = np.ones(64 * MB, np.uint8)
    assert 60 * MB < private_bytes(ME) - before < 70 * MB
    assert len(held) == 64 * MB


def test_what_is_not_touched_is_not_counted():
    before, space = private_bytes(ME), private_address_space()
    held = np.empty(64 * MB, np.uint8)
    assert private_bytes(ME) - before < 8 * MB
    assert private_address_space() - space > 60 * MB
    assert len(held) == 64 * MB


def test_a_process_that_is_gone_has_nothing():
    assert private_bytes(NOBODY) == 0
    assert peak_private_bytes(NOBODY) == 0


def test_a_peak_is_seen_after_it_is_over():
    forget_peak(ME)
    before = private_bytes(ME)
    np.ones(64 * MB, np.uint8)
    assert peak_private_bytes(ME) - before > 60 * MB
    forget_peak(ME)
    assert peak_private_bytes(ME) - before < 20 * MB


def test_nobody_shares_more_than_there_is():
    pss, uss = proportional_bytes(ME)
    assert 0 < uss <= pss


def test_lines_that_are_no_sizes_are_left_out():
    assert in_bytes(b"Name:\tpython\nRssAnon:\t    12 kB\nThreads:\t3\n") == {"RssAnon": 12 * 1024}
