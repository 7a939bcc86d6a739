"""Writing into the ledger what was decided in the model registry: from events, and by looking for what they missed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice, takewhile
from typing import Any

from botocore.exceptions import ClientError

from lifecycle_lambdas import approvals, names
from lifecycle_lambdas.approvals import Known, Package
from lifecycle_lambdas.aws_errors import is_missing
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.events import STAGES, VersionChanged
from lifecycle_lambdas.execute import passing
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.log import log
from lifecycle_lambdas.messages import id_of_entry, of_entry
from lifecycle_lambdas.records import Entry, State, package_version
from lifecycle_lambdas.tags import tags_of

RECENT = 50  # entries in which the decision before is looked for: one page of the ledger
AUTOMATIC_TAG = "modelyard:approval"
ENOUGH = 10.0  # seconds that must be left to go on with what was missed
AUTOMATIC_REASON = "Approved automatically: this stage's model package group and its stage file ask for it."


def endpoint_of_group(context: Context, group: str, arn: str) -> State | None:
    """The endpoint of a model package group, recorded when it is met for the first time; None for a foreign group.

    Project and stage are what the group's tags say, and its name must be made of them: otherwise whoever may tag a
    group of their own could take over another project's endpoint.

    Args:
        arn: of the group or of one of its versions.
    """
    # one read for a group that is known: an endpoint has its group's name
    state = context.ledger.state(group)
    if state is not None:
        return state
    tags = group_tags(context, group_arn(arn))
    project, stage = tags.get("modelyard:project"), tags.get("modelyard:stage")
    if project is None or stage is None:
        return None
    if group != f"{project}-{stage}" or stage not in STAGES:
        log(
            "a model package group's name does not fit its tags: it is left alone",
            level="WARNING",
            group=group,
            project=project,
            stage=stage,
        )
        return None
    last = last_number(context, group)
    state = State(endpoint=group, project=project, stage=stage, group=group, status="settled", last_number=last)
    if context.ledger.put_state_if_new(state):
        log("a new endpoint", endpoint=group, project=project, stage=stage)
    return state


def last_number(context: Context, endpoint: str) -> int:
    """The highest number that a model of the endpoint carries: where a ledger was lost, no number is given again."""
    pages = context.client("sagemaker").get_paginator("list_models").paginate(NameContains=f"{endpoint}-")
    numbers = [names.number_of(endpoint, model["ModelName"]) for page in pages for model in page["Models"]]
    return max((number for number in numbers if number is not None), default=0)


def group_arn(arn: str) -> str:
    """A group's ARN from its own or from a version's, in whatever case AWS writes names in ARNs."""
    before, version, name = arn.partition(":model-package/")
    return f"{before}:model-package-group/{name.partition('/')[0]}" if version else arn


def group_tags(context: Context, arn: str) -> dict[str, str]:
    """Empty for a group that is not there any more."""
    return tags_of(context.client("sagemaker"), arn)


def describe(context: Context, arn: str) -> dict[str, Any] | None:
    """DescribeModelPackage's answer, None when there is no such version (any more)."""
    try:
        return context.client("sagemaker").describe_model_package(ModelPackageName=arn)
    except ClientError as error:
        if not is_missing(error):
            raise
        return None


def approval_of(context: Context, arn: str) -> str | None:
    """A version's ModelApprovalStatus, None when there is no such version (any more)."""
    package = describe(context, arn)
    return None if package is None else str(package["ModelApprovalStatus"])


