"""`python -m lifecycle_lambdas`: the controller from the command line, with an operator's own credentials.

It is the same code as in the function, so it goes on when the function is broken; endpoints are leased, so both can
work at once. Where the platform is, it reads from the SSM parameters below /modelyard/.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from lifecycle_lambdas.approvals import Known, Package, desired, is_removed, known
from lifecycle_lambdas.commands import clean, go_back, ready, rebuild, replay, test
from lifecycle_lambdas.commands.common import (
    BAD_INPUT,
    HINT,
    INTERRUPTED,
    NOT_SETTLED,
    OK,
    InputError,
    append,
    confirm,
    context_of_operator,
    first,
    look_after,
    moment,
    plan_text,
    positive,
    read_text,
    reason,
    state_of,
    table,
    version_arn,
    version_of,
    version_text,
)
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.events import LookAt, LookAtMany
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.messages import duration
from lifecycle_lambdas.recording import approval_of
from lifecycle_lambdas.records import Deployment, Entry, State, package_version
from lifecycle_lambdas.settings import SettingsError

EXIT_CODES = """exit codes:
  0    done
  1    look: something is still under way, or waits for somebody; plan: nothing would be deployed
       ready: something is missing or unknown; rebuild, replay: something could not be done
       clean --remove: something may not go yet
  2    bad input, or a call to AWS failed
  130  interrupted (Ctrl-C)
"""
POLICIES = (
    "This is for operators: ask an administrator for modelyard-operator, -looking, -serving, -watching and -ledger, "
    'and to approve for modelyard-approver (Modelyard\'s docs/install.md, "Who gets which policy")'
)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (InputError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
    except ClientError as error:
        print(f"error: AWS refused {error.operation_name}: {error.response['Error']['Message']}", file=sys.stderr)
        if error.response["Error"]["Code"].startswith("AccessDenied"):
            print(POLICIES, file=sys.stderr)
    except NoCredentialsError:
        print("error: there are no AWS credentials here: sign in as for the AWS CLI", file=sys.stderr)
    except NoRegionError:
        print("error: no Region is set: set AWS_REGION, or run: aws configure", file=sys.stderr)
    except BotoCoreError as error:
        print(f"error: calling AWS failed: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return BAD_INPUT


def look(options: argparse.Namespace) -> int:
    from lifecycle_lambdas import looking

    if bool(options.endpoints) == options.everything:
        raise InputError("name endpoints to look at, or say --everything")
    context = context_of_operator()
    if options.everything:
        looks = looking.endpoints(context, LookAtMany("everything"))
    else:
        looks = [LookAt(state_of(context, endpoint).endpoint, missed=True) for endpoint in options.endpoints]
    return look_after(context, looks, options.wait)


def plan(options: argparse.Namespace) -> int:
    from lifecycle_lambdas import planning

    context = context_of_operator()
    state = state_of(context, options.endpoint)
    text = None if options.stage_file is None else read_text(options.stage_file)
    arn = None if options.version is None else version_arn(context, state, options.version)
    found = planning.answer(context, state.project, state.stage, arn, text)
    print(json.dumps(found, indent=2) if options.json else plan_text(found))
    return OK if found["refused"] is None else NOT_SETTLED


def show(options: argparse.Namespace) -> int:
    context = context_of_operator()
    state = state_of(context, options.endpoint)
    entries = first(context.ledger.entries(state.endpoint), options.limit)
    deployments = list(context.ledger.deployments(state.endpoint, options.limit))
    if options.json:
        shown = {
            "endpoint": asdict(state),
            "entries": [asdict(entry) for entry in entries],
            "deployments": [asdict(deployment) for deployment in deployments],
        }
        print(json.dumps(shown, indent=2, default=_json_time))
    else:
        print(show_text(state, entries, deployments))
    return OK


def approve(options: argparse.Namespace) -> int:
    return _decide(options, "Approved", "approve")


def reject(options: argparse.Namespace) -> int:
    return _decide(options, "Rejected", "reject")


def park(options: argparse.Namespace) -> int:
    context = context_of_operator()
    state = state_of(context, options.endpoint)
    until = "something is approved" if options.until is None else f"{options.until:%Y-%m-%d %H:%M:%S} UTC"
    if state.status == "removed":
        raise InputError(f"{state.endpoint} is removed: nothing of it serves, so there is nothing to park")
    confirm(options, f"{state.endpoint} is deleted, and nothing serves until {until}.")
    return append(context, state, options, "park", None)


def remove(options: argparse.Namespace) -> int:
    context = context_of_operator()
    state = state_of(context, options.endpoint)
    if is_removed(context.ledger.entries(state.endpoint)):
        print(f"{state.endpoint} is removed already, or being removed")
        print(HINT.format(endpoint=state.endpoint))
        return OK
    confirm(
        options,
        f"{state.endpoint} and all that belongs to it is deleted, for good: nothing comes back before something is "
        "approved again. The model package group and its versions stay.",
    )
    return append(context, state, options, "remove", None)


def show_text(state: State, entries: list[Entry], deployments: list[Deployment]) -> str:
    """The ledger and the deployments of an endpoint, the newest first."""
    asked = [
        (moment(entry.at), entry.kind, version_text(entry.package_arn), entry.by, entry.source, _why(entry))
        for entry in entries
    ]
    done = [
        (
            str(deployment.number),
            version_text(deployment.package_arn),
            deployment.status,
            moment(deployment.started),
            "" if deployment.ended is None else duration(deployment.ended - deployment.started),
            deployment.reason.replace("\n", " "),
        )
        for deployment in deployments
    ]
    return "\n".join(
        [
            f"{state.endpoint} (project {state.project}, stage {state.stage}): {state.status}",
            "",
            *table(("when (UTC)", "what", "version", "by", "source", "why"), asked),
            "",
            *table(("deployment", "version", "status", "began (UTC)", "took", "reason"), done),
        ]
    )


def until(text: str) -> datetime:
    """90m, 12h, 3d from now, or a time as ISO 8601 with a time zone; UTC, whole seconds.

    Raises:
        argparse.ArgumentTypeError: neither, or it is over already.
    """
    now = datetime.now(UTC)
    if span := re.fullmatch(r"([1-9]\d{0,4})([mhd])", text):
        return whole_seconds(now + timedelta(**{_UNITS[span[2]]: int(span[1])}))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 90m, 12h or 3d nor a time such as 2026-12-01T08:00:00Z")
    if moment <= now:
        raise argparse.ArgumentTypeError(f"{text} is over already")
    return whole_seconds(moment)


def _decide(options: argparse.Namespace, approval: str, word: str) -> int:
    """Approve or reject in the registry, where everybody does it: the ledger takes it from there."""
    context = context_of_operator()
    state = state_of(context, options.endpoint)
    package = version_of(context, state, options.version)
    anew = word == "approve" and package["ModelApprovalStatus"] == approval and _is_overtaken(context, state, package)
    if package["ModelApprovalStatus"] == approval and not anew:
        print(f"version {options.version} of {state.group} is {approval} already")
        return OK
    effect = "it will be deployed" if word == "approve" else _after_rejection(context, state, package)
    confirm(options, f"{word.capitalize()} version {options.version} of {state.group}: {effect}.")
    context.client("sagemaker").update_model_package(
        ModelPackageArn=package["ModelPackageArn"], ModelApprovalStatus=approval, ApprovalDescription=options.why
    )
    if anew:  # to the registry that is no change, so that nobody would hear of it
        return append(context, state, options, "approve", package)
    print(f"version {options.version} of {state.group} is {approval}")
    print(HINT.format(endpoint=state.endpoint))
    return OK


def _after_rejection(context: Context, state: State, package: Package) -> str:
    """What rejecting the version leads to, in words."""
    entries, arn = list(context.ledger.entries(state.endpoint)), package["ModelPackageArn"]
    now, approval = context.now(), cache(partial(approval_of, context))
    before = desired(entries, approval, now)
    after = desired(entries, lambda other: "Rejected" if other == arn else approval(other), now)
    if before is None or before.package_arn != arn:
        return "what should serve stays as it is"
    if after is None or after.package_arn is None:
        return f"no other version is left to serve, so {state.endpoint} is deleted"
    return f"version {package_version(after.package_arn)} serves in its place"


def _is_overtaken(context: Context, state: State, package: Package) -> bool:
    """Whether the ledger has the version's approval, and after it a decision by which the version should not serve: a
    park, a removal, or another version's. An approval that is not there yet is found by a look."""
    entries = list(context.ledger.entries(state.endpoint))
    arn = package["ModelPackageArn"]
    should = desired(entries, partial(approval_of, context), context.now())
    if should is not None and should.package_arn == arn:
        return False
    return is_removed(entries) or known(entries).get(arn, Known()).is_approved


