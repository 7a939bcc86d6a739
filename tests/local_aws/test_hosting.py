"""Endpoints that answer: containers, fleets, routes and the data plane, as InvokeEndpoint's clients see them."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS, control
from local_aws.clock import Clock
from local_aws.hosting import ContainerFailure, ContainerSpec, EndpointRoutes, Fleet, FleetSpec, Hosting, VariantRoute
from local_aws.images import Images
from local_aws.loopback import Loopback
from local_aws.store import Scope
from tests.bench.load import http_request
from tests.local_aws.model_programs import BUCKET, IMAGE, SCRIPT_MODE, archive, named, spec
from tests.local_aws.waiting import wait_for

SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=123456789012/20261121/us-east-1/sagemaker/aws4_request, Signature=0"
}
SPEED = 600.0  # an AWS minute in a tenth of a second


class Workbench:
    """A Hosting of the tests' own beside a server that has its S3, CloudWatch and logs."""

    def __init__(self, aws: LocalAWS, folder: Path, listener: socket.socket) -> None:
        self.aws = aws
        self.scope = Scope(aws.server.account, aws.server.region)
        self.port = listener.getsockname()[1]
        self.loopback = Loopback(aws.endpoint, f"http://127.0.0.1:{self.port}")
        self.hosting = Hosting(
            self.loopback, Images(), folder, "auto", Clock(SPEED), lambda key: aws.server.account, listener
        )
        self.runtime = self.loopback.client("sagemaker-runtime", self.scope)
        self.s3 = aws.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)

    def put(self, key: str, data: bytes) -> str:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=data)
        return f"s3://{BUCKET}/{key}"

    def fleet(self, endpoint: str, name: str, **settings: Any) -> Fleet:
        """A fleet whose model answers with its name."""
        settings.setdefault("variant", "AllTraffic")
        container = settings.pop("container", None) or spec(self.put(f"{endpoint}/{name}.tar.gz", named(name)))
        return self.hosting.start_fleet(
            FleetSpec(self.scope, endpoint, f"{endpoint}-config", container=container, **settings)
        )

    def route(self, endpoint: str, *fleets: Fleet, **settings: Any) -> None:
        """All traffic to these, in equal shares, of one variant each."""
        variants = tuple(VariantRoute(fleet.spec.variant, 1.0, ((fleet, 1.0),)) for fleet in fleets)
        self.hosting.route(
            self.scope, endpoint, EndpointRoutes(settings.pop("status", "InService"), variants, **settings)
        )

    def serve(self, endpoint: str, **settings: Any) -> Fleet:
        """An endpoint with one fleet, once it answers."""
        routes = {name: settings.pop(name) for name in ("data_capture", "deploying") if name in settings}
        fleet = self.fleet(endpoint, endpoint, **settings)
        self.route(endpoint, fleet, **routes)
        fleet.wait_ready(30)
        return fleet

    def ask(self, endpoint: str, body: str | bytes = "x", **settings: Any) -> str:
        return self.runtime.invoke_endpoint(EndpointName=endpoint, Body=body, **settings)["Body"].read().decode()

    def error(self, endpoint: str, body: str | bytes = "x", **settings: Any) -> dict[str, Any]:
        with pytest.raises(ClientError) as raised:
            self.ask(endpoint, body, **settings)
        return raised.value.response

    def http(self, target: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", target, body, headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
        return answer.status, said

    def metric(self, name: str, *statistics: str, **dimensions: str) -> dict[str, float]:
        """Statistics over everything that was published."""
        self.hosting.flush()
        now = time.time()
        found = self.aws.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=now - 3600,
            EndTime=now + 60,
            Period=7200,
            Statistics=list(statistics),
        )["Datapoints"]
        return {name: sum(point[name] for point in found) for name in statistics}


@pytest.fixture(scope="module")
def bench(aws: LocalAWS) -> Iterator[Workbench]:
    with (
        tempfile.TemporaryDirectory(prefix="hosting-") as folder,
        socket.create_server(("127.0.0.1", 0), backlog=100) as listener,
    ):
        bench = Workbench(aws, Path(folder), listener)
        yield bench
        bench.hosting.stop()
        assert not list(Path(folder).iterdir()), "a container left its folder behind"


