"""Two timelines on top of each other, as an SVG picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from agentservesim.validation.recording import Array

_WIDTH, _HEIGHT, _LEFT, _TOP = 720, 130, 60, 40
_STYLE = (
    "text{font:12px sans-serif;fill:#333}.frame{fill:none;stroke:#ccc}"
    ".real{fill:none;stroke:#1f6fb2;stroke-width:2}"
    ".sim{fill:none;stroke:#d1540f;stroke-width:1.5;stroke-dasharray:5 3}"
)


def draw(title: str, edges: Array, panels: Sequence[tuple[str, Array, Array]]) -> str:
    """Panels one below the other: a title, the real line (solid) and the simulated one (dashed), each of one
    value for each bin between the `edges` (seconds)."""
    height = _TOP + len(panels) * (_HEIGHT + 30) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 20} {height}">',
        f"<style>{_STYLE}</style>",
        f'<text x="{_LEFT}" y="18">{escape(title)}: recorded (solid) and simulated (dashed)</text>',
    ]
    for place, (name, real, simulated) in enumerate(panels):
        top = _TOP + place * (_HEIGHT + 30)
        most = max(float(real.max(initial=0.0)), float(simulated.max(initial=0.0)), 1e-9)
        parts += [
            f'<rect class="frame" x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}"/>',
            f'<text x="{_LEFT + 6}" y="{top + 15}">{escape(name)}</text>',
            f'<text x="{_LEFT - 6}" y="{top + 10}" text-anchor="end">{most:.3g}</text>',
            f'<text x="{_LEFT - 6}" y="{top + _HEIGHT}" text-anchor="end">0</text>',
            _steps("real", edges, real, top, most),
            _steps("sim", edges, simulated, top, most),
        ]
    parts.append(
        f'<text x="{_LEFT + _WIDTH}" y="{height - 22}" text-anchor="end">{edges[-1]:.4g} s</text></svg>'
    )
    return "\n".join(parts) + "\n"


def _steps(kind: str, edges: Array, values: Array, top: int, most: float) -> str:
    across = _LEFT + edges / edges[-1] * _WIDTH
    down = top + _HEIGHT * (1 - values / most)
    points = [
        f"{x:.1f},{y:.1f}"
        for start, end, y in zip(across[:-1], across[1:], down, strict=True)
        for x in (start, end)
    ]
    return f'<polyline class="{kind}" points="{" ".join(points)}"/>'
