"""Simulations on the workers of a Dask scheduler."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest

from flow import farm
from flow.errors import UserError
from hw.emit import emit
from sim.memory import FixedLatency, Stalls
from tests.designs import random_design, random_frames

LATER = 3  # the frame whose expected answer is made wrong


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> farm.Simulation:
    design = random_design(1)
    folder = tmp_path_factory.mktemp("farm")
    emit(design, folder)
    image = (folder / "weights.bin").read_bytes()
    return farm.Simulation.of(design, folder / "rtl", image, FixedLatency(latency=3), Stalls(1, 0.1))


def test_a_simulation_survives_the_journey(simulation: farm.Simulation) -> None:
    there = pickle.loads(pickle.dumps(simulation))
    assert there.design.fingerprint == simulation.design.fingerprint
    assert (there.files, there.image, there.memory) == (simulation.files, simulation.image, simulation.memory)


def test_workers_of_a_scheduler_do_what_is_done_here(simulation: farm.Simulation) -> None:
    """The scheduler and two workers live in this process, and are spoken to by their address."""
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'penstock[dask]'")
    frames = random_frames(simulation.design, 7, 3)
    broken = replace(simulation, image=simulation.image[:-8] + bytes(8))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        address = cluster.scheduler_address
        assert list(farm.spread(abs, [-3, 2, -1], address)) == [3, 2, 1]
        with pytest.raises(TypeError, match="bad operand"):
            list(farm.spread(abs, ["a"], address))
        assert farm.compare(simulation, frames, 3, address) == []
        assert farm.compare(broken, frames, 3, address) == farm.compare(broken, frames, 3)


def test_frames_are_counted_through_all_chunks() -> None:
    class Wrong(farm.Simulation):
        def differences(self, frames: np.ndarray) -> tuple[farm.Difference, ...]:
            return tuple(farm.Difference("logits", 1, int(i)) for i in np.flatnonzero(frames == LATER))

    wrong = Wrong(None, {}, b"", FixedLatency())  # type: ignore[arg-type]
    assert farm.compare(wrong, np.arange(8), 2) == [farm.Difference("logits", 1, LATER)]


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(farm, "PATIENCE", 0.5)
    with pytest.raises(UserError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:9'; accepted: the address"):
        list(farm.spread(abs, [1], "tcp://127.0.0.1:9"))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"pip install 'penstock\[dask\]'"):
        list(farm.spread(abs, [1], "tcp://127.0.0.1:9"))
