"""What stands in for Studio's form: what a person sees, is asked, and is told, with his own rights alone."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from local_aws import LocalAWS
from local_aws.__main__ import main
from local_aws.studio import ProjectError, create_project, delete_project, find_template, find_templates
from tests.local_aws.catalog_stand import (
    BUCKET,
    LAUNCH_RIGHTS,
    MAY_LAUNCH,
    SMALL_TEMPLATE,
    STACK_ACTIONS,
    TOPIC_ACTIONS,
    Catalog,
    Person,
    a_person,
    make_catalog,
    new_name,
    policy,
)
from tests.local_aws.clients import refused
from tests.local_aws.people import root

LOCATION = {"Key": "sagemaker:projectS3TemplatesLocation", "Value": f"s3://{BUCKET}/projects/"}
# What the form needs besides the rights to make projects: to see templates and stacks.
MAY_SEE = (
    (["sagemaker:*Project*", "sagemaker:AddTags", "sagemaker:ListTags", "sagemaker:ListDomains"], "*"),
    (["s3:GetObject", "s3:GetObjectTagging", "s3:ListBucket"], "*"),
    (STACK_ACTIONS, "*"),
)


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as server:
        yield server


@pytest.fixture(scope="module")
def catalog(aws: LocalAWS) -> Catalog:
    catalog = make_catalog(aws)
    s3, sagemaker = root(aws, "s3"), root(aws, "sagemaker")
    s3.put_object(Bucket=BUCKET, Key="projects/hidden.yaml", Body=SMALL_TEMPLATE)
    settings: dict[str, Any] = {"AuthMode": "IAM", "DefaultUserSettings": {}}
    sagemaker.create_domain(DomainName="studio", Tags=[LOCATION], **settings)
    return catalog


@pytest.fixture(scope="module")
def ann(catalog: Catalog) -> Person:
    return catalog.member().may(MAY_LAUNCH, *MAY_SEE, (["iam:PassRole"], catalog.role))


@pytest.fixture
def as_ann(aws: LocalAWS, ann: Person, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs python -m local_aws studio with her variables."""
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    variables = {"AWS_ENDPOINT_URL": aws.endpoint, "AWS_DEFAULT_REGION": "us-east-1", **ann.credentials}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("local_aws.studio.command.PAUSE", 0.05)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["local_aws", "studio", *arguments])
        return main()

    return run


def product_name(catalog: Catalog) -> str:
    described = root(catalog.aws, "servicecatalog").describe_product_as_admin(Id=catalog.product)
    return str(described["ProductViewDetail"]["ProductViewSummary"]["Name"])


def test_a_person_sees_the_templates_of_both_routes_that_are_tagged_for_studio(catalog, ann):
    found = {(one.route, one.name) for one in find_templates(ann.client)}

    assert found == {("servicecatalog", product_name(catalog)), ("s3", "small")}


def test_who_may_look_nowhere_sees_nothing(aws, catalog):
    assert find_templates(a_person(aws).client) == []


@pytest.mark.parametrize("route", ["servicecatalog", "s3"])
def test_what_sagemaker_fills_is_not_asked_and_the_rest_stands_in_its_groups(ann, catalog, route):
    template = find_template(ann.client, product_name(catalog) if route == "servicecatalog" else "small", route)

    asked = [(group.label, [one.name for one in group.parameters]) for group in template.asked]
    assert asked == [("What it does", ["Scenario"]), ("", ["Owner"])]


def test_parameters_of_the_platform_are_not_asked(aws, ann, catalog):
    body = SMALL_TEMPLATE.replace(
        "  Owner: {Type: String", "  Owner: {Type: 'AWS::SSM::Parameter::Value<String>'"
    ).replace("Default: nobody", "Default: /platform/owner")
    root(aws, "s3").put_object(
        Bucket=BUCKET, Key="projects/stored.yaml", Body=body, Tagging="sagemaker:studio-visibility=true"
    )

    template = find_template(ann.client, "stored")

    assert [one.name for group in template.asked for one in group.parameters] == ["Scenario"]
    root(aws, "s3").delete_object(Bucket=BUCKET, Key="projects/stored.yaml")


