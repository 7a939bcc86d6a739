"""What SageMaker does as a role is asked of IAM as that role: exactly the rights do, and one less has its effect."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from tests.local_aws import minimal_roles
from tests.local_aws.minimal_roles import CONTAINER, LOGS, PULL, Grants, decisions, make_role, without
from tests.local_aws.model_archives import make_model
from tests.local_aws.model_programs import SCRIPT_MODE, named
from tests.local_aws.pipeline_fakes import IMAGE
from tests.local_aws.test_running_pipelines import PipelineWorkshop
from tests.local_aws.test_transform_jobs import transform_request
from tests.local_aws.test_tuning_jobs import ended as tuning_ended
from tests.local_aws.test_tuning_jobs import tuning_request
from tests.local_aws.waiting import wait_for

SPEED = 600.0  # an endpoint is created in a fifth of a second
SERVICE = "sagemaker.amazonaws.com"
TRUSTING = {"Effect": "Allow", "Principal": {"Service": SERVICE}, "Action": "sts:AssumeRole"}

COPY = """
    import pathlib, shutil
    print("copying")
    shutil.copy("/opt/ml/processing/input/rows/rows.csv", "/opt/ml/processing/copied/rows.csv")
"""
TRAIN = """
    import os, pathlib
    print("training")
    pathlib.Path("/opt/ml/checkpoints/state").write_text("1")
    pathlib.Path(os.environ["SM_MODEL_DIR"], "model").write_text("1")
