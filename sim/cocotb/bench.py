"""The parts that benches are built from: clock and reset, stream driver and monitor, memory, scoreboard.

When things are sampled: drivers change their signals just after the rising edge, and everything is read at the
falling edge, when all combinational logic has settled on what the next rising edge will see. So no read races with an
edge, whatever the simulator calls first.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge
from cocotb.utils import get_sim_steps, get_sim_time

from hw.image import HEADER_BYTES
from sim.memory import Memory, Timing

PERIOD_NS = 10


def parameter(name: str) -> int:
    """The parameter `name` that the module was built with."""
    return int(os.environ[f"PEN_{name}"])


async def start(dut: Any, *quiet: Any) -> None:
    """Run the clock and reset the module, if it has a reset; returns just after a rising edge, reset released.

    The signals `quiet`, every valid that goes in, are low from the start: the test before may have left them high.
    """
    for signal in quiet:
        signal.value = 0
    Clock(dut.clk_i, PERIOD_NS, unit="ns").start()
    if hasattr(dut, "rst_ni"):
        await reset(dut)
    else:
        await RisingEdge(dut.clk_i)


async def reset(dut: Any, cycles: int = 4) -> None:
    """Hold reset for some cycles; returns just after a rising edge."""
    dut.rst_ni.value = 0
    for _ in range(cycles):
        await RisingEdge(dut.clk_i)
    dut.rst_ni.value = 1
    await RisingEdge(dut.clk_i)


async def cycles(dut: Any, count: int) -> None:
    """Let `count` cycles pass; returns just after a rising edge."""
    for _ in range(count):
        await RisingEdge(dut.clk_i)


def pauses(probability: float, seed: int) -> Iterator[bool]:
    """An endless sequence that is true, for a pause, with `probability`; reproducible from `seed`."""
    rng = random.Random(seed)  # noqa: S311 - stimulus, not a secret
    while True:
        yield rng.random() < probability


class CycleCounter:
    """Numbers the cycles, so that events can be told apart by how far they are.

    A cycle lasts from one rising edge to the next; whoever asks within it, in whatever order, gets the same number.
    """

    def __init__(self, dut: Any) -> None:
        self._dut = dut
        self._origin = get_sim_time("step")  # whole numbers, unlike nanoseconds

    @property
    def now(self) -> int:
        """Cycles since this counter was made."""
        return int((get_sim_time("step") - self._origin) // get_sim_steps(PERIOD_NS, "ns"))


def put(payload: Any, word: Any) -> None:
    """Drive `word` on a signal, or a mapping of words on a mapping of signals."""
    if isinstance(payload, Mapping):
        for name, signal in payload.items():
            signal.value = word[name]
    else:
        payload.value = word


def get(payload: Any) -> Any:
    """The word on a signal, or the words on a mapping of signals."""
    if isinstance(payload, Mapping):
        return {name: int(signal.value) for name, signal in payload.items()}
    return int(payload.value)


class StreamDriver:
    """Offers words on a valid/ready stream in order, with pauses between them; keeps each until it is taken.

    `payload` is a signal or a mapping of signals; words are then integers or mappings of integers.
    """

    def __init__(self, clock: Any, valid: Any, ready: Any, payload: Any, pause: Iterator[bool] | None = None) -> None:
        self.words: deque[Any] = deque()
        self._clock, self._valid, self._ready, self._payload = clock, valid, ready, payload
        self._pause = pause or pauses(0.0, 0)
        self._offered = False
        valid.value = 0
        self._task = cocotb.start_soon(self._run())

    def send(self, words: Iterable[Any]) -> None:
        """Queue words."""
        self.words.extend(words)

    async def wait(self) -> None:
        """Until everything queued has been taken; returns just after a rising edge."""
        while self.words or self._offered:
            await RisingEdge(self._clock)

    def stop(self) -> None:
        """Withdraw the offer and forget what is queued; for resets."""
        self._task.cancel()
        self.words.clear()
        self._valid.value = 0

    async def _run(self) -> None:
        while True:
            if not self.words or next(self._pause):
                self._valid.value = 0
                await RisingEdge(self._clock)
                continue
            self._valid.value, self._offered = 1, True
            put(self._payload, self.words.popleft())
            await FallingEdge(self._clock)
            while not int(self._ready.value):
                await FallingEdge(self._clock)
            await RisingEdge(self._clock)
            self._offered = False


class StreamMonitor:
    """Hands every word that passes a stream to `callback`, and checks that offers stay until they are taken.

    With `pause` it also is the receiver: it drives ready, low during pauses.
    """

    def __init__(
        self,
        clock: Any,
        valid: Any,
        ready: Any,
        payload: Any,
        callback: Callable[[Any], None],
        pause: Iterator[bool] | None = None,
    ) -> None:
        self._clock, self._valid, self._ready, self._payload = clock, valid, ready, payload
        self._callback, self._pause = callback, pause
        self._waiting: Any = None
        self._task = cocotb.start_soon(self._run())

    def stop(self) -> None:
        """Look away; for resets, after which an offer may be gone."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            if self._pause is not None:
                self._ready.value = not next(self._pause)
            await FallingEdge(self._clock)
            valid, ready = int(self._valid.value), int(self._ready.value)
            if self._waiting is not None:
                assert valid, "valid was withdrawn before ready"
                assert get(self._payload) == self._waiting, "the word changed while it waited for ready"
            self._waiting = get(self._payload) if valid and not ready else None
            if valid and ready:
                self._callback(get(self._payload))
            await RisingEdge(self._clock)


