"""Installing, updating, repairing and removing the platform and the product, as an administrator does it."""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from servicecatalog import __main__ as command_line
from servicecatalog import install, studio
from servicecatalog.account import KEY_ALIAS, LEDGER_TABLE, Account
from servicecatalog.errors import InstallError
from tests.local_aws.waiting import STACK_PAUSE, wait_for
from tests.servicecatalog.conftest import Administrator, account_of, new_administrator

SECRET = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:github-AbCdEf"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
INSTALL = ("install", "--yes", "--artifact-buckets", "my-artifacts,team-*")


@pytest.fixture(scope="module")
def installed(aws: LocalAWS) -> Administrator:
    """Of an account with the platform, which these tests leave as it is."""
    administrator = new_administrator(aws)
    administrator.run(*INSTALL, "--log-retention-days", "30")
    return administrator


def trust(service: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def make_endpoint(administrator: Administrator, name: str, tags: dict[str, str]) -> None:
    """One that never gets to serve, its archive being none: it is there nevertheless."""
    sagemaker, role = administrator.client("sagemaker"), administrator.settings.default_model_role
    arn = administrator.client("iam").get_role(RoleName=role)["Role"]["Arn"]
    container = {"Image": IMAGE, "ModelDataUrl": "s3://my-artifacts/none.tar.gz"}
    s3 = administrator.client("s3")
    s3.create_bucket(Bucket="my-artifacts")
    s3.put_object(Bucket="my-artifacts", Key="none.tar.gz", Body=b"no archive")
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=arn, PrimaryContainer=container)
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    tag_list = [{"Key": key, "Value": value} for key, value in tags.items()]
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=tag_list)


# --- installing


def test_it_installs_what_the_command_line_and_the_functions_need(installed: Administrator) -> None:
    settings = installed.settings
    table = installed.client("dynamodb").describe_table(TableName=settings.ledger_table)["Table"]
    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == ["by-status"]
    queue = installed.client("sqs").get_queue_attributes(QueueUrl=settings.queue_url, AttributeNames=["All"])
    assert int(queue["Attributes"]["VisibilityTimeout"]) == 720
    role = installed.client("iam").get_role(RoleName=settings.default_model_role)["Role"]
    assert role["Path"] == settings.model_role_path


@pytest.mark.parametrize(
    ("name", "event", "answer"),
    [
        ("deploy", {"Records": []}, {"batchItemFailures": []}),
        ("notify", {"Records": []}, None),
        ("commit-status", {"Records": []}, {"batchItemFailures": []}),
        ("endpoint-tests", {"Records": []}, {"batchItemFailures": []}),
        ("clean", {"time": "2026-11-21T20:00:00Z"}, {"outcomes": []}),
        (
            "batch",
            {"detail-type": "SageMaker Transform Job State Change"}
            | {"detail": {"TransformJobName": "theirs", "TransformJobArn": "theirs"}},
            {"job": "theirs", "outcome": "not ours"},
        ),
    ],
)
def test_a_function_starts_in_its_runtime_with_its_settings(
    installed: Administrator, name: str, event: object, answer: object
) -> None:
    """Each is called with what it has nothing to do for."""
    done = installed.client("lambda").invoke(FunctionName=f"modelyard-{name}", Payload=json.dumps(event))
    payload = json.loads(done["Payload"].read())
    assert "FunctionError" not in done, payload
    assert payload == answer


def test_it_publishes_the_template_and_the_product(installed: Administrator) -> None:
    parameters = installed.parameters
    version = parameters["/modelyard/template/version"]
    clone = installed.client("codecommit").get_repository(repositoryName="modelyard-template")["repositoryMetadata"]
    assert parameters["/modelyard/template/url"] == clone["cloneUrlHttp"]
    branch = installed.client("codecommit").get_branch(repositoryName="modelyard-template", branchName="main")["branch"]
    assert parameters["/modelyard/template/commit"] == branch["commitId"]
    product = installed.client("servicecatalog").describe_product_as_admin(Id=parameters["/modelyard/product/id"])
    assert {"Key": "sagemaker:studio-visibility", "Value": "true"} in product["Tags"]
    assert [one["Name"] for one in product["ProvisioningArtifactSummaries"]] == [version]


