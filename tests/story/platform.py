"""local_aws with the platform installed, and projects whose versions need no training: each answers its own name."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lifecycle_lambdas.ledger import Ledger
from lifecycle_lambdas.records import Entry
from lifecycle_lambdas.settings import Settings
from local_aws import LocalAWS, control
from tests.local_aws.job_requests import IMAGE, tar_gz
from tests.story.story import CHECKOUT

CLOCK_SPEED = 240.0
ARTIFACTS = f"modelyard-artifacts-{control.DEFAULT_ACCOUNT}-{control.DEFAULT_REGION}"  # the platform makes it
BATCH_DATA = "platform-batch"
REAL_TIME = "kind: real_time\ninstance_type: ml.m5.large\ninstance_count: 2\n"
WAIT = 60.0  # seconds; an hour of the clock

# Answers {"predictions": [{"version": its name, "value": twice the number sent}]}, or fails, or takes its time.
PROGRAM = """
    import json, os, time

    def model_fn(model_dir):
        if {loads} is False:
            raise RuntimeError("this model does not load")

    def transform_fn(model, body, content_type, accept):
        time.sleep({seconds})
        if {fails}:
            raise RuntimeError("this version is broken")
        text = body if isinstance(body, str) else body.decode()
        rows = [{{"version": {name!r}, "value": 2 * float(line)}} for line in text.split()]
        return json.dumps({{"predictions": rows}}), "application/json"