@dataclass
class Scoreboard:
    """Compares what comes with what is expected, in order."""

    expected: deque[Any] = field(default_factory=deque)
    seen: int = 0

    def expect(self, items: Iterable[Any]) -> None:
        """Queue what must come next."""
        self.expected.extend(items)

    def check(self, item: Any) -> None:
        """The callback of a monitor."""
        assert self.expected, f"{item!r} came, nothing was expected"
        wanted = self.expected.popleft()
        assert item == wanted, f"item {self.seen}: {item!r} came, {wanted!r} was expected"
        self.seen += 1

    def finish(self) -> None:
        """At the end: everything expected has come."""
        assert not self.expected, f"{len(self.expected)} items did not come, the first is {self.expected[0]!r}"


@dataclass
class _Burst:
    address: int
    left: int
    offers: deque[int] = field(default_factory=deque)  # from which cycle on each beat; empty: not in service yet


class AxiReadMemory:
    """Memory behind an AXI4 read port without IDs; ports are named ``<prefix>_araddr`` and so on.

    (cocotbext-axi's slaves need IDs.) `image` lies at `base`; a read that touches a byte outside it fails the test, as
    does any request that AXI forbids. Latency from request to first beat is drawn from `latency`, or all timing is
    `memory`'s; `pause` makes back-pressure on requests and bubbles between beats. A beat whose address is in `failing`
    is answered with SLVERR. While `refusing`, no request is taken; while `silent`, no beat comes.
    """

    def __init__(
        self,
        dut: Any,
        image: bytes,
        base: int,
        latency: tuple[int, int] = (1, 1),
        pause: tuple[Iterator[bool], Iterator[bool]] | None = None,
        seed: int = 0,
        prefix: str = "m_axi",
        memory: Memory | None = None,
    ) -> None:
        self._dut, self._base, self._latency = dut, base, latency
        self.image = bytearray(image)  # may change
        self._ports = {
            name: getattr(dut, f"{prefix}_{name}")
            for name in (
                *("araddr", "arlen", "arsize", "arburst", "arvalid", "arready"),
                *("rdata", "rresp", "rlast", "rvalid", "rready"),
            )
        }
        self._bus = len(self._ports["rdata"]) // 8
        self._request_pause, self._beat_pause = pause or (pauses(0.0, 0), pauses(0.0, 0))
        self._rng = random.Random(seed)  # noqa: S311 - stimulus
        self._shape = memory.timing if memory else None
        self._timing = Timing(memory, self._bus) if memory else None
        self._next_beat = self._timed_beats = 0
        self._bursts: deque[_Burst] = deque()
        self.failing: set[int] = set()
        self.refusing = self.silent = False
        self.requests: list[tuple[int, int]] = []  # address and beats
        self.beats = 0
        self.most_in_flight = 0
        self.now = 0  # cycles since it was made
        self._task = cocotb.start_soon(self._run())

    def stop(self) -> None:
        """Forget all bursts and fall silent; for resets."""
        self._task.cancel()
        self._ports["rvalid"].value = 0
        self._ports["arready"].value = 0

    async def _run(self) -> None:
        ports, clock, offered = self._ports, self._dut.clk_i, False
        waiting: tuple[int, int] | None = None
        while True:
            ports["arready"].value = not next(self._request_pause) and not self.refusing
            if not offered:
                front = self._bursts[0] if self._bursts else None
                due = front is not None and bool(front.offers) and self.now >= max(front.offers[0], self._next_beat)
                offered = due and not self.silent and not next(self._beat_pause)
                self._drive(front if offered else None)
            await FallingEdge(clock)
            if offered and int(ports["rready"].value):
                offered = False
                self._taken()
            request = (int(ports["araddr"].value), int(ports["arlen"].value) + 1)
            valid, ready = int(ports["arvalid"].value), int(ports["arready"].value)
            assert waiting is None or (valid and request == waiting), "a read request changed while it waited"
            waiting = request if valid and not ready else None
            if valid and ready and int(self._dut.rst_ni.value):
                self._accept(*request)
            await RisingEdge(clock)
            self.now += 1

    def _drive(self, burst: _Burst | None) -> None:
        ports = self._ports
        ports["rvalid"].value = burst is not None
        if burst is None:
            # Junk: nothing may look at these without RVALID.
            ports["rdata"].value = self._rng.getrandbits(8 * self._bus)
            ports["rlast"].value = 1
            ports["rresp"].value = 3
            return
        offset = burst.address - self._base
        ports["rdata"].value = int.from_bytes(self.image[offset : offset + self._bus], "little")
        ports["rlast"].value = burst.left == 1
        ports["rresp"].value = 2 if burst.address in self.failing else 0

    def _taken(self) -> None:
        self.beats += 1
        burst = self._bursts[0]
        self._next_beat = self.now + 1
        if not self.of_header(burst.address):
            self._timed_beats += 1
            if self._shape and self._shape.gap_every and self._timed_beats % self._shape.gap_every == 0:
                self._next_beat += self._shape.gap_cycles
        burst.address += self._bus
        burst.left -= 1
        burst.offers.popleft()
        if not burst.left:
            self._bursts.popleft()
            if self._shape and len(self._bursts) >= self._shape.outstanding:
                self._serve(self._bursts[self._shape.outstanding - 1])  # it takes the place in service

    def of_header(self, address: int) -> bool:
        """Whether it is in the image's header, whose timing is nobody's business (see `sim.memory`)."""
        return address - self._base < HEADER_BYTES

    def _serve(self, burst: _Burst) -> None:
        if self._timing is None or self.of_header(burst.address):
            burst.offers.extend([self.now + self._rng.randint(*self._latency)] * burst.left)
        else:
            burst.offers.extend(self._timing.serve(self.now, burst.address, burst.left))

    def _accept(self, address: int, beats: int) -> None:
        last = address + beats * self._bus - 1
        where = f"read of {beats} beats at {address:#x}"
        assert 1 << int(self._ports["arsize"].value) == self._bus, f"{where}: ARSIZE is not the bus width"
        assert int(self._ports["arburst"].value) == 1, f"{where}: ARBURST is not INCR"
        assert address % self._bus == 0, f"{where} is not aligned"
        assert address >> 12 == last >> 12, f"{where} crosses 4 KB"
        assert self._base <= address <= last < self._base + len(self.image), f"{where} leaves the image"
        self.requests.append((address, beats))
        self._bursts.append(_Burst(address, beats))
        if self._shape is None or len(self._bursts) <= self._shape.outstanding:
            self._serve(self._bursts[-1])
        self.most_in_flight = max(self.most_in_flight, len(self._bursts))