"""


class ActingWorkshop(PipelineWorkshop):
    """A bucket and rows in it; the role of what is asked for is given each time."""

    def __init__(self, aws: LocalAWS) -> None:
        super().__init__(aws)
        self.runtime = aws.client("sagemaker-runtime")
        self.data = minimal_roles.data(self.bucket)
        self.rows = self.put("rows/rows.csv", "1,2\n3,4\n")

    def acting_as(self, grants: Grants) -> str:
        """From now on everything is asked for with a new role that may do just this; its ARN."""
        self.role = make_role(self.aws, grants)
        return self.role

    def copied(self) -> dict[str, Any]:
        """A processing job with an input and an output, when it has ended."""
        return self.process(COPY, inputs={"rows": self.uri("rows/")}, outputs=("copied",))

    def trained(self) -> dict[str, Any]:
        checkpoints = {"S3Uri": self.uri("checkpoints"), "LocalPath": "/opt/ml/checkpoints"}
        return self.train({"train.py": TRAIN}, channels={"train": self.uri("rows/")}, CheckpointConfig=checkpoints)

    def transformed(self, model: str) -> dict[str, Any]:
        request = transform_request(self, model, self.rows)
        self.sagemaker.create_transform_job(**request)
        return self.ended("Transform", request["TransformJobName"])

    def streams(self, group: str, prefix: str) -> list[str]:
        try:
            found = self.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=prefix)
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [stream["logStreamName"] for stream in found["logStreams"]]

    def model(self, name: str, **members: Any) -> str:
        """A model that answers with its name."""
        container = {
            "Image": IMAGE,
            "ModelDataUrl": self.put(f"{name}.tar.gz", named(name)),
            "Environment": SCRIPT_MODE,
        }
        self.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=self.role, **members)
        return name

    def config(self, name: str, model: str, capture: bool = False) -> str:
        variant = {"VariantName": "all", "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        more = {}
        if capture:
            more["DataCaptureConfig"] = {
                "EnableCapture": True,
                "InitialSamplingPercentage": 100,
                "DestinationS3Uri": self.uri(f"captured/{name}"),
                "CaptureOptions": [{"CaptureMode": "Input"}],
            }
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], **more)
        return name

    def endpoint(self, **members: Any) -> dict[str, Any]:
        """An endpoint of a new model, when it has been created or has failed."""
        name = self.name()
        return self.served(self.config(name, self.model(name, **members)))

    def served(self, config: str) -> dict[str, Any]:
        self.sagemaker.create_endpoint(EndpointName=config, EndpointConfigName=config)
        return self.settled(config)

    def settled(self, endpoint: str) -> dict[str, Any]:
        def describe() -> dict[str, Any]:
            return self.sagemaker.describe_endpoint(EndpointName=endpoint)

        wait_for(lambda: describe()["EndpointStatus"] not in ("Creating", "Updating", "RollingBack"))
        return describe()


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True, clock_speed=SPEED) as server:
        yield server


@pytest.fixture
def workshop(aws: LocalAWS) -> ActingWorkshop:
    return ActingWorkshop(aws)


def quick(*quickly: str) -> Any:
    """Of cases, given by what they take away, those to be run each time; the others are slow."""

    def marked(case: str) -> Any:
        return case if case in quickly else pytest.param(case, marks=pytest.mark.slow)

    return marked


# Processing and training jobs


def test_a_processing_job_needs_exactly_its_rights(workshop: ActingWorkshop) -> None:
    role = workshop.acting_as({**CONTAINER, **workshop.data})
    job = workshop.copied()
    assert job["ProcessingJobStatus"] == "Completed", job
    name = job["ProcessingJobName"]
    assert workshop.get(f"{name}/copied/rows.csv") == b"1,2\n3,4\n"
    assert workshop.printed("Processing", name) == ["copying"]
    assert minimal_roles.actions(decisions(workshop.aws, role)) == {*CONTAINER, *workshop.data}
    assert decisions(workshop.aws, role, allowed=False) == []
    pulled = {each["action"]: each["because"] for each in decisions(workshop.aws, role) if each["action"] in PULL}
    assert pulled == dict.fromkeys(PULL, SERVICE)


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("s3:ListBucket", r"ClientError: Data download failed: .*s3:ListBucket"),
        ("s3:GetObject", r"ClientError: Data download failed: .*s3:GetObject"),
        pytest.param("s3:PutObject", r"ClientError: Data upload failed: .*s3:PutObject", marks=pytest.mark.slow),
        ("ecr:BatchGetImage", r"ClientError: The role '.*' does not have BatchGetImage permission for the image: '.*'"),
        *[
            pytest.param(action, rf"ClientError: .* does not have {action[4:]} permission", marks=pytest.mark.slow)
            for action in PULL
            if action != "ecr:BatchGetImage"
        ],
    ],
)
def test_without_a_right_to_data_or_image_a_processing_job_fails(
    workshop: ActingWorkshop, action: str, reason: str
) -> None:
    role = workshop.acting_as(without({**CONTAINER, **workshop.data}, action))
    job = workshop.copied()
    assert job["ProcessingJobStatus"] == "Failed"
    assert re.match(reason, job["FailureReason"]), job["FailureReason"]
    assert minimal_roles.actions(decisions(workshop.aws, role, allowed=False)) == {action}


@pytest.mark.parametrize("action", [*map(quick("logs:PutLogEvents"), LOGS)])
def test_without_a_right_to_logs_a_job_runs_and_has_none(workshop: ActingWorkshop, action: str) -> None:
    role = workshop.acting_as(without({**CONTAINER, **workshop.data}, action))
    job = workshop.copied()
    assert job["ProcessingJobStatus"] == "Completed", job
    assert minimal_roles.actions(decisions(workshop.aws, role, allowed=False)) == {action}
    group = "/aws/sagemaker/ProcessingJobs"
    events = [
        event
        for stream in workshop.streams(group, job["ProcessingJobName"])
        for event in workshop.logs.get_log_events(logGroupName=group, logStreamName=stream)["events"]
    ]
    assert events == []


@pytest.mark.slow
def test_without_the_right_to_metrics_a_job_runs(workshop: ActingWorkshop) -> None:
    role = workshop.acting_as(without({**CONTAINER, **workshop.data}, "cloudwatch:PutMetricData"))
    assert workshop.copied()["ProcessingJobStatus"] == "Completed"
    (denied,) = decisions(workshop.aws, role, allowed=False)
    assert denied["action"] == "cloudwatch:PutMetricData"
    assert denied["context"]["cloudwatch:namespace"] == "/aws/sagemaker/ProcessingJobs"


def test_a_program_acts_as_its_jobs_role(workshop: ActingWorkshop) -> None:
    whoami = """
        import boto3, os
        session = boto3.Session(region_name=os.environ["AWS_REGION"])
        print(session.client("sts").get_caller_identity()["Arn"])
        try:
            session.client("sqs").create_queue(QueueName="not-allowed")
        except Exception as error:
            print(error)
    """
    role = workshop.acting_as({**CONTAINER, **workshop.data})
    job = workshop.process(whoami)
    assert job["ProcessingJobStatus"] == "Completed", job
    session, refused = workshop.printed("Processing", job["ProcessingJobName"])
    assert session == f"{role.replace(':iam:', ':sts:').replace(':role/', ':assumed-role/')}/SageMaker"
    assert f"User: {session} is not authorized to perform: sqs:CreateQueue" in refused


def test_a_training_job_needs_exactly_its_rights(workshop: ActingWorkshop) -> None:
    role = workshop.acting_as({**CONTAINER, **workshop.data})
    job = workshop.trained()
    assert job["TrainingJobStatus"] == "Completed", job
    assert workshop.get("checkpoints/state") == b"1"
    assert workshop.printed("Training", job["TrainingJobName"]) == ["training"]
    assert decisions(workshop.aws, role, allowed=False) == []
    assert minimal_roles.actions(decisions(workshop.aws, role)) == {*CONTAINER, *workshop.data}


def test_channels_that_the_role_may_not_list_are_refused_at_once(workshop: ActingWorkshop) -> None:
    workshop.acting_as(without({**CONTAINER, **workshop.data}, "s3:ListBucket"))
    with pytest.raises(ClientError, match=r"No S3 objects found .* the role has s3:ListBucket permissions on bucket"):
        workshop.trained()


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        pytest.param("s3:GetObject", "ClientError: Data download failed: .*s3:GetObject", marks=pytest.mark.slow),
        pytest.param("s3:PutObject", "ClientError: Data upload failed: .*s3:PutObject", marks=pytest.mark.slow),
        pytest.param("ecr:BatchGetImage", "ClientError: The role .*BatchGetImage", marks=pytest.mark.slow),
    ],
)
def test_without_a_right_a_training_job_fails(workshop: ActingWorkshop, action: str, reason: str) -> None:
    workshop.acting_as(without({**CONTAINER, **workshop.data}, action))
    job = workshop.trained()
    assert job["TrainingJobStatus"] == "Failed"
    assert re.match(reason, job["FailureReason"]), job["FailureReason"]


def test_a_role_that_trusts_sagemaker_for_another_account_or_resource_is_refused(workshop: ActingWorkshop) -> None:
    source = f"arn:aws:sagemaker:us-east-1:{workshop.aws.server.account}:"
    for condition, taken in (
        ({"ArnLike": {"aws:SourceArn": f"{source}processing-job/*"}}, True),
        ({"StringEquals": {"aws:SourceAccount": workshop.aws.server.account}}, True),
        ({"ArnLike": {"aws:SourceArn": f"{source}training-job/*"}}, False),
        ({"StringEquals": {"aws:SourceAccount": "999999999999"}}, False),
    ):
        trust = {"Version": "2012-10-17", "Statement": [TRUSTING | {"Condition": condition}]}
        workshop.role = make_role(workshop.aws, {}, trust)
        request = workshop.processing_request("")
        if taken:
            workshop.sagemaker.create_processing_job(**request)
        else:
            with pytest.raises(ClientError, match=f"Could not assume role {workshop.role}"):
                workshop.sagemaker.create_processing_job(**request)


def test_a_tuning_job_starts_its_training_jobs_as_its_role(workshop: ActingWorkshop) -> None:
    starting = {"sagemaker:CreateTrainingJob": "*", "iam:PassRole": "*"}
    role = workshop.acting_as({**CONTAINER, **workshop.data, **starting})
    request = tuning_request(workshop, ResourceLimits={"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1})
    workshop.sagemaker.create_hyper_parameter_tuning_job(**request)
    job = tuning_ended(workshop, request["HyperParameterTuningJobName"])
    assert job["HyperParameterTuningJobStatus"] == "Completed", job
    passed = [each for each in decisions(workshop.aws, role) if each["action"] == "iam:PassRole"]
    assert [each["resource"] for each in passed] == [role]

    for action in starting:
        workshop.acting_as(without({**CONTAINER, **workshop.data, **starting}, action))
        request = tuning_request(workshop)
        workshop.sagemaker.create_hyper_parameter_tuning_job(**request)
        job = tuning_ended(workshop, request["HyperParameterTuningJobName"])
        assert job["HyperParameterTuningJobStatus"] == "Failed"
        assert re.match(f"ClientError: User: .*/SageMaker is not authorized to perform: {action}", job["FailureReason"])


# Models, endpoints and transform jobs


def test_a_model_whose_archive_its_role_may_not_read_is_refused(workshop: ActingWorkshop) -> None:
    workshop.acting_as(without({**CONTAINER, **workshop.data}, "s3:GetObject"))
    with pytest.raises(ClientError) as raised:
        workshop.model(workshop.name())
    assert raised.value.response["Error"]["Code"] == "ValidationException"
    assert re.search(r'Could not access model data at s3://.*"s3:GetObject" permissions', str(raised.value))


SERVING: tuple[str, ...] = ("s3:GetObject", "s3:PutObject")


def serving(workshop: ActingWorkshop) -> Grants:
    """What a model's role needs to be served with its requests captured."""
    return {**CONTAINER, **{action: workshop.data[action] for action in SERVING}}