@pytest.fixture(scope="module")
def served(bench: Workbench) -> Fleet:
    return bench.serve("plain")


def test_an_endpoint_answers_with_its_model(bench, served):
    answer = bench.runtime.invoke_endpoint(EndpointName="plain", Body="1,2", ContentType="text/csv", Accept="text/csv")

    assert answer["Body"].read() == b"plain:1,2"
    assert answer["ContentType"] == "text/csv"
    assert answer["InvokedProductionVariant"] == "AllTraffic"


def test_what_the_container_prints_is_in_the_endpoint_s_log_group(bench, served):
    logs = bench.aws.client("logs")

    def lines() -> list[str]:
        streams = logs.describe_log_streams(logGroupName="/aws/sagemaker/Endpoints/plain")["logStreams"]
        assert [name for stream in streams if (name := stream["logStreamName"]).startswith("AllTraffic/i-")]
        found = logs.filter_log_events(logGroupName="/aws/sagemaker/Endpoints/plain")["events"]
        return [event["message"] for event in found]

    wait_for(lambda: any(line.startswith("loading from /") for line in lines()))


def test_the_program_s_environment_is_the_container_s_and_nothing_of_the_server_s(bench, served):
    environment = dict(line.split("=", 1) for line in bench.ask("plain", "!environment").splitlines())

    assert environment["SAGEMAKER_PROGRAM"] == "inference.py"
    assert environment["AWS_REGION"] == "us-east-1"
    assert environment["AWS_ENDPOINT_URL"] == bench.aws.endpoint
    assert environment["SM_MODEL_DIR"].endswith("/model")
    assert not {"PYTEST_CURRENT_TEST", "VIRTUAL_ENV", "AWS_DEFAULT_REGION"} & environment.keys()


@pytest.mark.parametrize("way", ["namespace", "rewrite"])
def test_the_model_s_program_finds_it_below_opt_ml_in_both_ways(bench, way):
    program = """
        def model_fn(model_dir):
            return open("/opt/ml/model/name").read()

        def transform_fn(model, body, content_type, accept):
            return model, accept
    """
    url = bench.put("way.tar.gz", archive({"name": b"found", "code/inference.py": program}))
    with (
        tempfile.TemporaryDirectory(prefix="hosting-") as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        hosting = Hosting(bench.loopback, Images(), Path(folder), way, Clock(), lambda key: "1" * 12, listener)
        try:
            fleet = hosting.start_fleet(FleetSpec(bench.scope, f"way-{way}", "c", "v", spec(url)))
            fleet.wait_ready(30)
            assert fleet.container.invoke(b"", "text/csv", "text/csv", {}, 5.0)[2] == b"found"
        finally:
            hosting.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="a network of one's own takes Linux")
def test_a_container_with_network_isolation_has_no_network_and_no_credentials(bench):
    program = """
        import os, socket

        def model_fn(model_dir):
            return None

        def transform_fn(model, body, content_type, accept):
            try:
                socket.create_connection(("127.0.0.1", int(body)), 5).close()
                reached = "network"
            except OSError:
                reached = "isolated"
            return f"{reached} {sorted(name for name in os.environ if name.startswith('AWS_'))}", accept
    """
    url = bench.put("isolated.tar.gz", archive({"code/inference.py": program}))
    open_, isolated = spec(url), dataclasses.replace(spec(url), network_isolation=True)
    fleets = [bench.serve("open", container=open_), bench.serve("isolated", container=isolated)]

    assert bench.ask("open", str(bench.port), ContentType="text/csv").startswith("network ['AWS_ACCESS_KEY_ID'")
    assert bench.ask("isolated", str(bench.port), ContentType="text/csv") == "isolated []"
    for fleet in fleets:
        fleet.stop()


def test_an_endpoint_is_its_account_s_and_its_region_s(bench, served):
    for account, region in (("222222222222", "us-east-1"), (bench.aws.server.account, "eu-west-1")):
        with pytest.raises(ClientError) as raised:
            bench.loopback.client("sagemaker-runtime", Scope(account, region)).invoke_endpoint(
                EndpointName="plain", Body=b""
            )
        assert raised.value.response["Error"] == {
            "Code": "ValidationError",
            "Message": f"Endpoint plain of account {account} not found.",
        }