def test_the_template_that_studio_lists_is_the_products(installed: Administrator) -> None:
    parameters = installed.parameters
    bucket, key = parameters["/modelyard/product/template-url"].split("/", 4)[3:]
    s3 = installed.client("s3")
    assert bucket == parameters["/modelyard/template-bucket"]
    assert s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"] == [
        {"Key": "sagemaker:studio-visibility", "Value": "true"}
    ]
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    assert f'Default: "{parameters["/modelyard/template/version"]}"' in body


def test_studio_lists_the_template_and_what_others_made_there_stays(installed: Administrator) -> None:
    s3, bucket = installed.client("s3"), installed.parameters["/modelyard/template-bucket"]
    rule = {"AllowedMethods": ["GET"], "AllowedOrigins": ["https://portal.example.com"]}
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    tags = [{"Key": "team", "Value": "ml"}, {"Key": studio.VISIBILITY_TAG, "Value": "true"}]
    for key in ("projects/theirs.yaml", "projects/modelyard-0.yaml"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"theirs")
        s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": tags})
    ours, theirs = (make_domain(installed, name) for name in ("ours", "theirs"))
    sagemaker = installed.client("sagemaker")
    other = [{"Key": studio.LOCATION_TAG, "Value": "s3://their-templates/mlops/"}]
    sagemaker.add_tags(ResourceArn=theirs["DomainArn"], Tags=other)

    installed.run("install", "--yes", "--studio-domain", ours["DomainId"])
    assert "Nothing to do" in installed.run("install", "--yes", "--studio-domain", ours["DomainId"]).stdout
    refused = installed.run("install", "--yes", "--studio-domain", theirs["DomainId"], fails=True).stderr

    location = [{"Key": studio.LOCATION_TAG, "Value": f"s3://{bucket}/projects/"}]
    assert sagemaker.list_tags(ResourceArn=ours["DomainArn"])["Tags"] == location
    assert sagemaker.list_tags(ResourceArn=theirs["DomainArn"])["Tags"] == other
    assert "lists the S3 project templates of s3://their-templates/mlops/" in refused
    rules = s3.get_bucket_cors(Bucket=bucket)["CORSRules"]
    assert rules == [rule, *json.loads(studio.CORS.read_text())["CORSRules"]]
    shown = {
        key: {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]}
        for key in ("projects/theirs.yaml", "projects/modelyard-0.yaml")
    }
    assert shown["projects/theirs.yaml"] == {"team": "ml", studio.VISIBILITY_TAG: "true"}
    assert shown["projects/modelyard-0.yaml"] == {"team": "ml", studio.VISIBILITY_TAG: "false"}

    assert studio.disconnect(account_of(installed), bucket) == [ours["DomainId"]]
    assert sagemaker.list_tags(ResourceArn=theirs["DomainArn"])["Tags"] == other


def make_domain(administrator: Administrator, name: str) -> dict[str, str]:
    """Id and ARN of a SageMaker domain."""
    role = f"arn:aws:iam::{administrator.account}:role/studio-{name}"
    trusted = trust("sagemaker.amazonaws.com")
    administrator.client("iam").create_role(RoleName=f"studio-{name}", AssumeRolePolicyDocument=trusted)
    made = administrator.client("sagemaker").create_domain(
        DomainName=name,
        AuthMode="IAM",
        DefaultUserSettings={"ExecutionRole": role},
        SubnetIds=["subnet-0123456789abcdef0"],
        VpcId="vpc-0123456789abcdef0",
    )
    return {"DomainArn": made["DomainArn"], "DomainId": made["DomainArn"].rpartition("/")[2]}


