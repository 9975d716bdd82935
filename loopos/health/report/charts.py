"""Curves and heat maps as inline SVG: no library, no script, no network."""

from __future__ import annotations

import itertools
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 860, 250
LEFT, RIGHT, TOP, BOTTOM = 64, 28, 20, 30
MAX_POINTS = 1200  # of one curve; beyond, the lowest and highest of each part are drawn
MAX_CELLS = 160  # columns of a heat map
COLOURS = ("#2563a8", "#c2571a", "#2b7a4b", "#7a4b9e", "#a8862a", "#4a8f94")
TITLE = 32  # height of a chart's title in a picture
_STYLE = (
    "text { font: 11px system-ui, sans-serif; fill: #555 } .title { font-size: 13px; font-weight: 600; fill: #1c1c1c } "
    ".key { font-weight: 600 } .grid { stroke: #e3e3e3 } .axis { stroke: #888 } .bad { fill: #c0392b } "
    ".mark { stroke: #c0392b; stroke-dasharray: 3 3 }"
)
_FIGURE = re.compile(r"<figure><figcaption>(.*)</figcaption>\n<svg(.*)</figure>", re.DOTALL)
Points = Sequence[tuple[float, float | None]]
Band = Sequence[tuple[float, float, float]]  # (x, low, high)


