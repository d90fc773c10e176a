"""Line drawings of figures, for pages of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

COLOURS = ("#1b6ca8", "#c8553d", "#4f7942", "#8e5ea2", "#7a7a7a")


def plot(title: str, axes: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Lines over a share from 0 to 1 as SVG, with what `axes` says below; the upright axis spans what is there."""
    values = [y for line in series.values() for _, y in line]
    low, high = min(values), max(values)
    width, height, left, top = 640, 360, 60, 40

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x * (width - left - 170), top + (high - y) / ((high - low) or 1) * (height - top - 50)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" ',
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="20" font-size="14">{title}</text>',
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, bottom = place(tick, low)
        parts.append(f'<text x="{x:.0f}" y="{bottom + 18:.0f}" text-anchor="middle">{tick}</text>')
        y = low + tick * (high - low)
        parts.append(f'<text x="{left - 6}" y="{place(0, y)[1] + 4:.0f}" text-anchor="end">{y:.3g}</text>')
        parts.append(f'<path d="M{left} {place(0, y)[1]:.1f}H{width - 170}" stroke="#dddddd"/>')
    parts.append(f'<text x="{left}" y="{height - 8}">{axes}</text>')
    for index, (name, line) in enumerate(series.items()):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        colour = COLOURS[index % len(COLOURS)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{point.split(",")[0]}" cy="{point.split(",")[1]}" r="3" fill="{colour}"/>'
            for point in points.split()
        ]
        parts.append(f'<text x="{width - 160}" y="{top + 16 * index + 10}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])
