"""Whatever reaches the server's ports, names, keys and archives: it stays in its folder, and goes on answering."""

from __future__ import annotations

import http.client
import io
import json
import random
import socket
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from local_aws import LocalAWS
from tests import proof
from tests.local_aws.job_requests import IMAGE, Workshop
from tests.local_aws.model_programs import NAMED, SCRIPT_MODE, named

MEBI = 1024**2
TRICKS = [
    *(
        "../escaped",
        "../../escaped",
        "a/../../escaped",
        "/escaped",
        "//escaped",
        "..",
        ".",
        "a/..",
        "..%2fescaped",
        "%2e%2e/escaped",
    ),
    *(
        "..\\escaped",
        "C:\\escaped",
        "~/escaped",
        "$HOME/escaped",
        "a\0b",
        "a\nb",
        "a\r\nX-Injected: 1",
        "\u202eescaped",
        "con",
        "a" * 255,
    ),
    *(
        "a" * 1024,
        "é" * 400,
        "💥",
        "a//b",
        "a/./b",
        "a/",
        " ",
        "-rf",
        "--help",
        "'; rm -rf /; '",
        "{{7*7}}",
        "<script>",
        "*",
        "?",
        "|cat",
    ),
]


class Place:
    """A server whose state lies in a folder, beside which nothing may appear."""

    def __init__(self, aws: LocalAWS, around: Path) -> None:
        self.aws, self._around = aws, around
        self._before = self._outside()

    def _outside(self) -> dict[str, bytes]:
        files = {path for path in self._around.rglob("*") if path.relative_to(self._around).parts[0] != "state"}
        return {str(path): path.read_bytes() if path.is_file() else b"" for path in files}

    def check(self) -> None:
        """It answers, and nothing lies outside."""
        self.aws.client("sts").get_caller_identity()
        self.aws.client("sagemaker").list_models()
        assert self._outside() == self._before
        assert not list(Path("/").glob("escaped*"))

    def raw(self, port: int, data: bytes, wait: float = 2.0) -> bytes:
        """What the port answers to these bytes until it closes, or a moment has passed."""
        received = b""
        with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65536):
                    received += piece
            except OSError:
                pass  # it hung up, or waits for more
        return received


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    around = tmp_path_factory.mktemp("around")
    (around / "secret").write_text("not yours")
    with LocalAWS(state=around / "state", clock_speed=600) as aws:
        yield Place(aws, around)


@pytest.fixture(scope="module")
def workshop(place: Place) -> Workshop:
    return Workshop(place.aws)


# --- HTTP

REQUESTS = [
    b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: SageMaker.ListModels\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /models/key HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /endpoints/churn/invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 3\r\n\r\n1,2",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 38\r\n\r\n"
    b"Action=ListUsers&Version=2010-05-08&a=",
    b"PUT /bucket/key HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
]
PIECES = [
    *(
        b"\0",
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b" ",
        b":",
        b"\xff\xfe",
        b"%00",
        b"../",
        b"HTTP/9.9",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999\r\n",
    ),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Host: \r\n",
        b"X: " + b"y" * 100_000 + b"\r\n",
        b"Expect: 100-continue\r\n",
    ),
    *(
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
        b"Authorization: AWS4-HMAC-SHA256 Credential=\r\n",
        b"X-Amz-Target: SageMaker.\r\n",
        b"X-Amz-Date: never\r\n",
    ),
    *(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"FFFFFFFFFFFFFFFF\r\n",
        b"-1\r\n",
        b"[" * 5_000,
    ),
]


def spoilt_request(chance: random.Random) -> bytes:
    request = chance.choice(REQUESTS)
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(len(request) + 1)
        change = chance.choice(["put in", "put in", "cut", "flip", "noise"])
        if change == "put in":
            request = request[:at] + chance.choice(PIECES) + request[at:]
        elif change == "cut":
            request = request[:at]
        elif change == "flip" and request:
            request = request[: at - 1] + bytes([chance.randrange(256)]) + request[at:]
        else:
            request = chance.randbytes(chance.choice([1, 100, 5_000]))
    return request


@pytest.mark.parametrize("count", [100, pytest.param(3_000, marks=pytest.mark.slow)])
def test_whatever_is_sent_the_server_answers_the_next_request(place: Place, count: int) -> None:
    answers: Counter[str] = Counter()
    for seed in range(count):
        chance = random.Random(seed)
        port = chance.choice([place.aws.server.port, place.aws.server.runtime_port])
        answer = place.raw(port, spoilt_request(chance), wait=0.5)
        assert b"Traceback" not in answer, f"seed {seed}: {answer!r}"
        answers[answer[9:10].decode(errors="replace") + "xx" if answer.startswith(b"HTTP/1.1 ") else "closed"] += 1
        if seed % 50 == 0:
            place.check()
    place.check()
    assert answers["4xx"] > count / 5
    if count == 3_000:
        proof.keep("http", {"tried": count, "answers": dict(answers)})


