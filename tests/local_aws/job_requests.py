"""What the tests of jobs share: a workshop with a bucket and a role, short ways to ask for a job and see its end."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
import textwrap
import time
from typing import Any

from local_aws import LocalAWS

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
NUMBERS = itertools.count(1)


def tar_gz(files: dict[str, str]) -> bytes:
    """A .tar.gz of text files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, text in files.items():
            data = textwrap.dedent(text).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


class Workshop:
    """A bucket and a role of its own on a running server."""

    def __init__(self, aws: LocalAWS) -> None:
        self.aws = aws
        self.s3, self.sagemaker, self.logs = (aws.client(name) for name in ("s3", "sagemaker", "logs"))
        self.number = next(NUMBERS)
        self.bucket = f"jobs-{self.number}"
        self.s3.create_bucket(Bucket=self.bucket)
        role = aws.client("iam").create_role(RoleName=self.bucket, AssumeRolePolicyDocument=json.dumps(TRUST))
        self.role = role["Role"]["Arn"]

    def uri(self, key: str = "") -> str:
        return f"s3://{self.bucket}/{key}"

    def put(self, key: str, body: str | bytes) -> str:
        """Write an object; its address."""
        data = textwrap.dedent(body).encode() if isinstance(body, str) else body
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)
        return self.uri(key)

    def get(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def keys(self, prefix: str = "") -> list[str]:
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return [item["Key"] for item in found]

    def unpacked(self, key: str) -> dict[str, bytes]:
        """The files of a .tar.gz object."""
        with tarfile.open(fileobj=io.BytesIO(self.get(key))) as archive:
            return {
                member.name: stream.read()
                for member in archive
                if (stream := archive.extractfile(member) if member.isfile() else None)
            }

    def name(self) -> str:
        """A job name that nobody has."""
        return f"job-{next(NUMBERS)}"

    def processing_request(
        self,
        script: str,
        *arguments: str,
        inputs: dict[str, str] | None = None,
        outputs: tuple[str, ...] = (),
        **members: Any,
    ) -> dict[str, Any]:
        """What ScriptProcessor sends.

        Args:
            script: the code.
            inputs: addresses by input name; they lie at /opt/ml/processing/input/<name>.
            outputs: output names; they lie at /opt/ml/processing/<name> and go to <bucket>/<job>/<name>.
            members: of the request, replacing ours.
        """
        name = self.name()
        code = self.put(f"{name}/code/script.py", script)
        sources = {"code": code, **(inputs or {})}
        request = {
            "ProcessingJobName": name,
            "RoleArn": self.role,
            "AppSpecification": {
                "ImageUri": IMAGE,
                "ContainerEntrypoint": ["python3", "/opt/ml/processing/input/code/script.py"],
                **({"ContainerArguments": list(arguments)} if arguments else {}),
            },
            "ProcessingResources": {
                "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 1}
            },
            "ProcessingInputs": [self.processing_input(key, uri) for key, uri in sources.items()],
            "ProcessingOutputConfig": {"Outputs": [self.processing_output(key, f"{name}/{key}") for key in outputs]},
        }
        return request | members

    def processing_input(self, name: str, uri: str) -> dict[str, Any]:
        path = f"/opt/ml/processing/input/{name}"
        return {
            "InputName": name,
            "S3Input": {"S3Uri": uri, "LocalPath": path, "S3DataType": "S3Prefix", "S3InputMode": "File"},
        }

    def processing_output(self, name: str, key: str) -> dict[str, Any]:
        output = {"S3Uri": self.uri(key), "LocalPath": f"/opt/ml/processing/{name}", "S3UploadMode": "EndOfJob"}
        return {"OutputName": name, "S3Output": output}

    def training_request(
        self, files: dict[str, str], *, channels: dict[str, str] | None = None, **members: Any
    ) -> dict[str, Any]:
        """What script mode sends; `files` is the code, train.py in it the program.

        Args:
            channels: addresses by channel name.
            members: of the request, replacing ours; HyperParameters are added to those of script mode.
        """
        name = self.name()
        code = self.put(f"{name}/sourcedir.tar.gz", tar_gz(files))
        settings = {"sagemaker_program": "train.py", "sagemaker_submit_directory": code}
        request: dict[str, Any] = {
            "TrainingJobName": name,
            "RoleArn": self.role,
            "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            "InputDataConfig": [
                {
                    "ChannelName": channel,
                    "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}},
                    "ContentType": "text/csv",
                }
                for channel, uri in (channels or {}).items()
            ],
            "OutputDataConfig": {"S3OutputPath": self.uri("models")},
            "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        }
        if not channels:
            del request["InputDataConfig"]
        request |= members
        return request | {"HyperParameters": settings | members.get("HyperParameters", {})}

    def process(self, *arguments: Any, **members: Any) -> dict[str, Any]:
        """Run a processing job to its end; its description."""
        request = self.processing_request(*arguments, **members)
        self.sagemaker.create_processing_job(**request)
        return self.ended("Processing", request["ProcessingJobName"])

    def train(self, *arguments: Any, **members: Any) -> dict[str, Any]:
        """Run a training job to its end; its description."""
        request = self.training_request(*arguments, **members)
        self.sagemaker.create_training_job(**request)
        return self.ended("Training", request["TrainingJobName"])

    def describe(self, kind: str, name: str) -> dict[str, Any]:
        operation = getattr(self.sagemaker, f"describe_{kind.lower()}_job")
        return operation(**{f"{kind}JobName": name})

    def ended(self, kind: str, name: str, timeout: float = 60.0) -> dict[str, Any]:
        """The description of a job when it has ended."""
        deadline = time.monotonic() + timeout
        while True:
            description = self.describe(kind, name)
            if description[f"{kind}JobStatus"] in ("Completed", "Failed", "Stopped"):
                return description
            assert time.monotonic() < deadline, f"{name} did not end in {timeout:g} s: {description}"
            time.sleep(0.01)

    def printed(self, kind: str, name: str, with_ours: bool = False, host: str = "algo-1") -> list[str]:
        """The lines of a job's log on one of its hosts, without those of local_aws itself."""
        group = f"/aws/sagemaker/{kind}Jobs"
        streams = self.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/{host}-")
        if not streams["logStreams"]:
            return []
        (stream,) = streams["logStreams"]
        events = self.logs.get_log_events(
            logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
        )["events"]
        return [event["message"] for event in events if with_ours or not event["message"].startswith("[local_aws]")]

    def wait_for_line(self, kind: str, name: str, line: str, timeout: float = 30.0) -> None:
        """Wait until a running job has printed a line."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                if line in self.printed(kind, name):
                    return
            except self.logs.exceptions.ResourceNotFoundException:
                pass
            assert time.monotonic() < deadline, f"{name} did not print {line!r}"
            time.sleep(0.05)
