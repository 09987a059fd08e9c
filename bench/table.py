"""The table, as people read it and as it stands in the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .figures import Figures

HEAD = (
    "way",
    "seconds (spread)",
    "to floor",
    "to community",
    "requests",
    "failed",
    "closed idle",
    "member out, s (longest)",
)


def row(each: Figures) -> list[str]:
    """One way."""
    return [
        each.way,
        f"{each.seconds:.1f} ({each.fastest:.1f}-{each.slowest:.1f})",
        _times(each.to_floor),
        _times(each.to_peer),
        str(each.requests),
        str(each.failed),
        str(each.closed_idle),
        f"{each.out_median:.2f} ({each.out_longest:.2f})",
    ]


def _times(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio:.2f}" if ratio >= 0.995 else f"1/{1 / ratio:.1f}"


def render(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with even columns."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def text(line: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"

    return "\n".join([text(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(text, lines[1:])])


def scenario_table(all_figures: Iterable[Figures]) -> str:
    """All ways of one scenario."""
    return render(HEAD, (row(each) for each in all_figures))
