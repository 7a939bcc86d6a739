"""What the command line prints of executions and versions."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.execution import Step

STYLES = {"Succeeded": "green", "Failed": "red", "Stopped": "yellow", "Executing": "cyan"}


def console() -> Console:
    """Colours on a terminal; plain lines, never wrapped, in a file or a CI log."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def step_line(step: Step) -> str:
    """Preprocess             Succeeded   12.3 s"""
    status = f"{step.status}, from the cache" if step.cached and step.status == "Succeeded" else step.status
    seconds = "" if step.seconds is None or step.status in ("Starting", "Executing") else f"{step.seconds:8.1f} s"
    return f"{step.name:<18} {status:<12} {seconds}".rstrip()


def print_step(out: Console, step: Step) -> None:
    out.print(step_line(step), style=STYLES.get(step.status, ""), markup=False)


def print_versions(out: Console, found: list[dict[str, Any]]) -> None:
    metrics = sorted({name for version in found for name in version["metrics"] if name != "threshold"})
    table = Table("version", "approval", "created", "branch", "commit", *metrics, box=None)
    for version in found:
        table.add_row(
            str(version["version"]),
            version["approval"],
            version["created"],
            version["branch"] or "",
            (version["commit"] or "")[:10],
            *(_shown(version["metrics"].get(name)) for name in metrics),
        )
    # rich fits a table to the terminal; a pipe or a log has no width to fit to
    (out if out.is_terminal else Console(width=200, highlight=False)).print(table)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value or "")
