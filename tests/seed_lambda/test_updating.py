"""What an update may not change is refused with the reason, all of it at once."""

from __future__ import annotations

from typing import Any

import pytest

from seed_lambda.properties import ProjectProperties
from seed_lambda.updating import refusals
from tests.seed_lambda.requests import project


def changed(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return refusals(ProjectProperties.parse(project(**new)), ProjectProperties.parse(project(**old)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {}),
        ({}, {"Description": "another"}),
        ({}, {"Scenario": "advanced"}),
        ({}, {"ProjectId": "p-other"}),
        ({}, {"ModelRole": "other"}),
        ({}, {"OnDelete": "delete"}),
        ({}, {"CiVariables": {"X": "1"}}),
        ({}, {"TemplateVersion": "2.0"}),
        ({"InitialContent": "empty"}, {"InitialContent": "pushed"}),
        ({"Repository": None}, {"Repository": "churn"}),
        ({"GitOwner": None}, {"GitOwner": "none"}),
    ],
)
def test_this_may_change(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert changed(old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({}, {"Project": "fraud"}, "Project cannot change from 'churn' to 'fraud'"),
        ({}, {"GitHost": "github"}, "GitHost cannot change"),
        ({}, {"GitOwner": "acme"}, "GitOwner cannot change"),
        ({}, {"Repository": "other"}, "Repository cannot change"),
        ({}, {"ProblemType": "regression"}, "ProblemType cannot change"),
        ({}, {"ArtifactBucket": "other"}, "ArtifactBucket cannot change"),
        ({}, {"PipelineRole": "other"}, "PipelineRole cannot change"),
        ({"Scenario": "advanced"}, {}, "Scenario cannot change from 'advanced' to 'baseline'"),
        ({}, {"InitialContent": "empty"}, "InitialContent cannot change from 'template' to 'empty'"),
        ({"InitialContent": "pushed"}, {"InitialContent": "empty"}, "InitialContent cannot change from 'pushed'"),
    ],
)
def test_this_may_not(old: dict[str, Any], new: dict[str, Any], words: str) -> None:
    (fault,) = changed(old, new)
    assert fault.startswith(words)


def test_everything_that_may_not_is_said_at_once() -> None:
    assert len(changed({}, {"Project": "fraud", "GitHost": "github", "ProblemType": "regression"})) == 3
