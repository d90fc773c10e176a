"""Bench of pen_axi_read: commands in, bursts to a memory with guarded ends, tagged words out."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from sim.cocotb.bench import (
    AxiReadMemory,
    CycleCounter,
    Scoreboard,
    StreamDriver,
    cycles,
    parameter,
    pauses,
    reset,
    start,
)

BASE = 0x1000_0F40  # not at a page, so that splits at 4 KB show; a multiple of every bus width
PAGES = 5
Command = dict[str, int]


class Testbench:
    """Commands, the memory that answers them, and the words that must come of it."""

    def __init__(
        self, dut: Any, latency: tuple[int, int] = (1, 1), pause: float = 0.0, command_pause: float = 0.0, seed: int = 1
    ) -> None:
        self.dut = dut
        self.bus = parameter("BusBytes")
        self.rng = random.Random(seed)  # noqa: S311 - stimulus
        self.image = self.rng.randbytes(PAGES * 4096)
        self.counter = CycleCounter(dut)
        self.memory = AxiReadMemory(dut, self.image, BASE, latency, (pauses(pause, 11), pauses(pause, 12)), seed)
        self.scoreboard = Scoreboard()
        fields = {"addr": dut.cmd_addr_i, "words": dut.cmd_words_i, "tag": dut.cmd_tag_i}
        self.driver = StreamDriver(dut.clk_i, dut.cmd_valid_i, dut.cmd_ready_o, fields, pauses(command_pause, 13))
        self.times: list[int] = []  # cycles in which words came
        self.errors = 0
        self.timeouts: list[int] = []  # cycles
        self.moved = 0  # cycle in which the first command was taken, or something last moved on the port
        self._accepted = self._delivered = 0
        self._task = cocotb.start_soon(self._watch())

    def command(self, words: int, address: int | None = None) -> Command:
        """A command of `words` words, at a random address or at byte `address` of the image."""
        room = len(self.image) // self.bus - words
        offset = self.rng.randint(0, room) * self.bus if address is None else address
        return {"addr": BASE + offset, "words": words, "tag": self.rng.getrandbits(parameter("TagBits"))}

    def expect(self, commands: list[Command]) -> None:
        """Queue the words that `commands` read."""
        for command in commands:
            for index in range(command["words"]):
                at = command["addr"] - BASE + index * self.bus
                word = int.from_bytes(self.image[at : at + self.bus], "little")
                self.scoreboard.expect([(word, command["tag"], index == command["words"] - 1)])

    async def run(self, commands: list[Command]) -> None:
        """Give `commands` and see all of their words."""
        self.expect(commands)
        self.driver.send(commands)
        await self.driver.wait()
        quiet = 0
        while self.scoreboard.expected and quiet < 1000:
            before = self.scoreboard.seen
            await RisingEdge(self.dut.clk_i)
            quiet = quiet + 1 if self.scoreboard.seen == before else 0
        self.scoreboard.finish()
        await FallingEdge(self.dut.clk_i)
        assert int(self.dut.idle_o.value)
        assert self.memory.most_in_flight <= parameter("Outstanding")
        await RisingEdge(self.dut.clk_i)

    def stop(self) -> None:
        """Let go of all signals; for resets."""
        self._task.cancel()
        self.driver.stop()
        self.memory.stop()

    async def _watch(self) -> None:
        dut = self.dut
        while True:
            await FallingEdge(dut.clk_i)
            if int(dut.rst_ni.value):
                assert int(dut.idle_o.value) == (self._accepted == self._delivered), "idle_o is wrong"
            if int(dut.data_valid_o.value):
                self._delivered += 1
                self.times.append(self.counter.now)
                word = int(dut.data_o.value)
                if int(dut.lost_o.value) and self.scoreboard.expected:
                    word = self.scoreboard.expected[0][0]  # any will do
                self.scoreboard.check((word, int(dut.data_tag_o.value), bool(dut.data_last_o.value)))
            self.errors += int(dut.error_o.value)
            if int(dut.timeout_o.value):
                self.timeouts.append(self.counter.now)
            if int(dut.m_axi_rvalid.value) or (int(dut.m_axi_arvalid.value) and int(dut.m_axi_arready.value)):
                self.moved = self.counter.now
            if int(dut.cmd_valid_i.value) and int(dut.cmd_ready_o.value) and self._accepted == self._delivered:
                self.moved = max(self.moved, self.counter.now)
            if int(dut.cmd_valid_i.value) and int(dut.cmd_ready_o.value) and int(dut.rst_ni.value):
                self._accepted += int(dut.cmd_words_i.value)


async def prepare(dut: Any) -> None:
    """Clock and reset, with both ends silent."""
    quiet = (dut.cmd_valid_i, dut.m_axi_rvalid, dut.m_axi_arready, dut.timeout_i, dut.give_up_i, dut.resume_i)
    await start(dut, *quiet)


async def pulse(dut: Any, signal: Any) -> None:
    """High for one cycle."""
    signal.value = 1
    await RisingEdge(dut.clk_i)
    signal.value = 0


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.4], command_pause=[0.0, 0.8])
async def words_come_in_order_with_their_tags(dut: Any, pause: float, command_pause: float) -> None:
    """Commands of all lengths, across pages, with stalls on every channel and random latency, each on and off."""
    await prepare(dut)
    bench = Testbench(dut, latency=(1, 30), pause=pause, command_pause=command_pause)
    longest = min((1 << parameter("WordsBits")) - 1, 2 * 4096 // bench.bus, 300)
    lengths = [1, 1, 2, longest] + [bench.rng.randint(1, longest if i % 5 == 0 else 6) for i in range(30)]
    await bench.run([bench.command(words) for words in lengths])
    assert bench.errors == 0


@cocotb.test()
async def bursts_are_as_long_as_they_may_be(dut: Any) -> None:
    """A command is split at pages and at MaxBurst, nowhere else."""
    await prepare(dut)
    bench = Testbench(dut)
    limit = parameter("MaxBurst")
    words = min((1 << parameter("WordsBits")) - 1, 4096 // bench.bus + 3)
    commands = [bench.command(words, address=7 * bench.bus), bench.command(1, address=4096 - 0xF40 - bench.bus)]
    await bench.run(commands)
    wanted = []
    for command in commands:
        address, left = command["addr"], command["words"]
        while left:
            beats = min(left, limit, (4096 - address % 4096) // bench.bus)
            wanted.append((address, beats))
            address, left = address + beats * bench.bus, left - beats
    assert bench.memory.requests == wanted


@cocotb.test()
async def neighbours_share_bursts_while_the_bus_is_busy(dut: Any) -> None:
    """Short commands that continue each other: full bursts once enough words are in flight, alone without joining."""
    await prepare(dut)
    bench = Testbench(dut, latency=(30, 30))
    words, count = 4, 60
    first = -BASE % 4096  # on a page
    await bench.run([bench.command(words, address=first + i * words * bench.bus) for i in range(count)])
    lengths = [beats for _, beats in bench.memory.requests]
    assert sum(lengths) == words * count
    if parameter("JoinAbove") == 0 or parameter("MaxBurst") < 2 * words:
        assert max(lengths) == min(words, parameter("MaxBurst"))
    else:
        assert len(lengths) < count // 2
        assert max(lengths) > words


@cocotb.test()
async def both_ends_of_the_image_are_read(dut: Any) -> None:
    """First and last word, and not a byte beyond: the memory guards its ends."""
    await prepare(dut)
    bench = Testbench(dut)
    await bench.run([bench.command(3, address=0), bench.command(3, address=len(bench.image) - 3 * bench.bus)])


@cocotb.test()
async def requests_leave_after_four_cycles(dut: Any) -> None:
    """The latency that the module's header promises, and that a cycle model counts on."""
    await prepare(dut)
    bench = Testbench(dut)
    bench.driver.send([bench.command(1, address=0)])
    bench.expect([bench.command(0, address=0)])
    bench.scoreboard.expected.clear()
    await FallingEdge(dut.clk_i)
    while not (int(dut.cmd_valid_i.value) and int(dut.cmd_ready_o.value)):
        await FallingEdge(dut.clk_i)
    for after in range(1, 5):
        await FallingEdge(dut.clk_i)
        assert int(dut.m_axi_arvalid.value) == (after == 4), f"{after} cycles after the command"
    bench.stop()
    await reset(dut)


