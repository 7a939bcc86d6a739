"""`python -m lifecycle_lambdas`: the controller from the command line, with an operator's own credentials.

It is the same code as in the function, so it goes on when the function is broken; endpoints are leased, so both can
work at once. Where the platform is, it reads from the SSM parameters below /modelyard/.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lifecycle_lambdas.approvals import Package, is_removed
from lifecycle_lambdas.aws_errors import is_missing
from lifecycle_lambdas.calls import AwsCall
from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.events import LookAt, LookAtMany, message
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.messages import duration
from lifecycle_lambdas.recording import describe, endpoint_of_group, tell_entry
from lifecycle_lambdas.records import Deployment, Entry, State, package_version
from lifecycle_lambdas.settings import Settings, SettingsError

OK, NOT_SETTLED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = """exit codes:
  0    done
  1    look: something is still under way, or waits for somebody; plan: nothing would be deployed
  2    bad input, or a call to AWS failed
  130  interrupted (Ctrl-C)
"""
SECONDS = 600.0  # that one look may take
POLICIES = (
    "This is for operators: ask an administrator for modelyard-operator, -looking, -serving, -watching and -ledger "
    '(Modelyard\'s docs/install.md, "Who gets which policy")'
)
LONGEST_PAUSE = 15.0  # seconds between two looks at what is under way
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class InputError(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


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
    context = _context()
    if options.everything:
        looks = looking.endpoints(context, LookAtMany("everything"))
    else:
        looks = [LookAt(_state(context, endpoint).endpoint, missed=True) for endpoint in options.endpoints]
    while True:
        again, pause = [], LONGEST_PAUSE
        for at in looks:
            outcome = looking.look(_context(context), at, [])
            if outcome is None:
                raise InputError(f"the ledger has no endpoint {at.endpoint}")
            print(f"{at.endpoint}: {outcome.summary}")
            if not outcome.settled:
                again.append(LookAt(at.endpoint))
                pause = min(pause, LONGEST_PAUSE if outcome.look_again_in is None else outcome.look_again_in)
        if not again or not options.wait:
            return NOT_SETTLED if again else OK
        looks = again
        time.sleep(pause)


def plan(options: argparse.Namespace) -> int:
    from lifecycle_lambdas import planning

    context = _context()
    state = _state(context, options.endpoint)
    text = None if options.stage_file is None else _read(options.stage_file)
    arn = None if options.version is None else _version_arn(context, state, options.version)
    found = planning.answer(context, state.project, state.stage, arn, text)
    print(json.dumps(found, indent=2) if options.json else plan_text(found))
    return OK if found["refused"] is None else NOT_SETTLED


def show(options: argparse.Namespace) -> int:
    context = _context()
    state = _state(context, options.endpoint)
    entries = _first(context.ledger.entries(state.endpoint), options.limit)
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


def go_back(options: argparse.Namespace) -> int:
    context = _context()
    state = _state(context, options.endpoint)
    package = _version(context, state, options.version)
    if package["ModelApprovalStatus"] != "Approved":
        raise InputError(
            f"version {options.version} of {state.group} is {package['ModelApprovalStatus']}, and only approved ones "
            f"serve: approve it instead (approve {state.endpoint} {options.version} --why ...)"
        )
    _confirm(options, f"{state.endpoint} goes back to version {options.version}; newer versions stay approved.")
    return _append(context, state, options, "go-back", package)


def park(options: argparse.Namespace) -> int:
    context = _context()
    state = _state(context, options.endpoint)
    until = "something is approved" if options.until is None else f"{options.until:%Y-%m-%d %H:%M:%S} UTC"
    if state.status == "removed":
        raise InputError(f"{state.endpoint} is removed: nothing of it serves, so there is nothing to park")
    _confirm(options, f"{state.endpoint} is deleted, and nothing serves until {until}.")
    return _append(context, state, options, "park", None)


def remove(options: argparse.Namespace) -> int:
    context = _context()
    state = _state(context, options.endpoint)
    if is_removed(context.ledger.entries(state.endpoint)):
        print(f"{state.endpoint} is removed already, or being removed")
        print(_HINT.format(endpoint=state.endpoint))
        return OK
    _confirm(
        options,
        f"{state.endpoint} and all that belongs to it is deleted, for good: nothing comes back before something is "
        "approved again. The model package group and its versions stay.",
    )
    return _append(context, state, options, "remove", None)


def plan_text(found: dict[str, Any]) -> str:
    """A plan as people read it."""
    version = "" if found["version"] is None else f", version {found['version']}"
    lines = [f"{found['endpoint']}{version}"]
    if found["refused"] is not None:
        return "\n".join([*lines, "nothing would be deployed:", *_indented(found["refused"].splitlines())])
    lines += [f"warning: {warning}" for warning in found["warnings"]]
    if found["changes"]:
        lines += ["what changes:", *_indented(found["changes"])]
    steps = [
        f"wait: {call['wait']}"
        if "wait" in call
        else f"{call['service']} {call['operation']}: {call['summary']} ({_resource(call)})"
        for call in found["calls"]
    ]
    lines += ["calls to come:", *_indented(steps)] if steps else ["calls to come: none, it serves as it should"]
    if found["hours"] is not None:
        lines.append(f"instance-hours a month: at most {found['hours']:.0f}")
    usd, why = found["monthly"]["usd"], found["monthly"]["why"]
    cost = f"unknown: {why}" if usd is None else f"at most {usd:.2f} USD ({why})"
    return "\n".join([*lines, f"cost a month: {cost}"])


def _resource(call: dict[str, Any]) -> str:
    return AwsCall(call["service"], call["operation"], call["request"]).resource


def show_text(state: State, entries: list[Entry], deployments: list[Deployment]) -> str:
    """The ledger and the deployments of an endpoint, the newest first."""
    asked = [
        (_moment(entry.at), entry.kind, _version_text(entry.package_arn), entry.by, entry.source, _why(entry))
        for entry in entries
    ]
    done = [
        (
            str(deployment.number),
            _version_text(deployment.package_arn),
            deployment.status,
            _moment(deployment.started),
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


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Lines with the columns below each other; the last column may be as long as it is."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=True)), line[-1]]).rstrip()
        for line in lines
    ]


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
    context = _context()
    state = _state(context, options.endpoint)
    package = _version(context, state, options.version)
    if package["ModelApprovalStatus"] == approval:
        print(f"version {options.version} of {state.group} is {approval} already")
        return OK
    effect = "it will be deployed" if word == "approve" else "if it serves, what served before it comes back"
    _confirm(options, f"{word.capitalize()} version {options.version} of {state.group}: {effect}.")
    context.client("sagemaker").update_model_package(
        ModelPackageArn=package["ModelPackageArn"], ModelApprovalStatus=approval, ApprovalDescription=options.why
    )
    print(f"version {options.version} of {state.group} is {approval}")
    print(_HINT.format(endpoint=state.endpoint))
    return OK


_HINT = "the platform goes on from here; if its function is broken: python -m lifecycle_lambdas look {endpoint} --wait"


def _append(context: Context, state: State, options: argparse.Namespace, kind: Any, package: Package | None) -> int:
    """Add the operator's entry to the ledger, tell of it, and ask the function for a look."""
    entry = Entry(
        endpoint=state.endpoint,
        kind=kind,
        at=whole_seconds(context.now()),
        package_arn=None if package is None else package["ModelPackageArn"],
        by=context.client("sts").get_caller_identity()["Arn"],
        why=options.why,
        source="command",
        until=options.until if kind == "park" else None,
    )
    if not context.ledger.append(entry):
        raise InputError(f"{state.endpoint}: somebody did the same in this second; look at it with show")
    tell_entry(context, entry)
    context.client("sqs").send_message(QueueUrl=context.settings.queue_url, MessageBody=message(LookAt(state.endpoint)))
    print(f"{kind} is in the ledger of {state.endpoint}")
    print(_HINT.format(endpoint=state.endpoint))
    return OK


