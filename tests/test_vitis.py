"""`build()` of a conversion for Vitis HLS: what is asked of the tool, what is read of its reports.

The tool itself is not ours to have: a stand-in writes reports in its forms.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from hw.design import DesignError
from hw.qonnx import convert
from hw.vitis import Cosimulation, Cycles, Step, Synthesis, VitisError, VitisReport, VitisResources, run, synthesis
from tests.brevitas_nets import Net, conv, identity, linear, relu

CSYNTH = """<?xml version="1.0" encoding="UTF-8"?>
<profile>
<ReportVersion><Version>2023.2</Version></ReportVersion>
<UserAssignments><unit>ns</unit><Part>xcku5p-ffvb676-2-e</Part><TopModelName>tiny</TopModelName>
<TargetClockPeriod>5.00</TargetClockPeriod></UserAssignments>
<PerformanceEstimates>
<SummaryOfTimingAnalysis><unit>ns</unit><EstimatedClockPeriod>3.650</EstimatedClockPeriod></SummaryOfTimingAnalysis>
<SummaryOfOverallLatency><unit>clock cycles</unit><Best-caseLatency>412</Best-caseLatency>
<Worst-caseLatency>undef</Worst-caseLatency><Interval-min>398</Interval-min><Interval-max>undef</Interval-max>
</SummaryOfOverallLatency>
</PerformanceEstimates>
<AreaEstimates>
<Resources><BRAM_18K>12</BRAM_18K><DSP>32</DSP><FF>9021</FF><LUT>14322</LUT><URAM>0</URAM></Resources>
<AvailableResources><BRAM_18K>960</BRAM_18K><DSP>1824</DSP><FF>433920</FF><LUT>216960</LUT><URAM>64</URAM>
</AvailableResources>
</AreaEstimates>
</profile>
"""

COSIM = """Report time       : Sun Dec  4 02:06:30 2022.
Solution          : solution1.
Simulation tool   : xsim.

