"""What the pages about projects say is so: parameters, names, and commands that can be typed."""

from __future__ import annotations

import argparse
import re
import shlex
from functools import cache
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import UnknownServiceError
from botocore.model import ServiceModel

from local_aws import __main__ as local_aws_command
from servicecatalog import product
from tests.servicecatalog import template
from tests.servicecatalog.conftest import ROOT

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, ROOT / "README.md", ROOT / "{{cookiecutter.project}}" / "README.md"]
CREATING, PROJECTS = ROOT / "docs" / "create-a-project.md", ROOT / "docs" / "projects.md"
OF_SAGEMAKER = {"SageMakerProjectName", "SageMakerProjectId"}
# Commands of the AWS CLI's own, which are no operations of AWS.
OF_THE_CLI = {
    "cloudformation": {"deploy"},
    "codecommit": {"credential-helper"},
    "configure": {"get"},
    "logs": {"tail"},
    "s3": {"cp", "ls", "mb"},
    "sso": {"login"},
}
GLOBAL = {"query", "output", "region", "endpoint-url", "profile", "debug"}
WRITTEN = template.load(product.TEMPLATE)
# What a project has that has a name of its own.
NAMED = (
    "AWS::CodeBuild::Project",
    "AWS::CodePipeline::Pipeline",
    "AWS::Events::Rule",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Role",
)


def section(page: Path, title: str) -> str:
    return page.read_text().split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def commands(page: Path, program: str) -> list[list[str]]:
    """The words of what is to be typed and begins with the program, in blocks and in lines; `...` and comments go."""
    text = page.read_text().replace("\\\n", " ")
    found = re.findall(rf"(?:^[ ]{{4}}|\$\(|`|^\s*)({program} [^`\n]*)", text, re.MULTILINE)
    typed = []
    for line in found:
        within = re.split(r"\s(?:\||&&|>)\s|\s+#|\)", line)[0].rstrip(".:, ")
        try:
            typed.append(shlex.split(within))
        except ValueError:  # a quotation goes on in the next line, whose words are no options
            typed.append(within.split("'")[0].split())
    return typed


@cache
def service(name: str) -> ServiceModel | None:
    try:
        return botocore.session.get_session().get_service_model(name)
    except UnknownServiceError:
        return None


def test_a_project_is_asked_for_nothing_that_the_page_does_not_name() -> None:
    table = section(CREATING, "What you are asked")
    named = set(re.findall(r"`([A-Z][A-Za-z]+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    parameters = WRITTEN["Parameters"]
    assert named
    assert named <= set(parameters)
    assert {name for name, parameter in parameters.items() if "Default" not in parameter} == OF_SAGEMAKER
    offered = {value for name in named for value in parameters[name].get("AllowedValues", ())}
    said = set(re.findall(r"`([a-z_]+)`", table))
    assert offered - {"codecommit", "github"} <= said


def test_the_page_names_what_a_project_is_made_of() -> None:
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \|", section(PROJECTS, "What a project is made of"), re.MULTILINE)
    said: set[str] = set()
    for cell in rows:
        first = ""
        for name in re.findall(r"`([^`]+)`", cell):
            first = name if "<project>" in name else first
            said.add(name if not name.startswith("-") else first.split("<project>")[0] + "<project>" + name)
    made = set()
    for host in ("codecommit", "github"):
        values = {"SageMakerProjectName": "churn", "SageMakerProjectId": "p-123456789012", "GitHost": host}
        for resource in template.resolved(WRITTEN, values).values():
            properties = resource["Properties"]
            if resource["Type"] in NAMED:
                name = properties.get("RoleName") or properties.get("ManagedPolicyName") or properties["Name"]
                path = properties["Path"] if resource["Type"] == "AWS::IAM::Role" else ""
                made.add(path + name.replace("churn", "<project>").replace("p-123456789012", "<id>"))
    assert len(made) > 20
    assert made <= said, made - said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_aws_clis_commands_have_the_options_that_they_are_given(page: Path) -> None:
    for words in commands(page, "aws"):
        if len(words) < 3 or words[2].startswith("-") or words[2] in ("wait", *OF_THE_CLI.get(words[1], ())):
            continue
        model = service({"s3api": "s3"}.get(words[1], words[1]))
        assert model is not None, words
        operations = {xform_name(name, "-"): name for name in model.operation_names}
        assert words[2] in operations, words
        shape = model.operation_model(operations[words[2]]).input_shape
        members = {xform_name(name, "-") for name in shape.members} if shape else set()
        # of what is true or false the AWS CLI has both: --enabled and --no-enabled
        truths = (
            {xform_name(name, "-") for name, one in shape.members.items() if one.type_name == "boolean"}
            if shape
            else set()
        )
        members |= {f"no-{name}" for name in truths}
        options = {word[2:].split("=")[0] for word in words[3:] if word.startswith("--")}
        assert options <= members | GLOBAL, (words, options - members)


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_what_stands_in_for_studio_takes_what_the_pages_give_it(page: Path) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    local_aws_command._studio_arguments(parser)
    for _, _, _, _, *words in commands(page, "python -m local_aws studio"):
        if len(words) > 1:
            parser.parse_args(words)
        else:  # named only, or typed without options
            with pytest.raises(SystemExit) as ended:
                parser.parse_args([*words, "--help"])
            assert ended.value.code == 0, words


def test_whoever_makes_projects_may_look_where_the_repository_is() -> None:
    """By the lines of "Where the repository is": the project, then its stack, whichever way it was made."""
    policy = template.load(ROOT / "servicecatalog" / "portfolio.yaml")["Resources"]["CreatorPolicy"]["Properties"]
    allowed = set()
    for statement in policy["PolicyDocument"]["Statement"]:
        if isinstance(statement["Resource"], dict) and "Fn::Sub" in statement["Resource"]:
            resource = statement["Resource"]["Fn::Sub"].rpartition(":")[2]
            allowed |= {(action, resource) for action in statement["Action"]}
    typed = section(CREATING, "In SageMaker Studio")
    assert "aws sagemaker describe-project" in typed
    assert "aws cloudformation describe-stacks" in typed
    assert {
        ("sagemaker:DescribeProject", "project/*"),
        ("cloudformation:DescribeStacks", "stack/SP-*"),
        ("cloudformation:DescribeStacks", "stack/SC-*"),
    } <= allowed