@cocotb.test()
async def commands_one_after_the_other_lose_no_cycle(dut: Any) -> None:
    """Once data flows it flows in every cycle, while the bursts in flight cover the memory's latency."""
    await prepare(dut)
    latency, bursts = 9, parameter("Outstanding")
    words = min(parameter("MaxBurst"), 16)
    if words < 2 or bursts < 2 or (bursts - 1) * words < latency + 4:
        return  # commands come too slowly, or this configuration cannot cover it
    bench = Testbench(dut, latency=(latency, latency))
    stride = words * bench.bus
    first = -BASE % 4096  # on a page, and `stride` divides it: no command is split
    await bench.run([bench.command(words, address=first + i * stride) for i in range(12)])
    assert bench.times == list(range(bench.times[0], bench.times[0] + 12 * words))


@cocotb.test()
async def every_failed_beat_is_reported(dut: Any) -> None:
    """SLVERR on some beats: as many pulses, and all words delivered."""
    await prepare(dut)
    bench = Testbench(dut, latency=(1, 8), pause=0.2)
    commands = [bench.command(5, address=64 * i) for i in range(8)]
    failing = {commands[1]["addr"], commands[4]["addr"] + 2 * bench.bus, commands[7]["addr"] + 4 * bench.bus}
    bench.memory.failing |= failing
    await bench.run(commands)
    read = [c["addr"] + i * bench.bus for c in commands for i in range(5)]
    assert bench.errors == sum(address in failing for address in read)


