"""The report: what it says is what was measured, it needs nothing from elsewhere, and a real browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from flow import gather
from flow.boards import BOARDS
from flow.errors import UserError
from flow.report import Compared, Cost, Measured, Subject, page
from flow.svg import Axis, Svg, short
from hw.design import Source
from hw.netlist import Block, Resources
from hw.synthesis import CriticalPath, SynthesisReport, Target, TargetReport, Timing
from sim.cycles import Cause
from sim.memory import FixedLatency
from tests.designs import digits_like, random_frames

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

ROOT = Path(__file__).parents[1]


PARTS = (Block("", Resources(100, 8, 90, 2, 3, 16)), Block("u_engine.u_select", Resources(1234, 1, 70, 0, 0, 5)))
SYNTHESIS = SynthesisReport(
    "digits",
    {"yosys": "0.70"},
    tuple(
        TargetReport(target, target.name, sum((x.resources for x in PARTS), Resources()), PARTS, {}, timing)
        for target, timing in (
            (Target.ECP5, Timing(85.25, 100.0, 1, CriticalPath("a", "b", 3, 5.0, 6.0))),
            (Target.XC7, None),
            (Target.XCUP, None),
        )
    ),
)


@pytest.fixture(scope="module")
def subject() -> Subject:
    design = digits_like(7)
    return Subject(
        design=design,
        memory=FixedLatency(),
        frames=random_frames(design, 20, 1),
        labels=np.arange(20) % 10,
        command="penstock report recipes/digits.toml",
        front=[Cost(1.0, 0.98, 20000), Cost(0.5, 0.97, 7000), Cost(0.25, 0.9, 2000)],
        front_command="penstock report recipes/digits.toml",
        compared=Compared({"PyTorch, one core": 1e-3, "board kv260": 2e-5}, "python bench/cycle_model.py"),
        synthesis=SYNTHESIS,
        synthesis_command="penstock synth recipes/digits.toml",
    )


@pytest.fixture(scope="module")
def html(subject: Subject) -> str:
    return page(subject)


class Links(HTMLParser):
    """Collects everything that a page would load, and its ids and commands."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.sections: list[str] = []
        self.code = ""
        self._in_code = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loaded += [value for key in ("src", "href", "data") if (value := given.get(key))]
        if tag == "section":
            self.sections.append(given.get("id") or "")
        self._in_code = tag == "code"

    def handle_data(self, data: str) -> None:
        if self._in_code:
            self.code += data + "\n"
            self._in_code = False


def test_it_is_one_file_that_loads_nothing(html: str) -> None:
    links = Links()
    links.feed(html)
    assert all(link.startswith("data:") for link in links.loaded)
    assert not re.search(r"https?://|@import|url\((?!data:)", html)
    assert len(html) < 400_000


def test_every_figure_names_its_command(html: str) -> None:
    links = Links()
    links.feed(html)
    assert links.sections == [
        *("pipeline", "savings", "timeline", "causes", "roofline", "front", "classes", "processors", "resources"),
        "synthesis",
    ]
    assert links.code.count("\n") == len(links.sections)
    assert links.code.count("penstock report recipes/digits.toml") == len(links.sections) - 2
    assert links.code.count("penstock synth recipes/digits.toml") == 1


def test_it_shows_what_was_measured(subject: Subject, html: str) -> None:
    lazy = Measured.of(subject, None)
    dense = Measured.of(subject, {"conv2": 32, "conv3": 64})
    latency, before = lazy.alone.latency.mean(), dense.alone.latency.mean()
    assert f"one frame alone; {before / latency:.2f} x as fast" in html
    assert f"{short(float(lazy.alone.bytes.mean()))}B" in html
    for index, layer in enumerate(subject.design.tail):
        took = float(lazy.alone.layers[index].causes[:, Cause.COMPUTE].mean())
        assert f"{layer.name}, compute: {took:,.0f} cycles" in html
    share = lazy.stream.stage_busy[0] / lazy.span
    assert f"conv1: {100 * share:.3g} %" in html
    assert 0 < share < 1


def test_it_shows_what_synthesis_said(html: str) -> None:
    table = html[html.index('id="synthesis"') :]
    assert "<td>ECP5</td><td>1,334</td><td>21</td><td>9</td><td>160</td><td>2</td><td>3</td><td>85.2</td>" in table
    assert "<td>XC7</td><td>1,334</td><td>21</td><td>9</td><td>160</td><td>2</td><td>3</td><td></td>" in table
    assert table.count("<td>measure, predict, select</td><td>1,234</td>") == 3
    assert "yosys 0.70" in table


def test_what_is_not_known_is_left_out(subject: Subject) -> None:
    bare = Subject(subject.design, subject.memory, subject.frames[:2], None, "penstock report", board=BOARDS["kv260"])
    links = Links()
    text = page(bare)
    links.feed(text)
    assert links.sections == ["pipeline", "savings", "timeline", "causes", "roofline", "resources"]
    assert "for kv260 (XCK26)" in text
    assert "of 1,248" in text
    assert " µs" in text


def test_all_layers_are_drawn_whatever_their_source(subject: Subject, html: str) -> None:
    assert {layer.source for layer in subject.design.tail} == {Source.LAZY, Source.DENSE}
    for layer in subject.design.tail:
        assert html.count(f">{layer.name}</text>") >= 4