def test_the_archives_bucket_is_private_encrypted_and_keeps_versions(installed: Administrator) -> None:
    s3, bucket = installed.client("s3"), f"modelyard-platform-{installed.account}-us-east-1"
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    rule = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    statement = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"][0]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_a_second_run_has_nothing_to_do(installed: Administrator) -> None:
    before = installed.stack
    assert "Nothing to do" in installed.run("install", "--yes").stdout
    assert installed.stack == before


def test_an_update_changes_what_is_given_and_keeps_the_rest(installed: Administrator) -> None:
    role = f"arn:aws:iam::{installed.account}:role/studio"
    principals = ("--principals", f"{role}, arn:aws:iam:::role/data-*")
    done = installed.run("install", "--yes", "--alert-email", "team@example.com", *principals)
    assert "Update stack modelyard" in done.stdout
    assert "EmailSubscription" in done.stdout
    assert installed.stack is not None
    values = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in installed.stack["Parameters"]}
    assert values["ArtifactBuckets"] == "my-artifacts,team-*"
    assert values["LogRetentionDays"] == "30"
    subscribed = installed.client("sns").list_subscriptions_by_topic(TopicArn=installed.settings.topic_arn)
    assert {one["Protocol"] for one in subscribed["Subscriptions"]} == {"email", "lambda"}
    portfolio = installed.outputs["Portfolio"]
    listed = installed.client("servicecatalog").list_principals_for_portfolio(PortfolioId=portfolio)["Principals"]
    assert {one["PrincipalARN"] for one in listed} == {"arn:aws:iam:::role/studio", "arn:aws:iam:::role/data-*"}


def test_who_is_named_no_longer_sees_the_product_no_longer_and_nobody_else_is_lost(installed: Administrator) -> None:
    portfolio = installed.outputs["Portfolio"]

    def seen_by() -> set[str]:
        listed = installed.client("servicecatalog").list_principals_for_portfolio(PortfolioId=portfolio)["Principals"]
        return {one["PrincipalARN"].rpartition("/")[2] for one in listed}

    for named in (["a", "b", "c-*"], ["c-*", "b"], ["new", "c-*", "b"]):
        installed.run("install", "--yes", "--principals", ",".join(f"arn:aws:iam:::role/{name}" for name in named))
        assert seen_by() == set(named)


@pytest.mark.parametrize(
    ("named", "places"),
    [
        (["a", "b"], ["a", "b", "", "", ""]),
        (["b", "a"], ["a", "b", "", "", ""]),
        (["b"], ["", "b", "", "", ""]),
        (["new", "b"], ["new", "b", "", "", ""]),
        (["new", "newer", "b"], ["new", "b", "newer", "", ""]),
        (["a", "a", "b"], ["a", "b", "", "", ""]),
        ([""], [""] * 5),
    ],
)
def test_a_principal_keeps_its_place(named: list[str], places: list[str]) -> None:
    account = Account(boto3.Session(), "111122223333", "us-east-1", "arn:aws:iam::111122223333:user/ann")
    arns = ",".join(name and f"arn:aws:iam::111122223333:role/{name}" for name in named)
    before = {"Principal1": "arn:aws:iam:::role/a", "Principal2": "arn:aws:iam:::role/b", "TemplateVersion": "1"}

    found = install.principals(account, {"Principals": arns}, before)

    assert found == {
        f"Principal{number}": name and f"arn:aws:iam:::role/{name}" for number, name in enumerate(places, 1)
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--git-host", "github"), ("--git-owner", "--git-token-secret-arn")),
        (("--git-host", "github", "--git-owner", "acme", "--git-token-secret-arn", SECRET), ("is not in us-east-1",)),
        (("--vpc-subnet-ids", "subnet-1"), ("--vpc-security-group-ids",)),
        (("--principals", "arn:aws:iam::999999999999:role/x"), ("999999999999:role/x is no role",)),
        (("--principals", ",".join(f"arn:aws:iam:::role/{number}" for number in range(6))), ("may have 5",)),
        (("--studio-domain", "d-none"), ("there is no SageMaker domain d-none", "none")),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    administrator: Administrator, options: tuple[str, ...], said: tuple[str, ...]
) -> None:
    refused = administrator.run("install", "--yes", *options, fails=True).stderr
    assert all(part in refused for part in said), refused
    assert administrator.status == "none"
    assert administrator.client("s3").list_buckets()["Buckets"] == []


