"""External memory as the accelerator sees it: timing, as data that the harness and the cycle model both follow."""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_BASE = 0x1000_0F40
"""Where simulations put the weight image: not 0 and not at a page, so that a lost base address or a wrong split of
bursts at 4 KB shows; a multiple of every bus width."""

RESET_CYCLES = 8
"""Cycles of reset at the start of a simulation, from which cycles are counted."""


@dataclass(frozen=True)
class FixedLatency:
    """In-order memory with a fixed latency and one beat per cycle.

    Cycles are numbered; a handshake or a beat belongs to the cycle at whose end both sides agree. All times below are
    exact when nothing stalls the port at random.

    - Requests are accepted in every cycle, in any number; they queue.
    - Bursts are served in order, `outstanding` at a time. A burst whose request is accepted in cycle t enters service
      in cycle s = t if fewer than `outstanding` accepted bursts are unfinished, a burst that ends in t not counting;
      else in the cycle s in which the last beat of the burst `outstanding` places before it is taken.
    - Its first beat is offered in cycle ``s + latency``, its further beats one per cycle, each as soon as the beat
      before it, of this or the previous burst, has been taken in an earlier cycle. With `outstanding` > 1 latencies
      overlap; with 1 each burst pays its own after the one before has ended.
    - Beats are numbered from the reset of the memory on, through all bursts and frames. After each `gap_every` beats
      the next one is offered `gap_cycles` later than it would be allowed to by the beat before it; 0 means never.
    """

    latency: int = 10
    outstanding: int = 8
    gap_every: int = 0
    gap_cycles: int = 0

    def __post_init__(self) -> None:
        for name, low in (("latency", 1), ("outstanding", 1), ("gap_every", 0), ("gap_cycles", 0)):
            value = getattr(self, name)
            if value < low:
                raise ValueError(f"memory: {name} is {value}; accepted: at least {low}")


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
