"""An accelerator that is none: `tests/rtl/standin.sv` behind the real ports, and what it must answer, in numpy."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw.design import (
    Conv,
    Dense,
    Design,
    Engine,
    IntArray,
    IntFormat,
    Lanes,
    LinearPredictor,
    MapShape,
    Place,
    Source,
)
from hw.emit.registers import registers
from sim.memory import FixedLatency, Stalls
from sim.verilated import VerilatedModel, build

ROOT = Path(__file__).parent.parent
FAULTS = (
    *("none", "assertion", "address", "hang", "unstable", "twice", "last", "finish", "scoreless", "count", "bad"),
)  # the enumeration in standin.sv
LIBRARY = ("pen_fifo.sv", "pen_axi_read.sv", "pen_axil.sv")


@dataclass(frozen=True)
class Standin:
    """A configuration of the stand-in; `record_words` bus words are what one filter reads."""

    channels: int = 3
    bus_bytes: int = 4
    score_lanes: int = 2
    logit_bits: int = 32
    filters: int = 5
    outputs: int = 4
    record_words: int = 10

    @property
    def name(self) -> str:
        return f"c{self.channels}-b{self.bus_bytes}-p{self.score_lanes}-w{self.logit_bits}-r{self.record_words}"

    @property
    def folder(self) -> Path:
        return ROOT / "build" / "tests" / "standin" / self.name

    def design(self) -> Design:
        """A design with these ports; its arithmetic is not what the stand-in does."""
        number, shape, zeros = IntFormat(8, True, 0), MapShape(self.channels, 2, 3), np.zeros
        lazy = Conv(
            name="lazy",
            input=shape,
            input_format=number,
            weights=zeros((self.filters, self.channels, 1, 1), np.int64),
            weight_bits=8,
            bias=zeros(self.filters, np.int64),
            output_format=number,
            shift=zeros(self.filters, np.int64),
            place=Place.ENGINE,
            source=Source.LAZY,
            predictor=LinearPredictor(zeros((self.channels, self.filters), np.int64), zeros(self.filters, np.int64)),
            keep=3,
        )
        dense = Dense(
            name="dense",
            input=lazy.output,
            input_format=number,
            weights=zeros((self.outputs, self.filters, 2, 3), np.int64),
            weight_bits=8,
            bias=zeros(self.outputs, np.int64),
            output_format=IntFormat(48, True, 0),
            shift=None,
            place=Place.ENGINE,
            source=Source.DENSE,
        )
        engine = Engine(Lanes(1, 1), bus_bytes=self.bus_bytes, predictor_lanes=self.score_lanes)
        return Design("standin", shape, number, (), (lazy, dense), engine)

    def image(self) -> bytes:
        """Random bytes: 64 that are never read, then all that a frame can read and nothing more."""
        words = max(self.filters * self.record_words, 3 * self.record_words + 2)
        return np.random.default_rng(5).bytes(64 + words * self.bus_bytes)

    def frames(self, count: int, seed: int = 1) -> IntArray:
        return np.random.default_rng(seed).integers(-128, 128, (count, self.channels, 2, 3))

    def expected(self, frames: IntArray, keep: int, offset: int) -> tuple[IntArray, IntArray, IntArray]:
        """Strengths (n, channels), scores (n, filters), outputs (n, outputs)."""
        strengths = np.abs(frames).sum(axis=(2, 3))
        j = np.arange(self.filters)
        scores = strengths[:, :1] * (j + 1) - 1000 * j
        words = np.frombuffer(self.image()[64:], "<u4")[:: self.bus_bytes // 4].astype(np.int64)
        read = [words[: keep * self.record_words]]
        read += [words[i * (self.record_words + 1) :][: self.record_words] for i in range(3)]
        total, i = frames.sum(axis=(1, 2, 3)), np.arange(self.outputs)
        outputs = total[:, None] * (i + 1) + (np.concatenate(read).sum() + offset)
        outputs = (outputs + (1 << 31)) % (1 << 32) - (1 << 31)
        if self.logit_bits == 64:
            outputs += i << 40
        return strengths, scores, outputs

    def build(self, waves: bool = False) -> Path:
        """The library, with sources under build/, so that it is reused from run to run."""
        rtl = self.folder / "rtl"
        shutil.rmtree(rtl, ignore_errors=True)
        (rtl / "mem").mkdir(parents=True)
        macros = {
            "CHANNELS": self.channels,
            "BUS_BYTES": self.bus_bytes,
            "SCORE_LANES": self.score_lanes,
            "LOGIT_BITS": self.logit_bits,
            "FILTERS": self.filters,
            "OUTPUTS": self.outputs,
            "RECORD_WORDS": self.record_words,
        }
        sources = {"config.sv": "".join(f"`define {name} {value}\n" for name, value in macros.items())}
        sources |= registers(self.design())
        sources |= {name: (ROOT / "hw" / "rtl" / name).read_text() for name in LIBRARY}
        sources["standin.sv"] = (ROOT / "tests" / "rtl" / "standin.sv").read_text()
        for name, text in sources.items():
            (rtl / name).write_text(text)
        (rtl / "files.f").write_text("".join(f"{name}\n" for name in sources))
        return build(rtl, self.folder, "standin_probed", waves)

    def model(
        self,
        memory: FixedLatency | None = None,
        stalls: Stalls | None = None,
        offset: int = 7,
        fault: str = "none",
        image: bytes | None = None,
        waves: bool = False,
    ) -> VerilatedModel:
        """A live model; `offset` and `fault` go into its memory file."""
        library = self.build(waves)
        rom = self.folder / "rtl" / "mem" / "standin.hex"
        rom.write_text(f"{offset:08x}\n{FAULTS.index(fault):08x}\n")
        return VerilatedModel(library, self.design(), self.image() if image is None else image, memory, stalls)
