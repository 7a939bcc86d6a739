"""`go-back`: an older version serves again, the one before or a named one; during an update what serves still."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from lifecycle_lambdas import going_back, observe, planning, watching
from lifecycle_lambdas.commands.common import (
    InputError,
    append,
    confirm,
    context_of_operator,
    look_after,
    moment,
    plan_text,
    positive,
    reason,
    state_of,
    version_of,
)
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.events import LookAt
from lifecycle_lambdas.observe import Observed
from lifecycle_lambdas.recording import approval_of
from lifecycle_lambdas.records import Deployment, State, package_version

TEXT = "serve an older version that is still approved, at once, and leave the newer one approved"


def add(commands: Any) -> None:
    command = commands.add_parser("go-back", help=TEXT, description=TEXT)
    command.add_argument("endpoint", help="<project>-<stage>")
    command.add_argument(
        "version",
        type=positive,
        nargs="?",
        help="default: the one that served before; during an update the one that serves still",
    )
    command.add_argument("--why", type=reason, required=True, help="kept, and told to whoever watches")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.add_argument(
        "--here", action="store_true", help="do it from here, to the end, as when the platform's function is broken"
    )
    command.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    context = context_of_operator()
    state = state_of(context, options.endpoint)
    version = options.version or previous(context, state)
    package = version_of(context, state, version)
    if package["ModelApprovalStatus"] != "Approved":
        raise InputError(
            f"version {version} of {state.group} is {package['ModelApprovalStatus']}, and only approved ones "
            f"serve: approve it instead (approve {state.endpoint} {version} --why ...)"
        )
    plan = planning.answer(context, state.project, state.stage, package["ModelPackageArn"], kind="go-back")
    if plan["refused"] is not None:
        raise InputError(f"{state.endpoint} cannot go back to version {version}: {plan['refused']}")
    print(plan_text(plan))
    confirm(options, f"{state.endpoint} goes back to version {version}; newer versions stay approved.")
    code = append(context, state, options, "go-back", package)
    return look_after(context, [LookAt(state.endpoint)], wait=True) if options.here else code


def previous(context: Context, state: State) -> int:
    """The version that served before the one that serves; while another one is rolled out, the one that serves; while
    it is on its way back, the one that it goes back to.

    Raises InputError where there is none.
    """
    observed = observe.observe(context.clients, state.endpoint, None, context.settings.schedule_group)
    serving = None if observed.serving is None else context.ledger.deployment(state.endpoint, observed.serving)
    if serving is None:
        raise InputError(f"nothing that Modelyard deployed serves at {state.endpoint}: name a version to go back to")
    newest = next(watching.history(context, state), None)
    if newest is not None and newest.status == "under-way" and newest.goes_back and newest.number != serving.number:
        return package_version(newest.package_arn)  # typed twice, or the controller was faster
    if _is_left(serving, observed, newest):
        return package_version(serving.package_arn)
    _refuse_further(context, serving)
    found = going_back.way_back(serving, watching.history(context, state), partial(approval_of, context))
    if found is None:
        raise InputError(
            f"no version that served at {state.endpoint} before version {package_version(serving.package_arn)}, of the "
            f"same kind, is approved now: name one (show {state.endpoint} lists them), or approve one"
        )
    return package_version(found.package_arn)


def _refuse_further(context: Context, serving: Deployment) -> None:
    """Raises InputError where what serves was gone back to just now: who wants that sees it late, and has it already.

    Its own alarm may be red for an hour, and whoever is told of it does not know that somebody was faster.
    """
    if not serving.goes_back or serving.ended is None or serving.ended + going_back.hold_of(serving) <= context.now():
        return
    left = None if serving.previous is None else context.ledger.deployment(serving.endpoint, serving.previous)
    came = "" if left is None else f" from version {package_version(left.package_arn)}"
    entries = context.ledger.entries(serving.endpoint)
    entry = next((one for one in entries if one.key == serving.entry_key), None)
    who = "" if entry is None else f" (by {entry.by}: {entry.why})"
    raise InputError(
        f"{serving.endpoint} went back{came} to version {package_version(serving.package_arn)} already, at "
        f"{moment(serving.ended)} UTC{who}. To go back further, name the version (show {serving.endpoint} lists them)"
    )


def _is_left(serving: Deployment, observed: Observed, newest: Deployment | None) -> bool:
    """Whether the endpoint is on its way from what serves to something else, or a deployment is to bring it there."""
    pending = None if observed.endpoint is None else observed.endpoint.pending
    begun = newest is not None and newest.status == "under-way" and newest.number != serving.number
    return begun or pending not in (None, serving.name)
