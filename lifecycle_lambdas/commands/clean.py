"""`python -m lifecycle_lambdas clean`: what cleaning up a project would remove, and doing it now.

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
from lifecycle_lambdas.commands.common import OK, InputError, indented

FUNCTION = "modelyard-clean"
TEXT = "show what nobody needs any more of a project, and what it costs; --yes removes it"


def add(commands: Any) -> None:
    command = commands.add_parser("clean", help=TEXT, description=TEXT)
    command.add_argument("project", help="its name")
    command.add_argument(
        "--yes", action="store_true", help="remove it now, where people were told of the policy before"
    )
    command.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    answer = _called({"project": options.project, "remove": options.yes})
    outcomes = answer["outcomes"]
    if not outcomes:
        print(f"{options.project}: its stage files ask for no parking and no cleaning up (park, clean)")
    for outcome in outcomes:
        removals = [Removal(**removal) for removal in outcome["removals"]]
        print(f"{options.project}: {outcome['says']}")
        print("\n".join(indented(f"{one.kind} {one.what}: {one.why} ({cleaning.cost(one)})" for one in removals)))
        if removals:
            print(f"cost: {outcome['total']}")
    return OK


def _called(request: dict[str, Any]) -> dict[str, Any]:
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
    return content
