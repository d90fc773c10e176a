"""Bench of pen_predict: events in, sums out, for layers of different sizes and weights on one instance."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from hw.emit.bits import array, table
from sim.cocotb.bench import CycleCounter, StreamDriver, StreamMonitor, parameter, pauses, reset, start
from sim.cocotb.stimulus import split

OPERAND_BITS = 14  # signed
CHANNELS = 7  # of every layer
PASS_CYCLES = 4  # shortest time between two updates of the same score
BITS = 8  # words of sums whose bits share a word of the table


@dataclass(frozen=True)
class Event:
    """What one channel adds, to `words` words of sums from `first` on."""

    channel: int
    operand: int
    first: int
    words: int


@dataclass(frozen=True)
class Layer:
    """`words` words of sums: `weights` (channels, words, lanes), `bias` (words, lanes), and where its rows begin.

    The weights of an event are the first ones of its channel, whichever words they go to. `boolean` ones are bits.
    """

    words: int
    weights: list[list[list[int]]]
    bias: list[list[int]]
    row_base: int
    bias_base: int
    boolean: bool

    @property
    def stride(self) -> int:
        """Words of the table per channel."""
        return -(-self.words // BITS) if self.boolean else self.words

    def rows(self) -> list[tuple[int, int]]:
        """Its words of the table."""
        if not self.boolean:
            return [array(word, 8) for channel in self.weights for word in channel]
        lanes = len(self.bias[0])
        packed = []
        for channel in self.weights:
            flat = [bit for word in channel for bit in word]
            flat += [0] * (-len(flat) % (BITS * lanes))
            packed += [array(flat[i : i + BITS * lanes], 1) for i in range(0, len(flat), BITS * lanes)]
        return packed

    def scores(self, events: list[Event]) -> list[list[int]]:
        """The sums (words, lanes) after `events`."""
        sums = [list(row) for row in self.bias]
        for event in events:
            for word in range(event.words):
                for lane, weight in enumerate(self.weights[event.channel][word]):
                    sums[event.first + word][lane] += event.operand * weight
        return sums


def layers(lanes: int, words: int, seed: int = 1) -> list[Layer]:
    """Layers of 1 word, of `words`, and of some number between; the second one has the most negative weights only.

    Then, of bits, two layers of `words` and of one word.
    """
    rng = random.Random(seed)  # noqa: S311 - stimulus
    made: list[Layer] = []
    rows = biases = 0
    for index, count in enumerate((1, words, rng.randint(1, words), words, 1)):
        low, high = ((-128, 127), (-128, -128), (-128, 127), (0, 1), (0, 1))[index]
        made.append(
            Layer(
                count,
                [[[rng.randint(low, high) for _ in range(lanes)] for _ in range(count)] for _ in range(CHANNELS)],
                [[rng.randint(-5000, 5000) for _ in range(lanes)] for _ in range(count)],
                rows,
                biases,
                index > 2,
            )
        )
        rows += CHANNELS * made[-1].stride
        biases += count
    return made


def parameters(lanes: int, words: int) -> dict[str, int]:
    """Of an instance that computes `layers(lanes, words)`; ScoreBits just holds all channels at their strongest."""
    made = layers(lanes, words)
    largest = 5000 + 2 * CHANNELS * 128 * (1 << (OPERAND_BITS - 1))
    return {
        "Lanes": lanes,
        "MaxWords": words,
        "OperandBits": OPERAND_BITS,
        "Boolean": 1,
        "ScoreBits": largest.bit_length() + 1,
        "TableDepth": sum(CHANNELS * layer.stride for layer in made),
        "BiasDepth": sum(layer.words for layer in made),
    }


def tables(lanes: int, words: int) -> dict[str, str]:
    """Contents of its ROMs."""
    made, bits = layers(lanes, words), parameters(lanes, words)["ScoreBits"]
    weights = [word for layer in made for word in layer.rows()]
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
        payload = {"operand": dut.event_operand_i, "row": dut.event_row_i}
        payload |= {"first": dut.event_first_i, "last": dut.event_last_i}
        ports = (dut.clk_i, dut.event_valid_i, dut.event_ready_o, payload)
        self.driver = StreamDriver(*ports, pauses(pause, 3))
        self.watch = StreamMonitor(*ports, lambda _: self.times.append(self.counter.now))

    def stop(self) -> None:
        """Let go of all signals; for resets."""
        self.driver.stop()
        self.watch.stop()

    def events(self, layer: Layer, count: int, *, strongest: bool = False, part: bool = False) -> list[Event]:
        """Events of `count` channels of `layer`, not in any order, to all of its words, or to a part of them."""
        low, high = -(1 << (OPERAND_BITS - 1)), (1 << (OPERAND_BITS - 1)) - 1
        words = self.rng.randint(1, layer.words) if part else layer.words
        first = self.rng.randint(0, layer.words - words)
        channels = self.rng.sample(range(CHANNELS), count)
        return [Event(channel, low if strongest else self.rng.randint(low, high), first, words) for channel in channels]

    async def begin(self, layer: Layer) -> int:
        """Pulse `start_i`; gives the cycle of the pulse."""
        dut, begun = self.dut, self.counter.now
        dut.start_i.value = 1
        dut.last_word_i.value, dut.bias_base_i.value = layer.words - 1, layer.bias_base
        dut.boolean_i.value = layer.boolean
        await RisingEdge(dut.clk_i)
        dut.start_i.value = 0
        return begun

    def send(self, layer: Layer, events: list[Event]) -> None:
        """Queue `events` of `layer`."""
        for event in events:
            row = layer.row_base + event.channel * layer.stride
            operand = event.operand & ((1 << OPERAND_BITS) - 1)
            self.driver.send([{"operand": operand, "row": row, "first": event.first, "last": event.words - 1}])

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
    """All layers in turn with no event, some, and all channels, at their strongest; then to some words of sums only."""
    await _start(dut)
    bench = Testbench(dut, 1, pause)
    for turn, count in enumerate((CHANNELS, 0, 3, CHANNELS, 1)):
        for layer in bench.layers:
            events = bench.events(layer, count, strongest=turn == 0)
            others = bench.events(layer, 2 * turn, part=True) if turn < 4 else []  # when those are in, to other words
            await bench.begin(layer)
            for some in (events, others):
                bench.send(layer, some)
                await bench.idle()
            await bench.compare(layer, events + others)


@cocotb.test()
async def an_event_takes_a_pass_over_the_scores(dut: Any) -> None:
    """The first event is taken words + 2 cycles after `start_i`, each further one max(words, 4) cycles later."""
    await _start(dut)
    bench = Testbench(dut, 2)
    for layer in bench.layers:
        events = bench.events(layer, CHANNELS)
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
    bench.send(layer, bench.events(layer, CHANNELS))
    for _ in range(layer.words + PASS_CYCLES + 3):
        await RisingEdge(dut.clk_i)
    bench.stop()
    await reset(dut, 1)
    await FallingEdge(dut.clk_i)
    assert int(dut.idle_o.value)
    await RisingEdge(dut.clk_i)
    after = Testbench(dut, 4)
    events = after.events(layer, 4)
    await after.begin(layer)
    after.send(layer, events)
    await after.idle()
    await after.compare(layer, events)
