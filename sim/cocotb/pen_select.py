"""Bench of pen_select: scores in a memory, the k largest out as a stream of indices."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from sim.cocotb.bench import CycleCounter, StreamMonitor, parameter, pauses, reset, start
from sim.cocotb.stimulus import join, split
from sim.cocotb.strobes import Strobes


def largest(scores: list[int], keep: int) -> list[int]:
    """Indices of the `keep` largest `scores`, ties to the lower index, in ascending order."""
    return sorted(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:keep])


class Testbench:
    """The memory that scores are read from, and the receiver of the chosen filters."""

    def __init__(self, dut: Any, seed: int, pause: float = 0.0) -> None:
        self.dut = dut
        self.lanes, self.max_words, self.bits = (parameter(name) for name in ("Lanes", "MaxWords", "ScoreBits"))
        self.rng = random.Random(seed)  # noqa: S311 - stimulus
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.scores: list[int] = []
        self.chosen: list[int] = []
        self.passed: list[tuple[int, list[int]]] = []  # words of the first pass
        stream = (dut.clk_i, dut.chosen_valid_o, dut.chosen_ready_i, dut.chosen_o)
        seen = {"word": dut.score_seen_word_o, "data": dut.score_i}
        self.parts: tuple[StreamMonitor, Strobes] = (
            StreamMonitor(*stream, self.chosen.append, pauses(pause, 3)),
            Strobes(dut, self.counter, dut.first_pass_o, seen, self._seen),
        )
        self.memory = cocotb.start_soon(self._memory())

    def stop(self) -> None:
        """Let go of all signals; for resets."""
        self.memory.cancel()
        for part in self.parts:
            part.stop()

    def _seen(self, _: int, word: dict[str, int]) -> None:
        self.passed.append((word["word"], split(word["data"], self.bits, self.lanes, signed=True)))

    def _word(self, index: int) -> list[int]:
        """A word of scores; lanes behind the last filter hold anything."""
        low, high = -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        own = self.scores[index * self.lanes : (index + 1) * self.lanes]
        return own + [self.rng.choice([low, high]) for _ in range(self.lanes - len(own))]

    async def _memory(self) -> None:
        dut = self.dut
        while True:
            await FallingEdge(dut.clk_i)
            word = int(dut.score_word_o.value) if int(dut.score_read_o.value) else None
            await RisingEdge(dut.clk_i)
            # Junk where nothing was asked for.
            lanes = self.rng.getrandbits(self.bits * self.lanes) if word is None else join(self._word(word), self.bits)
            dut.score_i.value = lanes
            dut.barred_i.value = self._barred(word) if word is not None else self.rng.getrandbits(self.lanes)

    def draw(self, filters: int) -> list[int]:
        """Scores of some kind: over the whole range, few values, all equal, alike in their high digits, extremes."""
        low, high = -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        middle = self.rng.randint(low, high)
        values = {
            0: range(low, high + 1),
            1: range(max(low, -1), min(high, 1) + 1),
            2: range(middle, middle + 1),
            3: range(max(low, middle - 9), min(high, middle + 9) + 1),
            4: (low, high),
        }[self.rng.randrange(5)]
        return [self.rng.choice(values) for _ in range(filters)]

    def _barred(self, word: int) -> int:
        return sum((self.lanes * word + lane in self.barred) << lane for lane in range(self.lanes))

    async def select(
        self, scores: list[int], keep: int, barred: set[int] | None = None, above: int | None = None
    ) -> int:
        """Choose the `keep` best of `scores` without `barred`, or those `above`; compare; cycles from start to idle."""
        dut, words = self.dut, -(-len(scores) // self.lanes)
        self.scores, self.barred = scores, barred or set()
        self.chosen.clear()
        self.passed.clear()
        begun = self.counter.now
        dut.start_i.value = 1
        dut.filters_i.value, dut.keep_i.value, dut.last_word_i.value = len(scores), keep, words - 1
        dut.above_i.value, dut.threshold_i.value = above is not None, join([above or 0], self.bits)
        await RisingEdge(dut.clk_i)
        dut.start_i.value = 0
        dut.keep_i.value = self.rng.randint(1, max(1, len(scores) - 1))  # is read at the start only, as these
        dut.above_i.value, dut.threshold_i.value = self.rng.getrandbits(1), self.rng.getrandbits(self.bits)
        await FallingEdge(dut.clk_i)
        while not int(dut.idle_o.value):
            await FallingEdge(dut.clk_i)
        cycles = self.counter.now - begun
        await RisingEdge(dut.clk_i)
        others = [index for index in range(len(scores)) if index not in self.barred]
        best = [others[index] for index in largest([scores[index] for index in others], keep)]
        if above is not None:
            best = [index for index in others if scores[index] > above]
        assert self.chosen == best, f"keep {keep} or above {above} of {scores}, barred {self.barred}"
        assert [word for word, _ in self.passed] == list(range(words))
        assert [score for _, lanes in self.passed for score in lanes][: len(scores)] == scores
        return cycles

    def filters(self) -> int:
        """A number of filters that the module can rank."""
        return self.rng.randint(2, self.lanes * self.max_words)


async def _start(dut: Any) -> None:
    await start(dut, dut.start_i)


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.6])
async def the_largest_scores_are_chosen(dut: Any, pause: float) -> None:
    """Random numbers of filters, of all kinds of scores, with many ties; any keep below the number of filters."""
    await _start(dut)
    bench = Testbench(dut, 1, pause)
    for _ in range(80):
        scores = bench.draw(bench.filters())
        await bench.select(scores, bench.rng.randint(1, len(scores) - 1))


@cocotb.test()
async def barred_filters_are_not_chosen(dut: Any) -> None:
    """Whatever their scores, also where they are the largest or stand among equal ones."""
    await _start(dut)
    bench = Testbench(dut, 5, 0.2)
    for _ in range(40):
        scores = bench.draw(bench.filters())
        barred = set(bench.rng.sample(range(len(scores)), bench.rng.randint(0, len(scores) - 1)))
        await bench.select(scores, bench.rng.randint(1, min(len(scores) - len(barred), len(scores) - 1)), barred)


@cocotb.test()
async def every_keep_of_one_list(dut: Any) -> None:
    """From 1 to all but one of the most filters that the module can rank."""
    await _start(dut)
    bench = Testbench(dut, 2)
    scores = bench.draw(bench.lanes * bench.max_words)
    for keep in range(1, len(scores)):
        await bench.select(scores, keep)


@cocotb.test()
async def a_selection_takes_the_cycles_that_its_header_says(dut: Any) -> None:
    """One pass of words + 3 cycles per digit; then, per word, 3 cycles and one per chosen filter, at least 4."""
    await _start(dut)
    bench = Testbench(dut, 3)
    for _ in range(20):
        scores = bench.draw(bench.filters())
        keep = bench.rng.randint(1, len(scores) - 1)
        cycles = await bench.select(scores, keep)
        words = -(-len(scores) // bench.lanes)
        per_word = Counter(index // bench.lanes for index in largest(scores, keep))
        emitting = sum(3 + max(1, per_word[word]) for word in range(words))
        assert cycles == 1 + -(-bench.bits // 4) * (words + 3) + emitting


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.6])
async def scores_above_a_threshold_are_chosen(dut: Any, pause: float) -> None:
    """None to all of them, barred ones left out; a word takes 3 cycles and one per chosen filter, at least 4."""
    await _start(dut)
    bench = Testbench(dut, 6, pause)
    for turn in range(60):
        scores = bench.draw(bench.rng.randint(1, bench.lanes * bench.max_words))
        low, high = -(1 << (bench.bits - 1)), (1 << (bench.bits - 1)) - 1
        above = (low, high, bench.rng.choice(scores), bench.rng.choice(scores))[turn % 4]
        barred = set(bench.rng.sample(range(len(scores)), bench.rng.randint(0, len(scores)) if turn % 3 else 0))
        cycles = await bench.select(scores, 1, barred, above)
        per_word = Counter(index // bench.lanes for index in bench.chosen)
        if not pause:
            words = -(-len(scores) // bench.lanes)
            assert cycles == 1 + sum(3 + max(1, per_word[word]) for word in range(words))


@cocotb.test()
async def reset_in_mid_selection_makes_it_idle(dut: Any) -> None:
    """In every state; no filter is offered afterwards, and the next selection is right."""
    await _start(dut)
    for length in range(1, 12):
        bench = Testbench(dut, length, pause=0.5)
        task = cocotb.start_soon(bench.select(bench.draw(bench.lanes * bench.max_words), 1))
        for _ in range(length * 3):
            await RisingEdge(dut.clk_i)
        task.cancel()
        bench.stop()
        dut.start_i.value = 0
        await reset(dut, 1)
        await FallingEdge(dut.clk_i)
        assert int(dut.idle_o.value)
        assert not int(dut.chosen_valid_o.value)
        await RisingEdge(dut.clk_i)
    after = Testbench(dut, 4)
    await after.select(after.draw(after.lanes * after.max_words), 1)