@pytest.mark.parametrize("status", ["Creating", "Failed", "Deleting"])
def test_an_endpoint_that_is_not_in_service_is_not_found(bench, served, status):
    bench.route("not-yet", served, status=status)

    assert bench.error("not-yet")["Error"]["Message"] == f"Endpoint not-yet of account {bench.scope.account} not found."
    bench.hosting.route(bench.scope, "not-yet", None)


@pytest.mark.parametrize("status", ["Updating", "RollingBack", "SystemUpdating", "UpdateRollbackFailed"])
def test_an_endpoint_that_changes_goes_on_answering(bench, served, status):
    bench.route("changing", served, status=status)

    assert bench.ask("changing") == "plain:x"
    bench.hosting.route(bench.scope, "changing", None)


def test_clients_find_the_listener_by_the_server_s_environment(aws):
    script = "import boto3; boto3.client('sagemaker-runtime').invoke_endpoint(EndpointName='unmade', Body=b'')"
    environment = {"PATH": os.environ["PATH"], **aws.environment}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)

    assert f"Endpoint unmade of account {aws.server.account} not found." in ended.stderr


def test_a_role_s_session_is_its_account_s(aws):
    account = "333333333333"
    aws.client("iam", account).create_role(RoleName="caller", AssumeRolePolicyDocument="{}")
    role = f"arn:aws:iam::{account}:role/caller"
    session = aws.client("sts", account).assume_role(RoleArn=role, RoleSessionName="caller")["Credentials"]
    runtime = boto3.client(
        "sagemaker-runtime",
        endpoint_url=aws.server.runtime_endpoint,
        region_name="us-east-1",
        aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"],
        aws_session_token=session["SessionToken"],
    )

    with pytest.raises(ClientError, match=f"Endpoint unmade of account {account} not found."):
        runtime.invoke_endpoint(EndpointName="unmade", Body=b"")


def test_requests_without_a_signature_are_refused(bench, served):
    status, said = bench.http("/endpoints/plain/invocations", {})
    assert (status, said["message"]) == (403, "Missing Authentication Token")

    status, said = bench.http("/endpoints/plain/invocations", {"Authorization": "Basic dTpw"})
    assert status == 403


@pytest.mark.parametrize(
    ("path", "operation"),
    [("async-invocations", "InvokeEndpointAsync"), ("invocations-response-stream", "InvokeEndpointWithResponseStream")],
)
def test_the_other_operations_are_refused_by_name(bench, served, path, operation):
    status, said = bench.http(f"/endpoints/plain/{path}", SIGNED)

    assert status == 501
    assert said["message"] == f"local_aws does not build sagemaker-runtime:{operation}. It answers InvokeEndpoint."


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("TargetModel", "a.tar.gz"),
        ("TargetContainerHostname", "first"),
        ("EnableExplanations", "`true`"),
        ("InferenceComponentName", "part"),
        ("SessionId", "NEW_SESSION"),
    ],
)
def test_members_for_endpoints_of_other_kinds_are_refused_by_name(bench, served, member, value):
    error = bench.error("plain", **{member: value})["Error"]

    assert error["Code"] == "ValidationError"
    assert error["Message"].startswith(member)


def test_a_body_may_have_6_mb(bench, served):
    largest = b"0" * 6291456
    assert len(bench.ask("plain", largest[len("plain:") :])) == len(largest)

    error = bench.error("plain", largest + b"0")["Error"]
    assert error["Code"] == "ValidationError"
    assert error["Message"].endswith(
        "'body' failed to satisfy constraint: Member must have length less than or equal to 6291456"
    )
    assert bench.ask("plain") == "plain:x"


def test_an_answer_may_have_6_mb(bench, served):
    assert len(bench.ask("plain", "!fill 6291456")) == 6291456

    error = bench.error("plain", "!fill 6291457")
    assert error["Error"]["Code"] == "ModelError"
    assert "could not load the entire response body" in error["Error"]["Message"]


def test_a_body_in_chunks_is_taken(bench, served):
    connection = http.client.HTTPConnection("127.0.0.1", bench.port, timeout=10)
    connection.request("POST", "/endpoints/plain/invocations", iter([b"first ", b"second"]), SIGNED)
    answer = connection.getresponse()

    assert (answer.status, answer.read()) == (200, b"plain:first second")
    connection.close()


