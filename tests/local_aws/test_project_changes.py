"""Updates of projects, with IAM enforced: to which version, with which tags, and what a refused one leaves; and what
becomes of a project when the server is killed between asking for something and noting that it has.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.catalog_stand import (
    MAY_LAUNCH,
    SMALL_TEMPLATE,
    STACK_ACTIONS,
    URL,
    Catalog,
    make_catalog,
    new_name,
    pairs,
)
from tests.local_aws.clients import refused
from tests.local_aws.people import root
from tests.local_aws.test_projects import create, display_name, settled, topic_tags

NEWER = SMALL_TEMPLATE.replace('"${Scenario} ${Owner}"', '"newer ${Scenario} ${Owner}"')


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as server:
        yield server


@pytest.fixture
def catalog(aws: LocalAWS) -> Catalog:
    return make_catalog(aws)


@pytest.fixture
def sagemaker(catalog: Catalog) -> Any:
    """Of somebody who may make projects by both routes, and nothing with topics."""
    rights = (["sagemaker:*Project*", "sagemaker:*Tags"], "*")
    others = (["s3:GetObject", "iam:PassRole"], "*")
    return catalog.member().may(MAY_LAUNCH, rights, (STACK_ACTIONS, "*"), others).client("sagemaker")


def update(sagemaker: Any, name: str, **request: Any) -> dict[str, Any]:
    sagemaker.update_project(ProjectName=name, **request)
    return settled(sagemaker, name)


def by_catalog(**details: Any) -> dict[str, Any]:
    return {"ServiceCatalogProvisioningUpdateDetails": details}


@pytest.mark.parametrize("gone", [False, True])
def test_an_update_that_names_no_version_brings_the_newest_even_when_the_old_one_is_gone(aws, catalog, sagemaker, gone):
    name = new_name()
    create(sagemaker, catalog, "servicecatalog", name, Owner="ann")
    newest = catalog.release(NEWER)
    if gone:
        root(aws, "servicecatalog").delete_provisioning_artifact(
            ProductId=catalog.product, ProvisioningArtifactId=catalog.version
        )

    updated = update(sagemaker, name, **by_catalog(ProvisioningParameters=pairs({"Scenario": "advanced"})))

    assert updated["ProjectStatus"] == "UpdateCompleted"
    assert updated["ServiceCatalogProvisioningDetails"]["ProvisioningArtifactId"] == newest
    assert display_name(aws, name) == "newer advanced ann"


def test_an_update_to_a_version_that_it_names_brings_that(aws, catalog, sagemaker):
    name = new_name()
    create(sagemaker, catalog, "servicecatalog", name)
    catalog.release(NEWER)

    details = by_catalog(ProvisioningArtifactId=catalog.version, ProvisioningParameters=pairs({"Owner": "ann"}))
    updated = update(sagemaker, name, **details)

    assert updated["ServiceCatalogProvisioningDetails"]["ProvisioningArtifactId"] == catalog.version
    assert display_name(aws, name) == "baseline ann"


@pytest.mark.parametrize("details", [{}, by_catalog()])
def test_tags_of_a_project_of_the_catalog_change_with_its_stack_where_the_constraint_lets_them(
    aws, catalog, sagemaker, details
):
    catalog.let_updates_change_tags()
    name = new_name()
    project = create(sagemaker, catalog, "servicecatalog", name)

    updated = update(sagemaker, name, Tags=pairs({"cost": "8", "sagemaker:project-id": "p-other"}), **details)

    assert updated["ProjectStatus"] == "UpdateCompleted"
    assert topic_tags(aws, name)["cost"] == "8"
    assert topic_tags(aws, name)["sagemaker:project-id"] == project["ProjectId"]
    assert {"Key": "cost", "Value": "8"} in sagemaker.list_tags(ResourceArn=project["ProjectArn"])["Tags"]


@pytest.mark.parametrize(
    ("route", "change", "said"),
    [
        ("servicecatalog", {}, "Tag updates are not allowed"),
        ("servicecatalog", by_catalog(ProvisioningParameters=pairs({"Scenario": "none"})), "AllowedValues"),
        (
            "s3",
            {"TemplateProvidersToUpdate": [{"CfnTemplateProvider": {"TemplateName": "other", "TemplateURL": URL}}]},
            "has no template other",
        ),
    ],
)
def test_a_refused_update_leaves_description_tags_and_status(aws, catalog, sagemaker, route, change, said):
    name = new_name()
    create(sagemaker, catalog, route, name)
    arn = sagemaker.describe_project(ProjectName=name)["ProjectArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=pairs({"cost": "7"}))
    before = sagemaker.describe_project(ProjectName=name)

    code, message = refused(
        lambda: sagemaker.update_project(
            ProjectName=name, ProjectDescription="other", Tags=pairs({"cost": "8", "more": "x"}), **change
        )
    )

    after = sagemaker.describe_project(ProjectName=name)
    assert (code, said in message) == ("ValidationException", True)
    assert {**after, "ResponseMetadata": {}} == {**before, "ResponseMetadata": {}}
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == pairs({"cost": "7"})
    assert "cost" not in topic_tags(aws, name)
    assert update(sagemaker, name, ProjectDescription="once more")["ProjectDescription"] == "once more"


# --- a server that is killed


def set_back(aws: LocalAWS, changes: dict[str, Callable[[dict[str, Any]], None]]) -> None:
    """Kill the server, change what it has noted of projects, and start it again.

    Args:
        changes: by a project's name, of its document.
    """
    state = aws.server.state
    assert state is not None
    aws.kill()
    with sqlite3.connect(Path(state) / "local_aws.sqlite") as connection:
        for name, change in changes.items():
            select = "SELECT document FROM documents WHERE kind = 'projects' AND key = ?"
            ((text,),) = connection.execute(select, (name,)).fetchall()
            document = json.loads(text)
            change(document)
            given = (json.dumps(document), name)
            connection.execute("UPDATE documents SET document = ? WHERE kind = 'projects' AND key = ?", given)
    connection.close()
    aws.restart()


def as_reserved(document: dict[str, Any]) -> None:
    """What is noted of a project before its product or stack is asked for."""
    document |= {"ProjectStatus": "Pending", "Verb": "Create"}
    for name in ("RecordId", "StackId", "ServiceCatalogProvisionedProductDetails"):
        document.pop(name, None)
    for provider in document.get("TemplateProviderDetails", []):
        del provider["CfnTemplateProviderDetail"]["StackDetail"]["Id"]


def as_never_begun(document: dict[str, Any]) -> None:
    """The same of one whose product was never asked for."""
    as_reserved(document)
    document["ProjectId"] = "p-neverbegun01"


def as_entered(verb: str) -> Callable[[dict[str, Any]], None]:
    """What is noted of a project before an update or a deletion is asked for."""

    def change(document: dict[str, Any]) -> None:
        document |= {"ProjectStatus": f"{verb}InProgress", "Verb": verb}
        del document["RecordId"]

    return change


def project_of(stack: dict[str, Any]) -> str:
    """The name of the project that a stack is of."""
    return str({tag["Key"]: tag["Value"] for tag in stack["Tags"]}["sagemaker:project-name"])


def test_what_was_asked_for_and_not_noted_is_found_again_and_what_was_not_asked_for_has_failed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with LocalAWS(state=tmp_path_factory.mktemp("state")) as aws:
        catalog, sagemaker = make_catalog(aws), root(aws, "sagemaker")
        routes = {"product": "servicecatalog", "stack": "s3"}
        for name in ("product", "stack", "never", "updating", "deleting"):
            create(sagemaker, catalog, routes.get(name, "servicecatalog"), name)
        made = {name: sagemaker.describe_project(ProjectName=name) for name in routes}

        changes = {"product": as_reserved, "stack": as_reserved, "never": as_never_begun}
        set_back(aws, changes | {"updating": as_entered("Update"), "deleting": as_entered("Delete")})

        for name in routes:
            found = settled(sagemaker, name)
            assert found["ProjectStatus"] == "CreateCompleted", found
            for member in ("ServiceCatalogProvisionedProductDetails", "TemplateProviderDetails"):
                assert found.get(member) == made[name].get(member)
        assert settled(sagemaker, "never")["ProjectStatus"] == "CreateFailed"
        code, message = refused(lambda: sagemaker.update_project(ProjectName="never", **by_catalog()))
        assert (code, "has no stack" in message) == ("ValidationException", True)
        assert settled(sagemaker, "updating")["ProjectStatus"] == "UpdateFailed"
        assert settled(sagemaker, "deleting")["ProjectStatus"] == "DeleteFailed"
        assert update(sagemaker, "updating", **by_catalog())["ProjectStatus"] == "UpdateCompleted"
        for name in ("product", "stack", "deleting", "never"):
            sagemaker.delete_project(ProjectName=name)
            assert settled(sagemaker, name)["ProjectStatus"] == "DeleteCompleted"
        # What was never asked for has another project's id here, so its product stands for somebody else's.
        pages = root(aws, "cloudformation").get_paginator("describe_stacks").paginate()
        left = [project_of(stack) for page in pages for stack in page["Stacks"]]
        assert sorted(left) == ["never", "updating"]
