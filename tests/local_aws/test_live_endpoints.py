"""Endpoints as clients meet them: real containers, real requests before, during and after each change."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from tests.local_aws.job_requests import Workshop
from tests.local_aws.model_programs import IMAGE, SCRIPT_MODE, archive, named

pytestmark = pytest.mark.slow  # make test has fifteen minutes

SPEED = 600.0  # an endpoint is created in a fifth of a second
TIMEOUT = 30.0  # seconds until a test gives up
NAMES = itertools.count(1)

BROKEN = """
    def model_fn(model_dir):
        return None

    def transform_fn(model, body, content_type, accept):
        raise RuntimeError("broken")
"""


class Shop:
    """Models that answer with their name, endpoints of them, and requests to these."""

    def __init__(self, aws: LocalAWS) -> None:
        self.aws = aws
        self.workshop = Workshop(aws)
        self.sagemaker, self.runtime = aws.client("sagemaker"), aws.client("sagemaker-runtime")

    def config(self, name: str, program: bytes | None = None, **variant: Any) -> str:
        """A model of this name, and a configuration of the same name."""
        container = {
            "Image": IMAGE,
            "ModelDataUrl": self.workshop.put(f"{name}.tar.gz", program or named(name)),
            "Environment": SCRIPT_MODE,
        }
        self.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=self.workshop.role)
        given = variant or {"InstanceType": "ml.m5.large", "InitialInstanceCount": 2}
        production = [{"VariantName": "AllTraffic", "ModelName": name, **given}]
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=production)
        return name

    def endpoint(self, **variant: Any) -> str:
        """An endpoint in service; its configuration is <its name>-1."""
        name = f"churn-{self.workshop.number}-{next(NAMES)}"
        config = self.config(f"{name}-1", **variant)
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        self.wait(name)
        return name

    def status(self, endpoint: str) -> str:
        return self.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"]

    def wait(self, endpoint: str, *statuses: str) -> dict[str, Any]:
        """Wait until the endpoint is in one of the states (by default InService)."""
        until = time.monotonic() + TIMEOUT
        while self.status(endpoint) not in (statuses or ("InService",)):
            assert time.monotonic() < until, self.sagemaker.describe_endpoint(EndpointName=endpoint)
            time.sleep(0.02)
        return self.sagemaker.describe_endpoint(EndpointName=endpoint)

    def rolled_back(self, endpoint: str) -> dict[str, Any]:
        """Wait until an update was rolled back: too fast here for the state RollingBack to be seen for certain."""
        described = self.wait(endpoint)
        assert "FailureReason" in described
        return described

    def ask(self, endpoint: str) -> str:
        """Which model answers."""
        answer = self.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"?", ContentType="text/csv")
        return answer["Body"].read().decode().partition(":")[0]


class Load:
    """Requests without a pause from two threads; what answered, and what failed."""

    def __init__(self, shop: Shop, endpoint: str) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(shop, endpoint)) for _ in range(2)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, shop: Shop, endpoint: str) -> None:
        while not self._stop.is_set():
            try:
                self.answers[shop.ask(endpoint)] += 1
            except ClientError as error:
                self.failures.append(str(error))


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with LocalAWS(clock_speed=SPEED) as aws:
        yield Shop(aws)


def canary(wait: int = 240, last: int = 0, alarm: str | None = None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "CANARY",
                "WaitIntervalInSeconds": wait,
                "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
            },
            "TerminationWaitInSeconds": last,
        }
    }
    return config | ({"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]}} if alarm else {})


def make_alarm(shop: Shop, name: str) -> str:
    shop.aws.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="Modelyard",
        MetricName="Abort",
        Period=60,
        EvaluationPeriods=1,
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
        Statistic="Sum",
        TreatMissingData="ignore",
    )
    return name


def test_an_endpoint_is_created_answers_and_is_deleted_with_boto3_s_own_waiters(shop):
    name = f"waited-{shop.workshop.number}"
    config = shop.config(name)
    shop.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    with pytest.raises(ClientError, match=f"Endpoint {name} of account 123456789012 not found"):
        shop.ask(name)

    shop.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1})
    assert shop.ask(name) == name

    shop.sagemaker.delete_endpoint(EndpointName=name)
    shop.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig={"Delay": 1})
    with pytest.raises(ClientError, match="not found"):
        shop.ask(name)


def test_a_good_version_rolls_out_as_a_canary_and_not_one_request_fails(shop):
    name = shop.endpoint()
    shop.config(f"{name}-2")

    with Load(shop, name) as load:
        shop.sagemaker.update_endpoint(
            EndpointName=name, EndpointConfigName=f"{name}-2", DeploymentConfig=canary(last=60)
        )
        described = shop.wait(name)

    assert described["EndpointConfigName"] == f"{name}-2"
    assert load.failures == []
    assert set(load.answers) == {f"{name}-1", f"{name}-2"}
    assert shop.ask(name) == f"{name}-2"


def test_an_alarm_during_a_canary_brings_back_what_served_and_not_one_request_fails(shop):
    name = shop.endpoint()
    shop.config(f"{name}-2")
    alarm = make_alarm(shop, f"{name}-abort")
    with Load(shop, name) as load:
        shop.sagemaker.update_endpoint(
            EndpointName=name, EndpointConfigName=f"{name}-2", DeploymentConfig=canary(3600, alarm=alarm)
        )
        until = time.monotonic() + TIMEOUT
        while not load.answers[f"{name}-2"]:
            assert time.monotonic() < until
            time.sleep(0.02)
        time.sleep(0.5)
        both = dict(load.answers)
        shop.aws.client("cloudwatch").set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="rejected")
        described = shop.rolled_back(name)

    assert both[f"{name}-1"]
    assert both[f"{name}-2"]
    assert load.failures == []
    assert described["EndpointConfigName"] == f"{name}-1"
    assert alarm in described["FailureReason"]
    assert {shop.ask(name) for _ in range(8)} == {f"{name}-1"}


def test_a_version_that_answers_with_errors_is_taken_back_by_the_alarm_on_its_own_metrics(shop):
    name = shop.endpoint()
    shop.config(f"{name}-2", archive({"code/inference.py": BROKEN}))
    dimensions = {"EndpointName": name, "VariantName": "AllTraffic", "EndpointConfigName": f"{name}-2"}
    shop.aws.client("cloudwatch").put_metric_alarm(
        AlarmName=f"{name}-2-errors",
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        Period=60,
        EvaluationPeriods=1,
        Threshold=0.05,
        ComparisonOperator="GreaterThanThreshold",
        Statistic="Average",
        TreatMissingData="notBreaching",
    )
    with Load(shop, name) as load:
        shop.sagemaker.update_endpoint(
            EndpointName=name,
            EndpointConfigName=f"{name}-2",
            DeploymentConfig=canary(3600, alarm=f"{name}-2-errors"),
        )
        described = shop.rolled_back(name)

    assert described["EndpointConfigName"] == f"{name}-1"
    assert load.failures
    assert len(load.failures) <= load.answers[f"{name}-1"]  # the canary's share is one half


def test_a_version_that_does_not_load_is_never_asked(shop):
    name = shop.endpoint()
    shop.config(f"{name}-2", archive({"code/inference.py": "def model_fn(model_dir):\n    raise RuntimeError('no')\n"}))

    with Load(shop, name) as load:
        shop.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=f"{name}-2")
        described = shop.rolled_back(name)

    assert load.failures == []
    assert set(load.answers) == {f"{name}-1"}
    assert described["EndpointConfigName"] == f"{name}-1"
    assert "production variant AllTraffic" in described["FailureReason"]


def test_a_first_version_that_does_not_load_makes_the_creation_fail(shop):
    name = f"broken-{shop.workshop.number}"
    shop.config(name, archive({"code/inference.py": "import nothing_like_this\n"}))
    shop.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    described = shop.wait(name, "Failed")

    assert "production variant AllTraffic" in described["FailureReason"]
    shop.sagemaker.delete_endpoint(EndpointName=name)


def test_a_serverless_endpoint_answers_and_takes_a_new_configuration(shop):
    serverless = {"ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 2}}
    name = shop.endpoint(**serverless)
    assert shop.ask(name) == f"{name}-1"

    shop.config(f"{name}-2", **serverless)
    shop.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=f"{name}-2")
    shop.wait(name)

    assert shop.ask(name) == f"{name}-2"


def test_a_deleted_endpoint_is_scaled_no_more(shop):
    name = shop.endpoint()
    scaling = shop.aws.client("application-autoscaling")
    target = {"ServiceNamespace": "sagemaker", "ResourceId": f"endpoint/{name}/variant/AllTraffic"}
    target["ScalableDimension"] = "sagemaker:variant:DesiredInstanceCount"
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=2)

    shop.sagemaker.delete_endpoint(EndpointName=name)
    shop.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig={"Delay": 1})

    found = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert target["ResourceId"] not in [one["ResourceId"] for one in found]


def test_the_state_changes_of_an_endpoint_come_through_eventbridge(shop):
    create = {"QueueName": f"endpoints-{shop.workshop.number}", "Attributes": {"VisibilityTimeout": "43200"}}
    queue = shop.aws.client("sqs").create_queue(**create)["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:123456789012:endpoints-{shop.workshop.number}"
    pattern = {"source": ["aws.sagemaker"], "detail-type": ["SageMaker Endpoint State Change"]}
    events = shop.aws.client("events")
    events.put_rule(Name="endpoints", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="endpoints", Targets=[{"Id": "queue", "Arn": arn}])

    name = shop.endpoint()

    statuses: list[str] = []
    until = time.monotonic() + TIMEOUT
    while "IN_SERVICE" not in statuses:
        assert time.monotonic() < until, statuses
        received = shop.aws.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages", [])
        for event in (json.loads(message["Body"]) for message in received):
            assert event["resources"] == [f"arn:aws:sagemaker:us-east-1:123456789012:endpoint/{name}"]
            statuses.append(event["detail"]["EndpointStatus"])
    events.remove_targets(Rule="endpoints", Ids=["queue"])
    events.delete_rule(Name="endpoints")
    assert statuses == ["CREATING", "IN_SERVICE"]


def test_quotas_can_be_raised_on_the_running_server(shop):
    name = f"many-{shop.workshop.number}"
    config = shop.config(name, InstanceType="ml.m5.large", InitialInstanceCount=6)
    with pytest.raises(ClientError, match="ResourceLimitExceeded"):
        shop.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)

    shop.aws.configure("quotas", {"instances_per_endpoint": 6})

    shop.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    shop.wait(name)
    shop.aws.configure("quotas", {"instances_per_endpoint": 4})


def test_the_aws_command_line_waits_for_and_describes_an_endpoint(shop):
    name = shop.endpoint()
    environment = os.environ | shop.aws.environment

    def aws(*arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("aws")), "sagemaker", *arguments, "--endpoint-name", name]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    aws("wait", "endpoint-in-service")
    assert json.loads(aws("describe-endpoint"))["EndpointConfigName"] == f"{name}-1"


def test_after_a_restart_with_state_the_endpoint_answers_again(tmp_path):
    with LocalAWS(state=tmp_path, clock_speed=SPEED) as aws:
        name = Shop(aws).endpoint()

    with LocalAWS(state=tmp_path, clock_speed=SPEED) as aws:
        sagemaker, runtime = aws.client("sagemaker"), aws.client("sagemaker-runtime")
        assert sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService"
        answer = runtime.invoke_endpoint(EndpointName=name, Body=b"?", ContentType="text/csv")  # it waits
        assert answer["Body"].read() == f"{name}-1:?".encode()