@pytest.mark.parametrize(
    "sent",
    [b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"\0" * 70000],
    ids=["no target", "a negative length", "an endless head"],
)
def test_what_is_no_http_is_refused_and_the_connection_closed(bench, served, sent):
    with socket.create_connection(("127.0.0.1", bench.port), timeout=10) as client:
        client.sendall(sent)
        received = b""
        while data := client.recv(65536):
            received += data
    assert received.startswith(b"HTTP/1.1 400 ")


def test_requests_one_behind_the_other_on_one_connection_are_answered_in_their_order(bench, served):
    bodies = [b"!sleep 0.1", b"second", b"third"]
    with socket.create_connection(("127.0.0.1", bench.port), timeout=10) as client:
        for body in bodies:
            client.sendall(http_request("/endpoints/plain/invocations", SIGNED, body))
        received = b""
        while not received.endswith(b"plain:third"):
            received += client.recv(65536)
    assert [received.index(b"plain:" + body) for body in bodies] == sorted(
        received.index(b"plain:" + body) for body in bodies
    )


def test_custom_attributes_go_to_the_model_and_back(bench, served):
    answer = bench.runtime.invoke_endpoint(EndpointName="plain", Body="!attributes", CustomAttributes="trace=7")

    assert answer["CustomAttributes"] == "trace=7!"


@pytest.mark.parametrize("status", [400, 415, 500, 503])
def test_the_model_s_own_error_comes_as_a_model_error(bench, served, status):
    error = bench.error("plain", f"!status {status}")

    kind = "client" if status < 500 else "server"
    group = "/aws/sagemaker/Endpoints/plain"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert error["Error"]["Code"] == "ModelError"
    assert error["Error"]["Message"] == (
        f'Received {kind} error ({status}) from primary with message "so be it". See https://us-east-1.console.aws.'
        f"amazon.com/cloudwatch/home?region=us-east-1#logEventViewer:group={group} in account {bench.scope.account} for"
        " more information."
    )
    assert (error["OriginalStatusCode"], error["OriginalMessage"]) == (status, "so be it")
    assert error["LogStreamArn"] == f"arn:aws:logs:us-east-1:{bench.scope.account}:log-group:{group}"


def test_an_exception_of_the_model_is_a_500_with_its_reason_in_the_log(bench, served):
    assert bench.error("plain", "!raise")["OriginalStatusCode"] == 500
    logs = bench.aws.client("logs")
    wait_for(
        lambda: logs.filter_log_events(
            logGroupName="/aws/sagemaker/Endpoints/plain", filterPattern='"RuntimeError: as was asked"'
        )["events"]
    )


def test_requests_go_to_the_variants_by_weight_and_to_the_one_that_is_asked_for(bench):
    fleets = [bench.fleet("weighed", name, variant=name) for name in ("heavy", "light")]
    routes = tuple(
        VariantRoute(fleet.spec.variant, weight, ((fleet, 1.0),))
        for fleet, weight in zip(fleets, (3.0, 1.0), strict=True)
    )
    bench.hosting.route(bench.scope, "weighed", EndpointRoutes("InService", routes))

    seen = Counter(bench.ask("weighed") for _ in range(400))
    assert seen.keys() == {"heavy:x", "light:x"}
    assert 240 <= seen["heavy:x"] <= 360  # 300 are expected; 60 are more than six standard deviations
    answer = bench.runtime.invoke_endpoint(EndpointName="weighed", Body="x", TargetVariant="light")
    assert answer["InvokedProductionVariant"] == "light"
    assert bench.error("weighed", TargetVariant="none")["Error"] == {
        "Code": "ValidationError",
        "Message": "Variant none not found for Endpoint weighed.",
    }
    for fleet in fleets:
        fleet.stop()


def test_a_variant_of_weight_0_is_there_for_who_asks_for_it(bench, served):
    routes = (VariantRoute("off", 0.0, ((served, 1.0),)),)
    bench.hosting.route(bench.scope, "weightless", EndpointRoutes("InService", routes))

    assert bench.ask("weightless", TargetVariant="off") == "plain:x"
    bench.hosting.route(bench.scope, "weightless", None)


