"""What the command line prints of executions and versions."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from pipeline.execution import Step

STYLES = {"Succeeded": "green", "Failed": "red", "Stopped": "yellow", "Executing": "cyan"}


def console() -> Console:
    """Colours on a terminal, plain text in a file or a CI log. No line is broken: ARNs stay whole to be copied."""
    return Console(highlight=False, soft_wrap=True)


def step_line(step: Step) -> str:
    """Preprocess             Succeeded   12.3 s"""
    status = f"{step.status}, from the cache" if step.cached and step.status == "Succeeded" else step.status
    seconds = "" if step.seconds is None or step.status in ("Starting", "Executing") else f"{step.seconds:8.1f} s"
    return f"{step.name:<18} {status:<12} {seconds}".rstrip()


def print_step(out: Console, step: Step) -> None:
    out.print(step_line(step), style=STYLES.get(step.status, ""), markup=False)


def print_versions(out: Console, found: list[dict[str, Any]]) -> None:
    """Two lines a version: whose it is, and its metrics, the main one first. They stand below each other."""
    names = {name for version in found for name in version["metrics"] if name not in ("threshold", "tolerance")}
    width = max(len(version["branch"] or "") for version in found)
    for version in found:
        main = version["main_metric"]
        metrics = sorted(names, key=lambda name: (name != main, name))
        shown = "  ".join(f"{name} {_shown(version['metrics'].get(name)):<6}" for name in metrics)
        dirty = "-dirty" if (version["tree"] or "").endswith("-dirty") else ""
        commit, created = (version["commit"] or "")[:10] + dirty, version["created"].replace("T", " ")[:16]
        out.print(
            f"{version['version']:>4}  {version['approval']:<21}  {created} UTC  "
            f"{version['branch'] or '':<{width}}  {commit}",
            style="bold",
            markup=False,
        )
        out.print(f"      {shown}".rstrip(), markup=False)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value or "-")
