"""Memory timing by itself: hand-worked sequences of the DRAM model, and what holds for any of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.memory import DRAMS, Dram, FixedLatency, Timing, dram

# One clock for all, so that clocks are cycles; an access is two beats of a 4-byte bus.
TINY = Dram(
    name="tiny",
    period_ps=1000,
    clock_ps=1000,
    controller_ps=0,
    banks=2,
    page_bytes=64,
    access_bytes=8,
    cas=3,
    transfer=2,
    ccd=2,
    rcd=5,
    rp=4,
    ras=11,
    rtp=2,
    rrd=3,
    faw=0,
    refi=10_000,
    rfc=30,
)
OPEN = 1 + 5 + 3 + 2  # the end of the cycle of service, then rcd, cas, transfer
HIT = 1 + 3 + 2


def test_a_fixed_latency_is_added() -> None:
    assert Timing(FixedLatency(latency=7), 4).serve(100, 0, 3) == [107, 107, 107]


def test_an_access_opens_its_row_and_further_ones_follow_at_their_pace() -> None:
    # Three accesses are complete 2 clocks apart, which is as fast as their beats can follow each other.
    assert Timing(TINY, 4).serve(100, 0, 6) == [100 + OPEN] * 6
    # With a wider gap between reads every access waits.
    assert Timing(replace(TINY, ccd=5), 4).serve(100, 0, 6) == [100 + OPEN] * 2 + [105 + OPEN] * 2 + [110 + OPEN] * 2


def test_an_open_row_is_read_at_once() -> None:
    timing = Timing(TINY, 4)
    timing.serve(100, 0, 2)
    assert timing.serve(200, 8, 2) == [200 + HIT] * 2
    assert timing.serve(300, 64, 2) == [300 + OPEN] * 2  # the other bank
    assert timing.serve(400, 8, 2) == [400 + HIT] * 2  # whose row leaves this one open


def test_another_row_of_the_bank_is_closed_and_opened() -> None:
    timing = Timing(TINY, 4)
    timing.serve(100, 0, 2)
    assert timing.serve(200, 128, 2) == [200 + 4 + OPEN] * 2
    # At once: the row was opened at 205, is closed after ras, at 216, opened again at 220.
    assert timing.serve(201, 0, 2) == [216 + 4 + 5 + 3 + 2] * 2


def test_openings_keep_their_distance() -> None:
    many = replace(TINY, banks=8, rrd=4, faw=20)
    timing = Timing(many, 4)
    # Opened at 101, 105, 109, 113, and 121 = 101 + faw.
    starts = [timing.serve(100, 64 * bank, 2)[0] for bank in range(5)]
    assert starts == [t + 5 + 3 + 2 for t in (101, 105, 109, 113, 121)]


def test_a_refresh_closes_all_rows_and_holds_what_follows() -> None:
    timing = Timing(replace(TINY, refi=200), 4)
    timing.serve(100, 0, 2)
    # Due at 200: closing takes until 204, the refresh until 234.
    assert timing.serve(199, 0, 2) == [234 + 5 + 3 + 2] * 2
    # Due at 400, all rows being open since 234; at 500 it is long over, but the row is closed.
    assert timing.serve(500, 0, 2) == [500 + OPEN] * 2


def test_beats_wider_than_an_access_wait_for_all_of_it() -> None:
    assert Timing(TINY, 16).serve(100, 0, 2) == [102 + OPEN, 106 + OPEN]


def test_an_access_is_fetched_whole() -> None:
    timing = Timing(TINY, 4)
    assert timing.serve(100, 4, 2) == [100 + OPEN, 102 + OPEN]  # the second beat lies in the next access


def test_clocks_are_rounded_up() -> None:
    # Cycle 10 of 3 ns ends at 33 ns; the controller takes it to 40 ns, which is clock 27 of 1.5 ns, at 40.5 ns. 10 more
    # clocks end at 55.5 ns, in cycle 18, so the beat may be offered in cycle 19.
    timing = Timing(replace(TINY, period_ps=3000, clock_ps=1500, controller_ps=7000), 4)
    assert timing.serve(10, 0, 1) == [19]


@pytest.mark.parametrize("name", DRAMS)
def test_presets_reach_nearly_their_bandwidth_in_order(name: str) -> None:
    preset = dram(name, clock_mhz=1000)
    timing = Timing(preset, 64)
    size = 1 << 18
    beats = [cycle for start in range(0, size, 4096) for cycle in timing.serve(0, start, 64)]
    seconds = (beats[-1] - beats[0]) * preset.period_ps * 1e-12
    assert 0.9 * preset.bandwidth < size / seconds < preset.bandwidth


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_times_are_in_order_and_repeat(data: st.DataObject) -> None:
    memory = dram(data.draw(st.sampled_from(sorted(DRAMS))), data.draw(st.integers(20, 400)))
    burst = st.tuples(st.integers(0, 40), st.integers(0, 1 << 14), st.integers(1, 64))
    bursts = data.draw(st.lists(burst, max_size=30))
    first, again = Timing(memory, 8), Timing(memory, 8)
    cycle, before = 0, 0
    for wait, word, beats in bursts:
        cycle += wait
        cycles = first.serve(cycle, 8 * word, beats)
        assert cycles == sorted(cycles)
        assert cycles[0] > cycle
        assert cycles[-1] >= before
        before = cycles[-1]
        assert again.serve(cycle, 8 * word, beats) == cycles


def test_wrong_memories_are_named() -> None:
    with pytest.raises(ValueError, match="no memory 'DDR9'; there are: DDR3-1600 x32, "):
        dram("DDR9", 100)
    with pytest.raises(ValueError, match="ras is 0; accepted: at least 1"):
        replace(TINY, ras=0)
    with pytest.raises(ValueError, match="page_bytes is 60; accepted: a multiple of access_bytes"):
        replace(TINY, page_bytes=60)
    with pytest.raises(ValueError, match="refi is 20; accepted: more than a refresh takes"):
        replace(TINY, refi=20)