def test_a_value_that_cannot_be_is_refused_and_named(installed: Administrator) -> None:
    assert "AlertEmail" in installed.run("install", "--yes", "--alert-email", "nobody", fails=True).stderr


def test_it_says_what_it_will_do_and_does_nothing_without_consent(administrator: Administrator) -> None:
    regions = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}  # the first one counts, as for the AWS CLI
    done = administrator.run("install", "--artifact-buckets", "my-artifacts", fails=True, **regions)
    assert f"Account {administrator.account}, eu-west-1" in done.stdout
    assert "Create stack modelyard with" in done.stdout
    assert "Create stack modelyard-portfolio with" in done.stdout
    assert "--yes" in done.stdout
    assert administrator.status == "none"
    assert administrator.client("s3").list_buckets()["Buckets"] == []


def test_credentials_that_are_missing_are_asked_for(administrator: Administrator, tmp_path: Path) -> None:
    none: dict[str, str | None] = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    none |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    done = administrator.run(*INSTALL, fails=True, **none, AWS_CONFIG_FILE=str(tmp_path / "none"))
    assert "aws sts get-caller-identity" in done.stderr


def test_a_region_that_is_missing_is_asked_for(administrator: Administrator, tmp_path: Path) -> None:
    none = {"AWS_REGION": None, "AWS_DEFAULT_REGION": None, "AWS_CONFIG_FILE": str(tmp_path / "none")}
    assert "AWS_REGION" in administrator.run(*INSTALL, fails=True, **none).stderr


# --- removing


@pytest.mark.slow
def test_the_record_of_approvals_outlives_the_platform_and_is_used_by_the_next(administrator: Administrator) -> None:
    administrator.run(*INSTALL)
    item = {"endpoint": {"S": "churn-prod"}, "item": {"S": "STATE"}}
    administrator.client("dynamodb").put_item(TableName=LEDGER_TABLE, Item=item)
    key = administrator.client("kms").describe_key(KeyId=KEY_ALIAS)["KeyMetadata"]["Arn"]

    done = administrator.run("uninstall", "--yes")
    assert "aws dynamodb delete-table --table-name modelyard-ledger" in done.stdout
    assert f"aws kms schedule-key-deletion --key-id {key}" in done.stdout
    assert "aws codecommit delete-repository --repository-name modelyard-template" in done.stdout
    assert administrator.client("servicecatalog").list_portfolios()["PortfolioDetails"] == []
    assert administrator.client("lambda").list_functions()["Functions"] == []
    assert administrator.client("iam").list_roles(PathPrefix="/modelyard/")["Roles"] == []
    ssm = administrator.client("ssm")
    assert ssm.get_parameters_by_path(Path="/modelyard/", Recursive=True)["Parameters"] == []

    again = administrator.run(*INSTALL)
    assert again.stdout.count("of an earlier installation is used again") == 5  # ledger, key and three buckets
    ledger = administrator.settings.ledger_table
    assert administrator.client("dynamodb").get_item(TableName=ledger, Key=item)["Item"] == item
    assert "Nothing to do" in administrator.run("install", "--yes").stdout


