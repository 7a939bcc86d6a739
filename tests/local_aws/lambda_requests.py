"""Functions, queues and rules for tests, by the calls that anybody would make."""

from __future__ import annotations

import io
import json
import time
import zipfile
from typing import Any

from local_aws import LocalAWS

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}
SPECIFICATION = {
    "Containers": [
        {
            "Image": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0",
            "ModelDataUrl": "s3://models/model.tar.gz",
        }
    ],
    "SupportedContentTypes": ["text/csv"],
    "SupportedResponseMIMETypes": ["text/csv"],
}


def archive(**files: str) -> bytes:
    """A function's zip archive: module name to source."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name, source in files.items():
            zipped.writestr(f"{name}.py", source)
    return buffer.getvalue()


class Parts:
    """The services around events, on one server."""

    def __init__(self, aws: LocalAWS) -> None:
        self.aws = aws
        self.sagemaker = aws.client("sagemaker")
        self.functions = aws.client("lambda")
        self.queues = aws.client("sqs")
        self.events = aws.client("events")
        iam = aws.client("iam")
        self.role = iam.create_role(RoleName="functions", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]

    def function(self, name: str, source: str, **more: Any) -> str:
        """A function whose handler is `handler` in `source`; its ARN."""
        request = {"Runtime": "python3.11", "Handler": "app.handler", "Timeout": 10} | more
        code = {"ZipFile": archive(app=source)}
        return self.functions.create_function(FunctionName=name, Role=self.role, Code=code, **request)["FunctionArn"]

    def invoke(self, name: str, event: Any = None) -> tuple[Any, str | None]:
        """What the function answers, and "Unhandled" when that is an error."""
        answer = self.functions.invoke(FunctionName=name, Payload=json.dumps(event))
        return json.loads(answer["Payload"].read()), answer.get("FunctionError")

    def queue(self, name: str, **attributes: str) -> tuple[str, str]:
        """A queue's URL and ARN."""
        url = self.queues.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        found = self.queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, found["Attributes"]["QueueArn"]

    def received(self, url: str, count: int = 1, seconds: float = 60.0) -> list[dict[str, Any]]:
        """The bodies of so many messages, in the order of their coming; they are deleted."""
        bodies: list[dict[str, Any]] = []
        deadline = time.monotonic() + seconds
        while len(bodies) < count:
            assert time.monotonic() < deadline, f"{len(bodies)} of {count} messages after {seconds} s"
            for message in self.queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                bodies.append(json.loads(message["Body"]))
                self.queues.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            time.sleep(0.01)
        return bodies

    def is_empty(self, url: str) -> bool:
        return "Messages" not in self.queues.receive_message(QueueUrl=url)

    def rule(self, name: str, pattern: dict[str, Any], *targets: str) -> None:
        self.events.put_rule(Name=name, EventPattern=json.dumps(pattern))
        items = [{"Id": str(number), "Arn": arn} for number, arn in enumerate(targets)]
        self.events.put_targets(Rule=name, Targets=items)

    def group(self, name: str) -> dict[str, Any]:
        """A new model package group, and the pattern of its events."""
        self.sagemaker.create_model_package_group(ModelPackageGroupName=name)
        return {"source": ["aws.sagemaker"], "detail": {"ModelPackageGroupName": [name]}}

    def version(self, group: str) -> str:
        return self.sagemaker.create_model_package(ModelPackageGroupName=group, InferenceSpecification=SPECIFICATION)[
            "ModelPackageArn"
        ]

    def approve(self, arn: str, status: str = "Approved") -> None:
        self.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus=status)
