"""What the command line prints of executions and versions."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from pipeline.endpoint_checks import Results
from pipeline.endpoint_test import counted
from pipeline.execution import Step

STYLES = {"Succeeded": "green", "InService": "green", "Failed": "red", "Stopped": "yellow", "Executing": "cyan"}


def console() -> Console:
    """Colours on a terminal, plain text in a file or a CI log. No line is broken: ARNs stay whole to be copied."""
    return Console(highlight=False, emoji=False, soft_wrap=True)


def step_line(step: Step) -> str:
    """Preprocess             Succeeded   12.3 s"""
    status = f"{step.status}, from the cache" if step.cached and step.status == "Succeeded" else step.status
    seconds = "" if step.seconds is None or step.status in ("Starting", "Executing") else f"{step.seconds:8.1f} s"
    return f"{step.name:<18} {status:<12} {seconds}".rstrip()


def print_step(out: Console, step: Step) -> None:
    out.print(step_line(step), style=STYLES.get(step.status, ""), markup=False)


def print_versions(out: Console, found: list[dict[str, Any]]) -> None:
    """Two lines a version: whose it is, and its metrics, the main one first. They stand below each other.

    Further ones where it is a copy, and where it was deployed, with what happened when that failed.
    """
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
        if version["promoted_from"]:
            out.print(f"      a copy of {version['promoted_from'].partition(':model-package/')[2]}", markup=False)
        deployment = version["deployment"]
        if deployment["status"] is not None:
            why = f": {version['approval_description']}" if deployment["status"] == "failed" else ""
            tested = f", endpoint tests {version['tests']['status']}" if version["tests"]["status"] else ""
            out.print(f"      deployment {deployment['number']} {deployment['status']}{why}{tested}", markup=False)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value or "-")


def print_plan(out: Console, plan: dict[str, Any]) -> None:
    """The steps in order, then what changes and what it may cost."""
    version = "" if plan["version"] is None else f" with version {plan['version']}"
    out.print(f"{plan['endpoint']}{version}", style="bold", markup=False)
    if plan["refused"]:
        for line in plan["refused"].splitlines():
            out.print(f"  refused: {line}", style="red", markup=False)
        return
    if not plan["calls"]:
        out.print("  nothing has to be done", markup=False)
    for number, call in enumerate(plan["calls"], 1):
        if "wait" in call:
            out.print(f"{number:>4}  wait: {call['wait']}", markup=False)
        else:
            name = next((value for key, value in call["request"].items() if key.endswith(("Name", "ResourceId"))), "")
            what = " ".join(part for part in (call["service"], call["operation"], name) if part)
            out.print(f"{number:>4}  {what}: {call['summary']}", markup=False)
    for line in plan["changes"]:
        out.print(f"  change: {line}", markup=False)
    for line in plan["warnings"]:
        out.print(f"  warning: {line}", style="yellow", markup=False)
    if plan["hours"] is not None:
        out.print(f"  at most {plan['hours']:g} instance-hours a month", markup=False)
    monthly = plan["monthly"]
    cost = "unknown" if monthly["usd"] is None else f"at most {monthly['usd']:.2f} USD"
    out.print(f"  cost a month: {cost} ({monthly['why']})", markup=False)


def print_endpoint(out: Console, found: dict[str, Any]) -> None:
    """InService  churn-dev  version 3  churn-dev-4  AllTraffic 2 of 2 instances"""
    if found["status"] == "none":
        out.print(f"there is no endpoint {found['endpoint']}, and no schedule", markup=False)
        return
    version = "no version" if found["package_arn"] is None else "version " + found["package_arn"].rpartition("/")[2]
    if found["schedule"]:
        out.print(f"scheduled    {found['endpoint']}  {version}  {found['schedule']}", style="green", markup=False)
        return
    variants = ", ".join(f"{one['name']} {_capacity(one)}" for one in found["variants"])
    out.print(
        f"{found['status']:<12} {found['endpoint']}  {version}  {found['config']}  {variants}".rstrip(),
        style=STYLES.get(found["status"], ""),
        markup=False,
    )
    if found["next_config"]:
        out.print(f"  on its way: {found['next_config']}", markup=False)
    if found["reason"]:
        out.print(f"  {found['reason']}", style="red", markup=False)


def print_endpoint_tests(out: Console, name: str, version: str, results: Results) -> None:
    """A line for each case, below it what was wrong; then the load."""
    out.print(f"{name} serves {version}", style="bold", markup=False)
    for case in results.cases:
        word, style = ("skipped", "yellow") if case.skipped else _verdict(case.passed)
        out.print(f"  {word:<8} {case.seconds:6.2f} s  {case.name}", style=style, markup=False)
        for line in (case.skipped or case.fault).splitlines():
            out.print(f"             {line}", markup=False)
    load = results.load
    if load is not None:
        word, style = _verdict(load.passed)
        measured = f"p50 {load.p50_ms:.3g} ms, p99 {load.p99_ms:.3g} ms, errors {100 * load.error_share:.3g} %"
        asked = f"{load.requests} requests, {load.requests_per_second:.3g} a second answered"
        line = f"  {word:<8} {load.seconds:6.2f} s  load: {asked}, {measured}"
        out.print(line, style=style, markup=False)
        for line in load.fault.splitlines():
            out.print(f"             {line}", markup=False)
    failed = len(results.failed)
    said = f"{failed} failed" if failed else "all passed"
    out.print(f"{counted(results.cases)} in {results.seconds:.1f} s: {said}", style="bold", markup=False)


def _verdict(passed: bool) -> tuple[str, str]:
    """The word and its style."""
    return ("passed", "green") if passed else ("FAILED", "red")


def _capacity(variant: dict[str, Any]) -> str:
    if variant["max_concurrency"] is not None:
        return f"serverless, {variant['max_concurrency']} requests at a time"
    return f"{variant['instances']} of {variant['wanted_instances']} instances"