"""


def install(aws: LocalAWS) -> None:
    """As an administrator does."""
    aws.client("s3").create_bucket(Bucket=BATCH_DATA)
    command = [sys.executable, "-m", "servicecatalog", "install", "--batch-buckets", BATCH_DATA, "--yes"]
    result = subprocess.run(
        command, cwd=CHECKOUT, env=os.environ | aws.environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def operators_credentials(aws: LocalAWS) -> dict[str, str]:
    """As environment variables, of a new user who has the operators' policies and no other."""
    iam = aws.client("iam")
    user = f"operator-{len(iam.list_users()['Users'])}"
    iam.create_user(UserName=user)
    policies = {
        one["PolicyName"]: one["Arn"]
        for page in iam.get_paginator("list_policies").paginate(Scope="Local")
        for one in page["Policies"]
    }
    for policy in ("operator", "looking", "serving", "watching", "ledger"):
        iam.attach_user_policy(UserName=user, PolicyArn=policies[f"modelyard-{policy}-{aws.server.region}"])
    key = iam.create_access_key(UserName=user)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def as_operator(aws: LocalAWS, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m lifecycle_lambdas` by such a user."""
    return subprocess.run(
        [sys.executable, "-m", "lifecycle_lambdas", *arguments],
        cwd=CHECKOUT,
        env=os.environ | aws.environment | operators_credentials(aws),
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass
class Project:
    """One project's stage: registers, approves and rejects versions, and asks the endpoint."""

    aws: LocalAWS
    name: str
    stage: str = "dev"
    bucket: str = ARTIFACTS

    def __post_init__(self) -> None:
        self.sagemaker = self.aws.client("sagemaker")
        self.runtime = self.aws.client("sagemaker-runtime")

    @classmethod
    def create(cls, aws: LocalAWS, stage: str = "dev", **tags: str) -> Project:
        """With its model package group; further tags as modelyard:<name>."""
        project = cls(aws, f"p{uuid.uuid4().hex[:8]}", stage)
        all_tags = {
            "sagemaker:project-name": project.name,
            "sagemaker:project-id": f"p-{project.name}",
            "modelyard:project": project.name,
            "modelyard:stage": stage,
        } | {f"modelyard:{name}": value for name, value in tags.items()}
        project.sagemaker.create_model_package_group(
            ModelPackageGroupName=project.endpoint,
            Tags=[{"Key": key, "Value": value} for key, value in all_tags.items()],
        )
        return project

    @property
    def endpoint(self) -> str:
        """Of the group too."""
        return f"{self.name}-{self.stage}"

    @property
    def ledger(self) -> Ledger:
        settings = Settings.from_parameters(self.aws.client("ssm"))
        return Ledger(self.aws.client("dynamodb"), settings.ledger_table)

    def gone_back(self) -> list[Entry]:
        """The controller's own goings back, the newest first."""
        entries = self.ledger.entries(self.endpoint)
        return [entry for entry in entries if (entry.kind, entry.source) == ("go-back", "controller")]

    def incidents(self) -> dict[str, str]:
        """The pages of what happened, by their names."""
        s3, prefix = self.aws.client("s3"), f"{self.name}/{self.stage}/incidents/"
        found = s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return {
            item["Key"].removeprefix(prefix): s3.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read().decode()
            for item in found
        }

    def settled(self, seconds: float = WAIT) -> None:
        """Waits until nothing is under way."""
        ledger = self.ledger

        def is_so() -> bool:
            state = ledger.state(self.endpoint)
            return state is not None and state.status == "settled"

        self.until(is_so, "all to be settled", lambda: str(ledger.state(self.endpoint)), seconds)

    def register(
        self,
        name: str,
        stage_file: str = REAL_TIME,
        *,
        fails: bool = False,
        loads: bool = True,
        seconds: float = 0,
        program: str = PROGRAM,
        folder: str = "",
        **metadata: str,
    ) -> str:
        """A version that answers with its name; its ARN. Metadata have __ for a dot.

        Args:
            folder: where its files are in the bucket; one of its own unless given.
        """
        archive = tar_gz({"code/inference.py": program.format(name=name, fails=fails, loads=loads, seconds=seconds)})
        prefix = folder or f"{self.name}/{uuid.uuid4().hex}"
        files = {f"{prefix}/model.tar.gz": archive, f"{prefix}/deployment/{self.stage}.yaml": stage_file.encode()}
        for key, content in files.items():
            self.aws.client("s3").put_object(Bucket=self.bucket, Key=key, Body=content)
        given = {key.replace("__", "."): value for key, value in metadata.items()}
        answer = self.sagemaker.create_model_package(
            ModelPackageGroupName=self.endpoint,
            ModelApprovalStatus="PendingManualApproval",
            InferenceSpecification={
                "Containers": [
                    {
                        "Image": IMAGE,
                        "ModelDataUrl": f"s3://{self.bucket}/{prefix}/model.tar.gz",
                        "Environment": {
                            "SAGEMAKER_PROGRAM": "inference.py",
                            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
                        },
                    }
                ],
                "SupportedContentTypes": ["text/csv"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
            CustomerMetadataProperties={
                "git.commit": "0a1b2c3d",
                "deployment.prefix": f"s3://{self.bucket}/{prefix}/deployment/",
                f"deployment.sha256.{self.stage}": hashlib.sha256(stage_file.encode()).hexdigest(),
            }
            | given,
        )
        return str(answer["ModelPackageArn"])

    def approve(self, arn: str) -> None:
        self._set(arn, "Approved")

    def reject(self, arn: str) -> None:
        self._set(arn, "Rejected")

    def _set(self, arn: str, status: str) -> None:
        self.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus=status)

    def package(self, arn: str) -> dict[str, Any]:
        found: dict[str, Any] = self.sagemaker.describe_model_package(ModelPackageName=arn)
        return found

    def describe(self) -> dict[str, Any] | None:
        """The endpoint, None when there is none."""
        try:
            found: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=self.endpoint)
        except self.sagemaker.exceptions.ClientError as error:
            if "Could not find" not in str(error):
                raise
            return None
        return found

    def ask(self, number: float = 1) -> str:
        """Which version answers; its prediction is checked."""
        answer = self.runtime.invoke_endpoint(EndpointName=self.endpoint, Body=f"{number}\n", ContentType="text/csv")
        prediction = json.loads(answer["Body"].read())["predictions"][0]
        assert prediction["value"] == 2 * number
        return str(prediction["version"])

    def deployed(self, arn: str, status: str = "succeeded") -> dict[str, Any]:
        """Waits until the version's newest deployment has ended so; the version's metadata then."""
        self.until(lambda: self._deployment(arn) == status, f"{arn} to have {status}", lambda: self._news(arn))
        properties: dict[str, Any] = self.package(arn)["CustomerMetadataProperties"]
        return properties

    def _deployment(self, arn: str) -> str | None:
        properties = self.package(arn).get("CustomerMetadataProperties", {})
        return properties.get("deployment.status") if properties.get("deployment.ended") else None

    def serves(self, name: str) -> None:
        """Waits until the endpoint is InService and this version alone answers."""
        self.until(
            lambda: (self.describe() or {}).get("EndpointStatus") == "InService" and self.ask() == name,
            f"{self.endpoint} to serve {name}",
            lambda: str(self.describe()),
        )
        assert {self.ask(number) for number in range(20)} == {name}

    def gone(self) -> None:
        self.until(lambda: self.describe() is None, f"{self.endpoint} to be gone", lambda: str(self.describe()))

    def until(self, is_so: Callable[[], bool], what: str, news: Callable[[], str], seconds: float = WAIT) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, f"waited {seconds:g} s for {what}: {news()}\n{self._function_log()}"
            time.sleep(0.05)

    def _news(self, arn: str) -> str:
        package = self.package(arn)
        return f"{package.get('CustomerMetadataProperties')} {package.get('ApprovalDescription')} {self.describe()}"

    def _function_log(self) -> str:
        answer = self.aws.client("logs").filter_log_events(logGroupName="/aws/lambda/modelyard-deploy")
        lines = [event["message"].rstrip() for event in answer["events"] if self.endpoint in event["message"]]
        return "\n".join(line for line in lines if '"busy": true' not in line)[-20_000:]

    def resources(self) -> dict[str, list[str]]:
        """The names of what there is of this stage: models, endpoint configs, alarms, scalable targets."""
        autoscaling = self.aws.client("application-autoscaling")
        targets = autoscaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
        alarms = self.aws.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{self.endpoint}-")["MetricAlarms"]
        configs = self.sagemaker.list_endpoint_configs(NameContains=self.endpoint)["EndpointConfigs"]
        models = self.sagemaker.list_models(NameContains=self.endpoint)["Models"]
        return {
            "models": sorted(model["ModelName"] for model in models),
            "configs": sorted(config["EndpointConfigName"] for config in configs),
            "alarms": sorted(alarm["AlarmName"] for alarm in alarms),
            "targets": [one["ResourceId"] for one in targets if f"/{self.endpoint}/" in one["ResourceId"]],
        }
