"""Drawings as text: shapes of an SVG, and axes to place them by. Colours are variables of the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape


def number(value: float) -> str:
    """Short, for attributes."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


@dataclass
class Svg:
    """A drawing of `width` x `height`, called `label` for those who cannot see it."""

    width: float
    height: float
    label: str
    parts: list[str] = field(default_factory=list)

    def rect(
        self, x: float, y: float, width: float, height: float, fill: str, title: str = "", opacity: float = 1.0
    ) -> None:
        """A filled box; `title` is shown when it is pointed at."""
        place = f'x="{number(x)}" y="{number(y)}" width="{number(max(0, width))}" height="{number(max(0, height))}"'
        faint = f' fill-opacity="{number(opacity)}"' if opacity < 1 else ""
        self.parts.append(f'<rect {place} fill="{fill}"{faint}>{_title(title)}</rect>')

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        """An empty box with round corners."""
        place = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
        self.parts.append(f'<rect class="frame" {place} rx="6"/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> None:
        """From one point to another."""
        self.parts.append(
            f'<line class="{kind}" x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"/>'
        )

    def path(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Through all points."""
        joined = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self.parts.append(f'<polyline class="{kind}" points="{joined}"/>')

    def dot(self, x: float, y: float, fill: str, title: str = "", hollow: bool = False) -> None:
        """A point."""
        paint = f'fill="none" stroke="{fill}" stroke-width="2"' if hollow else f'fill="{fill}"'
        self.parts.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="5" {paint}>{_title(title)}</circle>')

    def text(self, x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> None:
        """Words at a point."""
        style = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text x="{number(x)}" y="{number(y)}" text-anchor="{anchor}"{style}>{escape(words)}</text>')

    def __str__(self) -> str:
        return (
            f'<svg viewBox="0 0 {number(self.width)} {number(self.height)}" role="img" '
            f'aria-label="{escape(self.label, quote=True)}" style="min-width:{number(min(self.width, 640))}px">'
            + "".join(self.parts)
            + "</svg>"
        )


def _title(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""


@dataclass(frozen=True)
class Axis:
    """Values `low` to `high` on the pixels `start` to `end`, in proportion or by their logarithms."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The pixel of `value`."""
        low, high, value = (math.log(x) if self.logarithmic else x for x in (self.low, self.high, value))
        return self.start + (value - low) / ((high - low) or 1) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values on the axis."""
        if self.logarithmic:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**power for power in powers]
        span = (self.high - self.low) or 1
        step = 10.0 ** math.floor(math.log10(span))
        step = next(step * part for part in (0.1, 0.2, 0.5, 1.0, 2.0) if span / (step * part) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [step * n for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number in few letters: 12,300,000 is 12.3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
