"""The simulated AWS and GitHub of the fault matrix answer as local_aws does, where the seed function looks."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from local_aws.calls import ServiceError
from seed_lambda import aws_calls
from tests.local_aws.github_clients import TOKEN as LOCAL_TOKEN
from tests.local_aws.github_clients import GitHubClient, configure
from tests.local_aws.pipeline_fakes import Service, definition, processing
from tests.local_aws.waiting import settled, wait_for
from tests.seed_lambda.simulated_aws import SimulatedAWS, arn, refusal
from tests.seed_lambda.simulated_github import SimulatedGitHub

GROUP, TAGS = "churn-dev", [{"Key": "modelyard:stack", "Value": "arn:aws:x"}]
PIPELINE = "churn-dev"
DEFINITION = json.dumps({"Version": "2020-12-01", "Steps": [{"Name": "Stop", "Type": "Fail"}]})
TOKEN = "0" * 32


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as server:
        yield server


def outcome(call: Callable[[], Mapping[str, Any]]) -> tuple[str, Any]:
    """The answer's shape, or the error as the function takes it: its code, and whether it says "not there"."""
    try:
        answer = dict(call())
    except ClientError as error:
        return error.response["Error"]["Code"], aws_calls.is_missing(error)
    answer.pop("ResponseMetadata", None)
    return "", shape(answer)


def shape(value: Any) -> Any:
    """Names of members, and what they hold where the test chose it; ids, times and addresses are each one's own."""
    if isinstance(value, Mapping):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    return type(value).__name__


def is_within(simulated: Any, real: Any) -> bool:
    """Whether everything that is simulated is there in reality, too, and of the same kind."""
    if isinstance(simulated, Mapping):
        return isinstance(real, Mapping) and all(
            name in real and is_within(one, real[name]) for name, one in simulated.items()
        )
    if isinstance(simulated, list):
        pairs = zip(simulated, real, strict=False)
        return isinstance(real, list) and len(simulated) == len(real) and all(is_within(*pair) for pair in pairs)
    return bool(simulated == real)