def _why(entry: Entry) -> str:
    until_text = "" if entry.until is None else f"until {moment(entry.until)}"
    return ", ".join(part for part in (until_text, entry.why.replace("\n", " ")) if part)


def _json_time(value: Any) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"{value!r} cannot be written as JSON")
    return value.isoformat()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lifecycle_lambdas",
        description="Look after Modelyard's endpoints with your own AWS credentials.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: object, text: str, endpoint: bool = False) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        if endpoint:
            command.add_argument("endpoint", help="<project>-<stage>")
        return command

    def decision(name: str, function: object, text: str, version: bool = True) -> argparse.ArgumentParser:
        command = add(name, function, text, endpoint=True)
        if version:
            command.add_argument("version", type=positive, help="of the stage's model package group")
        command.add_argument("--why", type=reason, required=True, help="kept, and told to whoever watches")
        command.add_argument("--yes", action="store_true", help="do not ask")
        return command

    looking = add("look", look, "bring endpoints to where the ledger says, as the platform's function does")
    looking.add_argument("endpoints", nargs="*", metavar="endpoint", help="<project>-<stage>")
    looking.add_argument("--everything", action="store_true", help="all endpoints, new projects included")
    looking.add_argument("--wait", action="store_true", help="look again and again until nothing is under way")
    planned = add("plan", plan, "say what approving a version would do; changes nothing", endpoint=True)
    planned.add_argument("version", nargs="?", type=positive, help="default: the newest")
    planned.add_argument("--stage-file", type=Path, help="a file that stands for the one that the version carries")
    planned.add_argument("--json", action="store_true", help="print JSON instead of text")
    shown = add("show", show, "show an endpoint's ledger and deployments", endpoint=True)
    shown.add_argument("--limit", type=positive, default=20, help="how many of each at most (default: 20)")
    shown.add_argument("--json", action="store_true", help="print JSON instead of tables, with every attempt")
    decision("approve", approve, "approve a version in the registry, which deploys it; or anew one that was overtaken")
    decision("reject", reject, "reject a version in the registry: what was approved before it serves, or nothing")
    go_back.add(commands)
    parked = decision("park", park, "let nothing serve for a time", version=False)
    parked.add_argument("--until", type=until, help="90m, 12h, 3d or a time (default: until something is approved)")
    decision("remove", remove, "delete everything of an endpoint for good, as deleting its project does", version=False)
    clean.add(commands)
    ready.add(commands)
    rebuild.add(commands)
    replay.add(commands)
    test.add(commands)
    return parser