def chart(
    title: str,
    curves: Mapping[str, Points],
    *,
    logarithmic: bool = False,
    marks: Iterable[float] = (),
    x_name: str = "step",
    bands: Mapping[str, Band] | None = None,
    x_logarithmic: bool = False,
) -> str:
    """Curves of (x, y) by name over one x axis. A y of None or not finite (or not positive on a logarithmic axis)
    breaks the line, and is marked in red at the top; ``marks`` are vertical lines at these x; ``bands`` are pale areas
    about the curve of their name; ``x_name`` names the x axis. A name without a point is not drawn and keeps its
    colour. Every x on a logarithmic axis is positive."""
    if x_logarithmic:
        curves = {name: [(math.log10(x), y) for x, y in points] for name, points in curves.items()}
    drawn = {name: [(x, _height(y, logarithmic)) for x, y in points] for name, points in curves.items() if points}
    areas = {name: _area((bands or {}).get(name, ()), logarithmic, x_logarithmic) for name in drawn}
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points if y is not None]
    ys += [y for area in areas.values() for _, *ends in area for y in ends]
    if not xs:
        return ""
    x_low, x_high = _span(min(xs), max(xs))
    y_low, y_high = _span(min(ys), max(ys)) if ys else (0.0, 1.0)
    margin = 0.04 * (y_high - y_low)
    y_low, y_high = y_low - margin, y_high + margin

    def at(x: float, y: float) -> str:
        across = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        down = TOP + (y_high - y) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{down:.1f}"

    def place(x: float, y: float) -> list[str]:
        return at(x, y).split(",")

    parts = [_opening(title, HEIGHT)]
    for value in ticks(y_low, y_high, logarithmic):
        down = place(x_low, value)[1]
        label = number(10**value if logarithmic else value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down}" y2="{down}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down}" dy="4" text-anchor="end">{label}</text>')
    whole = all(float(x).is_integer() for x in xs)
    parts += _x_axis(x_low, x_high, place, HEIGHT, x_name, x_logarithmic, whole)
    for x in marks:
        if x_low <= x <= x_high:
            across = place(x, y_low)[0]
            parts.append(f'<line class="mark" x1="{across}" x2="{across}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    order = list(curves)
    for place_of_key, (name, points) in enumerate(drawn.items()):
        i = order.index(name)  # the colour of a curve is the same in charts that lack another
        colour = COLOURS[i % len(COLOURS)]
        if area := areas[name]:
            outline = [at(x, low) for x, low, _ in area] + [at(x, high) for x, _, high in reversed(area)]
            parts.append(f'<polygon fill="{colour}" fill-opacity="0.15" points="{" ".join(outline)}"/>')
        for piece in _pieces(_thinned(points)):
            if len(piece) == 1:
                across, down = place(*piece[0])
                parts.append(f'<circle class="f{i % len(COLOURS)}" cx="{across}" cy="{down}" r="3" fill="{colour}"/>')
            else:
                line = " ".join(at(x, y) for x, y in piece)
                style = f'class="c{i % len(COLOURS)}" fill="none" stroke="{colour}" stroke-width="1.5"'
                parts.append(f'<polyline {style} points="{line}"/>')
        bad = [x for x, y in points if y is None][:MAX_POINTS]
        parts += [f'<circle class="bad" cx="{place(x, y_low)[0]}" cy="{TOP - 5}" r="3"/>' for x in bad]
        if len(drawn) > 1:  # above the frame, where no curve is
            across = WIDTH - RIGHT - 90 * (len(drawn) - 1 - place_of_key)
            parts.append(
                f'<text x="{across}" y="{TOP - 11}" text-anchor="end" class="key f{i % len(COLOURS)}" '
                f'style="fill: {colour}">{escape(name)}</text>'
            )
    parts.append("</svg></figure>")
    return "\n".join(parts)


def heat_map(title: str, rows: Mapping[str, Points], low: float, high: float) -> str:
    """A row for each name, a column for each x, or for each part of the x axis where they are many; colour by log10 of
    the median positive y between ``low`` and ``high``. Grey: no value."""
    xs = sorted({x for points in rows.values() for x, _ in points})
    if not xs:
        return ""
    edges = _edges(xs)
    x_low, x_high = edges[0], edges[-1]
    left, row_height = 200, 14
    height = TOP + row_height * len(rows) + BOTTOM
    scale = (WIDTH - left - RIGHT) / (x_high - x_low)
    parts = [_opening(title, height)]
    for r, (name, points) in enumerate(rows.items()):
        down = TOP + r * row_height
        shown = name if len(name) <= 30 else f"…{name[-29:]}"
        label = f"{escape(shown)}<title>{escape(name)}</title>"
        parts.append(f'<text x="{left - 6}" y="{down + 11}" text-anchor="end">{label}</text>')
        cells: dict[int, list[float]] = {}
        for x, y in points:
            column = min(bisect_right(edges, x), len(edges) - 1) - 1
            cells.setdefault(column, []).append(math.nan if y is None else y)
        for column, values in cells.items():
            colour, said = _shade(values, low, high)
            across, width = left + scale * (edges[column] - x_low), scale * (edges[column + 1] - edges[column])
            box = f'x="{across:.2f}" y="{down}" width="{width + 0.3:.2f}" height="{row_height - 1}"'
            parts.append(f'<rect {box} fill="{colour}"><title>{escape(name)}: {said}</title></rect>')
    for value in ticks(xs[0], xs[-1], False, whole=True):
        across = left + (value - x_low) / (x_high - x_low) * (WIDTH - left - RIGHT)
        parts.append(f'<text x="{across:.1f}" y="{height - 10}" text-anchor="middle">{number(value)}</text>')
    parts.append(f'<text x="{left - 6}" y="{height - 10}" text-anchor="end">step</text>')
    parts.append("</svg></figure>")
    return "\n".join(parts)


def picture(figures: Sequence[str]) -> str:
    """Charts one below the other, with their titles, as an SVG file of its own."""
    parts, down = [], 0
    for figure in figures:
        title, drawn = _FIGURE.fullmatch(figure).groups()
        parts.append(f'<text class="title" x="12" y="{down + 20}">{title}</text>')
        parts.append(f'<svg x="0" y="{down + TITLE}" width="{WIDTH}" height="{HEIGHT}"{drawn}')
        down += TITLE + HEIGHT
    box = f'width="{WIDTH}" height="{down}" viewBox="0 0 {WIDTH} {down}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>\n<style>{_STYLE}</style>'
    return "\n".join([opening, f'<rect width="{WIDTH}" height="{down}" fill="#fff"/>', *parts, "</svg>\n"])


def _edges(xs: Sequence[float]) -> list[float]:
    """Of the columns of a heat map: one for each x, half-way to its neighbours; equal ones where that would be too
    many."""
    if len(xs) > MAX_CELLS:
        return [xs[0] + (xs[-1] - xs[0]) * i / MAX_CELLS for i in range(MAX_CELLS + 1)]
    if len(xs) == 1:
        return list(_span(xs[0], xs[0]))
    between = [a + (b - a) / 2 for a, b in itertools.pairwise(xs)]
    return [2 * xs[0] - between[0], *between, 2 * xs[-1] - between[-1]]


def ticks(low: float, high: float, logarithmic: bool, *, whole: bool = False) -> list[float]:
    """Round values from ``low`` to ``high``, about five; whole: no fractions. A logarithmic axis is given as powers of
    ten: it has whole powers if there are three, else 1, 2 and 5 times them, else what a linear one would have."""
    if logarithmic:
        powers = range(math.ceil(low), math.floor(high) + 1)
        if len(powers) >= 3:
            return [float(power) for power in powers][:: max(1, len(powers) // 6)]
        among = range(math.floor(low), math.ceil(high) + 1)
        fine = [power + math.log10(m) for power in among for m in (1, 2, 5) if low <= power + math.log10(m) <= high]
        if len(fine) >= 3 or high > 300:
            return fine
        return [math.log10(value) for value in ticks(10**low, 10**high, False) if value > 0]
    raw = (high - low) / 6
    if not raw > 0 or not math.isfinite(raw):
        return [low] if whole and low == high else []
    raw = max(raw, 1.0) if whole else raw
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next((m * unit for m in (1, 2, 5) if m * unit >= raw), 10 * unit)
    first = math.ceil(low / step)
    return [step * (first + i) for i in range(8) if step * (first + i) <= high]


def number(value: float) -> str:
    """As an axis shows it."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def _opening(title: str, height: float) -> str:
    box = f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}"'
    return f"<figure><figcaption>{escape(title)}</figcaption>\n<svg {box}>"


def _x_axis(
    low: float, high: float, place, height: float, name: str, logarithmic: bool = False, whole: bool = True
) -> list[str]:
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height - BOTTOM}" y2="{height - BOTTOM}"/>']
    for value in ticks(low, high, logarithmic, whole=whole):
        across, shown = place(value, 0)[0], number(10**value if logarithmic else value)
        parts.append(f'<text x="{across}" y="{height - 12}" text-anchor="middle">{shown}</text>')
    parts.append(f'<text x="{LEFT - 14}" y="{height - 12}" text-anchor="end">{escape(name)}</text>')
    return parts


def _area(band: Band, logarithmic: bool, x_logarithmic: bool) -> list[tuple[float, float, float]]:
    """A band as it is drawn, without the places where an end has no height."""
    found = []
    for x, *ends in band:
        low, high = (_height(y, logarithmic) for y in ends)
        if low is not None and high is not None:
            found.append((math.log10(x) if x_logarithmic else x, low, high))
    return found


def _height(y: float | None, logarithmic: bool) -> float | None:
    if y is None or not math.isfinite(y) or (logarithmic and y <= 0):
        return None
    return math.log10(y) if logarithmic else y


def _span(low: float, high: float) -> tuple[float, float]:
    """Never empty, and never so wide that its length overflows."""
    low, high = max(low, -1e300), min(high, 1e300)
    pad = 0.0 if high > low else max(abs(low) * 0.05, 0.5)
    return low - pad, high + pad


def _thinned(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    if len(points) <= MAX_POINTS:
        return list(points)
    kept: list[tuple[float, float | None]] = []
    size = math.ceil(2 * len(points) / MAX_POINTS)
    for start in range(0, len(points), size):
        part = points[start : start + size]
        finite = [point for point in part if point[1] is not None]
        broken = next((point for point in part if point[1] is None), None)
        ends = {min(finite, key=lambda p: p[1]), max(finite, key=lambda p: p[1])} if finite else set()
        kept += sorted(ends | ({broken} if broken else set()), key=lambda p: p[0])
    return kept


def _pieces(points: Iterable[tuple[float, float | None]]) -> Iterable[list[tuple[float, float]]]:
    piece: list[tuple[float, float]] = []
    for x, y in points:
        if y is not None:
            piece.append((x, y))
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def _shade(values: Sequence[float], low: float, high: float) -> tuple[str, str]:
    """(colour, what it is): blue for small, white between, red for large; black for not finite, grey for 0."""
    if not all(math.isfinite(value) for value in values):
        return "#000000", "not finite"
    middle = sorted(values)[len(values) // 2]
    if middle <= 0:
        return "#9a9a9a", number(middle)
    share = (math.log10(middle) - math.log10(low)) / (math.log10(high) - math.log10(low))
    share = min(1.0, max(0.0, share))
    ends = ((37, 99, 168), (244, 240, 232), (190, 50, 40))
    from_, to, part = (ends[0], ends[1], share * 2) if share < 0.5 else (ends[1], ends[2], share * 2 - 1)
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(from_, to, strict=True)), number(middle)
