"""The engine's probes: what happened in each frame, compared with the golden model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hw.control import Control, ranks
from hw.design import Design
from sim.cocotb.bench import CycleCounter
from sim.cocotb.stimulus import split
from sim.cocotb.strobes import Strobes
from sim.golden import LayerTrace


@dataclass
class LayerEvents:
    """What the probes told about one tail layer in one frame; `ends` are (cycles, bytes, filters chosen)."""

    strengths: dict[int, int] = field(default_factory=dict)
    scores: dict[int, int] = field(default_factory=dict)
    chosen: list[int] = field(default_factory=list)
    ends: list[tuple[int, int, int]] = field(default_factory=list)


class Probes:
    """Collects the events of every frame; the end of the last layer ends a frame.

    `dut` is the engine, or an emitted top with probes.
    """

    def __init__(self, dut: Any, design: Design, counter: CycleCounter) -> None:
        engine = hasattr(dut, "layer_valid_o")
        self._design = design
        self._open = self._blank()
        self.frames: list[list[LayerEvents]] = []
        self.ended: list[int] = []  # cycles

        def port(name: str) -> Any:
            return getattr(dut, f"{name}_o" if engine else name)

        layer = {"layer": dut.layer_o} if engine else {"layer": dut.probe_layer_layer}
        layer |= {n: port(f"layer_{n}" if engine else f"probe_layer_{n}") for n in ("cycles", "bytes", "chosen")}
        watched = (
            ("probe_strength", {n: port(f"probe_strength_{n}") for n in ("layer", "channel", "value")}, self._strength),
            ("probe_score", {n: port(f"probe_score_{n}") for n in ("layer", "word", "data")}, self._score),
            ("probe_chosen", {n: port(f"probe_chosen_{n}") for n in ("layer", "filter")}, self._chosen),
            ("layer" if engine else "probe_layer", layer, self._end),
        )
        self._strobes = [Strobes(dut, counter, port(f"{n}_valid"), ports, call) for n, ports, call in watched]

    def stop(self) -> None:
        """Look away; for resets."""
        for strobes in self._strobes:
            strobes.stop()

    def _blank(self) -> list[LayerEvents]:
        return [LayerEvents() for _ in self._design.tail]

    def _strength(self, _: int, event: dict[str, int]) -> None:
        strengths = self._open[event["layer"]].strengths
        assert event["channel"] not in strengths, f"two strengths of one channel: {event}"
        strengths[event["channel"]] = event["value"]

    def _score(self, _: int, event: dict[str, int]) -> None:
        lanes = self._design.engine.predictor_lanes
        scores = split(event["data"], 64, lanes, signed=True)
        self._open[event["layer"]].scores.update(enumerate(scores, event["word"] * lanes))

    def _chosen(self, _: int, event: dict[str, int]) -> None:
        self._open[event["layer"]].chosen.append(event["filter"])

    def _end(self, now: int, event: dict[str, int]) -> None:
        layer = self._open[event["layer"]]
        layer.ends.append((event["cycles"], event["bytes"], event["chosen"]))
        if event["layer"] == len(self._open) - 1:
            self.frames.append(self._open)
            self.ended.append(now)
            self._open = self._blank()

    def check(self, index: int, traces: list[LayerTrace], frame: int, control: Control) -> None:
        """Frame `index` went as `traces` of the tail layers, run under `control`, say of their frame `frame`."""
        for layer, events, trace in zip(self._design.tail, self.frames[index], traces, strict=True):
            where = f"frame {index}, layer {layer.name}"
            strengths = [events.strengths.get(channel, 0) for channel in range(layer.input.channels)]
            assert strengths == trace.strengths[frame].tolist(), f"{where}: strengths"
            chosen = [i for i in layer.order if trace.chosen[frame, i]]
            if layer.lazy:
                assert events.chosen == chosen, f"{where}: choice"
            if layer.lazy and ranks(layer, control.selections[layer.name]):
                assert trace.scores is not None
                scores = [events.scores[i] for i in range(layer.filters)]
                assert scores == trace.scores[frame].tolist(), f"{where}: scores"
            (end,) = events.ends
            assert end[1:] == (trace.bytes[frame], len(chosen)), f"{where}: bytes and number of filters"
