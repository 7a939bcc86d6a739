"""What the commands of `python -m lifecycle_lambdas` share: finding the platform and the version, asking, printing."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from lifecycle_lambdas.approvals import Package
from lifecycle_lambdas.aws_errors import is_missing
from lifecycle_lambdas.calls import AwsCall
from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.events import LookAt, message
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.recording import describe, endpoint_of_group, tell_entry
from lifecycle_lambdas.records import Entry, State, package_version
from lifecycle_lambdas.settings import Settings

OK, NOT_SETTLED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
SECONDS = 600.0  # that one look may take
LONGEST_PAUSE = 15.0  # seconds between two looks at what is under way
HINT = "the platform goes on from here; if its function is broken: python -m lifecycle_lambdas look {endpoint} --wait"


class InputError(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


def append(context: Context, state: State, options: argparse.Namespace, kind: Any, package: Package | None) -> int:
    """Add the operator's entry to the ledger as the newest one, tell of it, and ask the function for a look."""
    caller = context.client("sts").get_caller_identity()
    entry = Entry(
        endpoint=state.endpoint,
        kind=kind,
        at=_time_at_aws(caller, context),
        package_arn=None if package is None else package["ModelPackageArn"],
        by=caller["Arn"],
        why=options.why,
        source="command",
        until=options.until if kind == "park" else None,
    )
    newest = next(context.ledger.entries(state.endpoint), None)
    if newest is not None and newest.key > entry.key:  # of the same second, or by a clock that is fast
        entry = replace(entry, at=newest.at + timedelta(seconds=1))
    if not context.ledger.append(entry):
        raise InputError(f"{state.endpoint}: somebody did the same in this second; look at it with show")
    tell_entry(context, entry)
    context.client("sqs").send_message(QueueUrl=context.settings.queue_url, MessageBody=message(LookAt(state.endpoint)))
    print(f"{kind} is in the ledger of {state.endpoint}")
    print(HINT.format(endpoint=state.endpoint))
    return OK


def _time_at_aws(answer: dict[str, Any], context: Context) -> datetime:
    """When AWS answered, in whole seconds: approvals are ordered by AWS's clock, and an operator's may be minutes off.

    By a slow one the entry would lie below an approval made just before, and change nothing; by a fast one above the
    approvals of the minutes to come.

    Args:
        answer: any call's. Without the header Date, which AWS's answers have, it is this machine's time.
    """
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return whole_seconds(context.now() if date is None else parsedate_to_datetime(date))


def look_after(context: Context, looks: list[LookAt], wait: bool) -> int:
    """Look at endpoints from here, as the platform's function does, and say what each came to; the exit code.

    Args:
        wait: look again and again until nothing is under way.

    Raises:
        InputError: the ledger does not know one of them.
    """
    from lifecycle_lambdas import looking

    while True:
        again, pause = [], LONGEST_PAUSE
        for at in looks:
            outcome = looking.look(context_of_operator(context), at, [])
            if outcome is None:
                raise InputError(f"the ledger has no endpoint {at.endpoint}")
            print(f"{at.endpoint}: {outcome.summary}")
            if not outcome.settled:
                again.append(LookAt(at.endpoint))
                pause = min(pause, LONGEST_PAUSE if outcome.look_again_in is None else outcome.look_again_in)
        if not again or not wait:
            return NOT_SETTLED if again else OK
        looks = again
        time.sleep(pause)


def context_of_operator(before: Context | None = None) -> Context:
    """The platform's context; after another one, the same with a new deadline."""
    if before is not None:
        return Context(before.settings, before.clients, before.ledger, before.owner, time.monotonic() + SECONDS)
    clients = Clients()
    settings = Settings.from_parameters(clients("ssm"))
    owner = clients("sts").get_caller_identity()["Arn"]
    return Context.of(settings, clients, owner, SECONDS)


def state_of(context: Context, endpoint: str) -> State:
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


def version_arn(context: Context, state: State, version: int) -> str:
    group = context.client("sagemaker").describe_model_package_group(ModelPackageGroupName=state.group)
    return f"{group['ModelPackageGroupArn'].replace(':model-package-group/', ':model-package/')}/{version}"


def version_of(context: Context, state: State, version: int) -> dict[str, Any]:
    package = describe(context, version_arn(context, state, version))
    if package is None:
        raise InputError(f"{state.group} has no version {version}")
    return package


def confirm(options: argparse.Namespace, what: str) -> None:
    """Raises InputError when nobody says yes."""
    ask(options, what, f"Why: {options.why}")


def ask(options: argparse.Namespace, what: str, more: str = "") -> None:
    """As confirm, of what needs no reason. `more` is printed with the question."""
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{what} Nobody is there to ask: say --yes if this is meant")
    print(f"{what} {more}".rstrip())
    if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise InputError("nothing was done")


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def first(entries: Iterable[Entry], limit: int) -> list[Entry]:
    return [entry for entry, _ in zip(entries, range(limit), strict=False)]


def moment(time_: datetime) -> str:
    return f"{time_:%Y-%m-%d %H:%M:%S}"


def version_text(arn: str | None) -> str:
    return "" if arn is None else str(package_version(arn))


def indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Lines with the columns below each other; the last column may be as long as it is."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=True)), line[-1]]).rstrip()
        for line in lines
    ]


def plan_text(found: dict[str, Any]) -> str:
    """A plan as people read it."""
    version = "" if found["version"] is None else f", version {found['version']}"
    lines = [f"{found['endpoint']}{version}"]
    if found["refused"] is not None:
        return "\n".join([*lines, "nothing would be deployed:", *indented(found["refused"].splitlines())])
    lines += [f"warning: {warning}" for warning in found["warnings"]]
    if found["changes"]:
        lines += ["what changes:", *indented(found["changes"])]
    steps = [
        f"wait: {call['wait']}"
        if "wait" in call
        else f"{call['service']} {call['operation']}: {call['summary']} ({_resource(call)})"
        for call in found["calls"]
    ]
    lines += ["calls to come:", *indented(steps)] if steps else ["calls to come: none, it serves as it should"]
    if found["hours"] is not None:
        lines.append(f"instance-hours a month: at most {found['hours']:.0f}")
    usd, why = found["monthly"]["usd"], found["monthly"]["why"]
    cost = f"unknown: {why}" if usd is None else f"at most {usd:.2f} USD ({why})"
    return "\n".join([*lines, f"cost a month: {cost}"])


def _resource(call: dict[str, Any]) -> str:
    return AwsCall(call["service"], call["operation"], call["request"]).resource


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def reason(text: str) -> str:
    text = " ".join(text.split())  # SageMaker API reference, ApprovalDescription: one line, 1024 characters at most
    if not 0 < len(text) <= 1024:
        raise argparse.ArgumentTypeError("say why, in 1 to 1024 characters: it is kept, and whoever watches is told")
    return text
