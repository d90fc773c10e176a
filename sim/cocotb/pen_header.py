"""Bench of pen_header: words of images, right and wrong ones, at any pace."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from sim.cocotb.bench import cycles, parameter, reset, start

EXPECTED = bytes(range(0x31, 0x31 + 24))


async def read(dut: Any, head: bytes, rng: random.Random, pause: float) -> bool:
    """Start, answer the command with `head` and what may follow it, and wait for the verdict."""
    bus = parameter("BusBytes")
    words = -(-len(EXPECTED) // bus)
    data = head + rng.randbytes(words * bus - len(head))
    dut.start_i.value = 1
    await RisingEdge(dut.clk_i)
    dut.start_i.value = 0
    while True:
        dut.cmd_ready_i.value = rng.random() >= pause
        await FallingEdge(dut.clk_i)
        assert int(dut.cmd_valid_o.value)
        assert int(dut.cmd_words_o.value) == words
        taken = int(dut.cmd_ready_i.value)
        await RisingEdge(dut.clk_i)
        if taken:
            break
    dut.cmd_ready_i.value = 1
    for index in range(words):
        while rng.random() < pause:
            dut.data_valid_i.value, dut.data_i.value = 0, rng.getrandbits(8 * bus)
            dut.data_last_i.value = rng.getrandbits(1)
            await FallingEdge(dut.clk_i)
            assert not int(dut.cmd_valid_o.value)
            assert not int(dut.done_o.value)
            await RisingEdge(dut.clk_i)
        dut.data_valid_i.value = 1
        dut.data_i.value = int.from_bytes(data[index * bus :][:bus], "little")
        dut.data_last_i.value = index == words - 1
        await FallingEdge(dut.clk_i)
        assert not int(dut.done_o.value)
        await RisingEdge(dut.clk_i)
    dut.data_valid_i.value = 0
    await FallingEdge(dut.clk_i)
    assert int(dut.done_o.value), "done_o comes in the cycle after the last word"
    match = bool(int(dut.match_o.value))
    await RisingEdge(dut.clk_i)
    await FallingEdge(dut.clk_i)
    assert not int(dut.done_o.value)
    await RisingEdge(dut.clk_i)
    return match


async def _start(dut: Any) -> None:
    await start(dut, dut.start_i, dut.cmd_ready_i, dut.data_valid_i)


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.5])
async def every_bit_counts(dut: Any, pause: float) -> None:
    """The right bytes match, and none with a bit flipped; what follows them in the last word is not looked at."""
    await _start(dut)
    rng = random.Random(1)  # noqa: S311 - stimulus
    for bit in range(8 * len(EXPECTED)):
        wrong = bytearray(EXPECTED)
        wrong[bit // 8] ^= 1 << bit % 8
        assert not await read(dut, bytes(wrong), rng, pause), f"bit {bit}"
        if bit % 16 == 0:
            assert await read(dut, EXPECTED, rng, pause)


@cocotb.test()
async def reset_forgets_what_was_asked_for(dut: Any) -> None:
    """Words that come afterwards mean nothing, and the next header is read as the first."""
    await _start(dut)
    rng = random.Random(2)  # noqa: S311 - stimulus
    dut.start_i.value = 1
    await RisingEdge(dut.clk_i)
    dut.start_i.value = 0
    await reset(dut, 1)
    dut.data_valid_i.value, dut.data_last_i.value = 1, 1
    for _ in range(3):
        await FallingEdge(dut.clk_i)
        assert not int(dut.cmd_valid_o.value)
        assert not int(dut.done_o.value)
        await RisingEdge(dut.clk_i)
    dut.data_valid_i.value = 0
    await cycles(dut, 1)
    assert await read(dut, EXPECTED, rng, 0.2)
    assert not await read(dut, bytes(24), rng, 0.2)