def test_routes_change_under_load_without_a_failed_request_and_stopping_drains(bench):
    first = bench.serve("swapped")
    answers: list[str] = []
    ended = threading.Event()

    def client() -> None:
        while not ended.is_set():
            answers.append(bench.ask("swapped"))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for each in clients:
        each.start()
    slow = threading.Thread(target=lambda: answers.append(bench.ask("swapped", "!sleep 0.5")))
    slow.start()
    time.sleep(0.1)  # the slow request is on its way
    second = bench.fleet("swapped", "second")
    second.wait_ready(30)
    bench.route("swapped", second)
    since = len(answers)
    first.stop(drain=10)
    wait_for(lambda: len(answers) > since + 50)
    ended.set()
    for each in [*clients, slow]:
        each.join()

    assert "swapped:!sleep 0.5" in answers
    # what was on its way when the routes changed is still the first one's, one request of each client
    assert Counter(answers[since:])["swapped:x"] <= 4
    assert set(answers) == {"swapped:x", "second:x", "swapped:!sleep 0.5"}
    second.stop()


def test_a_container_that_dies_fails_its_request_and_is_started_again(bench):
    fleet = bench.serve("mortal")
    before = fleet.container.pid

    error = bench.error("mortal", "!exit")
    assert error["Error"]["Code"] == "ModelError"
    assert error["OriginalStatusCode"] == 0
    assert bench.ask("mortal") == "mortal:x"  # it waits for the new one
    assert fleet.container.pid != before
    found = bench.metric("Invocation5XXErrors", "Sum", "SampleCount", EndpointName="mortal", VariantName="AllTraffic")
    assert found == {"Sum": 1.0, "SampleCount": 2.0}
    fleet.stop()


def test_a_container_that_dies_again_and_again_leaves_the_machine_to_the_others(bench, tmp_path):
    program = """
        import os
        from pathlib import Path
        starts = Path(os.environ["STARTS"])
        with starts.open("a") as stream:
            stream.write("x")
        if starts.stat().st_size > 1:
            os._exit(1)

        def model_fn(model_dir):
            return None

        def transform_fn(model, body, content_type, accept):
            return body, accept
    """
    starts = tmp_path / "starts"
    url = bench.put("doomed.tar.gz", archive({"code/inference.py": program}))
    fleet = bench.serve("doomed", container=spec(url, STARTS=str(starts)))

    os.kill(fleet.container.pid, signal.SIGKILL)
    assert bench.error("doomed")["Error"]["Code"] in ("ServiceUnavailable", "ModelError")
    time.sleep(1)
    fleet.stop()
    assert 2 <= starts.stat().st_size <= 5


def test_a_data_plane_that_dies_is_started_again_with_all_its_routes(bench, served):
    os.kill(bench.hosting._process.pid, signal.SIGKILL)

    wait_for(lambda: bench.hosting._process.poll() is None and bench.ask("plain") == "plain:x")


def test_requests_are_counted_as_cloudwatch_counts_them(bench):
    fleet = bench.serve("counted", instances=2, deploying=True)
    for _ in range(2):
        bench.ask("counted")
    for status in (400, 500):
        bench.error("counted", f"!status {status}")

    names = {"EndpointName": "counted", "VariantName": "AllTraffic"}
    for dimensions in (names, {**names, "EndpointConfigName": "counted-config"}):
        assert bench.metric("Invocations", "Sum", **dimensions) == {"Sum": 4.0}
        assert bench.metric("InvocationsPerInstance", "Sum", **dimensions) == {"Sum": 2.0}
        assert bench.metric("Invocation4XXErrors", "Average", "Sum", **dimensions) == {"Average": 0.25, "Sum": 1.0}
        assert bench.metric("Invocation5XXErrors", "Average", "Sum", **dimensions) == {"Average": 0.25, "Sum": 1.0}
        assert bench.metric("InvocationModelErrors", "Sum", **dimensions) == {"Sum": 2.0}
        latency = bench.metric("ModelLatency", "SampleCount", "Maximum", **dimensions)
        assert latency["SampleCount"] == 4.0
        assert 50 < latency["Maximum"] < 5e6  # microseconds
    bench.route("counted", fleet)  # the deployment is over
    bench.ask("counted")
    assert bench.metric("Invocations", "Sum", **names) == {"Sum": 5.0}
    assert bench.metric("Invocations", "Sum", **names, EndpointConfigName="counted-config") == {"Sum": 4.0}
    fleet.stop()


