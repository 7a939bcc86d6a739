"""Deleting a project: everything that it owned goes, in slices against the function's time; again continues.

What is the project's is known by marks that were set in the calls that made it: the tag modelyard:stack of a model
package group, the same mark of a repository, and the tag modelyard:project of what runs, where nobody else has groups
of the project's names. Whatever has the project's names without belonging to it stays.

The order makes that every step can be done again. The groups are what says that the project is this stack's, so they
go when all else is gone; the versions before them, and before these what serves them and what would make new ones.
"""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError

from seed_lambda.again import again
from seed_lambda.aws_calls import Pauses
from seed_lambda.context import Context
from seed_lambda.errors import OutOfTime, SeedError, Superseded, Unmarked
from seed_lambda.groups import find_group
from seed_lambda.hosts import host_for
from seed_lambda.properties import ALL_STAGES, ProjectProperties, group_name
from seed_lambda.removal_endpoints import Endpoints
from seed_lambda.removal_groups import delete_group
from seed_lambda.removal_pipelines import Pipelines
from seed_lambda.removal_schedule import delete_retraining_schedule

# Seconds between two looks at what somebody else takes away: an endpoint takes SageMaker some minutes.
PAUSES = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)


def remove(context: Context, properties: ProjectProperties) -> None:
    """Take away the project's schedule, pipelines, endpoints, versions, groups and, where it is to go, its repository.

    Of a project that was never made, or that somebody deleted by hand, or half of it, that is success. What passes by
    itself is tried again here: a roll-back that fails is a stack that somebody has to delete by hand.

    Raises:
        OutOfTime: something is left; as much was done as fitted, and the same request again continues.
        SeedError: the repository is to go, and its host refuses or cannot be asked, or does not say whose it is; again
            continues when that is put right.
        botocore.exceptions.ClientError, BotoCoreError: AWS refused, or did not answer.
    """
    again(context, lambda: _remove_from_aws(context, properties))
    try:
        again(context, lambda: _remove_repository(context, properties))
    except (OutOfTime, Superseded, Unmarked):
        raise
    except (SeedError, ClientError, BotoCoreError) as error:
        # What nobody knows of stays for ever, and its name is taken: so this fails, whatever made the host silent.
        raise SeedError(
            f"the project's repository {properties.repository} may be left, since its host refused or could not be "
            f"asked: {error}. When that is put right, delete again to continue"
        ) from error


def _remove_from_aws(context: Context, properties: ProjectProperties) -> None:
    groups = {stage: find_group(context, group_name(properties.project, stage)) for stage in ALL_STAGES}
    own = {stage: group for stage, group in groups.items() if group is not None and group.stack == context.mark}
    free = [stage for stage, group in groups.items() if group is None]
    # with groups of somebody else's, the pipelines and endpoints of these names are theirs, whosever the repository is
    if own or (len(free) == len(groups) and _has_the_name(context, properties)):
        pipelines = Pipelines(context, properties.project)
        endpoints = Endpoints(context, properties.project, with_group=tuple(own), without_group=tuple(free))
        delete_retraining_schedule(context, properties.project)
        _await(context, pipelines, endpoints)
        for group in own.values():
            delete_group(context, group)
        endpoints.ask_once_more()
    else:
        context.log("nothing of the project's names carries this stack's mark, or its groups are somebody else's")


def _await(context: Context, pipelines: Pipelines, endpoints: Endpoints) -> None:
    """Until neither pipelines nor endpoints are left. The two are at it at the same time."""
    pauses = Pauses(context, PAUSES)
    endpoints.ask()
    while True:
        left = [*pipelines.take_away(), *endpoints.left()]
        if not left:
            return
        context.log("waits", left=left)
        if not pauses.fits():
            raise OutOfTime(
                f"not gone yet: {', '.join(left)}. Executions are stopped, and endpoints are taken away by the "
                "platform's function modelyard-deploy, whose log says what it waits for: delete again to continue"
            )
        pauses.wait()
        endpoints.ask_again()


def _has_the_name(context: Context, properties: ProjectProperties) -> bool:
    """Whether the project's name is this stack's; only asked when there is no group of it.

    A stack that was complete once has it, whoever deleted the groups and the repository since: the roles that it made
    have this name, and an account has each of them once. Of one that never was, the name may be somebody else's
    (which may be why it failed): there the mark of its repository says it.
    """
    return not context.undoing_creation or _has_own_repository(context, properties)


def _has_own_repository(context: Context, properties: ProjectProperties) -> bool:
    """Whether the project's repository carries this stack's mark.

    Where that cannot be said, a creation has failed because its host is not there, and has come to nothing else.
    """
    try:
        found = host_for(context, properties.git_host, properties.git_owner).find(properties.repository)
    except (SeedError, ClientError, BotoCoreError) as error:
        context.log("the repository could not be looked at", level="WARNING", error=str(error))
        return False
    return found is not None and found.stack == context.mark


def _remove_repository(context: Context, properties: ProjectProperties) -> None:
    """Delete the repository where it was asked for, or where a failed creation is taken back that alone filled it."""
    name, undoing = properties.repository, context.undoing_creation
    if properties.on_delete != "delete" and not undoing:
        context.log("the repository is kept", repository=name)
        return
    host = host_for(context, properties.git_host, properties.git_owner)
    found = host.find(name)
    if found is not None and not found.stack and not undoing:
        # to keep it without a word would let who asked for its deletion believe that it is gone
        raise Unmarked(
            f"all of the project is gone but the repository {name}, which does not say that it is this project's, and "
            f"was to be deleted with it. If it is to go, {host.how_to_mark()}, or delete it yourself; if it is to "
            "stay, rename it. Then delete again to continue"
        )
    if found is None or found.stack != context.mark:
        context.log("no repository of this name carries this stack's mark", repository=name)
    elif properties.on_delete == "delete" or host.holds_seed_alone(name):
        host.delete(name)
    else:
        context.log("the repository is kept: somebody has pushed to it", repository=name)
