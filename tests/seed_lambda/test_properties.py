"""Properties are checked all at once, in words that name the property, the fault and the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from seed_lambda.errors import InvalidProperties
from seed_lambda.properties import ProjectProperties, TemplateProperties, physical_id
from tests.seed_lambda.requests import PROJECT, STACK, TEMPLATE, project


def faults(**changes: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidProperties) as caught:
        ProjectProperties.parse(project(**changes))
    return caught.value.faults


def test_a_projects_properties_are_read() -> None:
    properties = ProjectProperties.parse(project(Scenario="advanced"))
    assert properties.git_owner == ""
    assert properties.groups == {
        "churn-feature": "feature",
        "churn-dev": "dev",
        "churn-champion": "champion",
        "churn-challenger": "challenger",
    }
    assert properties.tags(STACK, "dev") == {
        "sagemaker:project-name": "churn",
        "sagemaker:project-id": "p-abcdefghijkl",
        "modelyard:project": "churn",
        "modelyard:stack": STACK,
        "modelyard:stage": "dev",
        "modelyard:model-role": "churn-model",
    }


def test_what_is_left_out_has_its_default() -> None:
    left_out = dict.fromkeys(("GitOwner", "Repository", "InitialContent", "TemplateVersion", "OnDelete", "CiVariables"))
    properties = ProjectProperties.parse(project(**left_out))
    assert (properties.repository, properties.initial_content, properties.template_version) == (
        "churn",
        "template",
        "latest",
    )
    assert (properties.git_owner, properties.on_delete, properties.ci_variables) == ("", "keep", {})


@pytest.mark.parametrize("name", ["a", "churn", "churn-2", "a" * 32, "feature", "features-x", "x-features", "a--b"])
def test_these_names_are_taken(name: str) -> None:
    assert ProjectProperties.parse(project(Project=name)).project == name


@pytest.mark.parametrize(
    "name",
    ["a" * 33, "Churn", "2churn", "-churn", "churn-", "ch urn", "chürn", "x-feature", "x-feature-y", "a/b", "a\n"],
)
def test_these_names_are_refused(name: str) -> None:
    assert faults(Project=name)[0].startswith("Project ")


@pytest.mark.parametrize(
    ("changes", "begin", "remedy"),
    [
        ({"Project": None}, "Project is missing", "give it"),
        ({"Description": "two\nlines"}, "Description 'two\\nlines'", "one line"),
        ({"Description": "x" * 1025}, "Description ", "1 to 1024"),
        ({"Description": "{{ 1 }}"}, "Description '{{ 1 }}'", "leave it out"),
        ({"PipelineRole": "{%x"}, "PipelineRole '{%x'", "leave it out"),
        ({"ArtifactBucket": "{#x"}, "ArtifactBucket '{#x'", "leave it out"),
        ({"ProblemType": "clustering"}, "ProblemType 'clustering'", "binary_classification, multiclass_classification"),
        ({"Scenario": "Baseline"}, "Scenario 'Baseline'", "baseline, advanced"),
        ({"GitHost": "gitlab"}, "GitHost 'gitlab'", "codecommit, github"),
        ({"InitialContent": "full"}, "InitialContent 'full'", "template, empty, pushed"),
        ({"OnDelete": "archive"}, "OnDelete 'archive'", "keep, delete"),
        ({"GitOwner": "a/b"}, "GitOwner 'a/b'", "organization or user"),
        ({"Repository": "../x"}, "Repository '../x'", "letters, digits"),
        ({"Repository": ".."}, "Repository '..'", "dots alone"),
        ({"Repository": "x.git"}, "Repository 'x.git'", "do not end with .git"),
        ({"Repository": "x" * 101}, "Repository ", "at most 100"),
        ({"ModelRole": "a role"}, "ModelRole 'a role'", "IAM role's name"),
        ({"ProjectId": "p-<1>"}, "ProjectId 'p-<1>'", "at most 256"),
        ({"TemplateVersion": "../1"}, "TemplateVersion '../1'", "latest"),
        ({"CiVariables": ["x"]}, "CiVariables:", "map"),
        ({"CiVariables": {"GITHUB_X": "1"}}, "CiVariables, 'GITHUB_X'", "GITHUB_"),
        ({"CiVariables": {"lower": "1"}}, "CiVariables, 'lower'", "capitals"),
        ({"CiVariables": {"X": ""}}, "CiVariables, 'X'", "1 to 1000"),
        ({"Colour": "red"}, "Colour is no property", "take it out"),
    ],
)
def test_a_fault_names_the_property_and_the_remedy(changes: dict[str, Any], begin: str, remedy: str) -> None:
    found = faults(**changes)
    assert any(fault.startswith(begin) and remedy in fault for fault in found), found


def test_every_fault_is_said_at_once() -> None:
    assert len(faults(Project="X", Scenario="y", GitHost="z", Description="{{", Repository="..")) == 5


def test_a_message_does_not_repeat_a_long_value() -> None:
    assert all(len(fault) < 400 for fault in faults(Project="x" * 4000, Description="y\n" * 4000))


@pytest.mark.parametrize("name", ["Project", "GitHost"])
def test_a_deletion_without_a_usable_name_has_nothing_to_delete(name: str) -> None:
    assert ProjectProperties.parse_for_deletion(project(**{name: "?"})) is None
    assert ProjectProperties.parse_for_deletion(project(**{name: None})) is None


def test_a_deletion_takes_what_a_creation_would_refuse() -> None:
    properties = ProjectProperties.parse_for_deletion(project(Scenario="old", Colour="red", ProblemType="x"))
    assert properties is not None
    assert (properties.project, properties.repository) == ("churn", "churn")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"TemplateVersion": "latest"}, "TemplateVersion"),
        ({"TemplateVersion": "a/b"}, "TemplateVersion"),
        ({"Repository": ""}, "Repository"),
        ({"Owner": "x"}, "Owner"),
    ],
)
def test_a_templates_faults_are_said(changes: dict[str, str], name: str) -> None:
    with pytest.raises(InvalidProperties, match=name):
        TemplateProperties.parse(TEMPLATE | changes)


def test_where_the_template_is_published_only_lets_cloudformation_see_a_change() -> None:
    assert TemplateProperties.parse(TEMPLATE | {"PublishedOn": "github https://github.com acme"}) == (
        TemplateProperties.parse(TEMPLATE)
    )


def test_the_physical_id_is_the_projects_name_and_nothing_else() -> None:
    assert physical_id("Custom::ModelyardProject", PROJECT) == "modelyard-project/churn"
    assert physical_id("Custom::ModelyardProject", {"Project": ["x"]}) == "modelyard-project/"
    assert len(physical_id("Custom::ModelyardProject", {"Project": "x" * 5000})) < 1024
    assert physical_id("Custom::ModelyardTemplate", TEMPLATE) == "modelyard-template/modelyard-template"
