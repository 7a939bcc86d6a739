"""`ready`: is a project ready for production, item by item."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from lifecycle_lambdas import readiness, readiness_facts
from lifecycle_lambdas.commands.common import NOT_SETTLED, OK, InputError, context_of_operator, indented, table
from lifecycle_lambdas.readiness import NOT_CHECKED, Item

TEXT = "check item by item whether a project is ready for production; exit code 1 when something is missing or unknown"


def add(commands: Any) -> None:
    command = commands.add_parser("ready", help=TEXT, description=TEXT)
    command.add_argument("project", help="its name")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    context = context_of_operator()
    endpoints = readiness_facts.endpoints(context, options.project)
    if not endpoints:
        stages = ", ".join(f"{options.project}-{stage}" for stage in readiness.SERVING_STAGES)
        raise InputError(f"there is no project {options.project!r} with a stage of production: no group of {stages}")
    buckets = readiness_facts.buckets(context, endpoints)
    items = readiness.checklist(readiness_facts.platform(context), buckets, endpoints)
    if options.json:
        print(json.dumps({"items": [asdict(item) for item in items], "not_checked": list(NOT_CHECKED)}, indent=2))
    else:
        print("\n".join(text(items)))
    return OK if all(item.status == "ok" for item in items) else NOT_SETTLED


def text(items: list[Item]) -> list[str]:
    rows = [(item.status, item.place, item.name, _found(item)) for item in items]
    counts = {status: sum(item.status == status for item in items) for status in ("ok", "missing", "unknown")}
    return [
        *table(("", "where", "item", "what is there, and what to do"), rows),
        "",
        ", ".join(f"{number} {status}" for status, number in counts.items()),
        "not checked:",
        *indented(NOT_CHECKED),
    ]


def _found(item: Item) -> str:
    found = " ".join(item.found.split())
    return f"{found}: {item.remedy}" if item.remedy else found
