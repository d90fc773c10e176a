"""The Verilated harness, on a stand-in whose answers numpy knows; and what it says when the RTL breaks a rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.memory import IMAGE_BASE, FixedLatency, Stalls
from sim.verilated import BuildError, RtlRun, SimulationError, VerilatedModel, build
from sim.waves import WaveError, read
from tests.standin import Standin

# Ports of every Verilator type: 8, 16, 32, 64 bits and wider.
SHAPES = [
    Standin(),
    Standin(channels=1, bus_bytes=8, score_lanes=1, logit_bits=64),
    Standin(channels=12, bus_bytes=16, score_lanes=8, record_words=33),
]
SMALL = SHAPES[0]


def check(shape: Standin, run: RtlRun, frames: np.ndarray, keep: int, offset: int = 7) -> None:
    strengths, scores, outputs = shape.expected(frames, keep, offset)
    lazy, dense = run.layers
    assert np.array_equal(run.outputs, outputs)
    assert np.array_equal(lazy.strengths, strengths)
    if keep < shape.filters:
        assert lazy.scores is not None
        assert np.array_equal(lazy.scores, scores)
    else:
        assert lazy.scores is None  # nothing is ranked when all are kept
    assert dense.scores is None
    assert not dense.strengths.any()
    assert np.array_equal(lazy.chosen, np.broadcast_to(np.arange(shape.filters) < keep, lazy.chosen.shape))
    assert dense.chosen.all()
    assert (lazy.bytes == keep * shape.record_words * shape.bus_bytes).all()
    assert (dense.bytes == 3 * shape.record_words * shape.bus_bytes).all()
    assert np.array_equal(run.bus_bytes, lazy.bytes + dense.bytes)
    assert not run.bad.any()


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
@pytest.mark.parametrize("stalls", [None, Stalls(3, 0.4)], ids=["smooth", "stalls"])
def test_values_probes_and_bytes(shape: Standin, stalls: Stalls | None) -> None:
    model = shape.model(stalls=stalls)
    frames = shape.frames(6)
    run = model.run(frames)
    check(shape, run, frames, keep=3)
    assert (run.first_in <= run.last_in).all()
    assert (run.last_in < run.last_out).all()
    assert (np.diff(run.last_out) > 0).all()
    if stalls is None:
        assert (run.last_in - run.first_in == 5).all()  # six pixels without a bubble


def test_keep_changes_between_runs_and_falls_back() -> None:
    model = SMALL.model()
    frames = SMALL.frames(3)
    check(SMALL, model.run(frames, {"lazy": 5}), frames, keep=5)
    check(SMALL, model.run(frames, {"lazy": 1}), frames, keep=1)
    check(SMALL, model.run(frames), frames, keep=3)


def test_no_frames_give_an_empty_run() -> None:
    run = SMALL.model().run(SMALL.frames(0))
    assert run.outputs.shape == (0, 4)
    assert run.layer("lazy").chosen.shape == (0, 5)


def test_models_do_not_disturb_each_other() -> None:
    models = [(shape, shape.model()) for shape in SHAPES[:2] for _ in range(2)]
    for seed in range(3):
        for shape, model in models:
            frames = shape.frames(2, seed)
            check(shape, model.run(frames), frames, keep=3)


def test_registers_can_be_read() -> None:
    model = SMALL.model()
    assert model.read_register(0x000) == 0x534E4550
    assert model.read_register(0x010) == IMAGE_BASE
    run = model.run(SMALL.frames(2))
    assert model.read_register(0x020) == 2
    assert model.read_register(0x028) == run.bus_bytes.sum()
    assert model.read_register(0x108) == run.layer("lazy").cycles[-1]
    with pytest.raises(SimulationError, match="RRESP 2"):
        model.read_register(0xFF0)


def test_stalls_repeat_with_their_seed() -> None:
    stamps = [SMALL.model(stalls=Stalls(seed, 0.3)).run(SMALL.frames(4)).last_out for seed in (1, 1, 2)]
    assert np.array_equal(stamps[0], stamps[1])
    assert not np.array_equal(stamps[0], stamps[2])


# -- memory timing, cycle by cycle ----------------------------------------------------------------------------------
def cycles(memory: FixedLatency) -> tuple[int, int]:
    """Of the layers in the first frame: 30 beats in bursts of 16 and 14; three bursts of 10."""
    lazy, dense = SMALL.model(memory).run(SMALL.frames(1)).layers
    return int(lazy.cycles[0]), int(dense.cycles[0])


def test_latency_is_paid_once_when_bursts_overlap() -> None:
    lazy, dense = cycles(FixedLatency(latency=1))
    for latency in (2, 10):
        assert cycles(FixedLatency(latency=latency)) == (lazy + latency - 1, dense + latency - 1)


def test_latency_is_paid_per_burst_when_one_is_in_service() -> None:
    lazy, dense = cycles(FixedLatency(latency=1))
    assert cycles(FixedLatency(latency=1, outstanding=1)) == (lazy, dense)
    assert cycles(FixedLatency(latency=12, outstanding=1)) == (lazy + 2 * 11, dense + 3 * 11)
    # Two in service: the third burst's latency starts with the end of the first, and hides 10 beats of the second.
    assert cycles(FixedLatency(latency=12, outstanding=2)) == (lazy + 11, dense + 11 + (12 - 1 - 10))


def test_gaps_follow_every_so_many_beats_of_all_bursts() -> None:
    # Gaps come after beats 15, 30, 45, 60 of the memory's life. Beats 30 and 60 end a layer, and the gap is over
    # before the next one reads.
    lazy, dense = cycles(FixedLatency(latency=6))
    assert cycles(FixedLatency(latency=6, gap_every=15, gap_cycles=4)) == (lazy + 4, dense + 4)
    assert cycles(FixedLatency(latency=6, gap_every=1, gap_cycles=1)) == (lazy + 29, dense + 29)


# -- waveforms ------------------------------------------------------------------------------------------------------
def test_waves_show_every_handshake(tmp_path: Path) -> None:
    model = SMALL.model(stalls=Stalls(3, 0.4), waves=True)
    frames, path = SMALL.frames(2), tmp_path / "run.vcd"
    with model.waves(path):
        run = model.run(frames)
    end = path.stat().st_size
    check(SMALL, model.run(frames), frames, keep=3)
    assert path.stat().st_size == end  # what comes after is not in it
    prefixes = ("s_axis_t", "m_axis_t", "m_axi_ar", "m_axi_r")
    waves = read(path, [*(f"{x}{end}" for x in prefixes for end in ("valid", "ready")), "m_axis_tdata", "m_axi_arlen"])
    cycles = np.arange(int(run.last_out[-1]) + 1)

    def handshakes(prefix: str) -> np.ndarray:
        return cycles[(waves[f"{prefix}valid"].at(cycles) & waves[f"{prefix}ready"].at(cycles)) == 1]

    given, answered = handshakes("s_axis_t"), handshakes("m_axis_t")
    assert given[[0, 6]].tolist() == run.first_in.tolist()
    assert given[[5, 11]].tolist() == run.last_in.tolist()
    assert answered[[3, 7]].tolist() == run.last_out.tolist()
    logits = waves["m_axis_tdata"].at(answered).astype(np.uint32).view(np.int32)
    assert np.array_equal(logits.reshape(2, 4), run.outputs)
    beats = waves["m_axi_arlen"].at(handshakes("m_axi_ar")) + 1
    assert beats.sum() == len(handshakes("m_axi_r")) == run.bus_bytes.sum() // SMALL.bus_bytes


def test_waves_need_a_model_for_them_and_signals_that_are_there(tmp_path: Path) -> None:
    with (
        pytest.raises(SimulationError, match=r"run\.vcd: this model was built without waveforms"),
        SMALL.model().waves(tmp_path / "run.vcd"),
    ):
        pass
    model, path = SMALL.model(waves=True), tmp_path / "run.vcd"
    with model.waves(path):
        model.run(SMALL.frames(1))
    with pytest.raises(WaveError, match=r"has no signal 'm_axi_valid'; accepted, for example: m_axi_rvalid"):
        read(path, ["m_axi_valid"])
    with pytest.raises(WaveError, match=r"is no waveform"):
        read(Path(__file__), ["clk_i"])
    with (
        pytest.raises(SimulationError, match=r"absent/run\.vcd: waveforms cannot be written there"),
        model.waves(tmp_path / "absent" / "run.vcd"),
    ):
        pass


# -- rules that the RTL breaks --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("assertion", r"cycle \d+: .*standin.*rom asked for a failure with code 1"),
        ("address", r"leaves the weight image at 0x10000f40"),
        ("hang", r"no progress for \d+ cycles .* 0 answered"),
        ("unstable", r"m_axis changed its beat"),
        ("twice", r"filter 0 of tail layer 0 is chosen twice"),
        ("last", r"m_axis_tlast is 1 with value 3 of 4"),
        ("finish", r"the RTL ended the simulation"),
        ("scoreless", r"layer 'lazy', frame 0: no scores for filter 4"),
        ("count", r"layer 'lazy', frame 0: 3 filters chosen, its counter says 4"),
    ],
)
def test_a_broken_rule_is_a_simulation_error(fault: str, sentence: str) -> None:
    model = SMALL.model(stalls=Stalls(1, 0.5), fault=fault)
    with pytest.raises(SimulationError, match=sentence):
        model.run(SMALL.frames(2))
    with pytest.raises(SimulationError, match="failed before"):
        model.run(SMALL.frames(2))
    frames = SMALL.frames(2)
    check(SMALL, SMALL.model().run(frames), frames, keep=3)  # the process and the library live on


def test_a_missing_memory_file_is_a_simulation_error() -> None:
    library = SMALL.build()
    (SMALL.folder / "rtl" / "mem" / "standin.hex").unlink(missing_ok=True)
    with pytest.raises(SimulationError, match=r"standin\.hex"):
        VerilatedModel(library, SMALL.design(), SMALL.image())


def test_a_marked_frame_is_reported() -> None:
    assert SMALL.model(fault="bad").run(SMALL.frames(2)).bad.tolist() == [True, True]


def test_bad_arguments_are_named() -> None:
    model = SMALL.model()
    with pytest.raises(ValueError, match=r"frames hold -129 to"):
        model.run(SMALL.frames(1) - 129 - int(SMALL.frames(1).min()))
    with pytest.raises(ValueError, match=r"frames are \(1, 3, 2, 2\)"):
        model.run(SMALL.frames(1)[:, :, :, :2])
    with pytest.raises(ValueError, match=r"'dense', which is not a lazy layer of 'standin'; lazy layers: lazy"):
        model.run(SMALL.frames(1), {"dense": 1})
    with pytest.raises(ValueError, match=r"layer 'lazy': keep is 6; accepted: 1 to 5"):
        model.run(SMALL.frames(1), {"lazy": 6})
    with pytest.raises(ValueError, match=r"multiple of the bus's 4 bytes"):
        SMALL.model(image=b"x" * 65)
    for bad in ({"latency": 0}, {"outstanding": 0}, {"gap_cycles": -1}):
        with pytest.raises(ValueError, match="accepted: at least"):
            FixedLatency(**bad)
    with pytest.raises(ValueError, match="probability is 1"):
        Stalls(0, 1)


# -- building -------------------------------------------------------------------------------------------------------
def test_a_library_is_built_once() -> None:
    library = SMALL.build()
    stamp = library.stat().st_mtime_ns
    assert SMALL.build() == library
    assert library.stat().st_mtime_ns == stamp
    assert not list(SMALL.folder.glob("tmp*"))  # what was built on the way is gone


def test_refused_rtl_tells_why_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"files\.f: no such file"):
        build(tmp_path, tmp_path / "out", "top")
    (tmp_path / "files.f").write_text("top.sv\n")
    with pytest.raises(BuildError, match=r"top\.sv: No such file"):
        build(tmp_path, tmp_path / "out", "top")
    (tmp_path / "top.sv").write_text(
        'module top #(parameter string MemDir = "") (); $fatal(1, "lanes must be even"); endmodule\n'
    )
    with pytest.raises(BuildError, match="lanes must be even"):
        build(tmp_path, tmp_path / "out", "top")
    assert not list((tmp_path / "out").glob("*.so"))
