"""External memory as the accelerator sees it: timing, as data that the harness and the cycle model both follow.

What the port does is common to all memories. Cycles are numbered; a handshake or a beat belongs to the cycle at whose
end both sides agree. All times are exact when nothing stalls the port at random.

- Requests are accepted in every cycle, in any number; they queue.
- Bursts are served in order, `outstanding` at a time. A burst whose request is accepted in cycle t enters service in
  cycle s = t if fewer than `outstanding` accepted bursts are unfinished, a burst that ends in t not counting; else in
  the cycle s in which the last beat of the burst `outstanding` places before it is taken.
- From which cycle on each of its beats may be offered, the memory's kind says, from s and the address. Beats are
  offered in order, one per cycle, each as soon as that allows and the beat before it, of this or the previous burst,
  has been taken in an earlier cycle.

The kinds' timing is one C++ source (sim/cpp/timing.h) for the Verilated harness, cocotb's memory and the cycle model.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, fields, replace

from sim.native import load

IMAGE_BASE = 0x1000_0F40
"""Where simulations put the weight image: not 0 and not at a page, so that a lost base address or a wrong split of
bursts at 4 KB shows; a multiple of every bus width."""

RESET_CYCLES = 8
"""Cycles of reset at the start of a simulation, from which cycles are counted."""


class MemoryTiming(ctypes.Structure):
    """A memory in the form that sim/cpp/timing.h reads."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("outstanding", "latency", "gap_every", "gap_cycles", "clock_ps", "period_ps", "controller_ps"),
            *("banks", "page_bytes", "access_bytes"),
            *("cas", "transfer", "ccd", "rcd", "rp", "ras", "rtp", "rrd", "faw", "refi", "rfc"),
        )
    )


@dataclass(frozen=True)
class FixedLatency:
    """A memory that answers after a fixed time: beats may be offered from cycle ``s + latency`` on.

    With `outstanding` > 1 latencies overlap; with 1 each burst pays its own after the one before has ended. Beats of
    weights are numbered from the reset of the memory on, through all bursts and frames; those of the image's header,
    which is read when the accelerator is enabled, do not count, and open no rows of a `Dram`. After each `gap_every`
    beats the next one is offered `gap_cycles` later than it would be allowed to by the beat before it; 0 means never.
    """

    latency: int = 10
    outstanding: int = 8
    gap_every: int = 0
    gap_cycles: int = 0

    def __post_init__(self) -> None:
        _at_least(self, latency=1, outstanding=1, gap_every=0, gap_cycles=0)

    @property
    def timing(self) -> MemoryTiming:
        """For C++."""
        return MemoryTiming(
            outstanding=self.outstanding,
            latency=self.latency,
            gap_every=self.gap_every,
            gap_cycles=self.gap_cycles,
        )

    @property
    def slowest(self) -> int:
        """Cycles in which a burst in service gives a beat at the latest."""
        return self.latency + self.gap_cycles