def test_an_endpoint_needs_exactly_its_rights(workshop: ActingWorkshop) -> None:
    role = workshop.acting_as(serving(workshop))
    name = workshop.name()
    described = workshop.served(workshop.config(name, workshop.model(name), capture=True))
    assert described["EndpointStatus"] == "InService", described
    answer = workshop.runtime.invoke_endpoint(EndpointName=name, Body=b"!environment", ContentType="text/csv")
    variables = dict(line.partition("=")[::2] for line in answer["Body"].read().decode().splitlines())
    wait_for(lambda: workshop.keys(f"captured/{name}"))
    wait_for(lambda: workshop.streams(f"/aws/sagemaker/Endpoints/{name}", "all/"))
    assert decisions(workshop.aws, role, allowed=False) == []
    assert minimal_roles.actions(decisions(workshop.aws, role)) == set(serving(workshop))
    credentials = {key: value for key, value in variables.items() if key.startswith("AWS_")}
    identity = workshop.aws.client("sts", credentials=credentials).get_caller_identity()
    assert identity["Arn"].endswith(f":assumed-role/{role.rpartition('/')[2]}/SageMaker")


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("s3:GetObject", "Failed to download model data .* the role passed to CreateModel has permissions"),
        pytest.param("ecr:BatchGetImage", "The role .* does not have BatchGetImage permission", marks=pytest.mark.slow),
    ],
)
def test_without_a_right_the_endpoint_fails(workshop: ActingWorkshop, action: str, reason: str) -> None:
    role = workshop.acting_as(serving(workshop))
    name = workshop.name()
    config = workshop.config(name, workshop.model(name))
    minimal_roles.grant(workshop.aws, role, without(serving(workshop), action))  # taken away after CreateModel
    described = workshop.served(config)
    assert described["EndpointStatus"] == "Failed"
    assert re.match(reason, described["FailureReason"]), described["FailureReason"]


