"""The Verilated model as a device of `sw.driver`: the same driver runs simulation and board."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw.control import Control
from hw.design import Design, Mode, Selection
from hw.image import layout
from hw.registers import CLASSES_AT, LayerRegister, Register, layer_register
from sim.memory import IMAGE_BASE
from sim.verilated import VerilatedModel


class VerilatedDevice:
    """`library` (of `sim.verilated.build`) as it is after reset: not enabled, no image in its memory."""

    def __init__(self, library: Path, design: Design) -> None:
        self.design = design
        self.model = VerilatedModel(library, design, bytes(layout(design)[-1].end))
        self.model.write_register(Register.CONTROL, 0)
        self.model.write_register(Register.IMAGE_BASE, 0)

    def read(self, address: int) -> int:
        """A register."""
        return self.model.read_register(address)

    def write(self, address: int, value: int) -> None:
        """Write a register."""
        self.model.write_register(address, value)

    def place(self, image: bytes) -> int:
        """Put the image where simulations have theirs."""
        self.model.poke(0, image)
        return IMAGE_BASE

    def stream(self, beats: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """All frames, one behind the other."""
        shape = self.design.input
        integers = beats.view(np.int8) if self.design.input_format.signed else beats
        frames = integers.astype(np.int64).reshape(len(beats), shape.height, shape.width, shape.channels)
        run = self.model.run(frames.transpose(0, 3, 1, 2), self._control())
        return run.outputs, run.bad

    def _control(self) -> Control:
        """What the registers say: the bench has to know which probes to expect."""
        selections = {}
        for index, layer in enumerate(self.design.tail):
            if layer.lazy:
                mode, keep, threshold = (
                    self.read(layer_register(index, register))
                    for register in (LayerRegister.MODE, LayerRegister.KEEP, LayerRegister.THRESHOLD)
                )
                signed = threshold - (1 << 32 if threshold >> 31 else 0)
                selections[layer.name] = Selection(list(Mode)[mode], keep, signed)
        words = [self.read(CLASSES_AT + 4 * word) for word in range(-(-self.design.classes // 32))]
        return Control(selections, tuple(bool(words[i // 32] >> i % 32 & 1) for i in range(self.design.classes)))
