"""Bench of the generated control port, driven by cocotbext-axi's AXI4-Lite master.

The accelerator is the stand-in of the tests with two tail layers; the design's numbers come through the environment.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from hw.registers import ERRORS, LayerRegister, Register, Status, layer_register
from sim.cocotb.bench import cycles, pauses, start
from sim.cocotb.stimulus import split

COUNTS = (LayerRegister.CHOSEN, LayerRegister.CYCLES, LayerRegister.BYTES)
READ_ONLY = (
    *(Register.ID, Register.VERSION, Register.FINGERPRINT_LOW, Register.FINGERPRINT_HIGH),
    *(Register.FRAMES, Register.CYCLES, Register.BYTES, Register.BAD_FRAMES),
    *(Register.STALL_INPUT, Register.STALL_MEMORY, Register.STALL_OUTPUT, Register.STALL_PREDICT),
)


class Testbench:
    """The master on the port, and the design that the port was made for."""

    def __init__(self, dut: Any, pause: float = 0.0) -> None:
        self.dut = dut
        self.design = json.loads(os.environ["PEN_DESIGN"])  # fingerprint, keep and filters per layer
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk_i)
        for logger in (self.master.read_if.log, self.master.write_if.log):
            logger.setLevel(logging.WARNING)
        channels = (
            self.master.write_if.aw_channel,
            self.master.write_if.w_channel,
            self.master.write_if.b_channel,
            self.master.read_if.ar_channel,
            self.master.read_if.r_channel,
        )
        for seed, channel in enumerate(channels):
            channel.set_pause_generator(pauses(pause, seed))

    async def read(self, address: int) -> int:
        """A register that is there."""
        answer = await self.master.read(address, 4)
        assert answer.resp == AxiResp.OKAY, f"read at {address:#x}: {answer.resp!r}"
        return int.from_bytes(answer.data, "little")

    async def write(self, address: int, value: int, size: int = 4) -> None:
        """The low `size` bytes of a register that is there."""
        answer = await self.master.write(address, value.to_bytes(size, "little"))
        assert answer.resp == AxiResp.OKAY, f"write at {address:#x}: {answer.resp!r}"

    def keep(self) -> list[int]:
        """What the engine is told, per layer."""
        value = int(self.dut.keep_o.value)
        return [value >> 16 * i & 0xFFFF for i in range(len(self.design["keep"]))]

    async def layer_done(self, index: int, chosen: int, taken: int, fetched: int) -> None:
        """Let layer `index` end with these counts."""
        dut = self.dut
        dut.layer_index_i.value, dut.layer_chosen_i.value = index, chosen
        dut.layer_cycles_i.value, dut.layer_bytes_i.value = taken, fetched
        await pulse(dut, dut.layer_done_i)


async def pulse(dut: Any, signal: Any) -> None:
    """High for one cycle."""
    signal.value = 1
    await RisingEdge(dut.clk_i)
    signal.value = 0


async def prepare(dut: Any) -> None:
    """Clock and reset; nothing happens in the accelerator."""
    ins = (
        "busy_i",
        "errors_i",
        "frame_done_i",
        "frame_bad_i",
        "stall_i",
        "layer_done_i",
        "layer_index_i",
        "layer_cycles_i",
    )
    ports = ("awvalid", "wvalid", "bready", "arvalid", "rready")
    names = (*ins, "layer_bytes_i", "layer_chosen_i", *(f"s_axil_{port}" for port in ports))
    await start(dut, *(getattr(dut, name) for name in names))


@cocotb.test()
async def reset_values_say_what_this_is(dut: Any) -> None:
    """Identity, fingerprint, the design's KEEPs, everything else zero; the ports agree."""
    await prepare(dut)
    bench = Testbench(dut)
    assert await bench.read(Register.ID) == 0x534E4550
    assert await bench.read(Register.VERSION) == 1
    assert (
        await bench.read(Register.FINGERPRINT_LOW) | await bench.read(Register.FINGERPRINT_HIGH) << 32
        == bench.design["fingerprint"]
    )
    for address in list(Register)[list(Register).index(Register.IMAGE_BASE) :]:
        expected = bench.design["timeout"] if address == Register.TIMEOUT else 0
        assert await bench.read(address) == expected, f"{address:#x}"
    for index, keep in enumerate(bench.design["keep"]):
        selected = [bench.design["mode"][index], bench.design["threshold"][index] & 0xFFFF_FFFF]
        found = [await bench.read(layer_register(index, register)) for register in LayerRegister]
        assert found == [keep, 0, 0, 0, *selected]
    assert bench.keep() == bench.design["keep"]
    assert not int(dut.enable_o.value)


