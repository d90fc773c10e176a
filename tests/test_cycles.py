"""The cycle model against the RTL in Verilator: every layer of every frame and every stamp, equal to the cycle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.cycle_model import NARROW, Narrow
from bench.networks import Block, network
from hw.control import Changes, Control
from hw.design import Design, Engine, IntArray, Lanes, MapShape, Mode, Selection
from hw.emit import emit
from sim import golden
from sim.cycles import Cause, CycleModel, CycleRun, Masks
from sim.memory import DRAMS, FixedLatency, Memory, dram
from sim.verilated import RtlRun, VerilatedModel, build
from tests.designs import digits_like, random_design, random_frames, random_threshold
from tests.test_rtl_designs import FULL, QUICK, emitted

ROOT = Path(__file__).parent.parent
SEEDS = [*QUICK, *(pytest.param(seed, marks=pytest.mark.full) for seed in FULL)]
MEMORIES = {
    "fast": FixedLatency(latency=1, outstanding=64),
    "usual": FixedLatency(),
    "slow": FixedLatency(latency=61, outstanding=1),
    "gaps": FixedLatency(latency=10, outstanding=2, gap_every=15, gap_cycles=4),
    "DDR3": dram("DDR3-1600 x32", clock_mhz=100),
    "SDRAM": replace(dram("SDRAM-133 x16", clock_mhz=66.7), refi=200, outstanding=2),  # refreshed all the time
}


def masks(design: Design, frames: IntArray, keep: Changes = None) -> Masks:
    return Masks.of(design, golden.run(design, frames, keep), keep)


def built(design: Design) -> tuple[Path, bytes]:
    """The library of the design's RTL, under build/ so that it is reused from run to run, and its weight image."""
    folder = ROOT / "build" / "tests" / "cycles" / f"{design.name}_{design.fingerprint:016x}"
    emit(design, folder)
    library = build(folder / "rtl", folder / "verilated", f"{design.name}_probed")
    return library, (folder / "weights.bin").read_bytes()


def draw_memory(data: st.DataObject) -> Memory:
    outstanding = data.draw(st.integers(1, 20), label="outstanding")
    if data.draw(st.booleans(), label="DRAM"):
        name = data.draw(st.sampled_from(sorted(DRAMS)), label="memory")
        return replace(dram(name, data.draw(st.integers(20, 400), label="clock")), outstanding=outstanding)
    return FixedLatency(
        latency=data.draw(st.integers(1, 90), label="latency"),
        outstanding=outstanding,
        gap_every=data.draw(st.integers(0, 40), label="gap_every"),
        gap_cycles=data.draw(st.integers(0, 9), label="gap_cycles"),
    )


def check(rtl: RtlRun, model: CycleRun) -> None:
    """Both saw the same frames: they took the same cycles, everywhere."""
    for seen, layer in zip(rtl.layers, model.layers, strict=True):
        assert np.array_equal(seen.cycles, layer.cycles), f"cycles of {layer.name}"
        assert np.array_equal(seen.bytes, layer.bytes), f"bytes of {layer.name}"
        assert np.array_equal(layer.causes.sum(axis=1), layer.cycles), f"causes of {layer.name}"
        assert (layer.causes >= 0).all(), f"causes of {layer.name}"
    for stamp in ("first_in", "last_in", "last_out"):
        assert np.array_equal(getattr(rtl, stamp), getattr(model, stamp)), stamp
    assert np.array_equal(rtl.bus_bytes, model.bytes)
    assert np.array_equal(rtl.bus_bursts, sum(layer.bursts for layer in model.layers))


def compare(
    design: Design,
    library: Path,
    image: bytes,
    frames: IntArray,
    memory: Memory,
    keep: Changes = None,
) -> None:
    """A stream, and one frame of it alone."""
    model, seen = CycleModel(design, memory), masks(design, frames, keep)
    rtl = VerilatedModel(library, design, image, memory).run(frames, keep)
    check(rtl, model.stream(seen, int(rtl.first_in[0])))
    last = VerilatedModel(library, design, image, memory).run(frames[-1:], keep)
    alone = model.alone(seen, int(last.first_in[0]))
    assert alone.latency[-1] == last.last_out[0] - last.first_in[0] + 1
    assert [layer.cycles[-1] for layer in alone.layers] == [layer.cycles[0] for layer in last.layers]