def test_what_the_container_uses_is_published(bench, served):
    def published() -> set[str]:
        found = bench.aws.client("cloudwatch").list_metrics(Namespace="/aws/sagemaker/Endpoints")["Metrics"]
        return {metric["MetricName"] for metric in found}

    wait_for(lambda: {"CPUUtilization", "MemoryUtilization"} <= published())


CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 100,
    "DestinationS3Uri": f"s3://{BUCKET}/captured",
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
}


def captured(bench: Workbench, endpoint: str) -> list[tuple[str, dict[str, Any]]]:
    bench.hosting.flush()
    found = bench.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"captured/{endpoint}/").get("Contents", [])
    records = []
    for item in sorted(found, key=lambda item: item["LastModified"]):
        text = bench.s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read().decode()
        records += [(item["Key"], json.loads(line)) for line in text.splitlines()]
    return records


def test_captured_data_has_aws_s_layout(bench):
    fleet = bench.serve("captured", data_capture=CAPTURE)
    bench.ask("captured", "1,2", ContentType="text/csv; charset=utf-8", Accept="application/json", InferenceId="id-1")
    bench.ask("captured", b"abc", ContentType="application/x-parquet", Accept="image/png")
    bench.error("captured", "!status 400")

    (key, first), (_, second) = captured(bench, "captured")
    assert time.strftime("captured/captured/AllTraffic/%Y/%m/%d/", time.gmtime()) in key
    assert len(key.rpartition("/")[2]) == len("mm-ss-mmm-") + 36 + len(".jsonl")
    assert first["captureData"] == {
        "endpointInput": {
            "observedContentType": "text/csv; charset=utf-8",
            "mode": "INPUT",
            "data": "1,2",
            "encoding": "CSV",
        },
        "endpointOutput": {
            "observedContentType": "application/json",
            "mode": "OUTPUT",
            "data": "captured:1,2",
            "encoding": "JSON",
        },
    }
    assert first["eventVersion"] == "0"
    assert first["eventMetadata"].keys() == {"eventId", "inferenceId", "inferenceTime"}
    assert first["eventMetadata"]["inferenceId"] == "id-1"
    assert second["captureData"]["endpointInput"]["encoding"] == "BASE64"
    assert base64.b64decode(second["captureData"]["endpointInput"]["data"]) == b"abc"
    fleet.stop()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"CaptureOptions": [{"CaptureMode": "InputAndOutput"}]}, ["endpointInput", "endpointOutput"]),
        ({"CaptureOptions": [{"CaptureMode": "Output"}]}, ["endpointOutput"]),
        ({"InitialSamplingPercentage": 0}, None),
        ({"EnableCapture": False}, None),
    ],
)
def test_what_is_captured_is_what_was_asked_for(bench, served, change, parts):
    endpoint = f"capture-{abs(hash(str(change)))}"
    bench.route(endpoint, served, data_capture=CAPTURE | change)
    bench.ask(endpoint)

    assert [list(record["captureData"]) for _, record in captured(bench, endpoint)] == ([parts] if parts else [])
    bench.hosting.route(bench.scope, endpoint, None)


def test_of_many_requests_a_share_is_captured(bench, served):
    bench.route("sampled", served, data_capture=CAPTURE | {"InitialSamplingPercentage": 25})
    for _ in range(200):
        bench.ask("sampled")

    assert 15 <= len(captured(bench, "sampled")) <= 90  # 50 are expected
    bench.hosting.route(bench.scope, "sampled", None)


SERVERLESS = {"MemorySizeInMB": 1024, "MaxConcurrency": 2}