def record_change(context: Context, state: State, change: VersionChanged) -> Entry | None:
    """Write down what the event says was decided, and stamp the version; None when it says nothing of the kind.

    The same calls whatever was approved before: one to describe the version, one to write the entry, one to stamp it.
    """
    if change.approval_changed is False:
        return None  # a stamp of our own, for one: not even worth a look at the version
    package = describe(context, change.package_arn)
    if package is None:
        log("a version is gone", endpoint=state.endpoint, package=change.package_arn)
        return None
    # events may write names in ARNs in lower case: the ledger has every version by one name
    change = replace(change, package_arn=package["ModelPackageArn"])
    if change.approval == "PendingManualApproval" and change.approval_changed is None:
        approve_if_automatic(context, state, change.package_arn)

    def ledger_knows() -> Known:
        registered = whole_seconds(package["CreationTime"])
        # the newest come first, and before it was registered nobody decided about it
        entries = takewhile(lambda entry: entry.at >= registered, context.ledger.entries(state.endpoint))
        of_it = (entry for entry in entries if entry.kind == "remove" or entry.package_arn == change.package_arn)
        return approvals.known(of_it).get(change.package_arn, Known())

    entry = approvals.entry_of_change(state.endpoint, change, package, ledger_knows)
    if entry is not None:
        entry = write(context, _with_own_reason(context, entry), package)
    return entry


def _with_own_reason(context: Context, entry: Entry) -> Entry:
    """Without the reason of the decision before: SageMaker keeps ApprovalDescription until somebody writes another."""
    if not entry.why:
        return entry
    recent = islice(context.ledger.entries(entry.endpoint), RECENT)
    before = next((one for one in recent if one.package_arn == entry.package_arn and one.at < entry.at), None)
    repeated = before is not None and before.kind != entry.kind and before.why == entry.why
    return replace(entry, why="") if repeated else entry


def write(context: Context, entry: Entry, package: Package | None) -> Entry:
    """Add the entry to the ledger and stamp an approved version with it.

    Returns:
        The entry as the ledger has it: when it was there, of who decided it may say more than the version does now.

    Raises:
        ClientError: AWS cannot do it now; the entry may be written, and the same again does no harm.
    """
    new = context.ledger.append(entry)
    if not new:
        entry = context.ledger.entry(entry)
    log(
        "entry" if new else "entry was there",
        endpoint=entry.endpoint,
        entry=entry.key,
        package=entry.package_arn,
        by=entry.by,
        source=entry.source,
    )
    request = None if package is None or entry.kind == "reject" else approvals.stamps(entry, package)
    if request is not None:
        try:
            context.client("sagemaker").update_model_package(**request)
        except ClientError as error:
            if passing(error):
                raise
            # What counts is the ledger. An approval is not to be lost because the version has no room for a stamp.
            log(
                "the version could not be stamped with who approved it",
                level="ERROR",
                package=entry.package_arn,
                error=str(error),
            )
    return entry


def record_missed(context: Context, state: State) -> None:
    """Write down the approvals and rejections whose events were lost.

    Calls: the list of the group's approved versions, a hundred a page, and some for each version whose approval is
    another one than the ledger knows.

    Of versions that were registered before a removal nobody asks: they are being deleted, or belong to a project that
    was. Who approves one of them all the same is heard by its event.

    Raises:
        TimeoutError: there are too many for the time left. Those written are known from now on, so the next call gets
            further; until it has got through, nobody knows what should serve.
    """
    entries = list(context.ledger.entries(state.endpoint))
    knows, removal = approvals.known(entries), approvals.last_removal(entries)
    since = None if removal is None else removal.at
    approved = set(_approved(context, state.group, since))
    missed = [arn for arn in approved if not knows.get(arn, Known()).is_approved]
    # the newest version first: should the time not suffice, most probably what should serve is among those written
    missed.sort(key=package_version, reverse=True)
    # of the same second the registry decides, and it has
    missed += [
        arn
        for arn, known in knows.items()
        if known.is_approved and known.approved != known.rejected and arn not in approved
    ]
    for done, arn in enumerate(missed):
        if context.remaining() < ENOUGH:
            raise TimeoutError(f"{state.endpoint}: {done} of {len(missed)} missed decisions are written; comes again")
        package = describe(context, arn)
        if package is not None and package["ModelApprovalStatus"] == "Approved":
            # unless it was decided while we looked, and its event is on its way
            if arn in approved:
                write(context, approvals.missed_approval(state.endpoint, package, knows.get(arn, Known())), package)
        elif arn in knows:
            write(context, approvals.missed_rejection(state.endpoint, arn, package, context.now()), package)
    _approve_newest_if_automatic(context, state, knows, since)


