"""A project is updated: what may change changes, anything else is refused before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping

from botocore.exceptions import BotoCoreError, ClientError

from seed_lambda import buckets, groups, template
from seed_lambda.again import AGAIN, again
from seed_lambda.context import Context
from seed_lambda.creation import OF_REPOSITORY, data, finish_branches
from seed_lambda.errors import NameTaken, OutOfTime, SeedError, Superseded
from seed_lambda.hosts import Host, Repository, host_for
from seed_lambda.properties import BRANCHES, ProjectProperties
from seed_lambda.settings import NOTHING

# Property by name of the field, and why it stays.
_FIXED = {
    "project": ("Project", "all resources are named after it: create another project"),
    "git_host": ("GitHost", "its repository is there: create another project, and push this one's history to it"),
    "git_owner": ("GitOwner", "the repository is there: transfer it on the host, and create another project"),
    "repository": ("Repository", "the repository is there: create another project"),
    "problem_type": ("ProblemType", "the repository was generated for it: create another project"),
    "artifact_bucket": ("ArtifactBucket", "it is in the repository's settings.yaml: create another project"),
    "pipeline_role": ("PipelineRole", "it is in the repository's settings.yaml, which can be edited there"),
}
_ALLOWED_CONTENT = (("empty", "pushed"),)


def refusals(new: ProjectProperties, old: ProjectProperties) -> list[str]:
    """What of an update cannot be done, one text each."""
    found = [
        f"{name} cannot change from {getattr(old, field)!r} to {getattr(new, field)!r}: {why}"
        for field, (name, why) in _FIXED.items()
        if getattr(new, field) != getattr(old, field)
    ]
    if (old.scenario, new.scenario) == ("advanced", "baseline"):
        found.append(
            "Scenario cannot change from 'advanced' to 'baseline': the groups champion and challenger hold versions "
            "that may serve; create another project"
        )
    content = (old.initial_content, new.initial_content)
    if content[0] != content[1] and content not in _ALLOWED_CONTENT:
        found.append(
            f"InitialContent cannot change from {content[0]!r} to {content[1]!r}: only from 'empty' to 'pushed', after "
            "the repository was pushed to"
        )
    return found


def update(context: Context, new: ProjectProperties, old: ProjectProperties | None) -> dict[str, str]:
    """Bring the project to the new properties; answers the resource's Data.

    When CloudFormation takes an update back, old and new have changed places. Nothing is refused then: what was
    refused before was not done.

    Raises:
        SeedError: something of it cannot be done, or the repository is gone (which is no hindrance to taking back).
    """
    undoing = again(context, lambda: context.undoing_update)
    if old is None:
        raise SeedError("the update does not say which project there was (OldResourceProperties): create it anew")
    if undoing:
        return _take_back(context, new, old)
    if faults := [*refusals(new, old), *buckets.data_faults(new, old, context.settings)]:
        raise SeedError("; ".join(faults))
    host = host_for(context, new.git_host, new.git_owner)
    repository = host.find(new.repository)
    if repository is None or repository.stack != context.mark:
        raise SeedError(_not_its_own(host, new.repository, is_there=repository is not None))
    pushed = new.initial_content == "pushed" and old.initial_content == "empty"
    if pushed:
        _check_branches(host, new.repository)
    if taken := groups.taken(context, new):
        raise NameTaken("; ".join(taken))
    version = _recorded_version(context, new, old)

    retagged = (new.project_id, new.model_role) != (old.project_id, old.model_role)
    if retagged or pushed or new.description != old.description:
        _describe(context, host, new)
    host.set_variables(new.repository, new.ci_variables, old.ci_variables)
    groups.make(context, new, repository)
    if retagged:
        groups.tag_anew(context, new)
    if pushed:
        finish_branches(host, new.repository)
    context.log("updated: a newer template reaches the repository by its own CI", template_version=version)
    return data(host, repository, new, version)


def _not_its_own(host: Host, name: str, is_there: bool) -> str:
    if not is_there:
        return (
            f"the repository {name} of this project is gone: nothing was changed. If it was renamed or moved, give it "
            "its name back; else the project can be deleted, and created again"
        )
    return (
        f"the repository {name} does not say that it is this project's: nothing was changed. If it is, "
        f"{host.how_to_mark()}, and update again; if somebody else has made it anew, that person has to rename it"
    )


def _take_back(context: Context, new: ProjectProperties, old: ProjectProperties) -> dict[str, str]:
    """Bring the project back to what it was before an update; answers the resource's Data.

    A roll-back that fails is a stack that takes no update any more. So what fails for the moment is tried again, and a
    host that cannot be asked, which may be why the update failed, does not hinder it.

    Args:
        new: before the update.
        old: what it was to become.

    Raises:
        SeedError: the host cannot be asked, and the stack does not say what its repository was.
        ClientError, BotoCoreError: AWS refused, or did not answer.
    """
    outputs = again(context, context.stack_outputs)
    before = _as_it_was(context, new, outputs)
    version = outputs.get("TemplateVersion", new.template_version)
    try:
        repository, answer = again(context, lambda: _take_back_at_host(context, new, old, version), AGAIN[:2])
        if repository is None and before is not None:
            # or its host does not show it, as GitHub does to a token that may not see it
            context.log("the repository is gone: only the groups are taken back", level="WARNING")
            repository, answer = before
    except (OutOfTime, Superseded):
        raise
    except (SeedError, ClientError, BotoCoreError) as error:
        if before is None:
            raise
        context.log(
            "the Git host could not be asked: description, tags and CI variables of the repository may be those of the "
            "update that failed; the next one sets them",
            level="WARNING",
            repository=new.repository,
            error=str(error),
        )
        repository, answer = before
    again(context, lambda: _take_back_groups(context, new, old, repository))
    context.log("took the update back")
    return answer


def _take_back_at_host(
    context: Context, new: ProjectProperties, old: ProjectProperties, version: str
) -> tuple[Repository | None, dict[str, str]]:
    """The repository and the resource's Data; None when it is gone, or somebody else's by now."""
    host = host_for(context, new.git_host, new.git_owner)
    repository = host.find(new.repository)
    if repository is None or repository.stack != context.mark:
        return None, data(host, None, new, version)
    _describe(context, host, new)
    host.set_variables(new.repository, new.ci_variables, old.ci_variables)
    return repository, data(host, repository, new, version)


def _as_it_was(
    context: Context, new: ProjectProperties, outputs: Mapping[str, str]
) -> tuple[Repository | None, dict[str, str]] | None:
    """The same, as the stack's outputs have it, which are named like the Data; None when they lack some of it.

    They must be the same: other values would change whom the roles of its CI trust.
    """
    if not {*OF_REPOSITORY, "TemplateVersion"} <= set(outputs):
        return None  # a project of a product that had not all of these outputs
    known = {name: outputs[name] for name in (*OF_REPOSITORY, "TemplateVersion")}
    answer = known | {"Groups": ",".join(new.groups)}
    if known["RepositoryName"] == NOTHING:
        return None, answer
    repository = Repository(
        name=known["RepositoryName"],
        stack=context.mark,
        url=known["RepositoryUrl"],
        clone_url=known["CloneUrl"],
        clone_command=known["CloneCommand"],
        arn=known["RepositoryArn"],
        oidc_subject=known["OidcSubject"],
    )
    return repository, answer


def _take_back_groups(
    context: Context, new: ProjectProperties, old: ProjectProperties, repository: Repository | None
) -> None:
    groups.make(context, new, repository)
    groups.tag_anew(context, new)
    if not refusals(old, new):  # or else nothing of it was done
        added = tuple(stage for stage in old.stages if stage not in new.stages)
        groups.take_back(context, new.project, added)


def _describe(context: Context, host: Host, new: ProjectProperties) -> None:
    host.describe_anew(new.repository, new.description, new.repository_tags(context.mark))
    context.log("SageMaker keeps the descriptions of model package groups as they were made")


def _recorded_version(context: Context, new: ProjectProperties, old: ProjectProperties) -> str:
    """The template's version, which must be there only where it is new: nothing is done with it but telling it."""
    try:
        return template.published(context, new.template_version).version
    except SeedError:
        if new.template_version != old.template_version:
            raise
        return new.template_version


def _check_branches(host: Host, name: str) -> None:
    there = host.heads(name, BRANCHES)
    if missing := [branch for branch in BRANCHES if branch not in there]:
        raise SeedError(
            f"InitialContent 'pushed': the repository {name} has no branch {' and no branch '.join(missing)}; push "
            f"{' and '.join(BRANCHES)} first: git push --set-upstream origin {' '.join(BRANCHES)}"
        )
