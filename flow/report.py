"""The report: one HTML page that needs nothing else, about what an accelerator does with real frames.

Drawings are SVG of our own (`flow.svg`); the page's script only changes which of them are seen.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.metadata import version
from importlib.resources import files

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from flow.boards import Board
from flow.svg import Axis, Svg, short
from hw.design import Design, IntArray
from hw.netlist import Resources
from hw.resources import resources
from hw.synthesis import SynthesisReport, Timing
from sim import golden
from sim.cycles import Cause, CycleModel, CycleRun, Masks
from sim.energy import HOROWITZ, USUAL, Energy, energy
from sim.memory import Dram, Memory

WIDTH = 720.0
DENSE, LAZY = "var(--dense)", "var(--lazy)"
COLOURS = [f"var(--c{n})" for n in range(len(Cause))]
IN_A_ROW = 8  # frames of the stream


@dataclass(frozen=True)
class Cost:
    """Accuracy with a share `keep` of the filters of every lazy layer, at `bytes` per frame."""

    keep: float
    accuracy: float
    bytes: float


@dataclass(frozen=True)
class Compared:
    """One frame of this network elsewhere: `seconds` by name of processor or board."""

    seconds: dict[str, float]
    command: str


@dataclass(frozen=True, eq=False)
class Subject:
    """What a report is about: a design with its external memory, and integer `frames` (n, c, h, w) with their `labels`.

    `command` made the report. `front` holds accuracies as `front_command` found them; without labels it is empty.
    """

    design: Design
    memory: Memory
    frames: IntArray
    labels: NDArray[np.integer] | None
    command: str
    front: Sequence[Cost] = ()
    front_command: str = ""
    board: Board | None = None
    compared: Compared | None = None
    synthesis: SynthesisReport | None = None
    synthesis_command: str = ""


@dataclass(frozen=True)
class View:
    """A drawing or a table, and what it is called among others."""

    label: str
    drawing: str


@dataclass(frozen=True)
class Section:
    """A part of the page; of several `views` one is seen at a time. `key` explains colours."""

    name: str
    title: str
    words: str
    views: Sequence[View]
    command: str
    key: Sequence[tuple[str, str]] = field(default=())


@dataclass(frozen=True, eq=False)
class Measured:
    """The frames with some share of the filters: choices, cycles of each alone and in a row, energy."""

    masks: Masks
    alone: CycleRun
    stream: CycleRun
    energy: Energy
    macs: IntArray  # (n, tail layers)

    @staticmethod
    def of(subject: Subject, keep: dict[str, int] | None) -> Measured:
        """With `keep` filters by layer, or those of the state after reset."""
        design = subject.design
        masks = Masks.of(design, golden.run(design, subject.frames, keep, maps=False), keep)
        model = CycleModel(design, subject.memory)
        alone = model.alone(masks)
        macs = np.stack(
            [
                chosen.sum(axis=1) * (present @ layer.kept_taps.sum(axis=(1, 2))) * layer.grid[0] * layer.grid[1]
                for layer, present, chosen in zip(design.tail, masks.present, masks.chosen, strict=True)
            ],
            axis=1,
        )
        name = subject.memory.name if isinstance(subject.memory, Dram) else USUAL
        return Measured(masks, alone, model.stream(masks), energy(design, masks, alone, name), macs)

    @property
    def span(self) -> int:
        """Cycles from the first pixel to the last logit of all frames in a row."""
        return int(self.stream.last_out[-1] - self.stream.first_in[0]) + 1


def page(subject: Subject) -> str:
    """The page as HTML."""
    design = subject.design
    lazy = Measured.of(subject, None)
    dense = Measured.of(subject, {layer.name: layer.filters for layer in design.lazy_layers})
    sections = [
        _pipeline(subject, lazy, dense),
        _savings(subject, lazy, dense),
        _timeline(subject, lazy, dense),
        _causes(subject, lazy, dense),
        _roofline(subject, lazy, dense),
        *_front(subject),
        *_heat(subject, lazy),
        *_elsewhere(subject),
        _resources(subject),
        *_synthesis(subject),
    ]
    template = (files("flow") / "report.html.j2").read_text()
    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=False)
    return environment.from_string(template).render(
        title=design.name,
        version=version("penstock"),
        summary=f"{len(design.head)} layers in the head and {len(design.tail)} on an engine of "
        f"{design.engine.lanes.filters} x {design.engine.lanes.pixels} multipliers"
        + (f" for {subject.board}" if subject.board else "")
        + f"; {len(subject.frames)} test frames, {_percent(_kept(design))} of the filters of "
        f"{len(design.lazy_layers)} lazy layers.",
        facts=_facts(subject, lazy, dense),
        sections=sections,
    )


def _kept(design: Design) -> float:
    lazy = design.lazy_layers
    return sum(x.keep or 0 for x in lazy) / max(1, sum(x.filters for x in lazy))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _time(cycles: float, board: Board | None) -> str:
    """Cycles as people read them; seconds where the clock is known."""
    if board is None:
        return f"{short(cycles)} cycles"
    return f"{short(cycles / board.clock_mhz)} µs"


def _facts(subject: Subject, lazy: Measured, dense: Measured) -> list[dict[str, str]]:
    def row(value: str, what: str) -> dict[str, str]:
        return {"value": value, "what": what}

    latency, before = float(lazy.alone.latency.mean()), float(dense.alone.latency.mean())
    fetched, all_bytes = float(lazy.alone.bytes.mean()), float(dense.alone.bytes.mean())
    took, would = float(lazy.energy.total.mean()), float(dense.energy.total.mean())
    return [
        row(_time(latency, subject.board), f"one frame alone; {before / latency:.2f} x as fast as with all filters"),
        row(f"{short(fetched)}B", f"fetched per frame, {_percent(fetched / max(1.0, all_bytes))} of all filters'"),
        row(f"{short(1e6 * took)} µJ", f"per frame (estimate), {_percent(took / would)} of all filters'"),
        *([row(_percent(subject.front[0].accuracy), "accuracy with all filters")] if subject.front else []),
    ]


# -- drawings ----------------------------------------------------------------------------------------------------------
def _pipeline(subject: Subject, lazy: Measured, dense: Measured) -> Section:
    views = [View("chosen filters", _blocks(subject, lazy)), View("all filters", _blocks(subject, dense))]
    return Section(
        "pipeline",
        "Pipeline",
        "How much of the time each part's multipliers work, frames one behind the other. Head stages stream; the "
        "layers of the tail run in turn on one engine.",
        views,
        subject.command,
        key=[("works", LAZY)],
    )


def _blocks(subject: Subject, measured: Measured) -> str:
    design, n = subject.design, measured.masks.frames
    stages = [
        (layer.name, f"{layer.lanes.filters} x {layer.lanes.pixels}", busy / measured.span)
        for layer, busy in zip(design.head, measured.stream.stage_busy, strict=True)
        if layer.lanes is not None
    ]
    lanes = design.engine.lanes
    working = sum(int(layer.causes[:, Cause.COMPUTE].sum()) for layer in measured.stream.layers) / measured.span
    stages.append(("engine", f"{lanes.filters} x {lanes.pixels}", working))
    per_row = 5
    rows = -(-len(stages) // per_row)
    svg = Svg(WIDTH, 100 * rows + 130, "pipeline with the occupancy of each part")
    for index, (name, size, share) in enumerate(stages):
        x, y = 10 + (index % per_row) * 142, 10 + (index // per_row) * 100
        svg.frame(x, y, 124, 80)
        svg.rect(x, y + 80 * (1 - min(1, share)), 124, 80 * min(1, share), LAZY, f"{name}: {_percent(share)}", 0.45)
        svg.text(x + 62, y + 22, name, "middle", "strong")
        svg.text(x + 62, y + 42, size, "middle", "soft")
        svg.text(x + 62, y + 64, f"{_percent(share)} busy", "middle")
        if (index + 1) % per_row and index + 1 < len(stages):
            svg.line(x + 124, y + 40, x + 142, y + 40, "arrow")
    top = 100 * rows + 20
    svg.text(10, top + 6, f"the engine's layers, cycles of a frame in a row ({n} frames)", kind="soft")
    cycles = [float(layer.cycles.mean()) for layer in measured.stream.layers]
    at, scale = 10.0, (WIDTH - 20) / sum(cycles)
    for index, (layer, took) in enumerate(zip(design.tail, cycles, strict=True)):
        svg.rect(at, top + 18, took * scale - 1, 40, COLOURS[index % len(COLOURS)], f"{layer.name}: {took:,.0f} cycles")
        if took * scale > 9 * len(layer.name):
            svg.text(at + took * scale / 2, top + 78, layer.name, "middle")
        at += took * scale
    return str(svg)


def _savings(subject: Subject, lazy: Measured, dense: Measured) -> Section:
    rows = []
    for what, of, unit, factor in (
        ("cycles of one frame alone", lambda m: m.alone.latency, "", 1.0),
        ("cycles between frames in a row", lambda m: np.array([_interval(m)]), "", 1.0),
        ("bytes fetched", lambda m: m.alone.bytes, "B", 1.0),
        ("multiplications", lambda m: m.macs.sum(axis=1), "", 1.0),
        ("energy: arithmetic", lambda m: m.energy.arithmetic, " µJ", 1e6),
        ("energy: on-chip memory", lambda m: m.energy.memory, " µJ", 1e6),
        ("energy: external memory", lambda m: m.energy.external, " µJ", 1e6),
        ("energy", lambda m: m.energy.total, " µJ", 1e6),
    ):
        rows.append((what, factor * float(of(dense).mean()), factor * float(of(lazy).mean()), unit))
    svg = Svg(WIDTH, 52 * len(rows) + 6, "dense against lazy")
    for index, (what, before, after, unit) in enumerate(rows):
        y, scale = 52 * index + 4, 380 / (before or 1)
        svg.text(8, y + 22, what)
        svg.rect(230, y + 2, 380, 18, DENSE, f"all filters: {before:,.6g}{unit}")
        svg.rect(230, y + 22, after * scale, 18, LAZY, f"chosen filters: {after:,.6g}{unit}")
        svg.text(616, y + 16, f"{short(before)}{unit}")
        svg.text(616, y + 36, f"{short(after)}{unit}" + (f", / {before / after:.2f}" if after else ""))
    return Section(
        "savings",
        "All filters against chosen filters",
        f"Means per frame, same hardware, same memory. Energy is an estimate by the table '{HOROWITZ.name}' "
        "(docs/cycle-model.md).",
        [View("savings", str(svg))],
        subject.command,
        key=[("all filters", DENSE), ("chosen filters", LAZY)],
    )


def _interval(measured: Measured) -> float:
    return measured.stream.interval if measured.masks.frames > 1 else float(measured.alone.latency[0])


def _timeline(subject: Subject, lazy: Measured, dense: Measured) -> Section:
    end = int(dense.stream.last_out[: min(IN_A_ROW, dense.masks.frames)][-1])
    views = [View("chosen filters", _rows(lazy, end)), View("all filters", _rows(dense, end))]
    return Section(
        "timeline",
        "Frames through the stages",
        "Frames that are offered without a pause: when each one's pixels come in, and when the engine works on which "
        "of its layers. Both views have the same scale.",
        views,
        subject.command,
        key=[(layer.name, COLOURS[i % len(COLOURS)]) for i, layer in enumerate(subject.design.tail)],
    )


def _rows(measured: Measured, end: int) -> str:
    run, count = measured.stream, min(IN_A_ROW, measured.masks.frames)
    axis = Axis(float(run.first_in[0]), float(end), 84, WIDTH - 16)
    svg = Svg(WIDTH, 36 * count + 40, "frames through the stages")
    for tick in axis.ticks:
        svg.line(axis.at(tick), 0, axis.at(tick), 36 * count + 8, "grid")
        svg.text(axis.at(tick), 36 * count + 26, short(tick), "middle", "soft")
    for frame in range(count):
        y = 36 * frame + 4
        svg.text(6, y + 19, f"frame {frame}")
        start, stop = axis.at(float(run.first_in[frame])), axis.at(float(run.last_in[frame]))
        svg.rect(start, y, stop - start, 10, DENSE, f"frame {frame}: pixels")
        at = float(run.begin[frame])
        for index, layer in enumerate(run.layers):
            took = float(layer.cycles[frame])
            x = axis.at(at)
            title = f"frame {frame}, {layer.name}: {took:,.0f} cycles"
            svg.rect(x, y + 12, max(0.5, axis.at(at + took) - x - 0.5), 16, COLOURS[index % len(COLOURS)], title)
            at += took
    return str(svg)


def _causes(subject: Subject, lazy: Measured, dense: Measured) -> Section:
    most = max(float(layer.cycles.mean()) for layer in dense.alone.layers)
    views = []
    for label, measured in (("chosen filters", lazy), ("all filters", dense)):
        svg = Svg(WIDTH, 30 * len(measured.alone.layers) + 4, f"where cycles go, {label}")
        for index, layer in enumerate(measured.alone.layers):
            y, x = 30 * index + 4, 100.0
            svg.text(6, y + 17, layer.name)
            for cause in Cause:
                took = float(layer.causes[:, cause].mean())
                width = took / most * 520
                svg.rect(x, y, width, 22, COLOURS[cause], f"{layer.name}, {cause.name.lower()}: {took:,.0f} cycles")
                x += width
            svg.text(x + 6, y + 17, short(float(layer.cycles.mean())), kind="soft")
        views.append(View(label, str(svg)))
    return Section(
        "causes",
        "Where the cycles go",
        "What the engine's multipliers do or wait for in each layer, one frame alone; means.",
        views,
        subject.command,
        key=[(cause.name.lower(), COLOURS[cause]) for cause in Cause],
    )


def _roofline(subject: Subject, lazy: Measured, dense: Measured) -> Section:
    engine = subject.design.engine
    points = []
    for hollow, measured in ((True, dense), (False, lazy)):
        for index, layer in enumerate(measured.alone.layers):
            fetched, took = float(layer.bytes.mean()), float(layer.cycles.mean())
            done = float(measured.macs[:, index].mean())
            if fetched and took and done:
                points.append((layer.name, done / fetched, done / took, hollow))
    bus = float(engine.bus_bytes)
    if isinstance(subject.memory, Dram):
        bus = min(bus, subject.memory.bandwidth * subject.memory.period_ps * 1e-12)
    roof, knee = engine.lanes.multipliers, engine.lanes.multipliers / bus
    x = Axis(min([knee, *(p[1] for p in points)]) / 3, max([knee, *(p[1] for p in points)]) * 3, 60, WIDTH - 20, True)
    y = Axis(min([roof, *(p[2] for p in points)]) / 3, roof * 2, 330, 14, True)
    svg = Svg(WIDTH, 380, "roofline of the engine's layers")
    for tick in x.ticks:
        svg.line(x.at(tick), 14, x.at(tick), 330, "grid")
        svg.text(x.at(tick), 348, short(tick), "middle", "soft")
    for tick in y.ticks:
        svg.line(60, y.at(tick), WIDTH - 20, y.at(tick), "grid")
        svg.text(54, y.at(tick) + 4, short(tick), "end", "soft")
    lowest = max(x.low, y.low / bus)
    svg.path([(x.at(v), y.at(min(roof, v * bus))) for v in (lowest, knee, x.high)], "roof")
    svg.text(WIDTH - 24, y.at(roof) - 8, f"{roof} multipliers", "end", "soft")
    svg.text(WIDTH / 2, 372, "multiplications per byte fetched", "middle", "soft")
    svg.text(60, 10, "multiplications per cycle", kind="soft")
    for name, intensity, speed, hollow in points:
        who = "all filters" if hollow else "chosen filters"
        title = f"{name}, {who}: {speed:.3g} per cycle, {intensity:.3g} per byte"
        svg.dot(x.at(intensity), y.at(speed), DENSE if hollow else LAZY, title, hollow)
        if not hollow:
            svg.text(x.at(intensity) + 8, y.at(speed) + 4, name)
    return Section(
        "roofline",
        "Roofline",
        "Each layer of the engine against what multipliers and memory allow. Padding counts as work that is skipped, "
        "so a layer can lie above the roof; layers whose weights are all on chip are left out.",
        [View("roofline", str(svg))],
        subject.command,
        key=[("all filters", DENSE), ("chosen filters", LAZY)],
    )


def _front(subject: Subject) -> list[Section]:
    if not subject.front:
        return []
    points = sorted(subject.front, key=lambda point: point.bytes)
    worst, best = min(p.accuracy for p in points), max(p.accuracy for p in points)
    x = Axis(0, max(p.bytes for p in points) or 1, 60, WIDTH - 60)
    y = Axis(100 * worst - 1, 100 * best + 1, 280, 20)
    svg = Svg(WIDTH, 330, "accuracy against bytes")
    for tick in x.ticks:
        svg.line(x.at(tick), 20, x.at(tick), 280, "grid")
        svg.text(x.at(tick), 298, short(tick), "middle", "soft")
    for tick in y.ticks:
        svg.line(60, y.at(tick), WIDTH - 60, y.at(tick), "grid")
        svg.text(54, y.at(tick) + 4, f"{tick:g} %", "end", "soft")
    svg.path([(x.at(p.bytes), y.at(100 * p.accuracy)) for p in points], "curve")
    for point in points:
        title = f"{_percent(point.keep)} of the filters: {100 * point.accuracy:.2f} %, {point.bytes:,.4g} bytes"
        svg.dot(x.at(point.bytes), y.at(100 * point.accuracy), LAZY, title)
        svg.text(x.at(point.bytes) + 8, y.at(100 * point.accuracy) + 16, _percent(point.keep), kind="soft")
    svg.text(WIDTH / 2, 322, "bytes of the lazy layers per frame", "middle", "soft")
    words = "The same network at several shares of filters, a register's value each."
    return [Section("front", "Accuracy against cost", words, [View("front", str(svg))], subject.front_command)]


def _heat(subject: Subject, lazy: Measured) -> list[Section]:
    if subject.labels is None or not subject.design.lazy_layers:
        return []
    classes = np.unique(subject.labels)
    views = []
    for layer, chosen in zip(subject.design.tail, lazy.masks.chosen, strict=True):
        if not layer.lazy:
            continue
        use = np.array([chosen[subject.labels == label].mean(axis=0) for label in classes])  # (classes, filters)
        ordered = use[:, np.lexsort((-use.max(axis=0), use.argmax(axis=0)))]
        svg = Svg(WIDTH, 24 * len(classes) + 30, f"filters of {layer.name} by class")
        for row, label in enumerate(classes):
            svg.text(52, 24 * row + 17, str(label), "end")
        svg.parts.append(
            f'<image x="60" y="0" width="{WIDTH - 70}" height="{24 * len(classes)}" preserveAspectRatio="none" '
            f'style="image-rendering:pixelated" href="data:image/png;base64,{_png(ordered)}"/>'
        )
        svg.text(WIDTH / 2, 24 * len(classes) + 20, f"{layer.filters} filters, by the class that uses them most",
                 "middle", "soft")  # fmt: skip
        views.append(View(layer.name, str(svg)))
    return [
        Section(
            "classes",
            "Which filters each class uses",
            "The darker, the more of a class's frames a filter was chosen for. Rows are classes.",
            views,
            subject.command,
        )
    ]


def _png(shares: NDArray[np.float64]) -> str:
    """Shares (rows, columns) from 0 to 1 as the opacity of one colour, in base64."""
    rows, columns = shares.shape
    pixels = np.zeros((rows, columns, 4), np.uint8)
    pixels[:, :, :3] = (10, 125, 108)
    pixels[:, :, 3] = np.rint(255 * shares)
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 6, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


def _elsewhere(subject: Subject) -> list[Section]:
    if subject.compared is None:
        return []
    seconds = sorted(subject.compared.seconds.items(), key=lambda pair: pair[1])
    axis = Axis(seconds[0][1] / 2, seconds[-1][1], 300, WIDTH - 80, True)
    svg = Svg(WIDTH, 28 * len(seconds) + 4, "time of one frame elsewhere")
    for index, (name, took) in enumerate(seconds):
        y = 28 * index + 4
        svg.text(6, y + 15, name)
        ours = "board" in name
        svg.rect(300, y, axis.at(took) - 300, 20, LAZY if ours else DENSE, f"{name}: {took:.3g} s")
        svg.text(axis.at(took) + 6, y + 15, f"{short(1e3 * took)} ms", kind="soft")
    words = "Time of one frame, batch of one, on a logarithmic scale. Boards by the cycle model; bounds are analytic."
    return [
        Section(
            "processors",
            "Beside processors",
            words,
            [View("time", str(svg))],
            subject.compared.command,
            key=[("this accelerator", LAZY), ("processors", DENSE)],
        )
    ]


def _resources(subject: Subject) -> Section:
    needs = resources(subject.design)
    blocks: dict[str, int] = {}
    for memory in needs.memories:
        name = ".".join(memory.name.split(".")[:2])
        blocks[name] = blocks.get(name, 0) + memory.bits
    rows = [("multipliers", f"{needs.multipliers:,}"), ("memory, all", f"{needs.memory_bits / 8192:,.1f} KiB")]
    if subject.board is not None:
        on = subject.board
        rows[0] = ("multipliers", f"{needs.multipliers:,} of {on.multipliers:,}")
        rows[1] = ("memory, all", f"{needs.memory_bits / 8192:,.1f} of {on.memory_bits / 8192:,.0f} KiB")
    largest = sorted(blocks.items(), key=lambda pair: -pair[1])[:12]
    rows += [(name, f"{bits / 8192:,.1f} KiB") for name, bits in largest]
    return Section(
        "resources",
        "Resources",
        "Multipliers and memories, counted before synthesis; the largest memories by instance.",
        [View("resources", _table(("", ""), rows))],
        subject.command,
    )


def _synthesis(subject: Subject) -> list[Section]:
    found = subject.synthesis
    if found is None:
        return []
    names = ("LUTs", "memory LUTs", "carry cells", "flip-flops", "multipliers", "block RAMs", "MHz")

    def cells(counts: Resources, timing: Timing | None = None) -> list[str]:
        all_of_them = (
            counts.luts,
            counts.memory_luts,
            counts.carries,
            counts.ffs,
            counts.multipliers,
            counts.block_rams,
        )
        return [*(f"{count:,}" for count in all_of_them), f"{timing.fmax:.1f}" if timing else ""]

    rows = [[target.title, *cells(target.resources, target.timing)] for target in found.targets]
    views = [View("targets", _table(("", *names), rows))]
    for target in found.targets:
        blocks = [[block.name or "top", *cells(block.resources)[:-1]] for block in target.blocks]
        blocks.append(["measure, predict, select", *cells(target.predictor)[:-1]])
        views.append(View(target.target, _table(("", *names[:-1]), blocks)))
    tools = ", ".join(f"{name} {number}" for name, number in found.tools.items())
    return [
        Section(
            "synthesis",
            "Synthesis",
            f"What the tools made of the RTL ({tools}): all targets, and each one by block. MHz where it was placed "
            "and routed; block RAMs of 18 kbit.",
            views,
            subject.synthesis_command,
        )
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    top = f"<thead>{row(head, 'th')}</thead>" if any(head) else ""
    return f"<table>{top}<tbody>{''.join(row(cells, 'td') for cells in rows)}</tbody></table>"
