"""What an approval would do, before anybody approves: calls, changes and the most that it can cost. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from lifecycle_lambdas import choosing, prices
from lifecycle_lambdas.aws_errors import is_missing
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.declared import (
    AdministratorsFault,
    StageFileError,
    declare,
    parse_stage_file,
    read_stage_file,
    stage_file_place,
)
from lifecycle_lambdas.events import STAGES
from lifecycle_lambdas.forecast import forecast
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.observe import observe
from lifecycle_lambdas.plan import Do, GiveUp, Step, Wait
from lifecycle_lambdas.recording import describe, group_arn, group_tags
from lifecycle_lambdas.records import Deployment, Entry, EntryKind, State, package_version

PRICE_LIST_REGION = "us-east-1"  # where AWS's price list API is


class Refused(Exception):
    """Nothing would be done; the message says why, one line for each fault."""


def answer(
    context: Context,
    project: str,
    stage: str,
    package_arn: str | None = None,
    stage_file: str | None = None,
    kind: EntryKind = "approve",
) -> dict[str, Any]:
    """The plan for one version of a stage.

    Args:
        package_arn: None: the newest version of the stage's model package group.
        stage_file: a text that stands for the one that the version carries.
        kind: what somebody would do with it: "approve" or "go-back".

    Returns:
        {"endpoint", "package_arn", "version", "refused": why nothing would be done or None,
        "calls": [{"service", "operation", "summary", "request"} or {"wait": for what}], "changes": [text],
        "warnings": [text], "hours": instance-hours a month at most or None, "monthly": {"usd": or None, "why"}}.

    Raises:
        ClientError: what AWS refuses, other than what is not there.
    """
    endpoint = f"{project}-{stage}"
    found = nothing(endpoint, package_arn)
    try:
        package = _package(context, endpoint, stage, package_arn)
        arn = package["ModelPackageArn"]
        found |= {"package_arn": arn, "version": package_version(arn)}
        try:
            found |= _planned(context, project, stage, package, stage_file, kind)
        except (StageFileError, AdministratorsFault) as error:
            raise Refused(str(error)) from error
    except Refused as refusal:
        found["refused"] = str(refusal)
    return found


def nothing(endpoint: str, package_arn: str | None = None, refused: str | None = None) -> dict[str, Any]:
    """The plan that does nothing, in the form of answer()'s; `refused`: why."""
    return {
        "endpoint": endpoint,
        "package_arn": package_arn,
        "version": None,
        "refused": refused,
        "calls": [],
        "changes": [],
        "warnings": [],
        "hours": None,
        "monthly": {"usd": None, "why": "nothing would be deployed"},
    }


def _planned(
    context: Context, project: str, stage: str, package: dict[str, Any], text: str | None, kind: EntryKind
) -> dict[str, Any]:
    from lifecycle_lambdas import stage_schema  # pydantic takes longer to import than all the rest

    endpoint, arn = f"{project}-{stage}", package["ModelPackageArn"]
    asked = parse_stage_file(text, stage) if text is not None else read_stage_file(context, package, stage)
    price_list = prices.PriceList(context.clients("pricing", PRICE_LIST_REGION), context.clients.region)
    priced = prices.ceiling(asked, price_list)
    warnings = stage_schema.warnings(asked, stage)

    tags = group_tags(context, group_arn(arn))
    if (tags.get("modelyard:project"), tags.get("modelyard:stage")) != (project, stage):
        raise Refused(
            f"the model package group {endpoint} is not tagged as project {project}, stage {stage}, so its approvals "
            "deploy nothing: run register-project in the project's repository"
        )
    state = context.ledger.state(endpoint) or State(endpoint, project, stage, endpoint, "settled")
    observed = observe(context.clients, endpoint, state.last_number + 1, context.settings.schedule_group)
    serving = None if observed.serving is None else context.ledger.deployment(endpoint, observed.serving)
    entry = Entry(endpoint, kind, whole_seconds(context.now()), arn, "", "", "command")
    # what serves already would not be deployed again, unless with another stage file
    deployment = choosing.chosen(entry, [], serving, observed) if text is None else None
    if deployment is None:
        applies = choosing.applied(asked, entry, serving, observed, stage)
        deployment = Deployment(
            endpoint=endpoint,
            number=state.last_number + 1,
            entry_key=entry.key,
            package_arn=arn,
            stage_file=stage_schema.dump(applies),
            stage_file_sha256="" if text is not None else stage_file_place(package, stage)[2],
            status="under-way",
            started=context.now(),
            previous=None if serving is None else serving.number,
        )
    wanted = declare(deployment, state, package, tags, context.settings)
    steps = forecast(wanted, observed, context.now())
    if isinstance(steps[-1], GiveUp):
        raise Refused(steps[-1].reason)
    return {
        "calls": [shown for step in steps if (shown := _shown(step)) is not None],
        "changes": changes(serving, deployment),
        "warnings": warnings,
        **prices.answer(priced),
    }


def changes(serving: Deployment | None, deployment: Deployment) -> list[str]:
    """What would be another than now, a line for each: the version, and the stage file's settings."""
    if serving is None:
        return []
    old = {"version": package_version(serving.package_arn), **dict(_flat(serving.stage_file))}
    new = {"version": package_version(deployment.package_arn), **dict(_flat(deployment.stage_file))}
    # of another kind, every setting of the old one would be "none"
    gone = [name for name in old if name not in new] if old.get("kind") == new.get("kind") else []
    names = [*new, *gone]
    return [
        f"{name}: {_word(old.get(name))} -> {_word(new.get(name))}" for name in names if old.get(name) != new.get(name)
    ]


def _package(context: Context, group: str, stage: str, arn: str | None) -> dict[str, Any]:
    """The version that is meant. Raises Refused when there is none."""
    if stage not in STAGES:
        raise Refused(f"there is no stage {stage!r}: choose one of {', '.join(STAGES)}")
    if arn is None:
        try:
            newest = context.client("sagemaker").list_model_packages(
                ModelPackageGroupName=group, SortBy="CreationTime", SortOrder="Descending", MaxResults=1
            )["ModelPackageSummaryList"]
        except ClientError as error:
            if not is_missing(error):
                raise
            raise Refused(
                f"there is no model package group {group}: run register-project in the project's repository"
            ) from error
        if not newest:
            raise Refused(f"no version is registered in {group} yet: start the pipeline")
        arn = newest[0]["ModelPackageArn"]
    elif not arn.startswith("arn:") or f":model-package/{group}/".lower() not in arn.lower():
        raise Refused(f"{arn} is no version of the model package group {group}")
    package = describe(context, arn)
    if package is None:
        raise Refused(f"there is no version {arn}")
    return package


def _shown(step: Step) -> dict[str, Any] | None:
    if isinstance(step, Do):
        call = step.call
        return {"service": call.service, "operation": call.operation, "summary": step.why, "request": call.request}
    return {"wait": step.reason} if isinstance(step, Wait) else None


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """{"a": {"b": 1}} as ("a.b", 1)."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _word(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
