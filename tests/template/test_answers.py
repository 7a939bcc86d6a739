"""Answers that are taken as they are, and answers that are refused with what is allowed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml
from cookiecutter.exceptions import FailedHookException, UndefinedVariableInTemplate

from tests.template.conftest import CHECKOUT, ROLE_ARN, Template, read_json, run

ACCEPTED = [
    {"project": "a"},
    {"project": "A1-b--c"},
    {"project": "x" * 32},
    {"project": "null"},
    {"description": """It's "quoted" \\ and {braced} # é😀 'x': <b>*_`|[]"""},
    {"description": "x" * 1024},
    {"region": "us-gov-west-1"},
    {"artifact_bucket": "123"},
    {"artifact_bucket": "a.b-c.9"},
    {"pipeline_role": "Role_+=,.@-1"},
    {"pipeline_role": "churn-pipeline-{stage}"},
    {"git_host": "github"},
    {"project": "feature-store"},
    {"project": "featured-x"},
    {"pipeline_role": "arn:aws-cn:iam::123456789012:role/service-role/Pipeline"},
]

REFUSED = [
    ({"project": "1abc"}, "project '1abc': write at most 32 letters"),
    ({"project": "abc-"}, "project 'abc-'"),
    ({"project": "x" * 33}, "at most 32"),
    ({"project": "my_model"}, "project 'my_model'"),
    ({"project": "näh"}, "project 'näh'"),
    ({"project": "abc\n"}, r"project 'abc\n'"),
    ({"project": "churn-feature"}, "pipelines of the project 'churn' would be called so: choose another name"),
    ({"project": "churn-Feature-x"}, "project 'churn-Feature-x': `feature` must not be a later part of it"),
    ({"description": ""}, "description '': write one line"),
    ({"description": "two\nlines"}, "one line of 1 to 1024 printable characters"),
    ({"description": "x" * 1025}, "one line of 1 to 1024 printable characters"),
    ({"description": "bell\x07"}, "printable"),
    ({"region": "europe"}, "region 'europe': write an AWS Region's code"),
    ({"artifact_bucket": "My-Bucket"}, "lower-case letters"),
    ({"artifact_bucket": "ab"}, "3 to 63"),
    ({"artifact_bucket": "x" * 64}, "3 to 63"),
    ({"artifact_bucket": "a..b"}, "two dots"),
    ({"artifact_bucket": "192.168.0.1"}, "IP address"),
    ({"artifact_bucket": "xn--bucket"}, "must not begin with xn--"),
    ({"artifact_bucket": "bucket-s3alias"}, "must not end with -s3alias"),
    ({"artifact_bucket": "-bucket"}, "begin and end with a letter or digit"),
    ({"pipeline_role": "my role"}, "pipeline_role 'my role'"),
    ({"pipeline_role": "x" * 65}, "at most 64"),
    ({"pipeline_role": "x" * 58 + "{stage}"}, "at most 64"),
    ({"pipeline_role": "{stages}"}, "{stage} in it becomes feature or dev"),
    ({"pipeline_role": "arn:aws:iam::123:role/short-account"}, "<12 digits>"),
]


@pytest.mark.parametrize("answers", ACCEPTED, ids=str)
def test_answers_reach_the_files_unharmed(template: Template, answers: dict[str, str], tmp_path: Path) -> None:
    repository = template.generate(tmp_path, **{"project": "churn", **answers})
    settings = yaml.safe_load((repository / "settings.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    context = read_json(repository / ".cruft.json")["context"]["cookiecutter"]
    asked = {name: value for name, value in context.items() if not name.startswith("_")}
    assert asked.items() >= answers.items()
    assert settings["project"] == project["name"] == asked["project"]
    assert settings["description"] == project["description"] == asked["description"]
    aws = settings["aws"]
    assert (aws["region"], aws["bucket"], aws["role"]) == (
        asked["region"],
        asked["artifact_bucket"],
        asked["pipeline_role"],
    )
    checked = run(repository, "-m", "pipeline", "check")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(("answers", "message"), REFUSED, ids=str)
def test_bad_answers_are_refused(
    template: Template, answers: dict[str, str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FailedHookException):
        template.generate(tmp_path / "output", **answers)
    assert message in capfd.readouterr().err
    assert list((tmp_path / "output").iterdir()) == [], "something was left behind"


def test_all_faults_are_said_at_once(template: Template, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FailedHookException):
        template.generate(tmp_path, project="1", region="x", artifact_bucket="B", pipeline_role=" ", description=" ")
    said = capfd.readouterr().err
    assert [line.split()[1] for line in said.splitlines() if line.startswith("- ")] == [
        "project",
        "description",
        "region",
        "artifact_bucket",
        "pipeline_role",
    ]


def test_a_description_with_template_code_is_refused_when_typed(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # what is typed at the prompt is taken as it is; `cruft update` would render it
    from cookiecutter import main

    def typed(context: dict[str, dict[str, object]], no_input: bool) -> dict[str, str]:
        return {
            "project": "churn",
            "description": "see {{ this }}",
            "problem_type": "regression",
            "scenario": "baseline",
            "git_host": "codecommit",
            "region": "us-east-1",
            "artifact_bucket": "churn-artifacts",
            "pipeline_role": ROLE_ARN,
        }

    monkeypatch.setattr(main, "prompt_for_config", typed)
    with pytest.raises(FailedHookException):
        template.generate(tmp_path)
    assert "taken for template code" in capfd.readouterr().err
    monkeypatch.undo()
    with pytest.raises(UndefinedVariableInTemplate):
        template.generate(tmp_path, description="see {{ this }}")


def test_every_question_has_a_prompt() -> None:
    questions = read_json(CHECKOUT / "cookiecutter.json")
    prompts = questions.pop("__prompts__")
    asked = {name: choices for name, choices in questions.items() if not name.startswith("_")}
    assert prompts.keys() == asked.keys()
    for name, choices in asked.items():
        if isinstance(choices, list):
            assert prompts[name].keys() == {"__prompt__", *choices}
