"""IAM at the door of our own services, as clients meet it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from tests.local_aws.people import Person, allow, root
from tests.local_aws.test_authorization import PLATFORM
from tests.local_aws.test_live_endpoints import SPEED, Shop
from tests.servicecatalog.template import load, resolved

ARN = "arn:aws:sagemaker:us-east-1:123456789012:"
TAGS = [{"Key": "modelyard:project", "Value": "churn"}]
METRIC = "SageMakerVariantInvocationsPerInstance"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(clock_speed=SPEED, enforce_iam=True) as server:
        yield server


@pytest.fixture(scope="module")
def shop(aws: LocalAWS) -> Shop:
    shop = Shop(aws)
    statements = [allow("s3:*", "logs:*", "cloudwatch:*", "ecr:*")]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    name = shop.workshop.role.rpartition("/")[2]
    root(aws, "iam").put_role_policy(RoleName=name, PolicyName="serve", PolicyDocument=policy)
    return shop


def denied(call: Callable[..., Any], **request: Any) -> str:
    """What a call is denied, as AWS says it: "action on resource", with the reason when it is an explicit denial."""
    with pytest.raises(ClientError) as error:
        call(**request)
    assert error.value.response["Error"]["Code"] == "AccessDeniedException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)
    message = error.value.response["Error"]["Message"]
    assert message.startswith("User: arn:aws:iam::123456789012:user/person-")
    return message.partition(" is not authorized to perform: ")[2]


def missing(action: str, resource: str) -> str:
    return f"{action} on resource: {resource} because no identity-based policy allows the {action} action"


def code(call: Callable[..., Any], **request: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**request)
    return str(error.value.response["Error"]["Code"])


@pytest.fixture(scope="module")
def role(aws: LocalAWS) -> str:
    document = json.dumps(TRUST)
    made = root(aws, "iam").create_role(Path="/modelyard/", RoleName="churn", AssumeRolePolicyDocument=document)
    return str(made["Role"]["Arn"])


def test_who_has_no_rights_is_told_so_and_not_whether_it_is_there(aws):
    nobody = Person(aws).client("sagemaker")
    root(aws, "sagemaker").create_model_package_group(ModelPackageGroupName="there")
    for name in ("there", "not-there"):
        asked = missing("sagemaker:DescribeModelPackageGroup", f"{ARN}model-package-group/{name}")
        assert denied(nobody.describe_model_package_group, ModelPackageGroupName=name) == asked
    assert denied(nobody.list_models) == missing("sagemaker:ListModels", "*")
    pricing = Person(aws).client("pricing")
    assert denied(pricing.get_products, ServiceCode="AmazonSageMaker") == missing("pricing:GetProducts", "*")


def test_a_request_that_is_wrong_is_said_to_be_wrong_first(aws):
    nobody = Person(aws).client("sagemaker")
    assert code(nobody.delete_model, ModelName="no name") == "ValidationException"


def test_nobody_without_a_key_or_with_a_wrong_one_is_answered(aws):
    body = urllib.request.Request(
        aws.endpoint, b"{}", {"X-Amz-Target": "SageMaker.ListModels", "Content-Type": "application/x-amz-json-1.1"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(body)
    assert json.loads(refused.value.read())["__type"] == "MissingAuthenticationTokenException"
    person = Person(aws, allow("sagemaker:*"))
    person.credentials["AWS_SECRET_ACCESS_KEY"] = "guessed"
    assert code(person.client("sagemaker").list_models) == "InvalidSignatureException"
    person.credentials["AWS_ACCESS_KEY_ID"] = "AKIA0000000000000000"
    assert code(person.client("sagemaker").list_models) == "UnrecognizedClientException"


def test_a_model_needs_the_right_to_make_it_to_tag_it_and_to_pass_its_role(aws, role):
    model = f"{ARN}model/churn-1"
    needed = [
        allow("sagemaker:CreateModel", on=model, StringEquals={"aws:RequestTag/modelyard:project": "churn"}),
        allow("sagemaker:AddTags", on=model, StringEquals={"sagemaker:TaggingAction": "CreateModel"}),
        allow("iam:PassRole", on=role, StringEquals={"iam:PassedToService": "sagemaker.amazonaws.com"}),
    ]
    person = Person(aws)
    create = person.client("sagemaker").create_model
    request = {
        "ModelName": "Churn-1",
        "ExecutionRoleArn": role,
        "Tags": TAGS,
        "PrimaryContainer": {"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1"},
    }
    resources = {"sagemaker:CreateModel": model, "sagemaker:AddTags": model, "iam:PassRole": role}
    for left_out, (action, resource) in enumerate(resources.items()):
        person.may(*[statement for number, statement in enumerate(needed) if number != left_out])
        assert denied(create, **request) == missing(action, resource)
    person.may(*needed)
    assert denied(create, **request | {"Tags": [{"Key": "modelyard:project", "Value": "other"}]}).startswith(
        "sagemaker:CreateModel on"
    )
    assert create(**request)["ModelArn"] == model


def test_who_is_limited_to_a_project_by_tags_cannot_touch_another(aws):
    sagemaker = root(aws, "sagemaker")
    for project in ("churn", "fraud"):
        tags = [{"Key": "modelyard:project", "Value": project}]
        sagemaker.create_model_package_group(ModelPackageGroupName=f"{project}-tags", Tags=tags)
        sagemaker.create_model_package(
            ModelPackageGroupName=f"{project}-tags", ModelApprovalStatus="PendingManualApproval"
        )
    own = {"aws:ResourceTag/modelyard:project": "churn"}
    person = Person(aws, allow("sagemaker:*", StringEquals=own)).client("sagemaker")
    package = f"{ARN}model-package/{{}}-tags/1"
    person.update_model_package(ModelPackageArn=package.format("churn"), ModelApprovalStatus="Rejected")
    person.describe_model_package_group(ModelPackageGroupName="churn-tags")
    change = {"ModelPackageArn": package.format("fraud"), "ModelApprovalStatus": "Rejected"}
    asked = missing("sagemaker:UpdateModelPackage", package.format("fraud"))
    assert denied(person.update_model_package, **change) == asked
    for call in (person.describe_model_package_group, person.delete_model_package_group):
        assert denied(call, ModelPackageGroupName="fraud-tags").endswith("action")
    # Nor take it over by tagging it.
    assert denied(person.add_tags, ResourceArn=f"{ARN}model-package-group/fraud-tags", Tags=TAGS).endswith("action")


def test_the_platforms_policy_against_approving_denies(aws):
    template = resolved(load(PLATFORM), {"CodeBucket": "code", "CodeKey": "code.zip", "ArtifactBuckets": "artifacts"})
    policy = template["DenyApprovalPolicy"]["Properties"]["PolicyDocument"]
    person = Person(aws, allow("sagemaker:*"), *policy["Statement"]).client("sagemaker")
    person.create_model_package_group(ModelPackageGroupName="ci")
    request = {"ModelPackageGroupName": "ci"}
    arn = person.create_model_package(**request)["ModelPackageArn"]
    denial = "with an explicit deny in an identity-based policy"
    approved = {"ModelApprovalStatus": "Approved"}
    assert denied(person.create_model_package, **request, **approved).endswith(denial)
    assert denied(person.update_model_package, ModelPackageArn=arn, **approved).endswith(denial)
    person.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Rejected")
    automatic = [{"Key": "modelyard:approval", "Value": "automatic"}]
    group = f"{ARN}model-package-group/ci"
    assert denied(person.create_model_package_group, ModelPackageGroupName="ci-2", Tags=automatic).endswith(denial)
    assert denied(person.add_tags, ResourceArn=group, Tags=automatic).endswith(denial)
    assert denied(person.delete_tags, ResourceArn=group, TagKeys=["modelyard:approval"]).endswith(denial)
    person.add_tags(ResourceArn=group, Tags=TAGS)


def test_a_pipeline_needs_its_role_passed_and_each_execution_is_the_pipelines(aws, role):
    pipeline = f"{ARN}pipeline/churn-dev"
    definition = json.dumps({"Version": "2020-12-01", "Steps": [{"Name": "Stop", "Type": "Fail", "Arguments": {}}]})
    request = {"PipelineName": "churn-dev", "PipelineDefinition": definition, "ClientRequestToken": "a" * 32}
    person = Person(aws, allow("sagemaker:*Pipeline*", on=[pipeline, f"{pipeline}/execution/*"]))
    sagemaker = person.client("sagemaker")
    assert denied(sagemaker.create_pipeline, RoleArn=role, **request) == missing("iam:PassRole", role)
    root(aws, "sagemaker").create_pipeline(RoleArn=role, **request)
    assert denied(sagemaker.update_pipeline, PipelineName="churn-dev", RoleArn=role) == missing("iam:PassRole", role)
    execution = sagemaker.start_pipeline_execution(PipelineName="churn-dev")["PipelineExecutionArn"]
    sagemaker.describe_pipeline_execution(PipelineExecutionArn=execution)
    person.may(allow("sagemaker:*", on=f"{ARN}pipeline/other*"))
    asked = missing("sagemaker:DescribePipelineExecution", execution)
    assert denied(sagemaker.describe_pipeline_execution, PipelineExecutionArn=execution) == asked


def test_endpoints_are_changed_scaled_and_deleted_with_the_callers_rights(aws, shop):
    name = shop.endpoint()
    endpoint, config = f"{ARN}endpoint/{name}", f"{ARN}endpoint-config/{name}-2"
    shop.config(f"{name}-2")
    person = Person(aws, allow("sagemaker:UpdateEndpoint", on=endpoint))
    sagemaker, scaling = person.client("sagemaker"), person.client("application-autoscaling")
    update = {"EndpointName": name, "EndpointConfigName": f"{name}-2"}
    assert denied(sagemaker.update_endpoint, **update) == missing("sagemaker:UpdateEndpoint", config)
    person.may(allow("sagemaker:UpdateEndpoint", on=[endpoint, config]))
    watched = update | {
        "DeploymentConfig": {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
            },
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
        }
    }
    alarm = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:"
    assert denied(sagemaker.update_endpoint, **watched) == missing("cloudwatch:DescribeAlarms", f"{alarm}errors")
    sagemaker.update_endpoint(**update)
    shop.wait(name)

    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    bounds = {"MinCapacity": 1, "MaxCapacity": 2, "Tags": {"modelyard:project": "churn"}}
    anything = "arn:aws:application-autoscaling:us-east-1:123456789012:scalable-target/*"
    linked = (
        "arn:aws:iam::123456789012:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    )
    register = allow(
        "application-autoscaling:RegisterScalableTarget", "application-autoscaling:TagResource", on=anything
    )
    person.may(register)
    asked = missing("iam:CreateServiceLinkedRole", linked)
    assert denied(scaling.register_scalable_target, **target, **bounds) == asked
    person.may(register, allow("iam:CreateServiceLinkedRole", on=linked))
    arn = scaling.register_scalable_target(**target, **bounds)["ScalableTargetARN"]
    person.may(register)  # the account has it now
    scaling.register_scalable_target(**target, MinCapacity=2)

    tracking = {"TargetValue": 100.0, "PredefinedMetricSpecification": {"PredefinedMetricType": METRIC}}
    policy: dict[str, Any] = {"PolicyName": "load", "PolicyType": "TargetTrackingScaling", **target}
    policy["TargetTrackingScalingPolicyConfiguration"] = tracking
    put = allow("application-autoscaling:*", StringEquals={"aws:ResourceTag/modelyard:project": "churn"})
    alarms = f"{alarm}TargetTracking-endpoint/{name}/variant/AllTraffic-*"
    person.may(put)
    assert denied(scaling.put_scaling_policy, **policy).startswith(
        f"cloudwatch:PutMetricAlarm on resource: {alarms[:-1]}"
    )
    person.may(put, allow("cloudwatch:PutMetricAlarm", on=alarms))
    scaling.put_scaling_policy(**policy)
    assert denied(scaling.deregister_scalable_target, **target).startswith("cloudwatch:DeleteAlarms on resource")

    person.may(allow("sagemaker:DeleteEndpoint", on=endpoint))
    asked = missing("application-autoscaling:DeregisterScalableTarget", arn)
    assert denied(sagemaker.delete_endpoint, EndpointName=name) == asked
    person.may(allow("sagemaker:DeleteEndpoint", on=endpoint), put, allow("cloudwatch:DeleteAlarms", on=alarms))
    sagemaker.delete_endpoint(EndpointName=name)


@pytest.fixture(scope="module")
def served(shop: Shop) -> str:
    """An endpoint in service."""
    return shop.endpoint()


def test_an_endpoint_is_invoked_by_who_may_and_has_signed(aws, served):
    arn = f"{ARN}endpoint/{served}"
    request = {"EndpointName": served, "Body": b"?", "ContentType": "text/csv"}
    person = Person(aws, allow("sagemaker:InvokeEndpoint", on=arn))
    answer = person.client("sagemaker-runtime").invoke_endpoint(**request)
    assert answer["Body"].read().startswith(b"churn-")
    nobody = Person(aws)
    invoke = nobody.client("sagemaker-runtime").invoke_endpoint
    assert denied(invoke, **request) == missing("sagemaker:InvokeEndpoint", arn)
    assert denied(invoke, **request | {"EndpointName": "none"}).startswith("sagemaker:InvokeEndpoint on resource")
    person.credentials["AWS_SECRET_ACCESS_KEY"] = "guessed"
    assert code(person.client("sagemaker-runtime").invoke_endpoint, **request) == "InvalidSignatureException"
    person.credentials["AWS_ACCESS_KEY_ID"] = "AKIA0000000000000000"
    assert code(person.client("sagemaker-runtime").invoke_endpoint, **request) == "UnrecognizedClientException"


def test_a_session_must_show_its_token(aws, served):
    trust = json.loads(json.dumps(TRUST))
    trust["Statement"][0]["Principal"] = {"AWS": "arn:aws:iam::123456789012:root"}
    iam = root(aws, "iam")
    arn = iam.create_role(RoleName="client", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    policy = {"Version": "2012-10-17", "Statement": [allow("sagemaker:InvokeEndpoint", "sagemaker:ListModels")]}
    iam.put_role_policy(RoleName="client", PolicyName="all", PolicyDocument=json.dumps(policy))
    session = root(aws, "sts").assume_role(RoleArn=arn, RoleSessionName="session")["Credentials"]
    credentials = {
        "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["SessionToken"],
    }
    request = {"EndpointName": served, "Body": b"?", "ContentType": "text/csv"}
    aws.client("sagemaker-runtime", credentials=credentials).invoke_endpoint(**request)
    aws.client("sagemaker", credentials=credentials).list_models()
    del credentials["AWS_SESSION_TOKEN"]
    for service, call in (("sagemaker-runtime", "invoke_endpoint"), ("sagemaker", "list_models")):
        sent = request if service == "sagemaker-runtime" else {}
        assert (
            code(getattr(aws.client(service, credentials=credentials), call), **sent) == "UnrecognizedClientException"
        )