FILES = [
    {"filePath": "README.md", "fileContent": b"hello", "fileMode": "NORMAL"},
    {"filePath": "steps/train.py", "fileContent": b"x = 1", "fileMode": "EXECUTABLE"},
]
COMMIT = {"repositoryName": "churn", "authorName": "M", "email": "m@example.com", "commitMessage": "x"}
# Each is made on both; "HEAD" stands for the commit of the branch prod.
STEPS: list[tuple[str, str, dict[str, Any]]] = [
    ("codecommit", "GetRepository", {"repositoryName": "churn"}),
    ("codecommit", "CreateRepository", {"repositoryName": "churn", "tags": {"modelyard:stack": "arn:aws:x"}}),
    ("codecommit", "CreateRepository", {"repositoryName": "churn", "tags": {"modelyard:stack": "arn:aws:x"}}),
    ("codecommit", "GetRepository", {"repositoryName": "churn"}),
    ("codecommit", "GetBranch", {"repositoryName": "churn", "branchName": "prod"}),
    ("codecommit", "UpdateDefaultBranch", {"repositoryName": "churn", "defaultBranchName": "dev"}),
    ("codecommit", "CreateCommit", {**COMMIT, "branchName": "prod", "putFiles": FILES}),
    ("codecommit", "CreateCommit", {**COMMIT, "branchName": "prod", "putFiles": FILES}),
    ("codecommit", "CreateCommit", {**COMMIT, "branchName": "prod", "putFiles": FILES, "parentCommitId": "HEAD"}),
    ("codecommit", "CreateCommit", {**COMMIT, "branchName": "prod", "putFiles": FILES, "parentCommitId": "0" * 40}),
    ("codecommit", "GetBranch", {"repositoryName": "churn", "branchName": "prod"}),
    ("codecommit", "CreateBranch", {"repositoryName": "churn", "branchName": "dev", "commitId": "HEAD"}),
    ("codecommit", "CreateBranch", {"repositoryName": "churn", "branchName": "dev", "commitId": "HEAD"}),
    ("codecommit", "ListBranches", {"repositoryName": "churn"}),
    ("codecommit", "UpdateDefaultBranch", {"repositoryName": "churn", "defaultBranchName": "dev"}),
    ("codecommit", "GetCommit", {"repositoryName": "churn", "commitId": "HEAD"}),
    ("codecommit", "GetFolder", {"repositoryName": "churn", "commitSpecifier": "HEAD", "folderPath": "/"}),
    ("codecommit", "GetFolder", {"repositoryName": "churn", "commitSpecifier": "HEAD", "folderPath": "steps"}),
    ("codecommit", "UpdateRepositoryDescription", {"repositoryName": "churn", "repositoryDescription": "d"}),
    ("codecommit", "DeleteRepository", {"repositoryName": "churn"}),
    ("codecommit", "DeleteRepository", {"repositoryName": "churn"}),
    ("sagemaker", "DescribeModelPackageGroup", {"ModelPackageGroupName": GROUP}),
    ("sagemaker", "ListModelPackages", {"ModelPackageGroupName": GROUP, "MaxResults": 100}),
    ("sagemaker", "DeleteModelPackageGroup", {"ModelPackageGroupName": GROUP}),
    ("sagemaker", "CreateModelPackageGroup", {"ModelPackageGroupName": GROUP, "Tags": TAGS}),
    ("sagemaker", "CreateModelPackageGroup", {"ModelPackageGroupName": GROUP, "Tags": TAGS}),
    ("sagemaker", "DescribeModelPackageGroup", {"ModelPackageGroupName": GROUP}),
    ("sagemaker", "ListTags", {"ResourceArn": "GROUP"}),
    ("sagemaker", "ListModelPackages", {"ModelPackageGroupName": GROUP, "MaxResults": 100}),
    ("sagemaker", "DeleteModelPackage", {"ModelPackageName": "VERSION"}),
    ("sagemaker", "DeleteModelPackageGroup", {"ModelPackageGroupName": GROUP}),
    ("sagemaker", "DescribePipeline", {"PipelineName": PIPELINE}),
    ("sagemaker", "ListPipelines", {"PipelineNamePrefix": PIPELINE}),
    ("sagemaker", "ListPipelineExecutions", {"PipelineName": PIPELINE}),
    ("sagemaker", "DeletePipeline", {"PipelineName": PIPELINE, "ClientRequestToken": TOKEN}),
    ("sagemaker", "DescribeEndpoint", {"EndpointName": GROUP}),
    ("sagemaker", "ListModels", {"NameContains": f"{GROUP}-"}),
    ("sagemaker", "ListEndpointConfigs", {"NameContains": f"{GROUP}-"}),
    ("cloudwatch", "DescribeAlarms", {"AlarmNamePrefix": f"{GROUP}-", "AlarmTypes": ["MetricAlarm"]}),
    ("cloudwatch", "ListDashboards", {"DashboardNamePrefix": GROUP}),
    ("scheduler", "GetSchedule", {"Name": GROUP, "GroupName": "modelyard"}),
    ("scheduler", "DeleteSchedule", {"Name": GROUP, "GroupName": "modelyard"}),
    ("s3", "GetObject", {"Bucket": "code", "Key": "none.zip"}),
    (
        "secretsmanager",
        "GetSecretValue",
        {"SecretId": "arn:aws:secretsmanager:us-east-1:123456789012:secret:none-AbCdEf"},
    ),
    ("ssm", "GetParameters", {"Names": ["/modelyard/template/version"]}),
]


class Subject:
    """One of the two, with what its own answers put into later requests."""

    def __init__(self, client: Callable[[str], Any]) -> None:
        self._client = client
        self._known: dict[str, str] = {}

    def run(self, service: str, operation: str, request: dict[str, Any]) -> tuple[str, Any]:
        filled = {
            name: self._known.get(value, value) if isinstance(value, str) else value for name, value in request.items()
        }
        client = self._client(service)

        def call() -> Mapping[str, Any]:
            answer = getattr(client, xform_name(operation))(**filled)
            if operation == "CreateCommit":
                self._known["HEAD"] = answer["commitId"]
            if operation == "CreateModelPackageGroup":
                arn = answer["ModelPackageGroupArn"]
                self._known |= {"GROUP": arn, "VERSION": arn.replace("package-group", "package") + "/1"}
            return dict(answer)

        return outcome(call)