def test_a_serverless_variant_takes_as_many_requests_as_its_concurrency(bench):
    fleet = bench.serve("throttled", serverless=SERVERLESS | {"ProvisionedConcurrency": 1})
    with ThreadPoolExecutor(6) as threads:
        asked = [threads.submit(bench.ask, "throttled", "!sleep 0.3") for _ in range(6)]
    errors = [error.response for each in asked if isinstance(error := each.exception(), ClientError)]

    assert 1 <= len(errors) <= 4
    for error in errors:
        assert error["Error"] == {"Code": "ThrottlingException", "Message": "Rate exceeded"}
        assert error["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert bench.ask("throttled") == "throttled:x"
    fleet.set_serverless(SERVERLESS | {"MaxConcurrency": 200})
    assert bench.error("throttled", b"0" * (4 * 1024**2 + 1))["Error"]["Message"].endswith("4194304")
    fleet.stop()


def test_a_serverless_variant_sleeps_without_requests_and_the_next_one_wakes_it(bench):
    fleet = bench.serve("sleeper", serverless=SERVERLESS)
    first = fleet.container.pid

    wait_for(lambda: not fleet.container.alive)  # five minutes of AWS's later
    assert bench.ask("sleeper") == "sleeper:x"
    assert fleet.container.pid not in (None, first)
    names = {"EndpointName": "sleeper", "VariantName": "AllTraffic"}
    assert bench.metric("ModelSetupTime", "SampleCount", **names) == {"SampleCount": 1.0}
    assert bench.metric("ModelSetupTime", "Minimum", **names)["Minimum"] > 10_000  # microseconds
    fleet.stop()


def test_a_serverless_variant_that_sleeps_is_woken_by_a_data_plane_that_was_started_again_too(bench):
    fleet = bench.serve("dreamer", serverless=SERVERLESS)
    wait_for(lambda: not fleet.container.alive)
    before = bench.hosting._process
    before.kill()
    wait_for(lambda: bench.hosting._process is not before)

    wait_for(lambda: bench.ask("dreamer") == "dreamer:x")
    fleet.stop()


def test_a_serverless_variant_has_no_more_memory_than_it_was_given(bench):
    program = """
        def model_fn(model_dir):
            return None

        def transform_fn(model, body, content_type, accept):
            return str(len(bytearray(int(body) * 1024 * 1024))), accept
    """
    url = bench.put("memory.tar.gz", archive({"code/inference.py": program}))
    fleet = bench.serve("memory", serverless=SERVERLESS, container=spec(url))

    assert bench.ask("memory", "100", ContentType="text/csv") == str(100 * 1024**2)
    assert bench.error("memory", "1100", ContentType="text/csv")["OriginalStatusCode"] == 500
    fleet.stop()


def failure(bench: Workbench, endpoint: str, container: ContainerSpec, **settings: Any) -> str:
    fleet = bench.fleet(endpoint, endpoint, container=container, **settings)
    with pytest.raises(ContainerFailure) as raised:
        fleet.wait_ready(30)
    assert fleet.failed == str(raised.value)
    fleet.stop()
    return fleet.failed


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise ValueError('not today')", "ValueError: not today"),
        ("def model_fn(model_dir): raise OSError('no such tree')", "OSError: no such tree"),
        ("x = 1", "no model_fn"),
        (
            "def model_fn(d): pass\ndef transform_fn(*a): pass\ndef input_fn(*a): pass",
            "Cannot use transform_fn implementation with input_fn, predict_fn, and/or output_fn",
        ),
        ("import os\nos._exit(7)", "its process ended with exit code 7"),
    ],
)
def test_a_program_that_does_not_load_fails_the_ping_health_check(bench, program, said):
    url = bench.put("faulty.tar.gz", archive({"code/inference.py": program}))

    reason = failure(bench, "faulty", spec(url))
    assert reason.startswith(
        "The primary container for production variant AllTraffic did not pass the ping health check. Please check"
        " CloudWatch logs for this endpoint."
    )
    assert said in reason


def test_a_program_that_never_answers_is_given_up_when_its_time_to_start_is_over(bench):
    url = bench.put("hanging.tar.gz", archive({"code/inference.py": "import time\ntime.sleep(60)"}))

    assert "(no answer within 0.5 s." in failure(bench, "hanging", spec(url), startup_seconds=0.5)


def test_a_program_that_is_not_in_the_archive_is_named(bench):
    url = bench.put("other.tar.gz", archive({"code/other.py": ""}))

    assert "SAGEMAKER_PROGRAM 'inference.py' is not in" in failure(bench, "other", spec(url))


