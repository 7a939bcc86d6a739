"""What is left of a telling: the time line, for the terminal and as a picture, and a folder to look into."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.story.story import Told

BAR = 24  # characters
WIDTH = 118


def time_line(told: Sequence[Told]) -> Table:
    """A line for each chapter with its place in time, and below it what is to be remembered of it."""
    whole = max((one.began + one.seconds for one in told), default=0.0) or 1.0
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for one in told:
        start = round(BAR * one.began / whole)
        length = max(1, round(BAR * one.seconds / whole))
        bar = Text(" " * start + "━" * length + " " * (BAR - start - length), style="cyan")
        table.add_row(f"{one.seconds:.1f} s", bar, Text(one.title, style="bold"))
        for note in one.notes:
            table.add_row("", "", Text(note, style="green"))
    table.add_row(f"{whole:.1f} s", "", Text("in all", style="bold"))
    return table


def picture(told: Sequence[Told], file: Path) -> None:
    """The time line as an SVG file."""
    console = Console(file=io.StringIO(), record=True, width=WIDTH, force_terminal=True, highlight=False, emoji=False)
    console.print(Text("$ make demo", style="bold"))
    console.print(time_line(told))
    file.write_text(console.export_svg(title="Modelyard"), encoding="utf-8")


def keep(told: Sequence[Told], console: Console, folder: Path) -> list[Path]:
    """Write what was printed and the time line into the folder.

    Args:
        console: which has recorded.

    Returns:
        The files.
    """
    page, lines, line = folder / "story.html", folder / "timeline.json", folder / "timeline.svg"
    page.write_text(console.export_html(clear=False), encoding="utf-8")
    (folder / "story.txt").write_text(console.export_text(clear=False), encoding="utf-8")
    lines.write_text(json.dumps([asdict(one) for one in told], indent=2) + "\n", encoding="utf-8")
    picture(told, line)
    return [page, folder / "story.txt", lines, line]