def test_many_connections_that_say_nothing_keep_nobody_out(place: Place) -> None:
    for port in (place.aws.server.port, place.aws.server.runtime_port):
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        try:
            for connection in silent:
                connection.sendall(b"POST / HTTP/1.1\r\nHost:")
            place.check()
        finally:
            for connection in silent:
                connection.close()


@pytest.mark.parametrize(
    ("target", "size", "statuses"),
    [
        ("SageMaker.CreateModel", 64, (400,)),
        ("SageMaker.CreateModel", 3 * 1024, (413,)),
        ("DynamoDB_20120810.PutItem", 200, (413,)),
    ],
)
def test_a_huge_body_is_refused_and_the_server_stays_small(
    place: Place, target: str, size: int, statuses: tuple[int, ...]
) -> None:
    """size: in MiB."""
    connection = http.client.HTTPConnection("127.0.0.1", place.aws.server.port, timeout=60)
    connection.putrequest("POST", "/")
    connection.putheader("X-Amz-Target", target)
    connection.putheader("Content-Length", str(size * MEBI))
    connection.endheaders()
    try:
        for _ in range(size):
            connection.send(b"[" * MEBI)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it would not hear the rest
    try:
        status = connection.getresponse().status
    except ConnectionResetError:
        status = 413  # it hung up before we had heard it
    connection.close()
    assert status in statuses
    place.check()
    assert _memory(place.aws.server.pid) < 1024 * MEBI


def _memory(pid: int) -> int:
    """Bytes that the process has in memory."""
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in fields if line.startswith("VmRSS")).split()[1]) * 1024


# --- names and keys


def answered_or_refused(call: Callable[..., Any], **request: Any) -> str:
    try:
        call(**request)
    except (ClientError, BotoCoreError) as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"] if isinstance(error, ClientError) else 400
        return "refused" if status < 500 else f"{request}: {error}"
    except ValueError:
        return "refused"  # by boto3: a header cannot hold it
    return "answered"


def test_object_keys_stay_in_their_bucket(place: Place) -> None:
    s3 = place.aws.client("s3")
    s3.create_bucket(Bucket="tricks")
    for number, key in enumerate(TRICKS):
        body = str(number).encode()
        outcome = answered_or_refused(s3.put_object, Bucket="tricks", Key=key, Body=body)
        assert outcome in ("answered", "refused"), outcome
        if outcome == "answered":
            assert s3.get_object(Bucket="tricks", Key=key)["Body"].read() == body
    place.check()


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param("create_model_package_group", marks=pytest.mark.slow),
        "create_endpoint",
        pytest.param("create_pipeline", marks=pytest.mark.slow),
        "create_processing_job",
        pytest.param("create_training_job", marks=pytest.mark.slow),
        pytest.param("create_model", marks=pytest.mark.slow),
    ],
)
def test_names_of_sagemakers_resources_are_names(place: Place, workshop: Workshop, operation: str) -> None:
    sagemaker = place.aws.client("sagemaker")
    sagemaker.meta.events.unregister("before-parameter-build.sagemaker.*")
    requests: dict[str, Callable[[str], dict[str, Any]]] = {
        "create_model_package_group": lambda name: {"ModelPackageGroupName": name},
        "create_endpoint": lambda name: {"EndpointName": name, "EndpointConfigName": name},
        "create_pipeline": lambda name: {
            "PipelineName": name,
            "PipelineDefinition": json.dumps({"Version": "2020-12-01", "Steps": []}),
            "RoleArn": workshop.role,
            "ClientRequestToken": "x" * 32,
        },
        "create_processing_job": lambda name: {
            "ProcessingJobName": name,
            "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["true"]},
            "RoleArn": workshop.role,
            "ProcessingResources": {
                "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
            },
        },
        "create_training_job": lambda name: {
            "TrainingJobName": name,
            "AlgorithmSpecification": {
                "TrainingImage": IMAGE,
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["true"],
            },
            "RoleArn": workshop.role,
            "OutputDataConfig": {"S3OutputPath": workshop.uri("out")},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        },
        "create_model": lambda name: {
            "ModelName": name,
            "PrimaryContainer": {"Image": IMAGE},
            "ExecutionRoleArn": workshop.role,
        },
    }
    for name in TRICKS:
        if name in ("con", "a" * 255, "a" * 1024):
            continue  # names, or too long for one: other tests have these
        assert answered_or_refused(getattr(sagemaker, operation), **requests[operation](name)) == "refused", name
    place.check()


