"""Bench of pen_axi_rules: traffic that keeps the rules, and a test for each way to break one, which ends the run."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from sim.cocotb.bench import cycles, reset, start

PAGE = 4096


async def prepare(dut: Any) -> None:
    """A quiet port behind a reset, and one burst of two beats."""
    dut.arsize.value, dut.arburst.value, dut.rready.value = 2, 1, 1
    dut.araddr.value, dut.arlen.value, dut.arready.value = 0, 0, 0
    dut.rdata.value, dut.rresp.value, dut.rlast.value = 0, 0, 0
    await start(dut, dut.arvalid, dut.rvalid)
    await cycles(dut, 2)
    await burst(dut, 0x100, 2)


async def request(dut: Any, address: int, beats: int) -> None:
    """Ask and be heard."""
    dut.araddr.value, dut.arlen.value, dut.arvalid.value, dut.arready.value = address, beats - 1, 1, 1
    await RisingEdge(dut.clk_i)
    dut.arvalid.value = 0


async def answer(dut: Any, beats: int, last: bool = True) -> None:
    """So many beats, the last of which says so if it is `last`."""
    for beat in range(beats):
        dut.rvalid.value, dut.rdata.value, dut.rlast.value = 1, beat, int(last and beat == beats - 1)
        await RisingEdge(dut.clk_i)
    dut.rvalid.value = 0


async def burst(dut: Any, address: int, beats: int) -> None:
    """Ask and get."""
    await request(dut, address, beats)
    await answer(dut, beats)


@cocotb.test()
async def what_keeps_the_rules_passes(dut: Any) -> None:
    """A request that waits, up to a page's end; bursts in flight; what was forgotten in a reset; new ones after it."""
    await prepare(dut)
    await burst(dut, PAGE - 64, 16)
    dut.araddr.value, dut.arlen.value, dut.arvalid.value, dut.arready.value = 0x40, 3, 1, 0
    await cycles(dut, 5)
    await request(dut, 0x40, 4)
    await request(dut, 0x80, 1)
    await answer(dut, 4)
    await answer(dut, 1)
    await request(dut, 0x80, 4)
    await reset(dut)
    await cycles(dut, 1)
    await answer(dut, 3, last=False)
    await burst(dut, 0x80, 4)
    await cycles(dut, 2)


@cocotb.test()
async def ar_stable(dut: Any) -> None:
    """A request is withdrawn."""
    await prepare(dut)
    dut.arvalid.value, dut.arready.value = 1, 0
    await RisingEdge(dut.clk_i)
    dut.arvalid.value = 0
    await cycles(dut, 2)


@cocotb.test()
async def ar_stable_address(dut: Any) -> None:
    """A request changes its mind."""
    await prepare(dut)
    dut.arvalid.value, dut.arready.value, dut.araddr.value = 1, 0, 0x40
    await RisingEdge(dut.clk_i)
    dut.araddr.value = 0x80
    await cycles(dut, 2)


@cocotb.test()
async def ar_reset(dut: Any) -> None:
    """A request right behind a reset."""
    await prepare(dut)
    dut.rst_ni.value, dut.arvalid.value = 0, 1
    await cycles(dut, 2)
    dut.rst_ni.value = 1
    await cycles(dut, 2)


@cocotb.test()
@cocotb.parametrize(field=["page", "size", "burst", "aligned", "long"])
async def ar_size(dut: Any, field: str) -> None:
    """A request over a page's end, of narrow beats, that wraps, off the grid, too long."""
    await prepare(dut)
    dut.araddr.value, dut.arlen.value = (PAGE - 4, 1) if field == "page" else (0x40, 16 if field == "long" else 0)
    if field == "size":
        dut.arsize.value = 1
    if field == "burst":
        dut.arburst.value = 2
    if field == "aligned":
        dut.araddr.value = 0x42
    dut.arvalid.value = 1
    await cycles(dut, 2)


@cocotb.test()
async def ar_flight(dut: Any) -> None:
    """One burst too many."""
    await prepare(dut)
    for _ in range(3):
        await request(dut, 0x40, 1)
    await cycles(dut, 2)


@cocotb.test()
async def r_ready(dut: Any) -> None:
    """A master that does not take beats."""
    await prepare(dut)
    dut.rready.value = 0
    await cycles(dut, 2)


@cocotb.test()
@cocotb.parametrize(kind=["unasked", "early", "late", "beyond"])
async def r_owed(dut: Any, kind: str) -> None:
    """A beat for nobody; RLAST before the last beat, or not with it; a beat behind the last one."""
    await prepare(dut)
    if kind != "unasked":
        await request(dut, 0x40, 3)
    await answer(dut, {"unasked": 1, "early": 2, "late": 3, "beyond": 3}[kind], last=kind != "late")
    await answer(dut, 1)
    await cycles(dut, 2)