# -- equality with the RTL --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)
def test_random_designs(seed: int, memory: Memory) -> None:
    design, library, image = emitted(seed)
    compare(design, library, image, random_frames(design, 14, seed + 1000), memory)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.data_too_large])
@given(st.data())
def test_any_memory_and_any_selection(data: st.DataObject) -> None:
    design, library, image = emitted(data.draw(st.sampled_from(QUICK), label="seed"))
    memory = draw_memory(data)
    frames = random_frames(design, data.draw(st.integers(1, 8), label="frames"), data.draw(st.integers(0, 99)))
    run, rng = golden.run(design, frames), np.random.default_rng(data.draw(st.integers(0, 99), label="thresholds"))
    keep = {
        layer.name: Selection(
            data.draw(st.sampled_from(Mode), label=f"mode of {layer.name}"),
            data.draw(st.integers(1, layer.filters), label=f"keep of {layer.name}"),
            random_threshold(rng, layer, run.layer(layer.name).strengths),
        )
        for layer in design.lazy_layers
    }
    wanted = data.draw(st.sets(st.integers(0, design.classes - 1)), label="classes") if design.classes else None
    compare(design, library, image, frames, memory, Control.of(design, keep, wanted))


@pytest.mark.full
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.data_too_large])
@given(st.data())
def test_any_engine(data: st.DataObject) -> None:
    """The same networks on other foldings, buses and read masters: each is emitted and built."""
    base = random_design(data.draw(st.integers(200, 260), label="seed"))
    engine = Engine(
        lanes=Lanes(data.draw(st.integers(1, 9), label="filters"), 2 ** data.draw(st.integers(0, 4), label="pixels")),
        bus_bytes=data.draw(st.sampled_from((4, 8, 16, 32, 64)), label="bus_bytes"),
        predictor_lanes=data.draw(st.sampled_from((1, 2, 4, 8, 16)), label="predictor_lanes"),
        outstanding=data.draw(st.sampled_from((1, 2, 4, 8, 16)), label="outstanding"),
        max_burst=data.draw(st.sampled_from((1, 2, 4, 8, 16, 64, 256)), label="max_burst"),
        gap_words=data.draw(st.integers(0, 6), label="gap_words"),
        join_words=data.draw(st.sampled_from((0, 1, 2, 8, 64)), label="join_words"),
    )
    design = replace(base, engine=engine)
    library, image = built(design)
    compare(design, library, image, random_frames(design, 7, 1), draw_memory(data))


def test_the_default_recipes_network() -> None:
    design = digits_like(7)
    library, image = built(design)
    frames = random_frames(design, 6, 3)
    for kept in ((32, 64), (16, 32), (1, 5)):
        for memory in MEMORIES.values():
            compare(design, library, image, frames, memory, {"conv2": kept[0], "conv3": kept[1]})


