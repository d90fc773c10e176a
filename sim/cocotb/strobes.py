"""Watching outputs that come as strobes: valid without a ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from sim.cocotb.bench import CycleCounter, get


class Strobes:
    """Calls `callback` with the cycle's number and the word of each cycle in which `valid` is high.

    `payload` is a signal or a mapping of signals, as for `StreamMonitor`. All watchers of a bench share its `counter`.
    """

    def __init__(
        self, dut: Any, counter: CycleCounter, valid: Any, payload: Any, callback: Callable[[int, Any], None]
    ) -> None:
        self._dut, self._counter, self._valid = dut, counter, valid
        self._payload, self._callback = payload, callback
        self._task = cocotb.start_soon(self._run())

    def stop(self) -> None:
        """Look away; for resets."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            await FallingEdge(self._dut.clk_i)
            if int(self._valid.value):
                self._callback(self._counter.now, get(self._payload))