@pytest.mark.slow
def test_without_the_right_to_write_them_captured_requests_are_lost(workshop: ActingWorkshop) -> None:
    role = workshop.acting_as(without(serving(workshop), "s3:PutObject"))
    name = workshop.name()
    workshop.served(workshop.config(name, workshop.model(name), capture=True))
    answer = workshop.runtime.invoke_endpoint(EndpointName=name, Body=b"?", ContentType="text/csv")
    assert answer["Body"].read().decode() == f"{name}:?"
    wait_for(lambda: minimal_roles.actions(decisions(workshop.aws, role, allowed=False)) == {"s3:PutObject"})
    assert workshop.keys(f"captured/{name}") == []


@pytest.mark.slow
@pytest.mark.parametrize("action", LOGS)
def test_without_a_right_to_logs_an_endpoint_serves(workshop: ActingWorkshop, action: str) -> None:
    role = workshop.acting_as(without(serving(workshop), action))
    assert workshop.endpoint()["EndpointStatus"] == "InService"
    wait_for(lambda: minimal_roles.actions(decisions(workshop.aws, role, allowed=False)) == {action})


VPC = {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
NETWORK: Grants = {
    **dict.fromkeys(
        [f"ec2:Describe{what}" for what in ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")],
        "*",
    ),
    **{
        f"ec2:{verb}NetworkInterface{what}": [
            f"arn:aws:ec2:*:*:{kind}/*" for kind in ("network-interface", "subnet", "security-group")
        ]
        for verb in ("Create", "Delete")
        for what in ("", "Permission")
    },
}


def test_a_model_in_a_vpc_needs_network_interfaces(workshop: ActingWorkshop) -> None:
    role = workshop.acting_as({**serving(workshop), **NETWORK})
    assert workshop.endpoint(VpcConfig=VPC)["EndpointStatus"] == "InService"
    assert set(NETWORK) <= minimal_roles.actions(decisions(workshop.aws, role))


@pytest.mark.parametrize("action", [*map(quick("ec2:CreateNetworkInterface"), NETWORK)])
def test_without_a_right_to_its_network_the_endpoint_fails(workshop: ActingWorkshop, action: str) -> None:
    workshop.acting_as(without({**serving(workshop), **NETWORK}, action))
    described = workshop.endpoint(VpcConfig=VPC)
    assert described["EndpointStatus"] == "Failed"
    assert action in described["FailureReason"]


@pytest.mark.slow
def test_a_deployment_looks_at_its_alarms_as_the_models_role(workshop: ActingWorkshop) -> None:
    watching = {**serving(workshop), "cloudwatch:DescribeAlarms": "*"}
    role, alarm = workshop.acting_as(watching), f"errors-{workshop.number}"
    workshop.aws.client("cloudwatch").put_metric_alarm(
        AlarmName=alarm,
        Namespace="Modelyard",
        MetricName="Errors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    endpoint = workshop.endpoint()["EndpointName"]
    policy = {
        "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}
    }
    deployment = policy | {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]}}

    def update() -> dict[str, Any]:
        name = workshop.name()
        config = workshop.config(name, workshop.model(name))
        workshop.sagemaker.update_endpoint(
            EndpointName=endpoint, EndpointConfigName=config, DeploymentConfig=deployment
        )
        return workshop.settled(endpoint) | {"Wanted": config}

    updated = update()
    assert updated["EndpointConfigName"] == updated["Wanted"], updated
    minimal_roles.grant(workshop.aws, role, without(watching, "cloudwatch:DescribeAlarms"))
    rolled_back = update()
    assert rolled_back["EndpointConfigName"] == updated["Wanted"]
    assert "not authorized to perform: cloudwatch:DescribeAlarms" in rolled_back["FailureReason"]


def test_a_transform_job_needs_exactly_its_rights(workshop: ActingWorkshop) -> None:
    role = workshop.acting_as({**CONTAINER, **workshop.data})
    job = workshop.transformed(make_model(workshop))
    assert job["TransformJobStatus"] == "Completed", job
    assert minimal_roles.actions(decisions(workshop.aws, role)) == {*CONTAINER, *workshop.data}
    assert decisions(workshop.aws, role, allowed=False) == []


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        pytest.param("s3:ListBucket", "ClientError: Data download failed: .*ListBucket", marks=pytest.mark.slow),
        ("s3:GetObject", "ClientError: Failed to download model data"),
        pytest.param("s3:PutObject", "ClientError: See job logs for more information", marks=pytest.mark.slow),
        pytest.param("ecr:BatchGetImage", "ClientError: The role .*BatchGetImage", marks=pytest.mark.slow),
    ],
)
def test_without_a_right_a_transform_job_fails(workshop: ActingWorkshop, action: str, reason: str) -> None:
    everything = {**CONTAINER, **workshop.data}
    role = workshop.acting_as(everything)
    model = make_model(workshop)
    minimal_roles.grant(workshop.aws, role, without(everything, action))
    job = workshop.transformed(model)
    assert job["TransformJobStatus"] == "Failed"
    assert re.match(reason, job["FailureReason"]), job["FailureReason"]