def test_aws_answers_and_refuses_in_the_same_shapes(aws: LocalAWS) -> None:
    aws.client("s3").create_bucket(Bucket="code")
    aws.client("scheduler").create_schedule_group(Name="modelyard")
    real, simulated = Subject(aws.client), Subject(SimulatedAWS())
    differing = []
    for service, operation, request in STEPS:
        expected, found = real.run(service, operation, request), simulated.run(service, operation, request)
        same = found[0] == expected[0] and (is_within(found[1], expected[1]) if not found[0] else found == expected)
        if not same:
            differing.append(f"{operation} {request}: {found} instead of {expected}")
    assert not differing, "\n".join(differing)


def test_a_group_with_versions_is_refused_alike(aws: LocalAWS) -> None:
    """What is made here by other means than the function's calls."""
    sagemaker, simulated = aws.client("sagemaker"), SimulatedAWS()
    sagemaker.create_model_package_group(ModelPackageGroupName="full-dev")
    sagemaker.create_model_package(
        ModelPackageGroupName="full-dev",
        InferenceSpecification={
            "Containers": [{"Image": "i", "ModelDataUrl": "s3://models/model.tar.gz"}],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
    )
    simulated.groups["full-dev"] = ["arn/full-dev/1"]
    request = {"ModelPackageGroupName": "full-dev"}
    expected = outcome(lambda: sagemaker.delete_model_package_group(**request))
    assert outcome(lambda: simulated("sagemaker").delete_model_package_group(**request)) == expected
    assert expected[0] == "ConflictException"


EXECUTION = arn("sagemaker", f"pipeline/{PIPELINE}/execution/abcdefghijkl")
# Of a pipeline that runs; its execution has stopped before the next call is made.
RUNNING: list[tuple[str, dict[str, Any]]] = [
    ("DescribePipeline", {"PipelineName": PIPELINE}),
    ("ListPipelines", {"PipelineNamePrefix": PIPELINE}),
    ("ListPipelineExecutions", {"PipelineName": PIPELINE}),
    ("DeletePipeline", {"PipelineName": PIPELINE, "ClientRequestToken": TOKEN}),
    ("StopPipelineExecution", {"PipelineExecutionArn": "EXECUTION", "ClientRequestToken": TOKEN}),
    ("StopPipelineExecution", {"PipelineExecutionArn": "EXECUTION", "ClientRequestToken": "1" * 32}),
    ("ListPipelineExecutions", {"PipelineName": PIPELINE}),
    ("DeletePipeline", {"PipelineName": PIPELINE, "ClientRequestToken": TOKEN}),
    ("DescribePipeline", {"PipelineName": PIPELINE}),
]


def test_a_pipeline_that_runs_is_stopped_and_refused_alike() -> None:
    """local_aws's own code, without jobs of its own."""
    service, simulated = Service(), SimulatedAWS()
    service.jobs.script["A"] = [threading.Event()]  # it ends when it is stopped
    service.create(definition(processing("A")), PIPELINE)
    running = service.start(PIPELINE)
    wait_for(lambda: service.steps(running).get("A", {}).get("StepStatus") == "Executing")
    simulated.pipelines[PIPELINE] = {EXECUTION: "Executing"}

    def real(operation: str, request: dict[str, Any]) -> Mapping[str, Any]:
        try:
            return service.call(operation, **request)
        except ServiceError as error:
            raise refusal(operation, error.code, error.message) from None

    differing = []
    for operation, request in RUNNING:
        told = [
            {name: execution if value == "EXECUTION" else value for name, value in request.items()}
            for execution in (running, EXECUTION)
        ]
        expected = outcome(lambda: real(operation, told[0]))  # noqa: B023  called at once
        found = outcome(lambda: getattr(simulated("sagemaker"), xform_name(operation))(**told[1]))  # noqa: B023
        same = found[0] == expected[0] and (is_within(found[1], expected[1]) if not found[0] else found == expected)
        if not same:
            differing.append(f"{operation}: {found} instead of {expected}")
        if operation == "StopPipelineExecution":
            service.ended(running)
            simulated.pipelines[PIPELINE][EXECUTION] = "Stopped"
    assert not differing, "\n".join(differing)
    assert PIPELINE not in simulated.pipelines


def test_stacks_messages_and_tags_are_answered_alike(aws: LocalAWS) -> None:
    parameter = {"Type": "AWS::SSM::Parameter", "Properties": {"Name": "/stacked", "Type": "String", "Value": "x"}}
    body = {"Resources": {"Seed": parameter}, "Outputs": {"Name": {"Value": {"Ref": "Seed"}}}}
    stacks = aws.client("cloudformation")
    stack = stacks.create_stack(StackName="stacked", TemplateBody=json.dumps(body))["StackId"]
    settled(stacks, stack)
    group = aws.client("sagemaker").create_model_package_group(ModelPackageGroupName="tagged")["ModelPackageGroupArn"]
    queue = aws.client("sqs").create_queue(QueueName="asked")["QueueUrl"]
    simulated = SimulatedAWS(stack_outputs={"Name": "/stacked"})
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("cloudformation", "describe_stack_resource", {"StackName": stack, "LogicalResourceId": "Seed"}),
        ("cloudformation", "describe_stacks", {"StackName": stack}),
        ("sqs", "send_message", {"QueueUrl": queue, "MessageBody": "{}"}),
        ("sagemaker", "add_tags", {"ResourceArn": group, "Tags": TAGS}),
    ]
    for service, operation, request in calls:
        expected = outcome(lambda: getattr(aws.client(service), operation)(**request))  # noqa: B023  called at once
        found = outcome(lambda: getattr(simulated(service), operation)(**request))  # noqa: B023
        assert not expected[0]
        assert not found[0]
        assert is_within(found[1], expected[1]), operation
    since = stacks.describe_stack_resource(StackName=stack, LogicalResourceId="Seed")["StackResourceDetail"]
    assert abs((datetime.now(UTC) - since["LastUpdatedTimestamp"]).total_seconds()) < 60