@cocotb.test()
async def a_write_of_no_byte_changes_nothing(dut: Any) -> None:
    """It is answered all the same."""
    await prepare(dut)
    port = {"awaddr": Register.IMAGE_BASE, "awprot": 0, "wdata": 0xFFFF_FFFF, "wstrb": 0}
    for name, value in {**port, "awvalid": 1, "wvalid": 1, "bready": 1}.items():
        getattr(dut, f"s_axil_{name}").value = value
    await RisingEdge(dut.clk_i)
    dut.s_axil_awvalid.value = dut.s_axil_wvalid.value = 0
    answers = []
    for _ in range(20):
        await FallingEdge(dut.clk_i)
        if int(dut.s_axil_bvalid.value):
            answers.append(int(dut.s_axil_bresp.value))
    assert answers == [int(AxiResp.OKAY)]
    await RisingEdge(dut.clk_i)
    assert await Testbench(dut).read(Register.IMAGE_BASE) == 0


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.5])
async def what_is_written_is_read_and_reaches_its_port(dut: Any, pause: float) -> None:
    """Writable registers, whole and by byte, with stalls on every channel on and off."""
    await prepare(dut)
    bench = Testbench(dut, pause)
    await bench.write(Register.IMAGE_BASE, 0x8000_1240)
    await bench.write(Register.IMAGE_BASE + 1, 0xAB, size=1)
    assert await bench.read(Register.IMAGE_BASE) == int(dut.image_base_o.value) == 0x8000_AB40
    await bench.write(Register.TIMEOUT, 0xFFFF_FFFF)
    assert await bench.read(Register.TIMEOUT) == int(dut.timeout_o.value) == 0xFFFF_FFFF
    for index, filters in enumerate(bench.design["filters"]):
        await bench.write(layer_register(index), filters - 1)
        assert await bench.read(layer_register(index)) == filters - 1
    assert bench.keep() == [filters - 1 for filters in bench.design["filters"]]
    modes, thresholds = [2, 3], [0x8000_0001, 0x7FFF_FFF0]
    for index in range(2):
        await bench.write(layer_register(index, LayerRegister.MODE), modes[index])
        await bench.write(layer_register(index, LayerRegister.THRESHOLD), thresholds[index])
        assert await bench.read(layer_register(index, LayerRegister.MODE)) == modes[index]
        assert await bench.read(layer_register(index, LayerRegister.THRESHOLD)) == thresholds[index]
    assert split(int(dut.mode_o.value), 2, 2) == modes
    assert split(int(dut.threshold_o.value), 32, 2) == thresholds


@cocotb.test()
async def keep_is_limited_to_the_filters_of_its_layer(dut: Any) -> None:
    """0 and more than all never reach the engine; the register shows what was written."""
    await prepare(dut)
    bench = Testbench(dut)
    for index, filters in enumerate(bench.design["filters"]):
        for written, told in ((0, 1), (1, 1), (filters, filters), (filters + 1, filters), (0xFFFF, filters)):
            await bench.write(layer_register(index), written)
            assert await bench.read(layer_register(index)) == written
            assert bench.keep()[index] == told


@cocotb.test()
async def read_only_registers_ignore_writes(dut: Any) -> None:
    """They answer OKAY and stay."""
    await prepare(dut)
    bench = Testbench(dut)
    for address in (*READ_ONLY, *(layer_register(0, register) for register in COUNTS)):
        before = await bench.read(address)
        await bench.write(address, ~before & 0xFFFF_FFFF)
        assert await bench.read(address) == before


@cocotb.test()
async def other_addresses_are_refused(dut: Any) -> None:
    """SLVERR, for reads and writes, and the port goes on."""
    await prepare(dut)
    bench = Testbench(dut)
    for address in (max(Register) + 4, layer_register(len(bench.design["keep"])), 0xFFC):
        assert (await bench.master.read(address, 4)).resp == AxiResp.SLVERR
        assert (await bench.master.write(address, b"\xff\xff\xff\xff")).resp == AxiResp.SLVERR
    assert await bench.read(Register.ID) == 0x534E4550


@cocotb.test()
async def causes_stay_until_they_are_cleared(dut: Any) -> None:
    """Each has a bit of its own, cleared by writing 1 to it alone; busy is just shown."""
    await prepare(dut)
    bench = Testbench(dut)
    dut.busy_i.value = 1
    told = Status.BUSY
    for index, cause in enumerate(ERRORS):
        dut.errors_i.value = 1 << index
        await RisingEdge(dut.clk_i)
        dut.errors_i.value = 0
        told |= cause
        assert await bench.read(Register.STATUS) == told
    await bench.write(Register.STATUS, Status.BUSY)  # 0 into the sticky bits
    assert await bench.read(Register.STATUS) == told
    for cause in ERRORS:
        await bench.write(Register.STATUS, cause)
        told &= ~cause
        assert await bench.read(Register.STATUS) == told
    dut.busy_i.value = 0
    assert await bench.read(Register.STATUS) == 0


