"""`rebuild`: brings back a ledger that was lost, from what AWS still knows."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from lifecycle_lambdas import rebuild, remains
from lifecycle_lambdas.commands.common import NOT_SETTLED, OK, InputError, ask, context_of_operator, table
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.rebuild import Rebuilt

TEXT = (
    "bring back a lost ledger from what AWS still knows; adds what is missing, and changes nothing that serves. Stop "
    "the controller first: docs/operate.md"
)
# Calls are waited for rather than worked on; AWS's registry takes ten of them a second and more.
AT_ONCE = 8
CLIENTS = ("dynamodb", "sagemaker", "s3", "scheduler")
T = TypeVar("T")
R = TypeVar("R")


def add(commands: Any) -> None:
    command = commands.add_parser("rebuild", help=TEXT, description=TEXT)
    command.add_argument("--project", help="of this project alone (default: of all)")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    context = context_of_operator()
    additions = read(context, options.project)
    if options.project is not None and not additions:
        raise InputError(
            f"there is no project {options.project!r}: no model package group <project>-<stage> has its tags"
        )
    print("\n".join(text(additions)))
    missing = [addition for addition in additions if not addition.changes_nothing]
    if not missing:
        print("nothing is missing")
        return OK
    ask(options, f"This is added to the ledger {context.settings.ledger_table}, of {len(missing)} endpoints.")
    faults = write(context_of_operator(context), missing)
    for fault in faults:
        print(f"not rebuilt: {fault}")
    print(f"{len(missing) - len(faults)} of {len(missing)} endpoints are rebuilt")
    return NOT_SETTLED if faults else OK


def read(context: Context, project: str | None = None) -> list[Rebuilt]:
    """What is to be added, by endpoint, of those that lack nothing as well."""
    known = remains.deployment_names(context)

    def one(group: tuple[str, str]) -> Rebuilt | None:
        return rebuild.read(context, *group, known)

    found = _together(context, one, remains.groups(context, project))
    return sorted((one for one in found if one is not None), key=lambda one: one.endpoint)


def write(context: Context, additions: Iterable[Rebuilt]) -> list[str]:
    """Add them; the words of what could not be added."""

    def one(addition: Rebuilt) -> str | None:
        try:
            rebuild.write(context, addition)
        except LookupError as error:
            return str(error)
        return None

    return [fault for fault in _together(context, one, additions) if fault is not None]


def text(additions: list[Rebuilt]) -> list[str]:
    rows = [
        (
            addition.endpoint,
            str(len(addition.entries)),
            str(len(addition.deployments)),
            "" if addition.state is None else f"{addition.state.status}, last number {addition.state.last_number}",
        )
        for addition in additions
        if not addition.changes_nothing
    ]
    lines = table(("endpoint", "entries", "deployments", "state"), rows) if rows else []
    return [*lines, *(f"{addition.endpoint}: {note}" for addition in additions for note in addition.notes)]


def _together(context: Context, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    for service in CLIENTS:
        context.client(service)  # boto3 makes clients in one thread alone
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(work, items))