+----------+----------+--------------------------------+--------------------------------+----------------------+
|          |          |      Latency(Clock Cycles)     |     Interval(Clock Cycles)     | Total Execution Time |
+   RTL    +  Status  +--------------------------------+--------------------------------+    (Clock Cycles)    +
|          |          |   min    |    avg   |    max   |   min    |    avg   |    max   |                      |
+----------+----------+--------------------------------+--------------------------------+----------------------+
|      VHDL|        NA|        NA|        NA|        NA|        NA|        NA|        NA|                    NA|
|   Verilog|      Pass|       420|       433|       455|       401|        NA|        NA|                  1300|
+----------+----------+--------------------------------+--------------------------------+----------------------+
"""

SYNTHESIS = Synthesis(
    part="xcku5p-ffvb676-2-e",
    target_ns=5.0,
    estimated_ns=3.65,
    latency=Cycles(412, None),
    interval=Cycles(398, None),
    used=VitisResources(lut=14322, ff=9021, dsp=32, bram_18k=12, uram=0),
    available=VitisResources(lut=216960, ff=433920, dsp=1824, bram_18k=960, uram=64),
)


def stand_in(folder: Path, name: str, body: str) -> None:
    """A command `name` in `folder` that logs how it was called and then runs `body`."""
    command = folder / name
    command.write_text(
        f'#!/bin/sh\necho "$@|$PENSTOCK_HLS|$PENSTOCK_PART|$(test -f weights.bin && echo image)" > called\n{body}\n'
    )
    command.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is on PATH, beside the system's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def reports(folder: Path) -> str:
    """What a stand-in does that leaves both reports."""
    (folder / "csynth.xml").write_text(CSYNTH)
    (folder / "cosim.rpt").write_text(COSIM)
    place = "tiny_prj/solution1"
    return (
        f"mkdir -p {place}/syn/report {place}/sim/report; echo INFO: done\n"
        f"cp {folder}/csynth.xml {place}/syn/report/tiny_csynth.xml\n"
        f"cp {folder}/cosim.rpt {place}/sim/report/tiny_cosim.rpt"
    )


@pytest.fixture(scope="module")
def net() -> Net:
    return Net(identity(), conv(1, 2), relu(), nn.Flatten(), linear(8, 2), shape=(1, 4, 4))


def converted(net: Net, folder: Path, **options: Any) -> Any:
    return convert(net.qonnx(), folder, project_name="tiny", hls="vitis", **options)


def test_build_runs_the_steps_of_hls4mls_own_backend(net: Net, path: Path, tmp_path: Path) -> None:
    stand_in(path, "vitis-run", reports(tmp_path))
    model = converted(net, tmp_path / "out", part="xcku5p-ffvb676-2-e")
    report = model.build(csim=True, synth=True, cosim=True, vsynth=False, reset=True)
    assert report == VitisReport(
        "tiny",
        "vitis-run",
        (Step.CSIM, Step.CSYNTH, Step.COSIM),
        SYNTHESIS,
        Cosimulation("Pass", Cycles(420, 455), Cycles(401, None)),
    )
    project = tmp_path / "out" / "hls"
    assert (project / "called").read_text() == (
        "--mode hls --tcl build_prj.tcl|csim csynth cosim|xcku5p-ffvb676-2-e|image\n"
    )
    assert VitisReport.from_json((tmp_path / "out" / "vitis.json").read_text()) == report
    assert (project / "vitis.log").read_text() == "INFO: done\n"


def test_older_tools_serve_and_steps_that_are_not_run_have_no_report(net: Net, path: Path, tmp_path: Path) -> None:
    stand_in(path, "vitis_hls", "")
    report = converted(net, tmp_path / "out").build(csim=True, synth=False)
    assert (report.tool, report.synthesis, report.cosimulation) == ("vitis_hls", None, None)
    assert (tmp_path / "out" / "hls" / "called").read_text() == "-f build_prj.tcl|csim||image\n"


@pytest.mark.usefixtures("path")
def test_without_the_tool_an_error_says_what_is_needed(net: Net, tmp_path: Path) -> None:
    with pytest.raises(VitisError, match=r"Vitis HLS is not on PATH; needed: 'vitis-run' .* compile\(\) runs .* g\+\+"):
        converted(net, tmp_path / "out").build()
    assert not (tmp_path / "out" / "vitis.json").exists()


def test_what_the_tool_says_is_told(net: Net, path: Path, tmp_path: Path) -> None:
    stand_in(path, "vitis-run", "echo INFO: fine; echo 'ERROR: [HLS 200-70] no such part'; exit 3")
    with pytest.raises(VitisError, match=r"vitis-run failed \(3\), see '.*vitis.log': ERROR: \[HLS 200-70\] no such"):
        converted(net, tmp_path / "out").build()
    stand_in(path, "vitis-run", "")
    with pytest.raises(VitisError, match=r"has ended without '.*tiny_csynth\.xml'"):
        converted(net, tmp_path / "out").build()
    with pytest.raises(VitisError, match=r"build_prj\.tcl' does not exist"):
        run("tiny", tmp_path / "nowhere", [Step.CSIM])


def test_reports_of_older_tools_and_broken_ones(tmp_path: Path) -> None:
    file = tmp_path / "tiny_csynth.xml"
    file.write_text(CSYNTH.replace("DSP>", "DSP48E>"))
    assert synthesis(file) == SYNTHESIS
    file.write_text(CSYNTH.replace("<LUT>14322", "<LUT>14323"))
    assert synthesis(file) == replace(SYNTHESIS, used=replace(SYNTHESIS.used, lut=14323))
    file.write_text(CSYNTH.replace("<Part>xcku5p-ffvb676-2-e</Part>", ""))
    with pytest.raises(VitisError, match="it has no 'UserAssignments/Part'"):
        synthesis(file)
    file.write_text(CSYNTH[:300])
    with pytest.raises(VitisError, match=r"csynth\.xml' is no report of C synthesis"):
        synthesis(file)


def test_frames_of_the_conversion_reach_the_test_bench(net: Net, tmp_path: Path) -> None:
    x = net.frames(3)
    answers = net.outputs(x)
    given, expected = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(given, x.transpose(0, 2, 3, 1))
    np.save(expected, answers)
    options = {"input_data_tb": str(given), "output_data_tb": str(expected)}
    model = converted(net, tmp_path / "out", **options)
    model.write()
    data, design = tmp_path / "out" / "hls" / "tb_data", model.penstock.design
    logits = np.loadtxt(data / "logits.txt", dtype=np.int64)
    assert np.array_equal(np.ldexp(logits.astype(float), design.output_format.exponent), answers)
    frames = np.loadtxt(data / "frames.txt", dtype=np.int64).reshape(3, 4, 4)
    assert np.array_equal(frames, np.rint(np.ldexp(x[:, 0].astype(float), -design.input_format.exponent)))
    np.save(expected, answers[:2])
    with pytest.raises(DesignError, match=r"output_data_tb has \(2, 2\); accepted: \(3, 2\)"):
        converted(net, tmp_path / "out", **options).write()
    given.unlink()
    with pytest.raises(DesignError, match=r"input_data_tb is '.*x\.npy'; accepted: an \.npy file"):
        converted(net, tmp_path / "out", **options).write()