def _context(before: Context | None = None) -> Context:
    """The platform's context; after another one, the same with a new deadline."""
    if before is not None:
        return Context(before.settings, before.clients, before.ledger, before.owner, time.monotonic() + SECONDS)
    clients = Clients()
    settings = Settings.from_parameters(clients("ssm"))
    owner = clients("sts").get_caller_identity()["Arn"]
    return Context.of(settings, clients, owner, SECONDS)


def _state(context: Context, endpoint: str) -> State:
    """The endpoint's; one whose events were all lost is begun now. Raises InputError when there is no such endpoint."""
    state = context.ledger.state(endpoint)
    if state is None:
        try:
            group = context.client("sagemaker").describe_model_package_group(ModelPackageGroupName=endpoint)
        except ClientError as error:
            if not is_missing(error):
                raise
        else:
            state = endpoint_of_group(context, endpoint, group["ModelPackageGroupArn"])
    if state is None:
        known = ", ".join(sorted(each.endpoint for each in context.ledger.states())) or "none yet"
        raise InputError(
            f"there is no endpoint {endpoint!r}: give <project>-<stage> of a project whose model package groups are "
            f"registered here (known: {known})"
        )
    return state


def _version_arn(context: Context, state: State, version: int) -> str:
    group = context.client("sagemaker").describe_model_package_group(ModelPackageGroupName=state.group)
    return f"{group['ModelPackageGroupArn'].replace(':model-package-group/', ':model-package/')}/{version}"