def test_other_services_names_stay_names(place: Place) -> None:
    for service, operation, member_of_name, others in [
        ("s3", "create_bucket", "Bucket", {}),
        ("sqs", "create_queue", "QueueName", {}),
        ("ssm", "put_parameter", "Name", {"Value": "x", "Type": "String"}),
        ("logs", "create_log_group", "logGroupName", {}),
        ("dynamodb", "describe_table", "TableName", {}),
    ]:
        call = getattr(place.aws.client(service), operation)
        for name in TRICKS:
            outcome = answered_or_refused(call, **{member_of_name: name}, **others)
            assert outcome in ("answered", "refused"), outcome
    place.check()


# --- archives


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as writing:
        for member, content in members:
            member.size = len(content)
            writing.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


PROGRAM = (member("code/inference.py"), NAMED.encode())
ARCHIVES: dict[str, bytes] = {
    "a file above": tar(PROGRAM, (member("../escaped"), b"x")),
    "a file far above": tar(PROGRAM, (member("../" * 20 + "escaped"), b"x")),
    "an absolute path": tar(PROGRAM, (member("/escaped"), b"x")),
    "a link out": tar(PROGRAM, (member("name", tarfile.SYMTYPE, "../../../../../../../etc/passwd"), b"")),
    "an absolute link": tar(PROGRAM, (member("name", tarfile.SYMTYPE, "/etc/passwd"), b"")),
    "a file through a link": tar(PROGRAM, (member("out", tarfile.SYMTYPE, "/"), b""), (member("out/escaped"), b"x")),
    "a hard link out": tar(PROGRAM, (member("name", tarfile.LNKTYPE, "../../../../etc/passwd"), b"")),
    "a device": tar(PROGRAM, (member("name", tarfile.CHRTYPE), b"")),
    "a pipe": tar(PROGRAM, (member("name", tarfile.FIFOTYPE), b"")),
    "a name with a NUL": tar(PROGRAM, (member("na\0me"), b"x"), (member("../esc\0aped"), b"x")),
    "not an archive": b"\x1f\x8b" + b"x" * 1000,
    "cut": named("cut")[:-200],
    "nothing": b"",
}


SAMPLE = ("a file above", "a file through a link", "a device", "cut")


@pytest.mark.parametrize(
    "name", [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.slow) for name in ARCHIVES]
)
def test_a_hostile_model_archive_is_no_model(place: Place, workshop: Workshop, name: str) -> None:
    sagemaker, unique = place.aws.client("sagemaker"), f"archive-{list(ARCHIVES).index(name)}"
    container = {
        "Image": IMAGE,
        "ModelDataUrl": workshop.put(f"{unique}.tar.gz", ARCHIVES[name]),
        "Environment": SCRIPT_MODE,
    }
    sagemaker.create_model(ModelName=unique, PrimaryContainer=container, ExecutionRoleArn=workshop.role)
    variant = {"VariantName": "all", "ModelName": unique, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=unique, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=unique, EndpointConfigName=unique)
    until = time.monotonic() + 60
    while (described := sagemaker.describe_endpoint(EndpointName=unique))["EndpointStatus"] == "Creating":
        assert time.monotonic() < until
        time.sleep(0.05)
    assert described["EndpointStatus"] == "Failed"
    assert "archive" in described["FailureReason"] or "model" in described["FailureReason"]
    place.check()


def zipped(*files: tuple[str, bytes, int]) -> bytes:
    """A zip of names, contents and modes (0o120777: a link to what the content says)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content, mode in files:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED, 1)
    return stream.getvalue()


HANDLER = ("code.py", b"def handler(event, context):\n    return 'ran'\n", 0o644)


def bomb() -> bytes:
    """A small archive of 256 MiB."""
    return zipped(HANDLER, ("zeros", bytes(256 * MEBI), 0o644))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: zipped(HANDLER, ("../escaped", b"x", 0o644)), "ran"),
        (lambda: zipped(HANDLER, ("/escaped", b"x", 0o644)), "ran"),
        (lambda: zipped(HANDLER, ("link", b"/etc", 0o120777), ("link/escaped", b"x", 0o644)), "cannot be extracted"),
        (bomb, "Unzipped size must be smaller than 262144000 bytes"),
        (lambda: b"PK\x03\x04" + b"x" * 100, "Could not unzip uploaded file"),
    ],
    ids=["a file above", "an absolute path", "through a link", "a bomb", "no archive"],
)
def test_a_hostile_function_archive_stays_in_its_folder(place: Place, make: Callable[[], bytes], expected: str) -> None:
    """zipfile itself strips what leads out of the folder, and makes a file of a link."""
    code = make()
    functions, name = place.aws.client("lambda"), f"hostile-{len(code)}"
    try:
        functions.create_function(
            FunctionName=name,
            Runtime="python3.11",
            Role="arn:aws:iam::123456789012:role/function",
            Handler="code.handler",
            Code={"ZipFile": code},
        )
        answer = functions.invoke(FunctionName=name)["Payload"].read().decode()
    except ClientError as error:
        answer = str(error)
    assert expected in answer
    place.check()
