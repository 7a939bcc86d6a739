"""`python -m lifecycle_lambdas clean`: what cleaning up a project would remove, and with --remove removing it.

The function does both: it has the rights, and the Git host's token. An operator may call it.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from botocore.config import Config

from lifecycle_lambdas import cleaning
from lifecycle_lambdas.cleaning import Removal
from lifecycle_lambdas.cleaning_run import LONGEST_RUN
from lifecycle_lambdas.clients import default_session
from lifecycle_lambdas.commands.common import NOT_SETTLED, OK, InputError, ask, indented

FUNCTION = "modelyard-clean"
TEXT = "show what nobody needs any more of a project, and what it costs; --remove asks, and removes it"


def add(commands: Any) -> None:
    command = commands.add_parser("clean", help=TEXT, description=TEXT)
    command.add_argument("project", help="its name")
    remove = "remove it now, where people were told of the policy a day before"
    command.add_argument("--remove", action="store_true", help=remove)
    command.add_argument("--yes", action="store_true", help="with --remove: do not ask")
    command.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    if options.yes and not options.remove:
        raise InputError(
            f"--yes answers what --remove asks, and removes nothing: say clean {options.project} --remove --yes, or "
            f"clean {options.project} to see what would go"
        )
    outcomes = _called({"project": options.project})
    print("\n".join(text(options.project, outcomes)))
    if not options.remove:
        return OK
    ready = [one for outcome in outcomes if not outcome["waits"] for one in outcome["removals"]]
    if ready:
        things = "1 thing goes" if len(ready) == 1 else f"{len(ready)} things go"
        ask(options, f"{things} now, but for what is needed by then. Versions, pipelines and data do not come back.")
        outcomes = _called({"project": options.project, "remove": True})
        print("\n".join(text(options.project, outcomes)))
    return NOT_SETTLED if any(outcome["waits"] for outcome in outcomes) else OK


def text(project: str, outcomes: list[dict[str, Any]]) -> list[str]:
    """Lines, as people read them."""
    if not outcomes:
        return [f"{project}: its stage files ask for no parking and no cleaning up (park, clean)"]
    lines = []
    for outcome in outcomes:
        removals = [Removal(**removal) for removal in outcome["removals"]]
        lines.append(f"{project}: {outcome['says']}")
        lines += indented(f"{one.kind} {one.what}: {one.why} ({cleaning.cost(one)})" for one in removals)
        lines += [f"cost: {outcome['total']}"] if removals else []
    return lines


def _called(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The function's outcomes."""
    # One try: the function goes on when nobody waits for it any more.
    config = Config(connect_timeout=5, read_timeout=LONGEST_RUN, retries={"total_max_attempts": 1})
    answer = (
        default_session()
        .client("lambda", config=config)
        .invoke(FunctionName=FUNCTION, Payload=json.dumps(request).encode())
    )
    content: dict[str, Any] = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise InputError(f"{FUNCTION} failed: {content.get('errorMessage', 'it did not say why')}")
    if "error" in content:
        raise InputError(content["error"])
    outcomes: list[dict[str, Any]] = content["outcomes"]
    return outcomes