@cocotb.test()
async def a_cause_that_comes_while_another_is_cleared_is_kept(dut: Any) -> None:
    """In whichever cycle of the write it comes."""
    await prepare(dut)
    bench = Testbench(dut)
    for wait in range(15):
        clear = cocotb.start_soon(bench.write(Register.STATUS, Status.SHORT_FRAME))
        await cycles(dut, wait)
        await pulse(dut, dut.errors_i)
        await clear
        assert await bench.read(Register.STATUS) == Status.BUS_ERROR, f"{wait} cycles after the write began"
        await bench.write(Register.STATUS, Status.BUS_ERROR)


@cocotb.test()
async def counters_count_from_enable_on(dut: Any) -> None:
    """Frames, bad ones, bytes and cycles; cleared by enabling anew, readable while disabled."""
    await prepare(dut)
    bench = Testbench(dut)
    dut.frame_bad_i.value = 1
    await pulse(dut, dut.frame_done_i)
    await bench.layer_done(0, chosen=1, taken=2, fetched=1000)
    for _ in range(2):
        await bench.write(Register.CONTROL, 1)
        assert int(dut.enable_o.value)
        for index, fetched in ((0, 12), (1, 30), (0, 0x1_0000)):
            await bench.layer_done(index, chosen=3, taken=4, fetched=fetched)
        for bad in (0, 1, 0, 1, 1):
            dut.frame_bad_i.value = bad
            await pulse(dut, dut.frame_done_i)
            await RisingEdge(dut.clk_i)
        for waits in (0b0001, 0b1000, 0b0110, 0b1000, 0b1000):
            dut.stall_i.value = waits
            await RisingEdge(dut.clk_i)
        dut.stall_i.value = 0
        stalls = [await bench.read(register) for register in READ_ONLY[-4:]]
        assert stalls == [1, 1, 1, 3]
        assert await bench.read(Register.FRAMES) == 5
        assert await bench.read(Register.BAD_FRAMES) == 3
        assert await bench.read(Register.BYTES) == 0x1_0000 + 42
        await bench.write(Register.CONTROL, 0)
        stopped = await bench.read(Register.CYCLES)
        await cycles(dut, 20)
        assert await bench.read(Register.CYCLES) == stopped > 0
        assert await bench.read(Register.FRAMES) == 5


@cocotb.test()
async def cycles_are_those_of_enable(dut: Any) -> None:
    """Exactly: the counter equals the cycles in which the port was high."""
    await prepare(dut)
    bench = Testbench(dut)
    enabled = 0

    async def count() -> None:
        nonlocal enabled
        while True:
            await FallingEdge(dut.clk_i)
            enabled += int(dut.enable_o.value)

    task = cocotb.start_soon(count())
    await bench.write(Register.CONTROL, 1)
    await cycles(dut, 37)
    await bench.write(Register.CONTROL, 0)
    assert await bench.read(Register.CYCLES) == enabled
    task.cancel()


@cocotb.test()
async def layers_keep_their_last_counts(dut: Any) -> None:
    """Each layer its own, the later overwrite the earlier."""
    await prepare(dut)
    bench = Testbench(dut)
    await bench.layer_done(0, chosen=9, taken=9, fetched=9)
    await bench.layer_done(0, chosen=3, taken=0x1234_5678, fetched=0x9ABC_DEF0)
    await bench.layer_done(1, chosen=4, taken=5, fetched=6)
    dut.layer_chosen_i.value, dut.layer_cycles_i.value, dut.layer_bytes_i.value = 7, 7, 7  # no pulse: not looked at
    for index, counts in enumerate(((3, 0x1234_5678, 0x9ABC_DEF0), (4, 5, 6))):
        told = [await bench.read(layer_register(index, register)) for register in COUNTS]
        assert tuple(told) == counts


@cocotb.test()
async def reads_and_writes_in_the_air_together_are_all_answered(dut: Any) -> None:
    """Concurrent accesses under stalls: every write lands, every read is one of the values in between."""
    await prepare(dut)
    bench = Testbench(dut, pause=0.4)
    reads = [bench.master.init_read(Register.IMAGE_BASE, 4) for _ in range(30)]
    writes = [bench.master.init_write(Register.IMAGE_BASE, (64 * i).to_bytes(4, "little")) for i in range(1, 31)]
    for event in writes:
        await event.wait()
        assert event.data.resp == AxiResp.OKAY
    seen = []
    for event in reads:
        await event.wait()
        seen.append(int.from_bytes(event.data.data, "little"))
    assert seen == sorted(seen)
    assert set(seen) <= {64 * i for i in range(31)}
    assert await bench.read(Register.IMAGE_BASE) == 64 * 30
