"""From an approval to the controller and to the endpoint: how soon, with how many calls, and what requests notice."""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from lifecycle_lambdas.context import Context
from lifecycle_lambdas.handlers import deploy
from lifecycle_lambdas.ledger import Ledger
from lifecycle_lambdas.settings import Settings
from local_aws import LocalAWS
from servicecatalog import archive
from tests.bench.cold_import import import_ratio, unpack
from tests.bench.figures import Figure
from tests.lifecycle_lambdas.conftest import LocalClients, create_table
from tests.story.platform import REAL_TIME, Project, install
from tests.story.traffic import Traffic

ROUNDS = 10
FUNCTIONS = ("deploy", "plan", "batch", "notify", "endpoint_tests")
GUARDED = "alarms: {error_share: 0.05}\n"
ROLLOUTS = {
    "all at once": (REAL_TIME, 1.0),
    "canary of a half": (REAL_TIME + "rollout: {type: canary, size: 50%, bake_minutes: 10}\n" + GUARDED, 0.5),
    "linear by halves": (REAL_TIME + "rollout: {type: linear, step: 50%, bake_minutes: 5}\n" + GUARDED, 0.5),
}
NOISE = 0.1  # of a share that is counted over a few hundred requests


def approval() -> list[Figure]:
    figures = _imports()
    with LocalAWS(clock_speed=60) as aws:
        install(aws)
        figures += _reaction(aws)
        figures += _rollouts(aws)
    return figures + _calls()


def _reaction(aws: LocalAWS) -> list[Figure]:
    """Each approval when the one before is over and the function is warm."""
    project = Project.create(aws)
    versions = [project.register(f"v{number}") for number in range(ROUNDS + 1)]
    project.approve(versions[0])
    project.deployed(versions[0])
    heard, started = [], []
    for version in versions[1:]:
        time.sleep(0.5)
        at = time.time()
        project.approve(version)
        while (project.describe() or {})["EndpointStatus"] != "Updating":
            time.sleep(0.002)
        started.append(time.time() - at)
        heard.append(_first_line(aws, at) - at * 1000)
        project.deployed(version)
    return [
        Figure("approval to the first line of the warm handler", heard, "ms", at_most=100),
        Figure("approval to the update having started, warm", started, "s", at_most=1),
    ]


def _first_line(aws: LocalAWS, since: float) -> float:
    """When the function wrote its first line since then, in milliseconds since the epoch."""
    logs = aws.client("logs")
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName="/aws/lambda/modelyard-deploy", startTime=int(since * 1000)
    )
    return float(min(event["timestamp"] for page in pages for event in page["events"]))


def _rollouts(aws: LocalAWS) -> list[Figure]:
    figures = []
    for name, (stage_file, share) in ROLLOUTS.items():
        project = Project.create(aws)
        first, good = project.register("first"), project.register("good", stage_file)
        project.approve(first)
        project.deployed(first)
        with Traffic(project.runtime, project.endpoint, "1\n") as traffic:
            project.approve(good)
            project.deployed(good)
        failed = float(len(traffic.failed))
        figures.append(Figure(f"failed requests, a good version, {name}", [failed], "requests", at_most=0))
        if share < 1:
            bad = project.register("bad", stage_file, fails=True)
            with Traffic(project.runtime, project.endpoint, "1\n") as traffic:
                project.approve(bad)
                project.deployed(bad, "failed")
                project.serves("good")
            at = [answered.at for answered in traffic.failed]
            during = [answered for answered in traffic.answered if at[0] <= answered.at <= at[-1]]
            what = f"failed share of the requests until the roll-back, a bad version, {name}"
            figures.append(Figure(what, [len(at) / len(during)], "x", at_most=share + NOISE))
    return figures


def _imports() -> list[Figure]:
    """The functions' own archive in the runtime's interpreter, against importing boto3 there."""
    contents = archive.build()
    ratios: dict[str, list[float]] = {name: [] for name in FUNCTIONS}
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
        unpack(contents, Path(folder))
        for _ in range(ROUNDS):
            for name in FUNCTIONS:
                ratios[name].append(import_ratio(Path(folder), f"lifecycle_lambdas.handlers.{name}"))
    size = Figure("archive of the functions", [len(contents) / 1e6], "MB", at_most=10)
    return [
        size,
        *(
            Figure(f"cold import of {name}, against import boto3", values, "x", at_most=1.5)
            for name, values in ratios.items()
        ),
    ]


def _calls() -> list[Figure]:
    few, many = _calls_of_an_approval(10), _calls_of_an_approval(10_000)
    return [
        Figure("AWS calls of an approval, 10 versions in the group", [few], "calls"),
        Figure("AWS calls of an approval, 10,000 versions in the group", [many], "calls", at_most=few, at_least=few),
    ]


def _calls_of_an_approval(versions: int) -> float:
    """The handler, in this process, with an event like AWS's; every call that it makes is counted."""
    with LocalAWS(clock_speed=60) as aws:
        aws.client("s3").create_bucket(Bucket="platform-artifacts")
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ],
        }
        aws.client("iam").create_role(
            Path="/modelyard/models/", RoleName="default", AssumeRolePolicyDocument=json.dumps(trust)
        )
        project = Project.create(aws)
        arn = project.register("first")
        package = project.package(arn)
        kept = ("ModelPackageGroupName", "InferenceSpecification", "CustomerMetadataProperties")
        for _ in range(versions - 1):
            arn = project.sagemaker.create_model_package(**{name: package[name] for name in kept})["ModelPackageArn"]
        project.approve(arn)
        clients = LocalClients(aws)
        table = create_table(clients("dynamodb"))
        context = Context(
            Settings(
                ledger_table=table,
                queue_url=aws.client("sqs").create_queue(QueueName="deploy")["QueueUrl"],
                topic_arn=aws.client("sns").create_topic(Name="news")["TopicArn"],
                model_role_path="/modelyard/models/",
                default_model_role="default",
                batch_function_arn=f"arn:aws:lambda:{aws.server.region}:{aws.server.account}:function:batch",
                schedule_role_arn=f"arn:aws:iam::{aws.server.account}:role/schedules",
                schedule_group="modelyard",
            ),
            clients,
            Ledger(clients("dynamodb"), table),
            owner="bench",
            deadline=time.monotonic() + 60,
        )
        counted = 0

        def count(**_: Any) -> None:
            nonlocal counted
            counted += 1

        for service in ("sagemaker", "dynamodb", "cloudwatch", "application-autoscaling", "sns", "sqs", "s3"):
            clients(service).meta.events.register("before-call", count)
        clients("scheduler").meta.events.register("before-call", count)
        failed = deploy.handle(context, [{"messageId": "1", "body": json.dumps(_event(project, arn))}])
        if failed:
            raise RuntimeError("the handler failed; its log is above")
        return float(counted)


def _event(project: Project, arn: str) -> dict[str, Any]:
    package = project.package(arn)
    time_text = f"{package['LastModifiedTime']:%Y-%m-%dT%H:%M:%SZ}"
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "SageMaker Model Package State Change",
        "source": "aws.sagemaker",
        "account": arn.split(":")[4],
        "time": time_text,
        "region": arn.split(":")[3],
        "resources": [arn],
        "detail": {
            "ModelPackageGroupName": project.endpoint,
            "ModelPackageVersion": package["ModelPackageVersion"],
            "ModelPackageArn": arn,
            "ModelPackageStatus": "Completed",
            "ModelApprovalStatus": "Approved",
            "UpdatedModelPackageFields": ["ModelApprovalStatus"],
            "LastModifiedTime": time_text,
        },
    }
