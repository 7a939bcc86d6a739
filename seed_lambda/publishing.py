"""The template is published as a Git repository: existing projects are updated from it by `cruft update`."""

from __future__ import annotations

from seed_lambda import template
from seed_lambda.context import Context
from seed_lambda.errors import NameTaken
from seed_lambda.hosts import Repository, host_for
from seed_lambda.properties import LATEST, TemplateProperties
from seed_lambda.template import PUBLISHED_BRANCH, Published, version_branch

_DESCRIPTION = "The Modelyard template: cookiecutter makes projects from it, cruft updates them"


def publish(context: Context, properties: TemplateProperties) -> dict[str, str]:
    """Push a version as one commit onto main, which a branch of its own keeps; nothing when main has it already.

    Answers the resource's Data.

    Raises:
        NameTaken: the repository is somebody else's.
        SeedError: in words.
    """
    if context.undoing_update:
        # What was published before is published still. Asking the host, which may be why the update failed, would let
        # the roll-back fail too, and the stack take no change any more.
        before = template.published(context, LATEST)
        if before.version == properties.template_version:
            return _data(before)
    host = host_for(context, context.settings.git_host)
    host.check()
    files = template.files(template.unpacked(context, properties.template_version))
    host.check_tree(files)
    repository = host.find(properties.repository)
    if repository is None:
        tags = {"modelyard:stack": context.mark}
        repository = host.create(properties.repository, _DESCRIPTION, tags)
    elif not _is_ours(context, repository):
        raise NameTaken(
            f"the repository {properties.repository} ({repository.url}) is there already and was not made by this "
            f"platform: rename it, have whoever owns it delete it{_another_name(context)}; then install again"
        )
    branches = (PUBLISHED_BRANCH, version_branch(properties.template_version))
    message = f"Modelyard template {properties.template_version}"
    commit = host.push(repository.name, files, branches, message)
    host.set_default_branch(repository.name, PUBLISHED_BRANCH)
    return _data(Published(properties.template_version, repository.clone_url, commit))


def _data(published: Published) -> dict[str, str]:
    return {"CloneUrl": published.url, "Commit": published.commit, "TemplateVersion": published.version}


def _another_name(context: Context) -> str:
    """On CodeCommit the name is fixed: projects' policies have it."""
    return ", or name another one with --template-repository" if context.settings.git_host == "github" else ""


def _is_ours(context: Context, repository: Repository) -> bool:
    """Whether a stack of the same account, Region and name made it: it outlives the stack, which may come again."""
    return bool(repository.stack) and _without_id(repository.stack) == _without_id(context.mark)


def _without_id(stack: str) -> str:
    return stack.rpartition("/")[0]