@pytest.mark.parametrize("route", ["servicecatalog", "s3"])
def test_a_project_is_made_and_deleted_and_its_progress_told(aws, catalog, ann, route):
    name = new_name()
    told: list[str] = []
    template = find_template(ann.client, product_name(catalog) if route == "servicecatalog" else "small", route)

    project = create_project(
        ann.client, name, template, {"Scenario": "advanced"}, role=catalog.role, tell=told.append, pause=0.05
    )
    arn = root(aws, "sagemaker").describe_project(ProjectName=name)["ProjectArn"]
    tags = root(aws, "sagemaker").list_tags(ResourceArn=arn)["Tags"]
    again: list[str] = []
    delete_project(ann.client, name, tell=again.append, pause=0.05)

    assert (project.status, project.outputs) == (
        "CreateCompleted",
        {"TopicArn": f"arn:aws:sns:us-east-1:123456789012:{name}"},
    )
    (domain,) = root(aws, "sagemaker").list_domains()["Domains"]
    profile = domain["DomainArn"].replace(":domain/", ":user-profile/") + f"/{ann.name}"
    assert tags == [{"Key": "sagemaker:user-profile-arn", "Value": profile}]
    assert "Topic: CREATE_COMPLETE" in told
    assert f"project {name}: CreateCompleted" in told
    assert f"project {name}: DeleteCompleted" in again
    assert not any("CREATE_COMPLETE" in line for line in again)


@pytest.mark.parametrize(("domain", "tagged"), [("d-nowhere", False), (None, False), ("second", True)])
def test_of_which_domain_a_project_is_must_be_known_for_studios_tag(aws, catalog, ann, domain, tagged):
    sagemaker, name = root(aws, "sagemaker"), new_name()
    second = sagemaker.create_domain(DomainName=name, AuthMode="IAM", DefaultUserSettings={})["DomainId"]
    template = find_template(ann.client, "small")

    given = second if domain == "second" else domain
    made = create_project(ann.client, name, template, role=catalog.role, domain=given, pause=0.05)

    tags = sagemaker.list_tags(ResourceArn=made.arn)["Tags"]
    sagemaker.delete_domain(DomainId=second)
    assert [f"/{second}/" in one["Value"] for one in tags] == ([True] if tagged else [])