# Method, path below the repository (or a whole one), body; as the function calls them.
CALLS: list[tuple[str, str, Any]] = [
    ("GET", "/user", None),
    ("GET", "/orgs/acme", None),
    ("GET", "/orgs/nobody", None),
    ("GET", "", None),
    ("POST", "/orgs/acme/repos", {"name": "churn", "description": "d", "homepage": "https://a", "private": True}),
    ("POST", "/orgs/acme/repos", {"name": "churn", "description": "d", "homepage": "https://a", "private": True}),
    ("GET", "", None),
    ("GET", "/git/ref/heads/prod", None),
    ("GET", "/branches", None),
    ("PATCH", "", {"description": "e"}),
    ("PATCH", "", {"default_branch": "none"}),
    ("GET", "/actions/variables", None),
    ("POST", "/actions/variables", {"name": "A", "value": "1"}),
    ("POST", "/actions/variables", {"name": "A", "value": "1"}),
    ("GET", "/actions/variables", None),
    ("PATCH", "/actions/variables/A", {"name": "A", "value": "2"}),
    ("PATCH", "/actions/variables/B", {"name": "B", "value": "2"}),
    ("DELETE", "/actions/variables/A", None),
    ("DELETE", "/actions/variables/A", None),
    ("GET", "/rulesets", None),
    ("GET", "/actions/oidc/customization/sub", None),
    ("DELETE", "", None),
    ("DELETE", "", None),
]


def test_github_answers_and_refuses_in_the_same_shapes(aws: LocalAWS) -> None:
    real, simulated = configure(aws), SimulatedGitHub()
    differing = []
    for method, path, body in CALLS:
        whole = path if path.startswith(("/user", "/orgs")) else f"/repos/acme/churn{path}"
        expected = real(method, whole, body)
        status, content = simulated.api(method, whole, body)
        within = status >= 400 or is_within(shape(content), shape(expected.content))
        if status != expected.status or not within:
            differing.append(f"{method} {whole}: {status} {content} instead of {expected.status} {expected.content}")
    assert not differing, "\n".join(differing)


def test_a_useless_token_is_refused_alike(aws: LocalAWS) -> None:
    from tests.seed_lambda.simulated_github import API, Pool

    configure(aws)
    expected = GitHubClient(aws.endpoint, LOCAL_TOKEN + "x")("GET", "/user")
    found = Pool(SimulatedGitHub()).request("GET", f"{API}/user", headers={"Authorization": "Bearer x"})
    assert (found.status, json.load(io.BytesIO(found.data))["message"]) == (
        expected.status,
        expected.content["message"],
    )
