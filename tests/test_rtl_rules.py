"""The checker of AXI4 that watches every simulation: legal traffic passes, every rule that is broken is named."""

from __future__ import annotations

import pytest

from sim.cocotb.runner import RULES, build_folder, simulate

pytestmark = pytest.mark.sim

BROKEN = {
    "ar_stable": "AR-STABLE",
    "ar_stable_address": "AR-STABLE",
    "ar_reset": "AR-RESET",
    **{f"ar_size/field={field}": "AR-SIZE" for field in ("page", "size", "burst", "aligned", "long")},
    "ar_flight": "AR-FLIGHT",
    "r_ready": "R-READY",
    **{f"r_owed/kind={kind}": "R-OWED" for kind in ("unasked", "early", "late", "beyond")},
}


def run(testcase: str) -> str:
    """Do one test of the bench; what the simulator says."""
    parameters = {"MaxBurst": 16, "Outstanding": 2}
    log = build_folder("pen_axi_rules", "small") / "run.log"
    log.unlink(missing_ok=True)
    try:
        simulate("pen_axi_rules", [RULES], "sim.cocotb.pen_axi_rules", "small", parameters, testcase, log=log)
    except (RuntimeError, SystemExit) as error:
        return "\n".join([log.read_text(), *error.__notes__])
    return ""


def test_traffic_that_keeps_the_rules_passes() -> None:
    assert run("what_keeps_the_rules_passes") == ""


QUICK = {
    rule: case for case, rule in reversed(BROKEN.items())
}.values()  # one case of each rule; the others take a minute


@pytest.mark.parametrize(
    "case", [pytest.param(x, marks=() if x in QUICK else pytest.mark.full) for x in BROKEN], ids=list(BROKEN)
)
def test_a_rule_that_is_broken_is_named(case: str) -> None:
    told = run(case)
    assert f"{BROKEN[case]}: " in told
    again = f"PEN_WATCH=waves pytest -m '' 'tests/test_rtl_rules.py::test_a_rule_that_is_broken_is_named[{case}]'"
    assert f"small-waves/dump.vcd: {again}" in told