@pytest.mark.full
@pytest.mark.parametrize("case", NARROW, ids=lambda case: case.name)
def test_narrow_networks_of_thirteen_layers_and_of_two_stages(case: Narrow) -> None:
    """32 x 32 maps down to 2 x 2, half of the filters, on one memory of each kind."""
    design = case.design()
    library, image = built(design)
    frames, keep = random_frames(design, 2, 3), {x.name: x.filters // 2 for x in design.lazy_layers}
    for memory in (MEMORIES["usual"], MEMORIES["DDR3"]):
        compare(design, library, image, frames, memory, keep)


def test_a_predictor_that_holds_the_array_up() -> None:
    """48 scores for each channel, one a cycle: the queue between them is full, and holds up drain and fetch."""
    engine = Engine(Lanes(2, 4), predictor_lanes=1)
    design = network("crowded", MapShape(1, 2, 2), (Block(24), Block(48)), engine, (), pinned=24)
    library, image = built(design)
    frames = random_frames(design, 4, 3)
    compare(design, library, image, frames, MEMORIES["usual"])
    run = CycleModel(design).alone(masks(design, frames))
    assert (run.layers[0].causes[:, Cause.PREDICT] > run.layers[0].cycles // 2).any()


# -- what holds without the RTL ---------------------------------------------------------------------------------------
def test_frames_alone_do_not_depend_on_threads_or_neighbours() -> None:
    design = digits_like(7)
    model, seen = CycleModel(design), masks(design, random_frames(design, 9, 5))
    one, three = model.alone(seen), model.alone(seen, threads=3)
    frame = {what: tuple(mask[4:5] for mask in getattr(seen, what)) for what in ("present", "told", "chosen")}
    single = replace(seen, **frame)
    for layer in one.layers:
        assert np.array_equal(layer.cycles, three.layer(layer.name).cycles)
        assert np.array_equal(layer.causes, three.layer(layer.name).causes)
        assert layer.cycles[4] == model.stream(single).layer(layer.name).cycles[0]
    assert np.array_equal(one.last_out, three.last_out)


def test_the_array_computes_as_many_cycles_as_it_has_steps() -> None:
    design = digits_like(7)
    seen = masks(design, random_frames(design, 3, 8))
    run = CycleModel(design).alone(seen)
    dense = design.tail[-1]  # 2 x 2 maps of 64 channels, all of which one window reaches
    groups = -(-dense.filters // design.engine.lanes.filters)
    steps = groups * np.maximum(1, 4 * seen.present[-1].sum(axis=1))
    assert np.array_equal(run.layer(dense.name).causes[:, Cause.COMPUTE], steps)


def test_steady_state_is_bound_by_the_slower_of_head_and_engine() -> None:
    design = digits_like(7)
    frames = np.repeat(random_frames(design, 1, 2), 12, axis=0)
    run = CycleModel(design).stream(masks(design, frames))
    per_frame = run.engine[-1] + 2  # the engine is idle for 2 cycles between frames
    assert per_frame > run.stage_busy[0] / 12
    assert run.interval == per_frame
    with pytest.raises(ValueError, match="at least two"):
        _ = CycleModel(design).stream(masks(design, frames[:1])).interval


def test_no_frames_give_an_empty_run() -> None:
    design = digits_like(7)
    run = CycleModel(design).stream(masks(design, random_frames(design, 0, 1)))
    assert run.layers[0].cycles.shape == (0,)
    assert run.latency.shape == (0,)


def test_wrong_masks_are_named() -> None:
    design = digits_like(7)
    model, seen = CycleModel(design), masks(design, random_frames(design, 2, 1))
    with pytest.raises(ValueError, match=r"masks and modes of 2, 3 layers; the tail of 'digits_like' has 3"):
        model.stream(replace(seen, present=seen.present[:2]))
    with pytest.raises(ValueError, match=r"layer 'conv2': 'present' is \(2, 15\) of bool; accepted: \(2, 16\)"):
        model.stream(replace(seen, present=(seen.present[0][:, 1:], *seen.present[1:])))
    with pytest.raises(ValueError, match="layer 'dense': a filter is not chosen"):
        model.stream(replace(seen, chosen=(*seen.chosen[:2], np.zeros_like(seen.chosen[2]))))
    with pytest.raises(ValueError, match="layer 'conv3': a channel is present whose filter was not chosen"):
        model.stream(replace(seen, present=(seen.present[0], np.ones_like(seen.present[1]), seen.present[2])))
    with pytest.raises(ValueError, match="first_in is 3; accepted: at least 8"):
        model.stream(seen, first_in=3)
    with pytest.raises(ValueError, match="threads: 0"):
        model.alone(seen, threads=0)
    with pytest.raises(KeyError, match="no tail layer 'conv1'; there are: conv2, conv3, dense"):
        model.stream(seen).layer("conv1")