def test_requirements_that_the_image_does_not_have_are_refused_by_name(bench):
    url = bench.put("more.tar.gz", archive({"code/inference.py": "", "code/requirements.txt": "left-pad==1.0"}))

    assert "asks for 'left-pad==1.0', which is not there" in failure(bench, "more", spec(url))


def test_an_image_that_is_not_known_is_refused_by_name(bench):
    container = ContainerSpec(IMAGE.replace("xgboost", "pytorch"), None)

    assert "is not known to local_aws" in failure(bench, "unknown-image", container)


def test_model_data_that_is_not_there_is_named(bench):
    reason = failure(bench, "absent", spec(f"s3://{BUCKET}/absent.tar.gz"))

    assert reason.startswith(
        "Failed to download model data for the primary container for production variant AllTraffic"
    )
    assert f'"s3://{BUCKET}/absent.tar.gz"' in reason


@pytest.mark.parametrize(
    "data",
    [b"hello", b"", archive({"x": "y" * 9999})[:30], archive({"n" * 300: "x"}), archive({"../x": "x"})],
    ids=["text", "nothing", "a part", "a name too long", "a way out"],
)
def test_model_data_that_is_no_archive_is_refused(bench, data):
    reason = failure(bench, "no-archive", spec(bench.put("text.tar.gz", data)))

    assert reason.startswith("Failed to extract model data archive")


def test_processes_and_folders_of_a_stopped_fleet_are_gone(bench):
    fleet = bench.serve("gone")
    pid = fleet.container.pid
    folder = Path(fleet.container.socket).parent
    fleet.stop()

    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
def test_an_endpoint_that_is_asked_keeps_its_server_and_one_that_is_not_does_not(tmp_path):
    log = tmp_path / "log"
    server, process = control.launch(0, log=log, idle_minutes=4 / 60, clock_speed=6000)
    server.client("s3").create_bucket(Bucket=BUCKET)
    server.client("s3").put_object(Bucket=BUCKET, Key="model.tar.gz", Body=named("kept"))
    trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = server.client("iam").create_role(RoleName="model", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    sagemaker, runtime = server.client("sagemaker"), server.client("sagemaker-runtime")
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz", "Environment": SCRIPT_MODE}
    sagemaker.create_model(ModelName="kept", PrimaryContainer=container, ExecutionRoleArn=role)
    variant = {"VariantName": "v", "ModelName": "kept", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="kept", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="kept", EndpointConfigName="kept")
    wait_for(lambda: sagemaker.describe_endpoint(EndpointName="kept")["EndpointStatus"] == "InService")

    last_call = time.monotonic()
    while time.monotonic() < last_call + 5:  # nothing but InvokeEndpoint for longer than the server waits
        assert runtime.invoke_endpoint(EndpointName="kept", Body="x")["Body"].read() == b"kept:x"
        time.sleep(0.1)
    # its metrics, which the server goes on publishing to itself, keep it from nothing
    assert process.wait(30) == 0
    assert "Stopping: no request" in log.read_text()


def test_containers_and_data_plane_end_with_a_process_that_is_killed():
    script = """
        import socket, sys, tempfile, time
        from pathlib import Path
        from local_aws.clock import Clock
        from local_aws.hosting import ContainerSpec, FleetSpec, Hosting
        from local_aws.images import Images
        from local_aws.loopback import Loopback
        from local_aws.store import Scope
        folder, image = Path(sys.argv[1]), sys.argv[2]
        listener = socket.create_server(("127.0.0.1", 0))
        hosting = Hosting(Loopback("http://127.0.0.1:9", "http://127.0.0.1:9"), Images(), folder, "auto", Clock(),
                          lambda key: key, listener)
        fleet = hosting.start_fleet(FleetSpec(Scope("1" * 12, "us-east-1"), "e", "c", "v", ContainerSpec(image)))
        fleet.wait_ready(60)
        print(fleet.container.pid, hosting._process.pid, flush=True)
        time.sleep(60)
    """
    with tempfile.TemporaryDirectory(prefix="hosting-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), folder, IMAGE], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
        process.wait()
        process.stdout.close()
        assert len(pids) == 2
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
