"""Which request is done by what."""

from __future__ import annotations

from seed_lambda.context import Context
from seed_lambda.errors import SeedError, Superseded
from seed_lambda.properties import (
    NOTHING_MADE,
    PROJECT_RESOURCE,
    TEMPLATE_RESOURCE,
    ProjectProperties,
    TemplateProperties,
)


def run(context: Context) -> dict[str, str]:
    """Does what the request asks for; answers the resource's Data.

    What does the work is imported only when it is asked for: imports are most of a cold start.

    Raises:
        SeedError: with words for people.
        botocore.exceptions.ClientError, BotoCoreError: AWS refused or did not answer.
    """
    resource, kind = context.request.resource_type, context.request.request_type
    if resource == PROJECT_RESOURCE:
        return _delete_project(context) if kind == "Delete" else _make_project(context)
    if resource == TEMPLATE_RESOURCE:
        if kind == "Delete":
            context.log("the published template is kept: projects are updated from it")
            return {}
        from seed_lambda.publishing import publish

        return publish(context, TemplateProperties.parse(context.request.properties))
    raise SeedError(
        f"the resource type {resource!r} is none of this function's: it makes {PROJECT_RESOURCE} and "
        f"{TEMPLATE_RESOURCE}"
    )


def _make_project(context: Context) -> dict[str, str]:
    properties = ProjectProperties.parse(context.request.properties)
    if context.request.request_type == "Create":
        from seed_lambda.creation import create

        try:
            return create(context, properties)
        except Superseded:
            _take_back(context, properties)
            raise
    from seed_lambda.updating import update

    return update(context, properties, ProjectProperties.parse_for_deletion(context.request.old_properties))


def _take_back(context: Context, properties: ProjectProperties) -> None:
    """Leave nothing of a creation that the stack gave up while it was being made."""
    back = context.taking_back()
    if back is None:
        return
    from seed_lambda.removal import remove

    context.log("the stack has given this creation up: it is taken back")
    remove(back, properties)


def _delete_project(context: Context) -> dict[str, str]:
    if context.request.physical_id.endswith(NOTHING_MADE):
        context.log("its creation failed before it made anything")
        return {}
    properties = ProjectProperties.parse_for_deletion(context.request.properties)
    if properties is None:
        context.log("the properties name no project: nothing was made with them")
        return {}
    from seed_lambda.removal import remove

    remove(context, properties)
    return {}