@cocotb.test()
@cocotb.parametrize(at=["request", "first beat", "mid-burst"])
async def silence_ends_in_giving_up(dut: Any, at: str) -> None:
    """At the promised cycle; all words come; as often as it is asked again. What the memory owes is never taken."""
    await prepare(dut)
    bench, limit = Testbench(dut, latency=(5, 5)), 50
    dut.timeout_i.value = limit
    words = min(6, (1 << parameter("WordsBits")) - 1)
    # Neighbours, so that joined ones are given up as well; the first turn's answers are errors when they come late.
    turns = [[bench.command(words, address=(turn * 10 + i) * words * bench.bus) for i in range(5)] for turn in range(3)]
    bench.memory.failing = {c["addr"] + i * bench.bus for turn in turns[:2] for c in turn for i in range(words)}
    if at == "mid-burst":
        bench.memory.failing -= {turns[0][0]["addr"] + i * bench.bus for i in range(words)}
    bench.memory.refusing, bench.memory.silent = at == "request", at == "first beat"
    for turn in range(2):
        bench.expect(turns[turn])
        bench.driver.send(turns[turn])
        while len(bench.timeouts) <= turn:
            await FallingEdge(dut.clk_i)
            bench.memory.silent |= at == "mid-burst" and bench.scoreboard.seen == words - 1
            assert bench.counter.now < 1000 * (turn + 1)
            moved = bench.moved
            await RisingEdge(dut.clk_i)
        assert bench.timeouts[turn] == moved + limit + 2
        await cycles(dut, 5 * words + 2)
        bench.scoreboard.finish()
        assert bench.times[-1] - bench.timeouts[turn] <= 5 * words + 1
        await FallingEdge(dut.clk_i)
        assert int(dut.lost_o.value)
        assert int(dut.idle_o.value)
        await RisingEdge(dut.clk_i)
        await pulse(dut, dut.resume_i)
        await FallingEdge(dut.clk_i)
        assert not int(dut.lost_o.value)
        await RisingEdge(dut.clk_i)
    bench.memory.refusing = bench.memory.silent = False
    await bench.run(turns[2])
    assert len(bench.timeouts) == 2
    assert bench.errors == 0


@cocotb.test()
async def a_memory_that_is_just_in_time_is_waited_for(dut: Any) -> None:
    """A beat in the last cycle of a silence ends it; one cycle later is too late; without a limit nothing is."""
    await prepare(dut)
    limit = 30
    for latency, timeout, late in ((limit + 2, limit, False), (limit + 3, limit, True), (300, 0, False)):
        bench = Testbench(dut, latency=(latency, latency))
        dut.timeout_i.value = timeout
        await bench.run([bench.command(1)])
        assert bool(bench.timeouts) == late
        await cycles(dut, latency)
        await pulse(dut, dut.resume_i)
        bench.stop()
        await reset(dut)


@cocotb.test()
async def told_to_give_up_it_asks_for_nothing(dut: Any) -> None:
    """Before the first command, or with bursts on their way; afterwards all is as ever."""
    await prepare(dut)
    bench = Testbench(dut, latency=(9, 9))
    await pulse(dut, dut.give_up_i)
    await bench.run([bench.command(4) for _ in range(3)])
    assert not bench.memory.requests
    await pulse(dut, dut.resume_i)
    await bench.run([bench.command(4)])
    asked = len(bench.memory.requests)
    commands = [bench.command(4) for _ in range(3)]
    bench.expect(commands)
    bench.driver.send(commands)
    while len(bench.memory.requests) == asked:
        await RisingEdge(dut.clk_i)
    await pulse(dut, dut.give_up_i)
    await bench.driver.wait()
    await cycles(dut, 16)
    bench.scoreboard.finish()
    await pulse(dut, dut.resume_i)
    await bench.run([bench.command(4) for _ in range(3)])
    assert bench.errors == 0
    assert not bench.timeouts


@cocotb.test()
async def reset_in_mid_burst_leaves_nothing_behind(dut: Any) -> None:
    """Requests and data of before are forgotten; a stray beat is dropped; then all is as new."""
    await prepare(dut)
    bench = Testbench(dut, latency=(20, 20))
    commands = [bench.command(5) for _ in range(10)]
    bench.expect(commands)
    bench.driver.send(commands)
    await cycles(dut, 28)
    bench.stop()
    await reset(dut)
    dut.m_axi_rvalid.value, dut.m_axi_rlast.value, dut.m_axi_rresp.value = 1, 1, 2
    for _ in range(3):
        await FallingEdge(dut.clk_i)
        assert not int(dut.m_axi_arvalid.value)
        assert int(dut.m_axi_rready.value)
        assert not int(dut.data_valid_o.value)
        assert not int(dut.error_o.value)
        assert int(dut.idle_o.value)
        await RisingEdge(dut.clk_i)
    dut.m_axi_rvalid.value = 0
    await RisingEdge(dut.clk_i)
    after = Testbench(dut, latency=(1, 9), pause=0.2, seed=2)
    await after.run([after.command(4) for _ in range(10)])
