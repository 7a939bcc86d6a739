"""A project is updated: what may change changes, anything else is refused before anything is touched."""

from __future__ import annotations

from seed_lambda import groups, template
from seed_lambda.context import Context
from seed_lambda.creation import data, finish_branches
from seed_lambda.errors import NameTaken, SeedError
from seed_lambda.hosts import Host, host_for
from seed_lambda.properties import BRANCHES, ProjectProperties

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
    undoing = context.undoing_update
    if old is None:
        raise SeedError("the update does not say which project there was (OldResourceProperties): create it anew")
    if not undoing and (faults := refusals(new, old)):
        raise SeedError("; ".join(faults))
    host = host_for(context, new.git_host, new.git_owner)
    repository = host.find(new.repository)
    if repository is not None and repository.stack != context.mark:
        repository = None
    if repository is None and not undoing:
        raise SeedError(
            f"the repository {new.repository} of this project is gone, or was made anew by somebody else: nothing was "
            "changed. The project can be deleted, and created again"
        )
    pushed = not undoing and new.initial_content == "pushed" and old.initial_content == "empty"
    if pushed:
        _check_branches(host, new.repository)
    if not undoing and (taken := groups.taken(context, new)):
        raise NameTaken("; ".join(taken))
    version = _recorded_version(context, new, old, undoing)

    retagged = undoing or (new.project_id, new.model_role) != (old.project_id, old.model_role)
    if repository is None:
        context.log("the repository is gone: only the groups are taken back", level="WARNING")
    else:
        if retagged or pushed or new.description != old.description:
            host.describe_anew(new.repository, new.description, new.repository_tags(context.mark))
            context.log("SageMaker keeps the descriptions of model package groups as they were made")
        host.set_variables(new.repository, new.ci_variables, old.ci_variables)
    groups.make(context, new, repository)
    if retagged:
        groups.tag_anew(context, new)
    if undoing and not refusals(old, new):  # or else nothing of it was done
        added = tuple(stage for stage in old.stages if stage not in new.stages)
        groups.take_back(context, new.project, added)
    if pushed:
        finish_branches(host, new.repository)
    context.log("updated: a newer template reaches the repository by its own CI", template_version=version)
    return data(host, repository, new, version)


def _recorded_version(context: Context, new: ProjectProperties, old: ProjectProperties, undoing: bool) -> str:
    """The template's version, which must be there only where it is new: nothing is done with it but telling it."""
    try:
        return template.published(context, new.template_version).version
    except SeedError:
        if not undoing and new.template_version != old.template_version:
            raise
        return new.template_version


def _check_branches(host: Host, name: str) -> None:
    there = host.heads(name, BRANCHES)
    if missing := [branch for branch in BRANCHES if branch not in there]:
        raise SeedError(
            f"InitialContent 'pushed': the repository {name} has no branch {' and no branch '.join(missing)}; push "
            f"{' and '.join(BRANCHES)} first: git push --set-upstream origin {' '.join(BRANCHES)}"
        )
