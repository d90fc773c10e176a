"""Bench of pen_predict: strengths in, scores out, for layers of different sizes on one instance."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from hw.emit.bits import array, table
from sim.cocotb.bench import CycleCounter, StreamDriver, StreamMonitor, parameter, pauses, reset, start
from sim.cocotb.stimulus import split

STRENGTH_BITS = 13
CHANNELS = 7  # of every layer
PASS_CYCLES = 4  # shortest time between two updates of the same score
Event = tuple[int, int]  # channel, strength


@dataclass(frozen=True)
class Layer:
    """`words` words of scores: `weights` (channels, words, lanes), `bias` (words, lanes), and where its rows begin."""

    words: int
    weights: list[list[list[int]]]
    bias: list[list[int]]
    row_base: int
    bias_base: int

    def scores(self, events: list[Event]) -> list[list[int]]:
        """The scores (words, lanes) after `events`."""
        return [
            [
                bias + sum(strength * self.weights[channel][word][lane] for channel, strength in events)
                for lane, bias in enumerate(row)
            ]
            for word, row in enumerate(self.bias)
        ]


def layers(lanes: int, words: int, seed: int = 1) -> list[Layer]:
    """Layers of 1 word, of `words`, and of some number between; the second one has the most negative weights only."""
    rng = random.Random(seed)  # noqa: S311 - stimulus
    made: list[Layer] = []
    rows = biases = 0
    for index, count in enumerate((1, words, rng.randint(1, words))):
        low, high = (-128, -128) if index == 1 else (-128, 127)
        made.append(
            Layer(
                count,
                [[[rng.randint(low, high) for _ in range(lanes)] for _ in range(count)] for _ in range(CHANNELS)],
                [[rng.randint(-5000, 5000) for _ in range(lanes)] for _ in range(count)],
                rows,
                biases,
            )
        )
        rows += CHANNELS * count
        biases += count
    return made


def parameters(lanes: int, words: int) -> dict[str, int]:
    """Of an instance that computes `layers(lanes, words)`; ScoreBits just holds all channels at their strongest."""
    made = layers(lanes, words)
    largest = 5000 + CHANNELS * 128 * ((1 << STRENGTH_BITS) - 1)
    return {
        "Lanes": lanes,
        "MaxWords": words,
        "StrengthBits": STRENGTH_BITS,
        "ScoreBits": largest.bit_length() + 1,
        "TableDepth": sum(CHANNELS * layer.words for layer in made),
        "BiasDepth": sum(layer.words for layer in made),
    }


def tables(lanes: int, words: int) -> dict[str, str]:
    """Contents of its ROMs."""
    made, bits = layers(lanes, words), parameters(lanes, words)["ScoreBits"]
    weights = [array(word, 8) for layer in made for channel in layer.weights for word in channel]
    bias = [array(word, bits) for layer in made for word in layer.bias]
    return {
        "TableFile": table("weights", weights).hexadecimal(),
        "BiasFile": table("bias", bias).hexadecimal(),
    }


class Testbench:
    """Events of one layer after another, scores read back."""

    def __init__(self, dut: Any, seed: int, pause: float = 0.0) -> None:
        self.dut, self.lanes, self.bits = dut, parameter("Lanes"), parameter("ScoreBits")
        self.layers = layers(self.lanes, parameter("MaxWords"))
        self.rng = random.Random(seed)  # noqa: S311 - stimulus
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.times: list[int] = []  # cycles in which events were taken
        payload = {"strength": dut.event_strength_i, "row": dut.event_row_i}
        ports = (dut.clk_i, dut.event_valid_i, dut.event_ready_o, payload)
        self.driver = StreamDriver(*ports, pauses(pause, 3))
        self.watch = StreamMonitor(*ports, lambda _: self.times.append(self.counter.now))

    def stop(self) -> None:
        """Let go of all signals; for resets."""
        self.driver.stop()
        self.watch.stop()

    def events(self, count: int, *, strongest: bool = False) -> list[Event]:
        """Events of `count` channels, not in any order; none has strength 0, as absent channels make no event."""
        high = (1 << STRENGTH_BITS) - 1
        channels = self.rng.sample(range(CHANNELS), count)
        return [(channel, high if strongest else self.rng.randint(1, high)) for channel in channels]

    async def begin(self, layer: Layer) -> int:
        """Pulse `start_i`; gives the cycle of the pulse."""
        dut, begun = self.dut, self.counter.now
        dut.start_i.value = 1
        dut.last_word_i.value, dut.bias_base_i.value = layer.words - 1, layer.bias_base
        await RisingEdge(dut.clk_i)
        dut.start_i.value = 0
        return begun

    def send(self, layer: Layer, events: list[Event]) -> None:
        """Queue `events` of `layer`."""
        rows = [(layer.row_base + channel * layer.words, strength) for channel, strength in events]
        self.driver.send({"strength": strength, "row": row} for row, strength in rows)

    async def idle(self) -> int:
        """Wait until all events are in; gives the first idle cycle."""
        await self.driver.wait()
        await FallingEdge(self.dut.clk_i)
        while not int(self.dut.idle_o.value):
            await FallingEdge(self.dut.clk_i)
        now = self.counter.now
        await RisingEdge(self.dut.clk_i)
        return now

    async def compare(self, layer: Layer, events: list[Event]) -> None:
        """Read every score in random order."""
        dut, expected = self.dut, layer.scores(events)
        for word in self.rng.sample(range(layer.words), layer.words):
            dut.score_read_i.value, dut.score_word_i.value = 1, word
            await RisingEdge(dut.clk_i)
            dut.score_read_i.value = 0
            await FallingEdge(dut.clk_i)
            scores = split(int(dut.score_o.value), self.bits, self.lanes, signed=True)
            assert scores == expected[word], f"word {word}"
            await RisingEdge(dut.clk_i)


async def _start(dut: Any) -> None:
    await start(dut, dut.start_i, dut.event_valid_i, dut.score_read_i)


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.7])
async def scores_are_exact(dut: Any, pause: float) -> None:
    """All layers in turn with no event, some, and all channels, one time at their strongest."""
    await _start(dut)
    bench = Testbench(dut, 1, pause)
    for turn, count in enumerate((CHANNELS, 0, 3, CHANNELS, 1)):
        for layer in bench.layers:
            events = bench.events(count, strongest=turn == 0)
            await bench.begin(layer)
            bench.send(layer, events)
            await bench.idle()
            await bench.compare(layer, events)


@cocotb.test()
async def an_event_takes_a_pass_over_the_scores(dut: Any) -> None:
    """The first event is taken words + 2 cycles after `start_i`, each further one max(words, 4) cycles later."""
    await _start(dut)
    bench = Testbench(dut, 2)
    for layer in bench.layers:
        events = bench.events(CHANNELS)
        bench.times.clear()
        begun = await bench.begin(layer)
        bench.send(layer, events)  # the first is offered in the cycle after the start
        idle = await bench.idle()
        step = max(layer.words, PASS_CYCLES)
        assert bench.times == [begun + layer.words + 2 + step * i for i in range(CHANNELS)]
        assert idle == bench.times[-1] + max(layer.words + 3, PASS_CYCLES + 1)
        await bench.compare(layer, events)


@cocotb.test()
async def reset_in_mid_update_makes_it_idle(dut: Any) -> None:
    """Whatever the scores are then, the next layer starts afresh."""
    await _start(dut)
    bench = Testbench(dut, 3)
    layer = bench.layers[1]
    await bench.begin(layer)
    bench.send(layer, bench.events(CHANNELS))
    for _ in range(layer.words + PASS_CYCLES + 3):
        await RisingEdge(dut.clk_i)
    bench.stop()
    await reset(dut, 1)
    await FallingEdge(dut.clk_i)
    assert int(dut.idle_o.value)
    await RisingEdge(dut.clk_i)
    after = Testbench(dut, 4)
    events = after.events(4)
    await after.begin(layer)
    after.send(layer, events)
    await after.idle()
    await after.compare(layer, events)