def test_what_is_in_use_is_removed_only_by_force(administrator: Administrator) -> None:
    administrator.run(*INSTALL)
    assert administrator.stack is not None
    outputs = {output["OutputKey"]: output["OutputValue"] for output in administrator.stack["Outputs"]}
    iam, settings = administrator.client("iam"), administrator.settings
    iam.create_role(RoleName="ci", AssumeRolePolicyDocument=trust("sagemaker.amazonaws.com"))
    iam.attach_role_policy(RoleName="ci", PolicyArn=outputs["DenyApprovalPolicy"])
    administrator.client("scheduler").create_schedule(
        Name="churn-prod",
        GroupName=settings.schedule_group,
        ScheduleExpression="rate(1 day)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": settings.batch_function_arn, "RoleArn": settings.schedule_role_arn},
    )
    make_endpoint(administrator, "churn-prod", {"modelyard:project": "churn"})
    make_endpoint(administrator, "somebodys", {})
    refused = administrator.run("uninstall", "--yes", fails=True).stderr
    assert "policy modelyard-deny-approval-us-east-1 is attached to role ci" in refused
    assert "schedule churn-prod starts batch transform jobs" in refused
    assert "endpoint churn-prod runs with a role of the platform" in refused
    assert "somebodys" not in refused
    assert "--force" in refused
    assert administrator.status == "CREATE_COMPLETE"

    administrator.run("uninstall", "--yes", "--force")
    assert iam.list_attached_role_policies(RoleName="ci")["AttachedPolicies"] == []
    assert administrator.status in ("none", "DELETE_COMPLETE")


@pytest.mark.slow
def test_what_projects_need_is_not_removed_even_by_force(administrator: Administrator) -> None:
    """Their roles are bounded by a policy of the platform's, and its function deletes what they own."""
    administrator.run("install", "--yes")
    sagemaker, parameters = administrator.client("sagemaker"), administrator.parameters
    template = {
        "TemplateName": "modelyard",
        "TemplateURL": parameters["/modelyard/product/template-url"],
        "RoleARN": parameters["/modelyard/launch-role"],
    }
    sagemaker.create_project(ProjectName="churn", TemplateProviders=[{"CfnTemplateProvider": template}])
    assert settled(administrator, "churn") == "CreateCompleted"
    for options in ((), ("--force",)):
        assert "churn (S3 template)" in administrator.run("uninstall", "--yes", *options, fails=True).stderr
    assert administrator.status == "CREATE_COMPLETE"

    sagemaker.delete_project(ProjectName="churn")
    assert settled(administrator, "churn") == "DeleteCompleted"
    administrator.run("uninstall", "--yes")
    assert administrator.status in ("none", "DELETE_COMPLETE")


def settled(administrator: Administrator, project: str) -> str:
    """A project's status once nothing is under way."""
    sagemaker = administrator.client("sagemaker")

    def ended() -> str | None:
        status = str(sagemaker.describe_project(ProjectName=project)["ProjectStatus"])
        return None if status == "Pending" or status.endswith("InProgress") else status

    return str(wait_for(ended, pause=STACK_PAUSE))


def test_removing_what_is_not_there_says_so(administrator: Administrator) -> None:
    said = administrator.run("uninstall", "--yes").stdout
    assert "not installed" in said
    assert "modelyard-platform-" not in said  # no bucket was ever made


def test_an_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(session: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("servicecatalog.account.Account.of", interrupted)
    monkeypatch.setattr("sys.argv", ["servicecatalog", "install", "--artifact-buckets", "mine", "--yes"])
    assert command_line.main() == 130
    assert "the same command takes it up" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DescribeStackEvents"),
        InstallError("stack modelyard: FailedQueue: User: x is not authorized to perform: sqs:CreateQueue"),
    ],
)
def test_a_missing_permission_names_the_policies_that_give_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def refused(session: object) -> None:
        raise error

    monkeypatch.setattr("servicecatalog.account.Account.of", refused)
    monkeypatch.setattr("sys.argv", ["servicecatalog", "uninstall", "--yes"])
    assert command_line.main() == 1
    said = capsys.readouterr().err
    assert str(error) in said
    assert "The administrator's policies" in said