def test_figures_of_benchmarks_are_read(subject: Subject, tmp_path: Path) -> None:
    kept = ROOT / "docs" / "results" / "lazy.json"
    front = gather.front(kept, subject.design)
    assert [point.keep for point in front] == [point["k"] for point in json.loads(kept.read_text())["points"]]
    stored = sum(layer.weights.size for layer in subject.design.lazy_layers)
    assert 0.9 * stored < front[0].bytes < stored  # with all filters, a few channels are absent
    rows = [
        {"network": name, "board": "kv260", "k": k, "fpga_seconds": took, "cpu": {"PyTorch": 0.5}}
        for name, k, took in (("digits", 1.0, 0.2), ("digits", 0.5, 0.1), ("mnist", 0.5, 0.3))
    ]
    (tmp_path / "base.json").write_text(json.dumps({"baseline": rows}))
    compared = gather.compared(tmp_path / "base.json", "digits")
    assert compared is not None
    assert compared.seconds == {
        "PyTorch": 0.5,
        "board kv260, 100% of the filters": 0.2,
        "board kv260, 50% of the filters": 0.1,
    }
    assert gather.compared(tmp_path / "base.json", "vgg") is None
    with pytest.raises(UserError, match=r"base.json' holds no front; accepted: what bench/lazy.py --json writes"):
        gather.front(tmp_path / "base.json", subject.design)
    with pytest.raises(UserError, match="holds no baseline"):
        gather.compared(kept, "digits")


def test_axes() -> None:
    assert Axis(0, 10, 100, 200).at(5) == 150
    assert Axis(1, 100, 0, 10, logarithmic=True).at(10) == pytest.approx(5)
    assert Axis(0, 1000, 0, 1).ticks == [0, 200, 400, 600, 800, 1000]
    assert Axis(0.5, 2000, 0, 1, logarithmic=True).ticks == [1, 10, 100, 1000]
    assert [short(x) for x in (0.1234, 999, 12_300, 4e6, 5e9)] == ["0.123", "999", "12.3k", "4M", "5G"]


def test_drawings_escape_what_they_are_given() -> None:
    svg = Svg(10, 10, 'a "b" <c>')
    svg.text(0, 0, "<script>")
    svg.rect(0, 0, 1, 1, "red", "a & b")
    assert "<script>" not in str(svg)
    assert "a &amp; b" in str(svg)
    assert 'aria-label="a &quot;b&quot; &lt;c&gt;"' in str(svg)


PROBE = """
<script>
const found = {errors: [], views: {}, wide: []};
addEventListener("error", event => found.errors.push(event.message));
addEventListener("load", () => {
  const frame = document.querySelector("iframe"), inner = frame.contentWindow, page = frame.contentDocument;
  const seen = name => [...page.querySelectorAll(`#${name} figure`)].map(figure => figure.offsetHeight > 0);
  for (const button of page.querySelectorAll("button")) {
    button.click();
    const name = button.dataset.views;
    found.views[name + button.value] = [seen(name), button.getAttribute("aria-pressed")];
  }
  for (const list of page.querySelectorAll("select")) {
    list.value = "1";
    list.dispatchEvent(new inner.Event("change"));
    found.views[list.dataset.views] = seen(list.dataset.views);
  }
  found.width = [inner.innerWidth, page.documentElement.scrollWidth];
  found.letters = Math.min(...[...page.querySelectorAll("svg text, p, td, span")].filter(x => x.offsetHeight !== 0)
    .map(x => [parseFloat(inner.getComputedStyle(x).fontSize), x.ownerSVGElement])
    .map(([size, svg]) => svg ? size * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : size)
    .filter(size => size > 0));
  found.drawings = [...page.querySelectorAll("figure:not([hidden]) svg")].map(x => x.getBoundingClientRect().height);
  document.title = JSON.stringify(found);
});
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium (Debian: apt-get install chromium)")
def test_a_browser_shows_it_without_errors_on_a_narrow_screen(html: str, tmp_path: Path) -> None:
    """In a frame as wide as a phone: nothing sticks out, text stays readable, buttons change what is seen."""
    assert BROWSER is not None
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    inner = html.replace("&", "&amp;").replace('"', "&quot;")
    probe = tmp_path / "probe.html"
    probe.write_text(f'<meta charset="utf-8">{PROBE}<iframe width="390" height="844" srcdoc="{inner}"></iframe>')
    shown = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--enable-logging=stderr", "--virtual-time-budget=2000", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--dump-dom", probe.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    title = re.search(r"<title>(\{.*?\})</title>", shown.stdout, re.DOTALL)
    assert title is not None, shown.stderr
    found = json.loads(title[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    assert found["errors"] == []
    assert "CONSOLE" not in shown.stderr
    for name in ("pipeline", "timeline", "causes"):
        assert found["views"][f"{name}0"] == [[True, False], "true"]
        assert found["views"][f"{name}1"] == [[False, True], "true"]
    assert found["views"]["classes1"] == [[False, True], "true"]
    assert found["views"]["synthesis"] == [False, True, False, False]
    assert found["width"][0] <= 390
    assert found["width"][1] <= found["width"][0]
    assert found["letters"] >= 11
    assert len(found["drawings"]) >= 8
    assert min(found["drawings"]) > 50
