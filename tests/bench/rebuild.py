"""How long the ledger of a hundred projects takes to come back from what AWS knows."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lifecycle_lambdas import names
from lifecycle_lambdas.commands import rebuild as command
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.ledger import Ledger
from lifecycle_lambdas.settings import Settings
from local_aws import LocalAWS
from tests.bench.figures import Figure
from tests.lifecycle_lambdas.conftest import IMAGE, LocalClients, create_table
from tests.local_aws.job_requests import tar_gz

PROJECTS, STAGES, VERSIONS = 100, ("dev", "prod"), 3
BUCKET = "bench-artifacts"
ROLE_PATH, ROLE = "/modelyard/models/", "default"
STAGE_FILES = {
    "dev": "kind: serverless\nmemory_mb: 1024\nmax_concurrency: 1\n",
    "prod": "kind: real_time\ninstance_type: ml.m5.large\ninstance_count: 2\n",
}
ROUNDS = 3


def rebuild() -> list[Figure]:
    """Every version carries the stamps of a deployment; the last of three serves, the second is the way back."""
    with LocalAWS(clock_speed=600) as aws:
        role = _account(aws)
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda number: _project(aws, f"p{number:03d}", role), range(PROJECTS)))
        _until_in_service(aws)
        samples = []
        for _ in range(ROUNDS):
            context = _context(aws)
            started = time.monotonic()
            additions = command.read(context)
            faults = command.write(context, additions)
            samples.append(time.monotonic() - started)
            _check(context, faults)
        return [Figure(f"the ledger of {PROJECTS} projects rebuilt", samples, "s", at_most=20)]


def _until_in_service(aws: LocalAWS) -> None:
    """Serverless endpoints start nothing before they are asked for something."""
    pages = aws.client("sagemaker").get_paginator("list_endpoints")
    while {one["EndpointStatus"] for page in pages.paginate() for one in page["Endpoints"]} != {"InService"}:
        time.sleep(0.5)


def _check(context: Context, faults: list[str]) -> None:
    if faults:
        raise RuntimeError("\n".join(faults))
    states = list(context.ledger.states("settled"))
    deployments = [list(context.ledger.deployments(state.endpoint)) for state in states]
    if len(states) != PROJECTS * len(STAGES) or {len(found) for found in deployments} != {VERSIONS}:
        raise RuntimeError(f"{len(states)} endpoints are settled, with {sum(map(len, deployments))} deployments")
    if any(not one.changes_nothing for one in command.read(context)):
        raise RuntimeError("rebuilt once more, something would be added")


def _account(aws: LocalAWS) -> str:
    aws.client("s3").create_bucket(Bucket=BUCKET)
    archive = tar_gz({"code/inference.py": "def model_fn(folder):\n    return None\n"})
    aws.client("s3").put_object(Bucket=BUCKET, Key="model.tar.gz", Body=archive)
    for stage, text in STAGE_FILES.items():
        aws.client("s3").put_object(Bucket=BUCKET, Key=f"deployment/{stage}.yaml", Body=text.encode())
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "sagemaker.amazonaws.com"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    made = aws.client("iam").create_role(Path=ROLE_PATH, RoleName=ROLE, AssumeRolePolicyDocument=document)
    return str(made["Role"]["Arn"])


def _context(aws: LocalAWS) -> Context:
    """With a ledger of its own, which is empty."""
    clients = LocalClients(aws)
    table = create_table(clients("dynamodb"))
    account = f"{aws.server.region}:{aws.server.account}"
    settings = Settings(
        ledger_table=table,
        queue_url="not used",
        topic_arn=f"arn:aws:sns:{account}:not-used",
        model_role_path=ROLE_PATH,
        default_model_role=ROLE,
        batch_function_arn=f"arn:aws:lambda:{account}:function:batch",
        schedule_role_arn=f"arn:aws:iam::{aws.server.account}:role/schedules",
        schedule_group="modelyard",
    )
    return Context(settings, clients, Ledger(clients("dynamodb"), table), "bench", time.monotonic() + 600)


def _project(aws: LocalAWS, project: str, role: str) -> None:
    for stage in STAGES:
        _stage(aws.client("sagemaker"), project, stage, role)


def _stage(sagemaker: Any, project: str, stage: str, role: str) -> None:
    endpoint = f"{project}-{stage}"
    tags = names.tag_list(names.project_tags(project, f"p-{project}", stage))
    sagemaker.create_model_package_group(ModelPackageGroupName=endpoint, Tags=tags)
    for number in range(1, VERSIONS + 1):
        sagemaker.create_model_package(
            ModelPackageGroupName=endpoint,
            ModelApprovalStatus="Approved",
            InferenceSpecification={
                "Containers": [{"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}],
                "SupportedContentTypes": ["text/csv"],
                "SupportedResponseMIMETypes": ["text/csv"],
            },
            CustomerMetadataProperties={
                "git.commit": "0a1b2c3d",
                "deployment.prefix": f"s3://{BUCKET}/deployment/",
                f"deployment.sha256.{stage}": hashlib.sha256(STAGE_FILES[stage].encode()).hexdigest(),
                "approval.by": "arn:aws:iam::123456789012:user/ada",
                "approval.at": f"2026-11-0{number}T08:00:00Z",
                "deployment.number": str(number),
                "deployment.status": "succeeded",
                "deployment.ended": f"2026-11-0{number}T08:06:00Z",
            },
        )
    group = sagemaker.describe_model_package_group(ModelPackageGroupName=endpoint)["ModelPackageGroupArn"]
    for number in (VERSIONS - 1, VERSIONS):
        version = f"{group.replace(':model-package-group/', ':model-package/')}/{number}"
        name = names.numbered(endpoint, number)
        sagemaker.create_model(
            ModelName=name, Containers=[{"ModelPackageName": version}], ExecutionRoleArn=role, Tags=tags
        )
        sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": names.VARIANT,
                    "ModelName": name,
                    "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1},
                }
            ],
            Tags=tags,
        )
    sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=names.numbered(endpoint, VERSIONS), Tags=tags)