@dataclass(frozen=True, kw_only=True)
class Dram:
    """Dynamic memory behind a simple controller: open rows, accesses in order, refresh of all banks at once.

    Durations are in clocks of the memory (`clock_ps`), named as in JEDEC's standards; `period_ps` is the accelerator's
    clock. A burst that enters service in cycle s reaches the controller at its end, and the memory `controller_ps`
    later: that stands for queues and clock crossings, both ways. It is read in aligned accesses of `access_bytes`, in
    order. Addresses go through the `page_bytes` of a row, then to the next bank, then to the next row.

    - An access whose row is not open closes the bank's row (`rp`; not before `ras` after its opening, nor `rtp` after
      its last read) and opens its own (at least `rrd` after the last opening in any bank, `faw` after the last but
      three, ``ras + rp`` after the bank's last); `rcd` later it can be read. This goes on while others transfer.
    - Reads follow each other by at least `ccd`. `cas` + `transfer` after a read its data is there, and the beats that
      it completes may be offered from the next cycle of the accelerator on.
    - Each `refi` clocks all rows are closed and the memory is busy for `rfc` clocks; a refresh that is due goes before
      every access that could be read at or after its time.

    Bank groups of DDR4 are taken as interleaved, so that they cost nothing. The controller neither reorders nor looks
    ahead of what is in service.
    """

    name: str
    period_ps: int
    clock_ps: int
    banks: int
    page_bytes: int
    access_bytes: int
    cas: int
    transfer: int
    ccd: int
    rcd: int
    rp: int
    ras: int
    rtp: int
    rrd: int
    faw: int
    refi: int
    rfc: int
    controller_ps: int = 50_000
    outstanding: int = 8

    def __post_init__(self) -> None:
        numbers = [field.name for field in fields(self) if field.name != "name"]
        _at_least(self, **(dict.fromkeys(numbers, 1) | {"controller_ps": 0, "faw": 0}))
        if self.page_bytes % self.access_bytes:
            raise ValueError(f"memory: page_bytes is {self.page_bytes}; accepted: a multiple of access_bytes")
        if self.rp + self.rfc + self.ras >= self.refi:
            raise ValueError(f"memory: refi is {self.refi}; accepted: more than a refresh takes")

    @property
    def bandwidth(self) -> float:
        """Bytes per second at best: refresh left out, every row open."""
        return self.access_bytes / (self.ccd * self.clock_ps) * 1e12

    @property
    def timing(self) -> MemoryTiming:
        """For C++."""
        return MemoryTiming(**{field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"})

    @property
    def slowest(self) -> int:
        """Cycles in which a burst in service gives a beat at the latest."""
        clocks = 2 * (self.rp + self.ras) + self.rfc + self.faw + self.rcd + self.cas + self.transfer
        return (clocks * self.clock_ps + self.controller_ps) // self.period_ps + 4


Memory = FixedLatency | Dram


def _at_least(memory: Memory, **bounds: int) -> None:
    for name, low in bounds.items():
        value = getattr(memory, name)
        if value < low:
            raise ValueError(f"memory: {name} is {value}; accepted: at least {low}")


# Durations of the standards' speed bins (JESD79-3F, JESD79-4, JESD209-4), as the configurations of DRAMsim3 (DDR3,
# DDR4 and HBM2) and Ramulator (LPDDR4) have them, and of Micron's MT48LC16M16A2-75, as LiteDRAM has them. Widths are
# common ones.
_PRESETS = (
    Dram(  # 11-11-11, two chips of 4 Gb x16
        name="DDR3-1600 x32",
        period_ps=10_000,
        clock_ps=1250,
        banks=8,
        page_bytes=4096,
        access_bytes=32,
        cas=11,
        transfer=4,
        ccd=4,
        rcd=11,
        rp=11,
        ras=28,
        rtp=6,
        rrd=6,
        faw=32,
        refi=6240,
        rfc=208,
    ),
    Dram(  # 7-7-7, two chips of 4 Gb x16
        name="DDR3-1066 x32",
        period_ps=10_000,
        clock_ps=1875,
        banks=8,
        page_bytes=4096,
        access_bytes=32,
        cas=7,
        transfer=4,
        ccd=4,
        rcd=7,
        rp=7,
        ras=20,
        rtp=4,
        rrd=6,
        faw=27,
        refi=4160,
        rfc=139,
    ),
    Dram(  # 17-17-17, four chips of 8 Gb x16
        name="DDR4-2400 x64",
        period_ps=10_000,
        clock_ps=833,
        banks=8,
        page_bytes=8192,
        access_bytes=64,
        cas=17,
        transfer=4,
        ccd=4,
        rcd=17,
        rp=17,
        ras=39,
        rtp=9,
        rrd=8,
        faw=36,
        refi=9363,
        rfc=421,
    ),
    Dram(  # two channels of x16 side by side, 4 Gb each; read latency 28 and tDQSCK of 2.5 ns
        name="LPDDR4-3200 x32",
        period_ps=10_000,
        clock_ps=625,
        banks=8,
        page_bytes=4096,
        access_bytes=64,
        cas=32,
        transfer=8,
        ccd=8,
        rcd=29,
        rp=34,
        ras=68,
        rtp=12,
        rrd=16,
        faw=64,
        refi=6246,
        rfc=288,
    ),
    Dram(  # a pseudo channel of 64 bits at 2 Gb/s
        name="HBM2 x64",
        period_ps=10_000,
        clock_ps=1000,
        banks=16,
        page_bytes=1024,
        access_bytes=32,
        cas=14,
        transfer=2,
        ccd=2,
        rcd=14,
        rp=14,
        ras=34,
        rtp=6,
        rrd=4,
        faw=30,
        refi=3900,
        rfc=260,
    ),
    Dram(  # PC133, CL 3, bursts of 8, one chip of 256 Mb x16; a controller in the fabric
        name="SDRAM-133 x16",
        period_ps=10_000,
        clock_ps=7500,
        banks=4,
        page_bytes=1024,
        access_bytes=16,
        cas=3,
        transfer=8,
        ccd=8,
        rcd=3,
        rp=3,
        ras=6,
        rtp=8,
        rrd=2,
        faw=0,
        refi=1041,
        rfc=9,
        controller_ps=15_000,
    ),
)
DRAMS = {preset.name: preset for preset in _PRESETS}
"""Presets by name, beside an accelerator at 100 MHz."""


def dram(name: str, clock_mhz: float) -> Dram:
    """The preset called `name` beside an accelerator at `clock_mhz`; raises `ValueError` that lists the names."""
    if name not in DRAMS:
        raise ValueError(f"no memory '{name}'; there are: {', '.join(DRAMS)}")
    return replace(DRAMS[name], period_ps=round(1e6 / clock_mhz))


class Timing:
    """The timing of `memory` behind a port of `bus_bytes`, for benches in Python; the same source as everybody's."""

    def __init__(self, memory: Memory, bus_bytes: int) -> None:
        self._lib = load("cycles.cpp")
        self._lib.pen_timing_create.argtypes = [ctypes.POINTER(MemoryTiming), ctypes.c_int64]
        self._lib.pen_timing_create.restype = ctypes.c_void_p
        self._lib.pen_timing_destroy.argtypes, self._lib.pen_timing_destroy.restype = [ctypes.c_void_p], None
        self._lib.pen_timing_serve.argtypes = [
            *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64, ctypes.c_int64, ctypes.POINTER(ctypes.c_int64))
        ]
        self._lib.pen_timing_serve.restype = ctypes.c_int64
        self._handle = self._lib.pen_timing_create(ctypes.byref(memory.timing), bus_bytes)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._lib.pen_timing_destroy(self._handle)
            self._handle = None

    def serve(self, cycle: int, address: int, beats: int) -> list[int]:
        """The next burst enters service in `cycle`: from which cycle on each of its beats may be offered."""
        plan = (ctypes.c_int64 * (2 * beats))()
        count = self._lib.pen_timing_serve(self._handle, cycle, address, beats, plan)
        offers = [(plan[2 * n], plan[2 * n + 1]) for n in range(count)]
        cycles: list[int] = []
        for (first, when), until in zip(offers, [first for first, _ in offers[1:]] + [beats], strict=True):
            cycles += [when] * (until - first)
        return cycles


@dataclass(frozen=True)
class Stalls:
    """Random stalls on every channel, each cycle with `probability`, from `seed`.

    They make bubbles between pixels (s_axis) and between the memory's beats (so also a random latency), and
    back-pressure on logits (m_axis) and read requests. Every channel has a sequence of its own.
    """

    seed: int
    probability: float

    def __post_init__(self) -> None:
        if not 0 <= self.probability < 1:
            raise ValueError(f"stalls: probability is {self.probability}; accepted: 0 up to, not including, 1")
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"stalls: seed is {self.seed}; accepted: 0 to 2**64 - 1")