def approve_if_automatic(context: Context, state: State, arn: str) -> bool:
    """Approve a version that waits, where its group was tagged for it and its stage file asks for it."""
    if group_tags(context, group_arn(arn)).get(AUTOMATIC_TAG) != "automatic":
        return False
    package = describe(context, arn)
    if package is None or package["ModelApprovalStatus"] != "PendingManualApproval":
        return False
    from lifecycle_lambdas.declared import AdministratorsFault, StageFileError, read_stage_file

    try:
        stage_file = read_stage_file(context, package, state.stage)
    except (StageFileError, AdministratorsFault) as error:
        log(
            "no automatic approval: the stage file cannot be used",
            level="ERROR",
            endpoint=state.endpoint,
            error=str(error),
        )
        return False
    if stage_file.approval != "automatic":
        return False
    context.client("sagemaker").update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus="Approved", ApprovalDescription=AUTOMATIC_REASON
    )
    log("approved automatically", endpoint=state.endpoint, package=arn)
    return True


def tell_missed(context: Context, endpoint: str) -> None:
    """Tell of the newest entry when it was found by looking: of many that were missed, it says what serves."""
    newest = next(context.ledger.entries(endpoint), None)
    if newest is not None and newest.source == "found":
        tell_entry(context, newest)


def tell_entry(context: Context, entry: Entry) -> None:
    """Tell whoever watches what was asked for; not what the controller itself did, of which it tells more."""
    if entry.source == "controller" or entry.kind == "remove":
        return  # of a removal they are told when it is done
    if context.ledger.was_told(entry.endpoint, id_of_entry(entry)):
        return
    package = None if entry.package_arn is None else describe(context, entry.package_arn)
    before = None if entry.kind == "park" else serving_before(context, entry)
    context.tell(of_entry(entry, package, before))


def serving_before(context: Context, entry: Entry) -> dict[str, Any] | None:
    """The version that was deployed last, other than the entry's own."""
    for deployment in context.ledger.deployments(entry.endpoint, limit=5):
        if deployment.status == "succeeded" and deployment.package_arn != entry.package_arn:
            return describe(context, deployment.package_arn)
    return None


def _approve_newest_if_automatic(
    context: Context, state: State, knows: dict[str, Known], since: datetime | None
) -> None:
    """The newest version, when the event of its registration was lost; not one that somebody decided about.

    Args:
        since: when the endpoint was removed last; what was registered before is not approved by itself any more.
    """
    request = {"ModelPackageGroupName": state.group, "SortBy": "CreationTime", "SortOrder": "Descending"}
    try:
        newest = context.client("sagemaker").list_model_packages(**request, MaxResults=1)["ModelPackageSummaryList"]
    except ClientError as error:
        if not is_missing(error):
            raise
        return
    for summary in newest:
        waits = summary["ModelApprovalStatus"] == "PendingManualApproval" and _is_registered_after(summary, since)
        if waits and summary["ModelPackageArn"] not in knows:
            approve_if_automatic(context, state, summary["ModelPackageArn"])


def _is_registered_after(summary: dict[str, Any], since: datetime | None) -> bool:
    return since is None or summary["CreationTime"] > since


def _approved(context: Context, group: str, since: datetime | None) -> Iterator[str]:
    """The ARNs of the group's approved versions that were registered since; none when the group is gone."""
    pages = (
        context.client("sagemaker")
        .get_paginator("list_model_packages")
        .paginate(ModelPackageGroupName=group, ModelApprovalStatus="Approved", PaginationConfig={"PageSize": 100})
    )
    try:
        for page in pages:
            for summary in page["ModelPackageSummaryList"]:
                if _is_registered_after(summary, since):
                    yield summary["ModelPackageArn"]
    except ClientError as error:
        if not is_missing(error):
            raise
