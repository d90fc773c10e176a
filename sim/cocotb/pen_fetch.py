"""Bench of pen_fetch: chosen filters in, commands to a read master, groups to a compute path; both are models."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from hw.emit.bits import field, pack, table
from sim.cocotb.bench import CycleCounter, Scoreboard, StreamDriver, StreamMonitor, parameter, pauses, reset, start
from sim.cocotb.stimulus import split

TABLE_DEPTH = 40
PINNED_ROWS = 128
WORD_BITS, ACC_BITS = 7, 19
RUN_CYCLES = 2  # from a filter's command to its next
FILTER_CYCLES = 6  # from a filter's last command to the next filter's first
WAIT = 5000  # cycles after which a group that does not come is missed


@dataclass(frozen=True)
class Filter:
    """A row of the filter table."""

    map: int
    bias: int
    shift: int


@dataclass(frozen=True)
class Layer:
    """What the engine tells when a layer starts."""

    chosen: list[int]
    runs: list[tuple[int, int]]
    base: int
    stride: int
    filter_base: int
    pinned: int = 0  # of the chosen ones, the first
    pinned_row: int = 0
    pinned_rows: int = 1
    exact: bool = False  # as many filters come as are announced


def filters(seed: int = 1) -> list[Filter]:
    """All rows of the filter table."""
    rng = random.Random(seed)  # noqa: S311 - stimulus
    low, high = -(1 << (ACC_BITS - 1)), (1 << (ACC_BITS - 1)) - 1
    return [Filter(rng.getrandbits(WORD_BITS), rng.randint(low, high), rng.getrandbits(5)) for _ in range(TABLE_DEPTH)]


def filter_table() -> str:
    """Contents of the ROM."""
    rows = [pack((field(f.map, WORD_BITS), field(f.bias, ACC_BITS), field(f.shift, 5))) for f in filters()]
    return table("filters", rows).hexadecimal()


def parameters(lanes: int, bus_bytes: int, record_words: int) -> dict[str, int]:
    """Of an instance of that structure."""
    return {
        "Filters": lanes,
        "BusBytes": bus_bytes,
        "RecordWords": record_words,
        "RunBits": record_words.bit_length() + 1,
        "IndexBits": 6,
        "WordBits": WORD_BITS,
        "AccBits": ACC_BITS,
        "TableDepth": TABLE_DEPTH,
        "PinnedRows": PINNED_ROWS,
    }


class Testbench:
    """The list of runs, the read master and the compute path around the module, all with pauses."""

    def __init__(self, dut: Any, seed: int, pause: float = 0.0) -> None:
        self.dut, self.pause = dut, pause
        self.lanes, self.bus, self.words = (parameter(name) for name in ("Filters", "BusBytes", "RecordWords"))
        self.filters = filters()
        self.rng = random.Random(seed)  # noqa: S311 - stimulus
        dut._log.info("stimulus from seed %d", seed)
        self.counter = CycleCounter(dut)
        self.layer = Layer([], [], 0, 1, 0)
        self.commands = Scoreboard()
        self.command_times: list[int] = []
        self.data: deque[tuple[int, int, int]] = deque()  # words to deliver: tag, index in its command, words left
        self.taken = self.done = 0  # groups
        self.issued = self.delivered = 0  # commands
        self.half = 0  # that the next group lies in
        self.fetched_groups: list[int] = []  # of each command
        self.driver = StreamDriver(dut.clk_i, dut.chosen_valid_i, dut.chosen_ready_o, dut.chosen_i, pauses(pause, 3))
        command = {"addr": dut.cmd_addr_o, "words": dut.cmd_words_o, "tag": dut.cmd_tag_o}
        stream = (dut.clk_i, dut.cmd_valid_o, dut.cmd_ready_i, command)
        self.monitor = StreamMonitor(*stream, self._command, pauses(pause, 4))
        self.tasks = [cocotb.start_soon(task) for task in (self._runs(), self._deliver())]

    def stop(self) -> None:
        """Let go of all signals; for resets."""
        self.driver.stop()
        self.monitor.stop()
        for task in self.tasks:
            task.cancel()
        self.dut.data_valid_i.value = 0

    # -- models of the neighbours -------------------------------------------------------------------------------------
    async def _runs(self) -> None:
        """The list of runs: data one cycle after a read, held until the next."""
        dut = self.dut
        while True:
            await FallingEdge(dut.clk_i)
            index = int(dut.run_addr_o.value) if int(dut.run_read_o.value) else None
            await RisingEdge(dut.clk_i)
            if index is not None:
                junk = (self.rng.randrange(self.words), self.words)
                run = self.layer.runs[index] if index < len(self.layer.runs) else junk
                dut.run_first_i.value, dut.run_end_i.value = run

    def _command(self, command: dict[str, int]) -> None:
        self.commands.check(command)
        self.command_times.append(self.counter.now)
        group = self.fetched_groups[self.issued]
        assert group < self.done + 2, "a half is filled again before its group is done"
        self.issued += 1
        self.data.extend((command["tag"], i, command["words"] - 1 - i) for i in range(command["words"]))

    async def _deliver(self) -> None:
        """The read master's data, in order; the place in the bank is compared where it passes."""
        dut, pausing = self.dut, pauses(self.pause, 5)
        record_bits = (self.words - 1).bit_length() or 1
        while True:
            word = self.data[0] if self.data and not next(pausing) else None
            tag, index, left = word or (self.rng.getrandbits(3), 0, 0)
            dut.data_valid_i.value = word is not None
            dut.data_tag_i.value, dut.data_last_i.value = tag, left == 0
            if word is not None:
                self.data.popleft()
                await FallingEdge(dut.clk_i)
                first, lane = tag & ((1 << record_bits) - 1), tag >> record_bits
                assert int(dut.bank_word_o.value) == first + index
                half = int(dut.bank_half_o.value)
                assert half << (len(dut.data_tag_i) - 1 - record_bits) | int(dut.bank_lane_o.value) == lane
                self.delivered += left == 0
            await RisingEdge(dut.clk_i)

    # -- a layer ------------------------------------------------------------------------------------------------------
    def draw(self, count: int, runs: int, pinned: int = 0, *, exact: bool = False) -> Layer:
        """A random layer of `count` chosen filters, `pinned` of them pinned, and up to `runs` runs."""
        total = self.rng.randint(max(count, 1), 20)
        edges = sorted(self.rng.sample(range(self.words + 1), 2 * min(runs, (self.words + 1) // 2)))
        return Layer(
            sorted(self.rng.sample(range(total), count)),
            list(zip(edges[::2], edges[1::2], strict=True)),
            self.rng.getrandbits(20) * self.bus,
            self.rng.randint(1, self.words),
            self.rng.randint(0, TABLE_DEPTH - total),
            pinned,
            self.rng.randrange(PINNED_ROWS // 2),
            self.rng.randint(1, 3),
            exact,
        )

    def groups(self, layer: Layer) -> list[list[int]]:
        """The chosen filters, group by group; of an exact number with none pinned, the odd group is the first."""
        odd = len(layer.chosen) % self.lanes if layer.exact and self.lanes & (self.lanes - 1) == 0 else 0
        first = layer.pinned or odd
        parts = layer.chosen[:first], layer.chosen[first:]
        return [part[i : i + self.lanes] for part in parts for i in range(0, len(part), self.lanes)]

    def pinned_groups(self, layer: Layer) -> int:
        """How many of the groups need no fetch."""
        return -(-layer.pinned // self.lanes)

    async def begin(self, layer: Layer, surplus: int = 0) -> None:
        """Start `layer` and offer its filters; `surplus` more are announced than come."""
        dut, self.layer = self.dut, layer
        self.taken = self.done = self.issued = self.delivered = 0
        self.command_times.clear()
        self.fetched_groups = []
        lane_bits = max(1, (self.lanes - 1).bit_length())
        record_bits = max(1, (self.words - 1).bit_length())
        for group, members in enumerate(self.groups(layer)):
            half = (self.half + group) % 2
            if group < self.pinned_groups(layer):
                continue
            self.fetched_groups += [group] * len(members) * len(layer.runs)
            for lane, index in enumerate(members):
                for first, end in layer.runs:
                    addr = layer.base + (index * layer.stride + first) * self.bus
                    tag = (half << lane_bits | lane) << record_bits | first
                    self.commands.expect([{"addr": addr, "words": end - first, "tag": tag}])
        dut.start_i.value = 1
        dut.count_i.value, dut.runs_i.value = len(layer.chosen) + surplus, len(layer.runs)
        dut.exact_i.value = int(layer.exact)
        dut.pinned_i.value, dut.pinned_row_i.value = layer.pinned, layer.pinned_row
        dut.pinned_rows_i.value = layer.pinned_rows
        dut.base_i.value, dut.stride_i.value, dut.filter_base_i.value = layer.base, layer.stride, layer.filter_base
        await RisingEdge(dut.clk_i)
        dut.start_i.value = 0
        self.driver.send(layer.chosen)
        if surplus:
            cocotb.start_soon(self._end())

    async def _end(self) -> None:
        """Some time after the last filter was taken: no more come."""
        await self.driver.wait()
        for _ in range(self.rng.randint(0, 40)):
            await RisingEdge(self.dut.clk_i)
        self.dut.end_i.value = 1
        await FallingEdge(self.dut.clk_i)
        while int(self.dut.open_o.value):
            await RisingEdge(self.dut.clk_i)
            await FallingEdge(self.dut.clk_i)
        await RisingEdge(self.dut.clk_i)
        self.dut.end_i.value = 0

    async def compute(self, layer: Layer, *, slow: int = 0) -> None:
        """Take every group when its weights are in, look at its parameters, and give it back after up to `slow` cycles.

        The next group is taken before the one before is done, as the datapath does.
        """
        groups = self.groups(layer)
        finishing = None
        for number, members in enumerate(groups):
            await self._take(layer, number, members)
            if finishing is not None:
                await finishing
            finishing = cocotb.start_soon(self._finish(number, members, self.rng.randint(0, slow)))
        if finishing is not None:
            await finishing
        self.half = (self.half + len(groups)) % 2
        self.commands.finish()
        await FallingEdge(self.dut.clk_i)
        assert int(self.dut.words_o.value) == (len(layer.chosen) - layer.pinned) * sum(
            end - first for first, end in layer.runs
        )
        assert not int(self.dut.group_valid_o.value)
        while int(self.dut.open_o.value):  # no group, but more filters may come, until `end_i`
            assert not groups or int(self.dut.count_i.value) > len(layer.chosen)
            await RisingEdge(self.dut.clk_i)
            await FallingEdge(self.dut.clk_i)
        await RisingEdge(self.dut.clk_i)
        await RisingEdge(self.dut.clk_i)

    async def _take(self, layer: Layer, number: int, members: list[int]) -> None:
        dut = self.dut
        for _ in range(WAIT):
            await FallingEdge(dut.clk_i)
            if int(dut.group_valid_o.value) and self.rng.random() >= self.pause:
                break
            await RisingEdge(dut.clk_i)
        else:
            raise AssertionError(f"group {number} does not come")
        filled = sum(len(group) for group in self.groups(layer)[self.pinned_groups(layer) : number + 1])
        assert self.delivered >= filled * len(layer.runs), "a group is offered before its weights are in"
        half_bytes = self.words * self.bus
        weight_bits = len(dut.group_weight_o) - 1
        row = layer.pinned_row + number * layer.pinned_rows
        is_pinned = number < self.pinned_groups(layer)
        place = 1 << weight_bits | row if is_pinned else (self.half + number) % 2 * half_bytes
        assert int(dut.group_weight_o.value) == place
        assert int(dut.group_half_o.value) == (self.half + number) % 2
        assert int(dut.group_last_lane_o.value) == len(members) - 1
        dut.group_take_i.value = 1
        await RisingEdge(dut.clk_i)
        dut.group_take_i.value = 0
        self.taken += 1

    async def _finish(self, number: int, members: list[int], wait: int) -> None:
        """Compare the parameters of a group in use after `wait` cycles, then give it back."""
        dut, half = self.dut, (self.half + number) % 2
        for _ in range(wait):
            await RisingEdge(dut.clk_i)
        for lane, index in enumerate(members):
            dut.drain_half_i.value, dut.beat_half_i.value, dut.beat_lane_i.value = half, half, lane
            await FallingEdge(dut.clk_i)
            expected = self.filters[self.layer.filter_base + index]
            bias = split(int(dut.bias_o.value), ACC_BITS, self.lanes, signed=True)[lane]
            shift = split(int(dut.shift_o.value), 5, self.lanes)[lane]
            assert Filter(int(dut.beat_map_o.value), bias, shift) == expected
            assert int(dut.beat_filter_o.value) == index
            assert int(dut.open_o.value)
            await RisingEdge(dut.clk_i)
        dut.group_done_i.value = 1
        await RisingEdge(dut.clk_i)
        dut.group_done_i.value = 0
        self.done += 1


async def _start(dut: Any) -> None:
    quiet = (dut.start_i, dut.end_i, dut.chosen_valid_i, dut.data_valid_i, dut.group_take_i, dut.group_done_i)
    await start(dut, *quiet)


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.6], slow=[0, 60])
async def groups_are_fetched_ahead(dut: Any, pause: float, slow: int) -> None:
    """Layers of 0 to many filters and 0 to many runs; the compute path is quick, or slower than the fetch."""
    await _start(dut)
    bench = Testbench(dut, 1, pause)
    shapes = [(0, 2), (1, 1), (bench.lanes, 2), (bench.lanes + 1, 0), (7, 1), (0, 0), (13, 3), (20, 2)]
    for number, (count, runs, part) in enumerate((*shape, part) for part in (0.0, 0.4, 1.0) for shape in shapes):
        layer = bench.draw(count, runs, round(part * count), exact=part == 0.0 or number % 2 == 0)
        await bench.begin(layer)
        await bench.compute(layer, slow=slow)


@cocotb.test()
async def commands_leave_at_the_rate_that_the_header_says(dut: Any) -> None:
    """A run every 2 cycles, 6 from a filter to the next, as long as nothing waits."""
    await _start(dut)
    bench = Testbench(dut, 2)
    layer = bench.draw(2 * bench.lanes, 2)
    await bench.begin(layer)
    await bench.compute(layer)
    steps = [RUN_CYCLES] * (len(layer.runs) - 1) + [FILTER_CYCLES]
    times = bench.command_times
    assert [b - a for a, b in pairwise(times)] == (steps * len(layer.chosen))[:-1]


@cocotb.test()
@cocotb.parametrize(slow=[0, 60])
async def fewer_filters_may_come_than_announced(dut: Any, slow: int) -> None:
    """None to many, pinned ones among them: the last group ends with `end_i`, and the layer with it."""
    await _start(dut)
    bench = Testbench(dut, 5, 0.3)
    for count in (0, 1, bench.lanes, bench.lanes + 1, 7, 0, 13):
        for part in (0.0, 0.4, 1.0):
            layer = bench.draw(count, 2, round(part * count))
            await bench.begin(layer, surplus=bench.rng.randint(1, 9))
            await bench.compute(layer, slow=slow)


@cocotb.test()
async def a_third_group_waits_for_the_first(dut: Any) -> None:
    """No command of it leaves before the first group is done, however long that takes."""
    await _start(dut)
    bench = Testbench(dut, 3)
    layer = bench.draw(2 * bench.lanes + 1, 1)
    await bench.begin(layer)
    for _ in range(200):
        await RisingEdge(dut.clk_i)
    assert bench.issued == 2 * bench.lanes * len(layer.runs)
    await bench.compute(layer)


@cocotb.test()
async def reset_in_mid_layer_forgets_groups_and_commands(dut: Any) -> None:
    """At several points; nothing is offered afterwards, and the next layer begins with half 0."""
    await _start(dut)
    for length in (3, 9, 20, 45):
        bench = Testbench(dut, length, pause=0.2)
        layer = bench.draw(10, 2)
        await bench.begin(layer)
        for _ in range(length):
            await RisingEdge(dut.clk_i)
        bench.stop()
        await reset(dut, 1)
        await FallingEdge(dut.clk_i)
        assert not int(dut.cmd_valid_o.value)
        assert not int(dut.group_valid_o.value)
        assert not int(dut.chosen_ready_o.value)
        await RisingEdge(dut.clk_i)
    after = Testbench(dut, 4)
    layer = after.draw(10, 2)
    await after.begin(layer)
    await after.compute(layer)