def test_a_project_that_is_not_described_any_more_is_deleted() -> None:
    """Whether SageMaker still describes a deleted project, its documents do not say."""
    client = boto3.client("sagemaker", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as s:
        arn = "arn:aws:sagemaker:us-east-1:123456789012:project/churn"
        described = {"ProjectArn": arn, "ProjectName": "churn", "ProjectId": "p-1", "CreationTime": datetime.now(UTC)}
        s.add_response("describe_project", {**described, "ProjectStatus": "CreateCompleted"})
        s.add_response("delete_project", {})
        s.add_response("describe_project", {**described, "ProjectStatus": "DeleteInProgress"})
        s.add_client_error("describe_project", "ValidationException", "Project churn does not exist")
        told: list[str] = []
        delete_project(lambda _service: s.client, "churn", tell=told.append, pause=0)
        assert told == ["project churn: DeleteInProgress"]
        s.add_client_error("describe_project", "ValidationException", "Project churn does not exist")
        with pytest.raises(ProjectError, match=r"There is no project churn\."):
            delete_project(lambda _service: s.client, "churn")


def test_a_stack_that_fails_is_told_in_its_own_words(aws):
    rights = ((STACK_ACTIONS, "*"), ([one for one in TOPIC_ACTIONS if one != "sns:CreateTopic"], "*"))
    catalog = make_catalog(aws, (*rights, (["s3:GetObject"], "*")))
    person = catalog.member().may(MAY_LAUNCH, *MAY_SEE)
    template = find_template(person.client, product_name(catalog))

    with pytest.raises(ProjectError, match="is CreateFailed") as error:
        create_project(person.client, new_name(), template, pause=0.05)

    assert "is not authorized to perform: sns:CreateTopic on resource" in str(error.value)


def test_what_the_template_does_not_take_is_told_before_anything_is_asked_of_aws(ann, catalog):
    template, name = find_template(ann.client, "small"), new_name()

    with pytest.raises(ProjectError, match="must be one of AllowedValues: baseline, advanced"):
        create_project(ann.client, name, template, {"Scenario": "none"})

    assert refused(lambda: ann.client("sagemaker").describe_project(ProjectName=name))[0] == "ValidationException"


def test_the_role_of_the_route_by_s3_is_the_one_that_the_platform_keeps(aws, catalog, ann):
    template, ssm = find_template(ann.client, "small"), root(aws, "ssm")
    with pytest.raises(ProjectError, match="needs --role"):
        create_project(ann.client, new_name(), template)

    ssm.put_parameter(Name="/modelyard/launch-role", Type="String", Value=catalog.role)
    root(aws, "iam").put_user_policy(
        UserName=ann.name, PolicyName="role", PolicyDocument=policy((["ssm:GetParameter"], "*"))
    )

    assert create_project(ann.client, new_name(), template, pause=0.05).status == "CreateCompleted"


# --- the command


def test_the_command_lists_makes_and_deletes(as_ann, catalog, capsys):
    name = new_name()

    assert as_ann("list") == 0
    seen = capsys.readouterr().out
    arguments = ("--template", "small", "--name", name, "--parameter", "Scenario=advanced", "--role", catalog.role)
    assert as_ann("create", *arguments) == 0
    made = capsys.readouterr().out
    assert as_ann("delete", name) == 0

    assert product_name(catalog) in seen
    assert f"Project {name} (p-" in made
    assert f"TopicArn: arn:aws:sns:us-east-1:123456789012:{name}" in made
    assert f"Project {name} is deleted." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "--template", "none", "--name", "x"), "--template none: there is no such template"),
        (("create", "--template", "a:secret:b", "--name", "x"), "--template a:secret:b: there"),  # and no emoji
        (("create", "--template", "small", "--name", "x", "--parameter", "Scenario"), "write NAME=VALUE"),
        (("delete", "nothing"), "There is no project nothing."),
        ((), "The form needs a terminal."),
    ],
)
def test_what_the_command_cannot_do_it_says_with_exit_code_1(as_ann, catalog, capsys, monkeypatch, arguments, said):
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    assert as_ann(*arguments) == 1
    assert said in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_form_asks_until_the_answers_are_right_and_makes_the_project(as_ann, aws, catalog, capsys, monkeypatch):
    name = new_name()
    answers = ("2", "no name!", name, "churn of customers", "nonsense", "advanced", "ann")
    monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{answer}\n" for answer in answers)))

    assert as_ann("--role", catalog.role) == 0

    out = capsys.readouterr().out
    assert "What it does" in out
    assert "Scenario of deployment" in out
    assert "1 to 32 letters, digits and hyphens" in out
    described = root(aws, "sagemaker").describe_project(ProjectName=name)
    assert (described["ProjectStatus"], described["ProjectDescription"]) == ("CreateCompleted", "churn of customers")
    arn = f"arn:aws:sns:us-east-1:123456789012:{name}"
    assert root(aws, "sns").get_topic_attributes(TopicArn=arn)["Attributes"]["DisplayName"] == "advanced ann"


@pytest.mark.parametrize("kept", [False, True])
def test_the_form_asks_for_the_role_of_a_template_in_s3_and_offers_the_one_that_is_kept(
    as_ann, aws, catalog, ann, capsys, monkeypatch, kept
):
    parameter = {"Name": "/modelyard/launch-role", "Type": "String", "Value": catalog.role}
    if kept:
        root(aws, "ssm").put_parameter(**parameter, Overwrite=True)
        ssm = policy((["ssm:GetParameter"], "*"))
        root(aws, "iam").put_user_policy(UserName=ann.name, PolicyName="role", PolicyDocument=ssm)
    else:
        root(aws, "iam").put_user_policy(UserName=ann.name, PolicyName="role", PolicyDocument=policy((["x:y"], "*")))
    name = new_name()
    answers = ("2", name, "", *([""] if kept else ["no role", catalog.role]), "advanced", "ann")
    monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{answer}\n" for answer in answers)))

    assert as_ann() == 0

    out = capsys.readouterr().out
    assert "not your own execution role" in out
    assert ("A role's ARN is such as" in out, f"Role ARN ({catalog.role})" in out.replace("\n", "")) == (not kept, kept)
    described = root(aws, "sagemaker").describe_project(ProjectName=name)
    assert described["TemplateProviderDetails"][0]["CfnTemplateProviderDetail"]["RoleARN"] == catalog.role


def test_rights_of_the_launch_role_are_all_that_a_project_needs_besides() -> None:
    """What the stand's people have names no topic: else the tests above would prove nothing."""
    everything = [action for actions, _ in (MAY_LAUNCH, *MAY_SEE) for action in actions]

    assert not [action for action in everything if action.startswith(("sns:", "*"))]
    assert [action for actions, _ in LAUNCH_RIGHTS for action in actions if action.startswith("sns:")]