def _version(context: Context, state: State, version: int) -> dict[str, Any]:
    package = describe(context, _version_arn(context, state, version))
    if package is None:
        raise InputError(f"{state.group} has no version {version}")
    return package


def _confirm(options: argparse.Namespace, what: str) -> None:
    """Raises InputError when nobody says yes."""
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{what} Nobody is there to ask: say --yes if this is meant")
    print(f"{what} Why: {options.why}")
    if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise InputError("nothing was done")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _first(entries: Iterable[Entry], limit: int) -> list[Entry]:
    return [entry for entry, _ in zip(entries, range(limit), strict=False)]


def _why(entry: Entry) -> str:
    until_text = "" if entry.until is None else f"until {_moment(entry.until)}"
    return ", ".join(part for part in (until_text, entry.why.replace("\n", " ")) if part)


def _version_text(arn: str | None) -> str:
    return "" if arn is None else str(package_version(arn))


def _moment(time_: datetime) -> str:
    return f"{time_:%Y-%m-%d %H:%M:%S}"


def _json_time(value: Any) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"{value!r} cannot be written as JSON")
    return value.isoformat()


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _reason(text: str) -> str:
    text = " ".join(text.split())  # SageMaker API reference, ApprovalDescription: one line, 1024 characters at most
    if not 0 < len(text) <= 1024:
        raise argparse.ArgumentTypeError("say why, in 1 to 1024 characters: it is kept, and whoever watches is told")
    return text


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
            command.add_argument("version", type=_positive, help="of the stage's model package group")
        command.add_argument("--why", type=_reason, required=True, help="kept, and told to whoever watches")
        command.add_argument("--yes", action="store_true", help="do not ask")
        return command

    looking = add("look", look, "bring endpoints to where the ledger says, as the platform's function does")
    looking.add_argument("endpoints", nargs="*", metavar="endpoint", help="<project>-<stage>")
    looking.add_argument("--everything", action="store_true", help="all endpoints, new projects included")
    looking.add_argument("--wait", action="store_true", help="look again and again until nothing is under way")
    planned = add("plan", plan, "say what approving a version would do; changes nothing", endpoint=True)
    planned.add_argument("version", nargs="?", type=_positive, help="default: the newest")
    planned.add_argument("--stage-file", type=Path, help="a file that stands for the one that the version carries")
    planned.add_argument("--json", action="store_true", help="print JSON instead of text")
    shown = add("show", show, "show an endpoint's ledger and deployments", endpoint=True)
    shown.add_argument("--limit", type=_positive, default=20, help="how many of each at most (default: 20)")
    shown.add_argument("--json", action="store_true", help="print JSON instead of tables, with every attempt")
    decision("approve", approve, "approve a version in the registry, which deploys it")
    decision("reject", reject, "reject a version in the registry: what served before it comes back")
    decision("go-back", go_back, "serve an older version that is still approved, and leave the newer one approved")
    parked = decision("park", park, "let nothing serve for a time", version=False)
    parked.add_argument("--until", type=until, help="90m, 12h, 3d or a time (default: until something is approved)")
    decision("remove", remove, "delete everything of an endpoint for good, as deleting its project does", version=False)
    return parser
