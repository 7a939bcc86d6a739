"""The types that the platform's and projects' templates use: created, updated and deleted with just enough rights."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from local_aws import LocalAWS
from tests.local_aws.clients import refused
from tests.local_aws.lambda_requests import archive
from tests.local_aws.waiting import settled, wait_for

ACCOUNT, REGION = "123456789012", "us-east-1"
ISSUER = "token.actions.githubusercontent.com"

PUBLIC_ACCESS = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")


def template(name: str, **change: Any) -> dict[str, Any]:
    """One of each type.

    Args:
        change: what an update changes: size, how many days things are kept; client, the identity provider's audience;
            text, what a description and a parameter say.
    """
    days, client, text = change.get("days", 30), change.get("client", "sts.amazonaws.com"), change.get("text", "one")
    tags = [{"Key": "modelyard:project", "Value": text}]
    trust = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Federated": "${Provider.Arn}"},'
        ' "Action": "sts:AssumeRoleWithWebIdentity", "Condition": {"StringEquals": {"${Issuer}:sub": "${Subject}"}}}]}'
    )
    resources = {
        "Bucket": {
            "Type": "AWS::S3::Bucket",
            "Properties": {
                "BucketName": f"{name}-data",
                "BucketEncryption": {
                    "ServerSideEncryptionConfiguration": [
                        {
                            "ServerSideEncryptionByDefault": {
                                "SSEAlgorithm": "aws:kms",
                                "KMSMasterKeyID": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{name}",
                            },
                            "BucketKeyEnabled": True,
                        }
                    ]
                },
                "VersioningConfiguration": {"Status": "Enabled"},
                "LifecycleConfiguration": {
                    "Rules": [
                        {
                            "Id": "old versions",
                            "Status": "Enabled",
                            "NoncurrentVersionExpiration": {"NoncurrentDays": days},
                            "NoncurrentVersionTransitions": [{"StorageClass": "STANDARD_IA", "TransitionInDays": 20}],
                            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
                        },
                        {
                            "Id": "captured",
                            "Status": "Enabled",
                            "Prefix": "captured/",
                            "TagFilters": [{"Key": "kept", "Value": "no"}],
                            "ExpirationInDays": days,
                            "Transitions": [{"StorageClass": "STANDARD_IA", "TransitionInDays": 30}],
                        },
                    ]
                },
                "PublicAccessBlockConfiguration": dict.fromkeys(PUBLIC_ACCESS, True),
                "CorsConfiguration": {
                    "CorsRules": [
                        {"AllowedMethods": ["GET"], "AllowedOrigins": ["https://*.sagemaker.aws"], "MaxAge": 60}
                    ]
                },
                "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
                "Tags": tags,
            },
        },
        "TlsOnly": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {
                "Bucket": {"Ref": "Bucket"},
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Sid": text,
                            "Effect": "Deny",
                            "Principal": "*",
                            "Action": "s3:*",
                            "Resource": [{"Fn::GetAtt": ["Bucket", "Arn"]}, {"Fn::Sub": "${Bucket.Arn}/*"}],
                            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                        }
                    ],
                },
            },
        },
        "Provider": {
            "Type": "AWS::IAM::OIDCProvider",
            "Properties": {"Url": f"https://{ISSUER}/{name}", "ClientIdList": [client], "Tags": tags},
        },
        "Boundary": {
            "Type": "AWS::IAM::ManagedPolicy",
            "Properties": {
                "ManagedPolicyName": f"{name}-boundary",
                "Path": "/modelyard/",
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [{"Sid": text, "Effect": "Allow", "Action": "codebuild:StartBuild", "Resource": "*"}],
                },
            },
        },
        "CiRole": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "RoleName": f"{name}-ci",
                "Path": "/modelyard/ci/",
                "PermissionsBoundary": {"Ref": "Boundary"},
                "AssumeRolePolicyDocument": {"Fn::Sub": trust},
                "Tags": tags,
            },
        },
        "ServiceRole": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "RoleName": f"{name}-services",
                "Path": "/modelyard/",
                "PermissionsBoundary": {"Ref": "Boundary"},
                "AssumeRolePolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {
                                "Service": [f"{each}.amazonaws.com" for each in ("codebuild", "events", "lambda")],
                                "AWS": ACCOUNT,
                            },
                            "Action": "sts:AssumeRole",
                        }
                    ],
                },
                "Policies": [
                    {
                        "PolicyName": "start",
                        "PolicyDocument": {
                            "Version": "2012-10-17",
                            "Statement": [
                                {
                                    "Effect": "Allow",
                                    "Action": ["codebuild:StartBuild", "s3:ListAllMyBuckets"],
                                    "Resource": "*",
                                }
                            ],
                        },
                    }
                ],
            },
        },
        "Logs": {
            "Type": "AWS::Logs::LogGroup",
            "Properties": {"LogGroupName": f"/modelyard/{name}", "RetentionInDays": 30 if days == 30 else 60},
        },
        "Builds": {
            "Type": "AWS::CodeBuild::Project",
            "Properties": {
                "Name": f"{name}-ci",
                "Description": text,
                "Source": {"Type": "CODECOMMIT", "Location": f"https://git/{name}", "BuildSpec": "buildspec.yml"},
                "Artifacts": {"Type": "NO_ARTIFACTS"},
                "Environment": {
                    "Type": "LINUX_CONTAINER",
                    "ComputeType": "BUILD_GENERAL1_SMALL",
                    "Image": "aws/codebuild/standard:7.0",
                    "EnvironmentVariables": [{"Name": "STAGE", "Value": "dev"}],
                },
                "ServiceRole": {"Fn::GetAtt": ["ServiceRole", "Arn"]},
                "EncryptionKey": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{name}",
                "LogsConfig": {"CloudWatchLogs": {"Status": "ENABLED", "GroupName": {"Ref": "Logs"}}},
                "Tags": tags,
            },
        },
        "Pushes": {
            "Type": "AWS::Events::Rule",
            "Properties": {
                "Name": f"{name}-pushes",
                "Description": text,
                "EventPattern": {"source": [f"test.{name}"], "detail": {"referenceType": ["branch"]}},
                "Targets": [
                    {
                        "Id": "build",
                        "Arn": {"Fn::GetAtt": ["Builds", "Arn"]},
                        "RoleArn": {"Fn::GetAtt": ["ServiceRole", "Arn"]},
                        "InputTransformer": {
                            "InputPathsMap": {"commit": "$.detail.commitId", "branch": "$.detail.referenceName"},
                            "InputTemplate": '{"sourceVersion": <commit>, "environmentVariablesOverride":'
                            ' [{"name": "BRANCH", "value": <branch>}]}',
                        },
                    }
                ],
            },
        },
        "Function": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "FunctionName": name,
                "Runtime": "python3.11",
                "Handler": "app.handler",
                "Role": {"Fn::GetAtt": ["ServiceRole", "Arn"]},
                "Code": {"S3Bucket": "code", "S3Key": "function.zip"},
            },
        },
        "Retries": {
            "Type": "AWS::Lambda::EventInvokeConfig",
            "Properties": {
                "FunctionName": {"Ref": "Function"},
                "Qualifier": "$LATEST",
                "MaximumRetryAttempts": 2 if days == 30 else 1,
                "MaximumEventAgeInSeconds": 3600,
            },
        },
        "Setting": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Name": f"/{name}/setting", "Type": "String", "Value": text},
        },
    }
    parameters = {"Issuer": f"{ISSUER}/{name}", "Subject": "repo:acme@1/churn@2:ref:refs/heads/dev"}
    return {
        "Parameters": {key: {"Type": "String", "Default": value} for key, value in parameters.items()},
        "Resources": resources,
    }


def grants(name: str) -> dict[str, list[str]]:
    """Exactly what CloudFormation must be allowed for it: actions by what they are about."""
    here = f"{REGION}:{ACCOUNT}"
    roles = [f"arn:aws:iam::{ACCOUNT}:role/modelyard/{each}" for each in (f"ci/{name}-ci", f"{name}-services")]
    return {
        f"arn:aws:s3:::{name}-data": [
            *("s3:CreateBucket", "s3:DeleteBucket", "s3:ListBucket", "s3:GetBucketAcl"),
            *("s3:PutBucketTagging", "s3:TagResource", "s3:PutEncryptionConfiguration", "s3:PutBucketCORS"),
            *("s3:PutLifecycleConfiguration", "s3:PutBucketPublicAccessBlock", "s3:PutBucketVersioning"),
            *("s3:PutBucketOwnershipControls", "s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"),
        ],
        "arn:aws:s3:::code/function.zip": ["s3:GetObject"],
        f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}/{name}": [
            *("iam:CreateOpenIDConnectProvider", "iam:TagOpenIDConnectProvider", "iam:GetOpenIDConnectProvider"),
            *("iam:AddClientIDToOpenIDConnectProvider", "iam:RemoveClientIDFromOpenIDConnectProvider"),
            *("iam:ListOpenIDConnectProviderTags", "iam:DeleteOpenIDConnectProvider"),
        ],
        f"arn:aws:iam::{ACCOUNT}:policy/modelyard/{name}-boundary": [
            *("iam:CreatePolicy", "iam:GetPolicy", "iam:DeletePolicy", "iam:ListEntitiesForPolicy"),
            *("iam:CreatePolicyVersion", "iam:DeletePolicyVersion", "iam:ListPolicyVersions"),
        ],
        roles[0]: ["iam:CreateRole", "iam:TagRole", "iam:GetRole", "iam:DeleteRole", *ON_ANY_ROLE],
        roles[1]: [
            *("iam:CreateRole", "iam:PutRolePolicy", "iam:GetRolePolicy", "iam:GetRole", "iam:PassRole"),
            *("iam:DeleteRole", "iam:DeleteRolePolicy", *ON_ANY_ROLE),
        ],
        f"arn:aws:logs:{here}:log-group:/modelyard/{name}": [
            *("logs:CreateLogGroup", "logs:PutRetentionPolicy", "logs:GetDataProtectionPolicy"),
            *("logs:ListTagsForResource", "logs:DeleteLogGroup"),
        ],
        f"arn:aws:codebuild:{here}:project/{name}-ci": [
            f"codebuild:{verb}Project" for verb in ("Create", "Update", "Delete")
        ],
        f"arn:aws:lambda:{here}:function:{name}": [
            *("lambda:CreateFunction", "lambda:GetFunction", "lambda:DeleteFunction"),
            *("lambda:GetFunctionCodeSigningConfig", "lambda:GetRuntimeManagementConfig"),
            *("lambda:GetFunctionRecursionConfig", "lambda:PutFunctionEventInvokeConfig"),
            *("lambda:UpdateFunctionEventInvokeConfig", "lambda:DeleteFunctionEventInvokeConfig"),
        ],
        f"arn:aws:events:{here}:rule/{name}-pushes": [
            *("events:DescribeRule", "events:PutRule", "events:PutTargets", "events:DeleteRule"),
            *("events:RemoveTargets", "events:ListTargetsByRule"),
        ],
        f"arn:aws:ssm:{here}:parameter/{name}/setting": [
            *("ssm:PutParameter", "ssm:GetParameters", "ssm:DeleteParameter"),
        ],
        "*": ["logs:DescribeLogGroups", "logs:DescribeIndexPolicies"],
    }


ON_ANY_ROLE = ("iam:ListAttachedRolePolicies", "iam:ListRolePolicies")


@dataclasses.dataclass
class Made:
    """A stack with one of each type, made by a role that may do just that."""

    aws: LocalAWS
    name: str
    role: str
    id: str = ""

    def __post_init__(self) -> None:
        self.cloudformation = self.aws.client("cloudformation")

    def create(self) -> str:
        body = json.dumps(template(self.name))
        self.id = self.cloudformation.create_stack(
            StackName=self.name, TemplateBody=body, RoleARN=self.role, Capabilities=["CAPABILITY_NAMED_IAM"]
        )["StackId"]
        return self.settled()

    def update(self, **change: Any) -> str:
        body = json.dumps(template(self.name, **change))
        self.cloudformation.update_stack(StackName=self.id, TemplateBody=body, Capabilities=["CAPABILITY_NAMED_IAM"])
        return self.settled()

    def delete(self) -> str:
        self.cloudformation.delete_stack(StackName=self.id)
        return self.settled()

    def settled(self) -> str:
        status = str(settled(self.cloudformation, self.id)["StackStatus"])
        return f"{status}: {self.faults()}" if "ROLLBACK" in status or "FAILED" in status else status

    def faults(self) -> list[str]:
        events = self.cloudformation.describe_stack_events(StackName=self.id)["StackEvents"]
        return [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}"
            for event in events
            if event["ResourceStatus"].endswith("_FAILED")
        ]


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as server:
        s3 = server.client("s3")
        s3.create_bucket(Bucket="code")
        s3.put_object(Bucket="code", Key="function.zip", Body=archive(app="def handler(event, context): pass"))
        yield server


def new(aws: LocalAWS, *, without: str = "") -> Made:
    iam, name = aws.client("iam"), f"t{uuid.uuid4().hex[:8]}"
    trusted = {"Effect": "Allow", "Principal": {"Service": "cloudformation.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(
        RoleName=f"{name}-deploys",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trusted]}),
    )["Role"]["Arn"]
    allowed = [
        {"Effect": "Allow", "Action": [each for each in actions if each != without], "Resource": resource}
        for resource, actions in grants(name).items()
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": allowed})
    iam.put_role_policy(RoleName=f"{name}-deploys", PolicyName="just-enough", PolicyDocument=document)
    return Made(aws, name, role)


@pytest.fixture(scope="module")
def made(aws: LocalAWS) -> Made:
    made = new(aws)
    assert made.create() == "CREATE_COMPLETE"
    return made


def test_a_bucket_has_what_its_template_says(aws: LocalAWS, made: Made) -> None:
    s3, bucket = aws.client("s3"), f"{made.name}-data"
    old, captured = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert old["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert old["NoncurrentVersionTransitions"] == [{"NoncurrentDays": 20, "StorageClass": "STANDARD_IA"}]
    assert old["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert captured["Filter"]["And"]["Prefix"] == "captured/"
    assert captured["Filter"]["And"]["Tags"] == [{"Key": "kept", "Value": "no"}]
    assert (captured["Expiration"], captured["Status"]) == ({"Days": 30}, "Enabled")
    assert captured["Transitions"] == [{"Days": 30, "StorageClass": "STANDARD_IA"}]
    (encryption,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert encryption["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{made.name}",
    }
    assert encryption["BucketKeyEnabled"] is True
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    ownership = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
    assert ownership == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert {"Key": "modelyard:project", "Value": "one"} in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"][0]["AllowedOrigins"] == ["https://*.sagemaker.aws"]
    assert json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"][0]["Sid"] == "one"


def test_a_roles_trust_may_be_a_text_whose_conditions_keys_hold_parameters(aws: LocalAWS, made: Made) -> None:
    role = aws.client("iam").get_role(RoleName=f"{made.name}-ci")["Role"]
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}/{made.name}"
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Federated": provider}
    subject = {f"{ISSUER}/{made.name}:sub": "repo:acme@1/churn@2:ref:refs/heads/dev"}
    assert statement["Condition"] == {"StringEquals": subject}
    assert role["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/modelyard/ci/{made.name}-ci"


def test_a_roles_boundary_limits_it(aws: LocalAWS, made: Made) -> None:
    role = aws.client("iam").get_role(RoleName=f"{made.name}-services")["Role"]
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/modelyard/{made.name}-boundary"
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary

    given = aws.client("sts").assume_role(RoleArn=role["Arn"], RoleSessionName="tests")["Credentials"]
    session = boto3.Session(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], region_name=REGION)
    session.client("codebuild", endpoint_url=aws.endpoint).start_build(projectName=f"{made.name}-ci")
    code, message = refused(session.client("s3", endpoint_url=aws.endpoint).list_buckets)
    assert code == "AccessDenied"
    assert "s3:ListAllMyBuckets" in message


def test_a_push_begins_a_build_that_does_not_claim_to_have_run(aws: LocalAWS, made: Made) -> None:
    codebuild, project = aws.client("codebuild"), f"{made.name}-ci"
    logs = codebuild.batch_get_projects(names=[project])["projects"][0]["logsConfig"]["cloudWatchLogs"]
    assert logs == {"status": "ENABLED", "groupName": f"/modelyard/{made.name}"}

    detail = json.dumps({"referenceType": "branch", "referenceName": "dev", "commitId": "abc"})
    aws.client("events").put_events(Entries=[{"Source": f"test.{made.name}", "DetailType": "push", "Detail": detail}])

    def begun() -> Any:
        ids = codebuild.list_builds_for_project(projectName=project)["ids"]
        builds = codebuild.batch_get_builds(ids=ids)["builds"] if ids else []
        return next((build for build in builds if build["sourceVersion"] == "abc"), None)

    build = wait_for(begun)
    assert build["initiator"] == f"rule/{made.name}-pushes"
    variables = {each["name"]: each["value"] for each in build["environment"]["environmentVariables"]}
    assert variables == {"STAGE": "dev", "BRANCH": "dev"}
    assert build["buildStatus"] == "FAULT"
    assert "runs no builds" in build["phases"][1]["contexts"][0]["message"]


def test_a_rule_begins_builds_as_its_targets_role(aws: LocalAWS, made: Made) -> None:
    iam, role = aws.client("iam"), f"{made.name}-services"
    iam.put_role_policy(RoleName=role, PolicyName="not", PolicyDocument=denial("codebuild:StartBuild"))
    detail = json.dumps({"referenceType": "branch", "referenceName": "dev", "commitId": "denied"})
    aws.client("events").put_events(Entries=[{"Source": f"test.{made.name}", "DetailType": "push", "Detail": detail}])

    def denied() -> list[str]:
        decisions = aws.settings("permissions")["decisions"]
        asked = [each for each in decisions if each["action"] == "codebuild:StartBuild" and not each["allowed"]]
        return [each["principal"].rpartition("/")[2] for each in asked]

    assert wait_for(denied) == [role]
    iam.delete_role_policy(RoleName=role, PolicyName="not")


def denial(action: str) -> str:
    statement = {"Effect": "Deny", "Action": action, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_updated_and_deleted_it_leaves_nothing(aws: LocalAWS, made: Made) -> None:
    iam, s3 = aws.client("iam"), aws.client("s3")
    assert made.update(days=60, client="modelyard", text="two") == "UPDATE_COMPLETE"
    rules = s3.get_bucket_lifecycle_configuration(Bucket=f"{made.name}-data")["Rules"]
    assert rules[1]["Expiration"] == {"Days": 60}
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}/{made.name}"
    assert iam.get_open_id_connect_provider(OpenIDConnectProviderArn=provider)["ClientIDList"] == ["modelyard"]
    config = aws.client("lambda").get_function_event_invoke_config(FunctionName=made.name, Qualifier="$LATEST")
    assert config["MaximumRetryAttempts"] == 1

    s3.put_object(Bucket=f"{made.name}-data", Key="rows.csv", Body=b"1")
    assert "Bucket: The bucket you tried to delete is not empty" in made.delete()
    version = s3.list_object_versions(Bucket=f"{made.name}-data")["Versions"][0]["VersionId"]
    s3.delete_object(Bucket=f"{made.name}-data", Key="rows.csv", VersionId=version)
    assert made.delete() == "DELETE_COMPLETE"
    assert iam.list_open_id_connect_providers()["OpenIDConnectProviderList"] == []
    assert f"{made.name}-data" not in [each["Name"] for each in s3.list_buckets()["Buckets"]]


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("iam:CreateOpenIDConnectProvider", "Provider"),
        ("s3:PutLifecycleConfiguration", "Bucket"),
        ("codebuild:CreateProject", "Builds"),
        ("lambda:PutFunctionEventInvokeConfig", "Retries"),
    ],
)
def test_without_one_of_the_rights_nothing_is_left(aws: LocalAWS, action: str, resource: str) -> None:
    made = new(aws, without=action)
    outcome = made.create()
    assert outcome.startswith("ROLLBACK")
    assert f"{resource}: " in outcome
    assert f"is not authorized to perform: {action} on resource" in outcome
    assert f"{made.name}-data" not in [each["Name"] for each in aws.client("s3").list_buckets()["Buckets"]]


@pytest.mark.parametrize(
    ("resource", "properties", "fault"),
    [
        (
            "AWS::IAM::Role",
            {"RoleName": "taken", "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []}},
            "Resource of type 'AWS::IAM::Role' with identifier 'taken' already exists.",
        ),
        (
            "AWS::IAM::Role",
            {"AssumeRolePolicyDocument": "{"},
            "AssumeRolePolicyDocument is not JSON",
        ),
        (
            "AWS::IAM::Role",
            {
                "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []},
                "PermissionsBoundary": f"arn:aws:iam::{ACCOUNT}:policy/nobodys",
            },
            f"Scope ARN: arn:aws:iam::{ACCOUNT}:policy/nobodys does not exist or is not attachable.",
        ),
        ("AWS::IAM::OIDCProvider", {"Url": f"https://{ISSUER}/taken"}, "already exists"),
        ("AWS::IAM::ManagedPolicy", {"ManagedPolicyName": "taken", "PolicyDocument": {}}, "already exists"),
        ("AWS::Logs::LogGroup", {"LogGroupName": "/taken"}, "identifier '/taken' already exists"),
        ("AWS::Events::Rule", {"Name": "taken", "EventPattern": {"source": ["mine"]}}, "already exists"),
        ("AWS::IAM::OIDCProvider", {"ClientIdList": ["sts.amazonaws.com"]}, "needs a Url"),
    ],
)
def test_what_is_taken_or_wrong_is_refused(
    aws: LocalAWS, resource: str, properties: dict[str, Any], fault: str
) -> None:
    iam, cloudformation = aws.client("iam"), aws.client("cloudformation")
    nothing = {"Effect": "Allow", "Action": "none:Nothing", "Resource": "*"}
    trusted = json.dumps({"Version": "2012-10-17", "Statement": []})
    if not [role for role in iam.list_roles()["Roles"] if role["RoleName"] == "taken"]:
        iam.create_role(RoleName="taken", AssumeRolePolicyDocument=trusted, Description="somebody's")
        iam.create_open_id_connect_provider(Url=f"https://{ISSUER}/taken", ClientIDList=["theirs"])
        iam.create_policy(
            PolicyName="taken", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [nothing]})
        )
        aws.client("logs").create_log_group(logGroupName="/taken")
        aws.client("events").put_rule(Name="taken", EventPattern='{"source": ["theirs"]}')
    body = json.dumps({"Resources": {"Thing": {"Type": resource, "Properties": properties}}})
    name = f"t{uuid.uuid4().hex[:8]}"
    cloudformation.create_stack(StackName=name, TemplateBody=body, Capabilities=["CAPABILITY_NAMED_IAM"])
    assert settled(cloudformation, name)["StackStatus"] == "ROLLBACK_COMPLETE"
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    assert any(fault in event.get("ResourceStatusReason", "") for event in events)
    assert iam.get_role(RoleName="taken")["Role"]["Description"] == "somebody's"


@pytest.mark.parametrize(
    ("resource", "properties", "changed", "reason"),
    [
        (
            "AWS::IAM::ManagedPolicy",
            {"ManagedPolicyName": "named", "PolicyDocument": {"Version": "2012-10-17", "Statement": []}},
            {"Description": "another"},
            "A policy called named already exists. Duplicate names are not allowed.",
        ),
        (
            "AWS::IAM::Role",
            {"RoleName": "named", "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []}},
            {"Path": "/another/"},
            "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename",
        ),
    ],
)
def test_what_has_a_name_is_never_replaced(
    aws: LocalAWS, resource: str, properties: dict[str, Any], changed: dict[str, str], reason: str
) -> None:
    cloudformation, name = aws.client("cloudformation"), f"t{uuid.uuid4().hex[:8]}"
    for change, call in (({}, cloudformation.create_stack), (changed, cloudformation.update_stack)):
        body = {"Resources": {"Thing": {"Type": resource, "Properties": properties | change}}}
        stack = call(StackName=name, TemplateBody=json.dumps(body), Capabilities=["CAPABILITY_NAMED_IAM"])["StackId"]
        status = settled(cloudformation, stack)["StackStatus"]
    assert status == "UPDATE_ROLLBACK_COMPLETE"
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    assert any(reason in event.get("ResourceStatusReason", "") for event in events)
    cloudformation.delete_stack(StackName=name)
    assert settled(cloudformation, stack)["StackStatus"] == "DELETE_COMPLETE"


def test_a_policy_that_somebody_has_stays_until_it_is_detached(aws: LocalAWS) -> None:
    iam, cloudformation = aws.client("iam"), aws.client("cloudformation")
    trusted = json.dumps({"Version": "2012-10-17", "Statement": []})
    for role in ("of-the-template", "of-somebody"):
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=trusted)
    nothing = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "none:Nothing", "Resource": "*"}]}
    properties = {"ManagedPolicyName": "kept", "PolicyDocument": nothing, "Roles": ["of-the-template"]}
    body = {"Resources": {"Policy": {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}}}
    made = cloudformation.create_stack(
        StackName="attached", TemplateBody=json.dumps(body), Capabilities=["CAPABILITY_NAMED_IAM"]
    )["StackId"]
    settled(cloudformation, made)
    policy = f"arn:aws:iam::{ACCOUNT}:policy/kept"
    iam.attach_role_policy(RoleName="of-somebody", PolicyArn=policy)

    cloudformation.delete_stack(StackName=made)
    assert settled(cloudformation, made)["StackStatus"] == "DELETE_FAILED"

    events = cloudformation.describe_stack_events(StackName=made)["StackEvents"]
    assert any("Cannot delete a policy attached to entities." in e.get("ResourceStatusReason", "") for e in events)
    roles = iam.list_entities_for_policy(PolicyArn=policy)["PolicyRoles"]
    assert {role["RoleName"] for role in roles} == {"of-the-template", "of-somebody"}
    iam.detach_role_policy(RoleName="of-somebody", PolicyArn=policy)
    cloudformation.delete_stack(StackName=made)
    assert settled(cloudformation, made)["StackStatus"] == "DELETE_COMPLETE"
    assert not [one for one in iam.list_policies(Scope="Local")["Policies"] if one["Arn"] == policy]
