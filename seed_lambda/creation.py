"""A project is created: everything is looked at first, then made in an order that can be gone through again."""

from __future__ import annotations

from dataclasses import dataclass

from seed_lambda import buckets, groups, template
from seed_lambda.context import Context
from seed_lambda.errors import InvalidProperties, NameTaken, SeedError, repository_taken
from seed_lambda.hosts import Host, Repository, Tree, host_for
from seed_lambda.properties import BRANCHES, DEFAULT_BRANCH, PROTECTED_BRANCH, ProjectProperties
from seed_lambda.settings import NOTHING


@dataclass(frozen=True)
class _First:
    """What the first commit will hold; no tree when the person pushes."""

    version: str
    tree: Tree | None


def create(context: Context, properties: ProjectProperties) -> dict[str, str]:
    """Make the repository with its branches, and the groups; what carries this stack's mark already is gone on with.

    Answers the resource's Data.

    Raises:
        InvalidProperties: a bucket is none of the platform's, or holds what is others'; nothing was made.
        NameTaken: the repository or a group is somebody else's; nothing was made.
        Superseded: the stack has given the creation up; what was made meanwhile is to be taken back.
        SeedError: in words; a Delete then takes away what was made.
    """
    if properties.initial_content == "pushed":
        raise SeedError(
            "InitialContent 'pushed': a new project has no repository that somebody could have pushed to. Create it "
            "with 'template', or with 'empty' and say 'pushed' in an update after the push"
        )
    if faults := _bucket_faults(context, properties):
        raise InvalidProperties(faults)
    host = host_for(context, properties.git_host, properties.git_owner)
    host.check()
    if taken := [*_taken(context, host, properties), *groups.taken(context, properties)]:
        raise NameTaken("; ".join(taken))
    first = _first(context, properties)
    if first.tree is not None:
        host.check_tree(first.tree)

    repository = host.create(properties.repository, properties.description, properties.repository_tags(context.mark))
    host.set_variables(repository.name, properties.ci_variables, {})
    if first.tree is not None:
        if set(host.heads(repository.name, BRANCHES)) != set(BRANCHES):
            message = f"Create {properties.project} from the Modelyard template"
            host.push(repository.name, first.tree, BRANCHES, message)
        finish_branches(host, repository.name)
    groups.make(context, properties, repository)
    context.still_current()  # the stack may have given the creation up while the last group was being made
    return data(host, repository, properties, first.version)


def finish_branches(host: Host, name: str) -> None:
    """What can only be set when the branches are there."""
    host.set_default_branch(name, DEFAULT_BRANCH)
    host.protect(name, PROTECTED_BRANCH)


def data(host: Host, repository: Repository | None, properties: ProjectProperties, version: str) -> dict[str, str]:
    """What Fn::GetAtt finds.

    Args:
        repository: None when somebody deleted it: its values are then "none", and nobody is trusted.
        version: of the template that the product offers by now.
    """
    if repository is None:
        known = dict.fromkeys(OF_REPOSITORY, NOTHING)
        return known | {"Groups": ",".join(properties.groups), "TemplateVersion": version}
    return {
        "RepositoryUrl": repository.url,
        "CloneUrl": repository.clone_url,
        "CloneCommand": repository.clone_command,
        "RepositoryName": repository.name,
        "RepositoryArn": repository.arn,
        "DefaultBranch": DEFAULT_BRANCH,
        "Groups": ",".join(properties.groups),
        "OidcSubject": repository.oidc_subject,
        "TemplateVersion": version,
        "Commit": host.heads(repository.name, (PROTECTED_BRANCH,)).get(PROTECTED_BRANCH, NOTHING),
    }


OF_REPOSITORY = (
    "RepositoryUrl",
    "CloneUrl",
    "CloneCommand",
    "RepositoryName",
    "RepositoryArn",
    "DefaultBranch",
    "OidcSubject",
    "Commit",
)


def _bucket_faults(context: Context, properties: ProjectProperties) -> list[str]:
    own = buckets.artifact_fault(properties.artifact_bucket, context.settings.artifact_buckets)
    return [*([own] if own else []), *buckets.data_faults(properties, None, context.settings)]


def _taken(context: Context, host: Host, properties: ProjectProperties) -> list[str]:
    found = host.find(properties.repository)
    if found is None or found.stack == context.mark:
        return []
    return [repository_taken(f"repository {properties.repository} ({found.url})")]


def _first(context: Context, properties: ProjectProperties) -> _First:
    published = template.published(context, properties.template_version)
    if properties.initial_content == "empty":
        return _First(published.version, None)
    from seed_lambda.render import answers, render

    folder = template.unpacked(context, published.version)
    return _First(published.version, render(folder, answers(properties, context.settings.region), published))