# Pipelines

STEPS = [f"sagemaker:{verb}{kind}Job" for verb in ("Create", "Describe") for kind in ("Processing", "Training")]
STEPS += ["sagemaker:CreateModelPackage"]


def pipeline_grants(workshop: ActingWorkshop) -> Grants:
    """What the pipeline's role needs that is the role of its jobs, too."""
    return {**CONTAINER, **workshop.data, **dict.fromkeys(STEPS, "*"), "iam:PassRole": "*"}


def executed(workshop: ActingWorkshop, role: str) -> dict[str, Any]:
    """An execution of the straight line that acts as a role; the jobs' role is the workshop's."""
    definition = json.dumps(workshop.straight_line()).replace("arn:aws:iam::123456789012:role/pipeline", workshop.role)
    workshop.sagemaker.create_model_package_group(ModelPackageGroupName=workshop.bucket)
    workshop.sagemaker.create_pipeline(PipelineName=workshop.bucket, RoleArn=role, PipelineDefinition=definition)
    return workshop.execution_ended(workshop.start())


def test_a_pipeline_needs_exactly_its_rights(workshop: ActingWorkshop) -> None:
    role = workshop.acting_as(pipeline_grants(workshop))
    ended = executed(workshop, role)
    assert ended["PipelineExecutionStatus"] == "Succeeded", ended
    assert minimal_roles.actions(decisions(workshop.aws, role)) == set(pipeline_grants(workshop))
    assert decisions(workshop.aws, role, allowed=False) == []
    passed = [each for each in decisions(workshop.aws, role) if each["action"] == "iam:PassRole"]
    assert {(each["resource"], each["context"]["iam:passedtoservice"]) for each in passed} == {(role, SERVICE)}
    (package,) = workshop.sagemaker.list_model_packages(ModelPackageGroupName=workshop.bucket)[
        "ModelPackageSummaryList"
    ]
    made = workshop.sagemaker.describe_model_package(ModelPackageName=package["ModelPackageArn"])
    assert made["CreatedBy"]["IamIdentity"]["Arn"].endswith(f":assumed-role/{role.rpartition('/')[2]}/SageMaker")


@pytest.mark.parametrize(
    ("action", "step", "invoked"),
    [
        ("iam:PassRole", "Prepare", "CreateProcessingJob"),
        ("sagemaker:CreateModelPackage", "Register", "CreateModelPackage"),
        *[
            pytest.param(f"sagemaker:{operation}", step, operation, marks=pytest.mark.slow)
            for operation, step in (
                ("CreateProcessingJob", "Prepare"),
                ("DescribeProcessingJob", "Prepare"),
                ("CreateTrainingJob", "Train"),
                ("DescribeTrainingJob", "Train"),
            )
        ],
    ],
)
def test_a_step_that_the_role_may_not_do_fails(workshop: ActingWorkshop, action: str, step: str, invoked: str) -> None:
    everything = pipeline_grants(workshop)
    role = workshop.acting_as(without(everything, action))
    ended = executed(workshop, role)
    assert ended["PipelineExecutionStatus"] == "Failed"
    failed = [each for each in ended["Steps"].values() if each["StepStatus"] == "Failed"]
    assert [each["StepName"] for each in failed] == [step]
    session = rf"arn:aws:sts::\d+:assumed-role/{role.rpartition('/')[2]}/SageMaker"
    said = rf"ClientError: Failed to invoke sagemaker:{invoked}\. Error Details: User: {session} is not authorized"
    assert re.match(rf"{said} to perform: {action} on resource: arn:aws:", failed[0]["FailureReason"]), failed


def test_property_files_are_read_as_the_pipelines_role(workshop: ActingWorkshop) -> None:
    workshop.acting_as({**CONTAINER, **workshop.data})
    pipeline = without(pipeline_grants(workshop), *CONTAINER, *workshop.data)
    role = make_role(workshop.aws, pipeline)
    ended = executed(workshop, role)
    assert ended["Steps"]["Evaluate"]["StepStatus"] == "Succeeded"
    assert ended["Steps"]["Gate"]["StepStatus"] == "Failed"
    reason = ended["Steps"]["Gate"]["FailureReason"]
    assert re.search(r"property file 'Report' .* cannot be read .*\(AccessDenied\): may the pipeline's role", reason)
    assert minimal_roles.actions(decisions(workshop.aws, role, allowed=False)) == {"s3:GetObject"}


# All of it


@pytest.mark.slow
def test_the_whole_way_from_data_to_predictions_goes_with_minimal_roles(workshop: ActingWorkshop) -> None:
    role = workshop.acting_as(pipeline_grants(workshop))
    assert workshop.copied()["ProcessingJobStatus"] == "Completed"
    assert workshop.trained()["TrainingJobStatus"] == "Completed"
    assert executed(workshop, role)["PipelineExecutionStatus"] == "Succeeded"
    model_role = workshop.acting_as({**serving(workshop), "s3:ListBucket": workshop.data["s3:ListBucket"]})
    name = workshop.name()
    described = workshop.served(workshop.config(name, workshop.model(name), capture=True))
    assert described["EndpointStatus"] == "InService", described
    workshop.runtime.invoke_endpoint(EndpointName=name, Body=b"?", ContentType="text/csv")["Body"].read()
    wait_for(lambda: workshop.keys(f"captured/{name}"))
    assert workshop.transformed(make_model(workshop))["TransformJobStatus"] == "Completed"
    for each in (role, model_role):
        assert decisions(workshop.aws, each, allowed=False) == []
