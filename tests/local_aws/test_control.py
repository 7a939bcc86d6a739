"""Starting, finding and stopping local_aws, as its users do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from local_aws import LocalAWS, control
from local_aws.scratch import scratch_folder

CHECKOUT = Path(__file__).resolve().parents[2]
CREDENTIALS = {"aws_access_key_id": "123456789012", "aws_secret_access_key": "local"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment in which no other server is known; what a test leaves running is stopped."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"TMPDIR": str(folder)}
    yield environment
    for record in folder.glob("local_aws-*/*.json"):
        os.kill(json.loads(record.read_text())["pid"], 9)


def local_aws(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local_aws", *arguments],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def exported(output: str) -> dict[str, str]:
    return dict(re.findall(r"^export (\w+)=(.*)$", output, re.MULTILINE))


def test_start_prints_the_variables_that_point_the_aws_cli_at_it(home):
    started = local_aws(home, "start", "--port", "0", "--account", "210987654321", "--region", "eu-west-1")

    assert started.returncode == 0, started.stderr
    variables = exported(started.stdout)
    answer = subprocess.run(
        [str(Path(sys.executable).parent / "aws"), "sts", "get-caller-identity", "--query", "Account"],
        env=home | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(answer.stdout) == "210987654321"
    assert variables["AWS_REGION"] == "eu-west-1"


def test_status_and_stop_find_what_start_started(home):
    port = exported(local_aws(home, "start", "--port", "0").stdout)["AWS_ENDPOINT_URL"].rpartition(":")[2]

    status = local_aws(home, "status")
    stopped = local_aws(home, "stop")
    after = local_aws(home, "status")

    assert (status.returncode, f"http://127.0.0.1:{port}" in status.stdout) == (0, True)
    assert stopped.stdout == f"Stopped http://127.0.0.1:{port}.\n"
    assert (after.returncode, after.stdout) == (1, "No local_aws runs.\n")
    assert not list(Path(home["TMPDIR"]).glob("local_aws-*/*")), "records and logs are gone"
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port))) != 0


@pytest.mark.slow
def test_stop_asks_which_one_when_several_run(home):
    ports = [exported(local_aws(home, "start", "--port", "0").stdout)["AWS_ENDPOINT_URL"][-5:] for _ in range(2)]

    both = local_aws(home, "stop")
    one = local_aws(home, "stop", "--port", ports[0].lstrip(":"))

    assert both.returncode == 1
    assert "say which one with --port" in both.stderr
    assert one.returncode == 0


def test_a_taken_port_is_named_with_what_to_do(home):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        started = local_aws(home, "start", "--port", str(port))

    assert started.returncode == 1
    assert f"Port {port} is taken by another program." in started.stderr
    assert "--port 0 takes a free one" in started.stderr
    assert not list(Path(home["TMPDIR"]).glob("local_aws-*/*.json"))


def test_a_state_folder_in_use_is_refused(tmp_path):
    with LocalAWS(state=tmp_path / "state"), pytest.raises(control.StartError, match="in use by another local_aws"):
        LocalAWS(state=tmp_path / "state").__enter__()


def test_a_damaged_state_file_is_named_with_what_to_do(tmp_path):
    (tmp_path / "local_aws.sqlite").write_bytes(b"this is no database" * 100)

    with pytest.raises(
        control.StartError, match=r"local_aws\.sqlite cannot be read: file is not a database\. Bring it"
    ):
        LocalAWS(state=tmp_path).__enter__()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--account", "12345", "--account 12345: an AWS account is 12 digits"),
        ("--region", "here", "--region here: an AWS Region has a name such as us-east-1."),
        ("--port", "70000", "Port 70000 is none: ports are 1 to 65535"),
        ("--idle-minutes", "-1", "--idle-minutes -1: give minutes, or 0 for never."),
    ],
)
def test_a_value_that_cannot_be_is_refused_and_leaves_nothing(home, option, value, said):
    started = local_aws(home, "start", option, value)

    assert started.returncode == 1
    assert started.stderr.startswith(said)
    assert not list(Path(home["TMPDIR"]).glob("local_aws-*/*"))


def test_a_folder_for_jobs_that_a_shell_would_misread_is_refused(home):
    folder = Path(home["TMPDIR"]) / "two words"
    folder.mkdir()

    started = local_aws(home | {"TMPDIR": str(folder)}, "start", "--port", "0", "--opt-ml", "rewrite")

    assert started.returncode == 1
    assert re.match(r"The jobs' folder .* has characters that a shell script would misread", started.stderr)


@pytest.mark.slow
def test_a_second_start_on_the_port_leaves_the_first_one_s_log_alone(home):
    first = local_aws(home, "start", "--port", "0")
    port = re.findall(r"127\.0\.0\.1:(\d+)", first.stderr)[0]
    (log,) = re.findall(r"log (\S+)\)", first.stderr)
    before = Path(log).stat().st_ino

    assert local_aws(home, "start", "--port", port).returncode == 1

    assert Path(log).stat().st_ino == before
    assert [path.name for path in Path(log).parent.glob("*.log")] == [Path(log).name]


@pytest.mark.skipif(shutil.which("ss") is None, reason="ss (iproute2) says who listens where")
def test_the_server_listens_on_loopback_only(aws):
    listening = subprocess.run(["ss", "-ltnp"], capture_output=True, text=True, check=True).stdout
    addresses = [line.split()[3] for line in listening.splitlines() if f"pid={aws.server.pid}," in line]

    ports = (aws.server.port, aws.server.runtime_port)
    assert sorted(addresses) == sorted(f"127.0.0.1:{port}" for port in ports)


def test_the_server_ends_when_the_process_that_opened_it_is_killed(tmp_path):
    program = """if True:
        import time
        from local_aws import LocalAWS
        with LocalAWS() as aws:
            print(aws.server.pid, flush=True)
            time.sleep(60)
    """
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        parent.kill()

    deadline = time.monotonic() + 20
    while control._is_server(server):  # test_status_and_stop_find_what_start_started shows that it can say yes
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.05)


def test_a_server_stops_by_itself_when_nobody_calls_it(tmp_path):
    server, process = control.launch(0, log=tmp_path / "log", idle_minutes=0.5 / 60)

    assert process.wait(20) == 0
    assert "Stopping: no request" in (tmp_path / "log").read_text()
    assert server.pid == process.pid


def test_a_server_stops_by_itself_although_its_functions_call_it(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_EXECUTION_ENV", "AWS_Lambda_python3.11")  # as in a function, whose clients say so
    server, process = control.launch(0, log=tmp_path / "log", idle_minutes=0.5 / 60)
    client = boto3.Session().client(
        "sts", endpoint_url=server.endpoint, region_name="us-east-1", config=Config(proxies={}), **CREDENTIALS
    )
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(BotoCoreError):
            client.get_caller_identity()
        time.sleep(0.1)
    process.kill()

    assert process.wait() == 0, "the server was kept by what its functions call"
    assert "Stopping: no request" in (tmp_path / "log").read_text()


def test_without_a_state_folder_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with LocalAWS() as aws:
        aws.client("s3").create_bucket(Bucket="bucket")
        aws.client("s3").put_object(Bucket="bucket", Key="key", Body=b"body")

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with LocalAWS() as aws:
        aws.kill()
        left = list(tmp_path.glob("local_aws-scratch-*"))
    with LocalAWS():
        assert len(left) == 1
        assert not left[0].exists()
        assert len(list(tmp_path.glob("local_aws-scratch-*"))) == 1


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_has_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    program = (
        "import os; from local_aws.scratch import scratch_folder as f; held = f('log'); held.__enter__(); os._exit(9)"
    )
    with scratch_folder("log") as living:
        subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, check=False)
        assert len(list(tmp_path.iterdir())) == 2
        with scratch_folder("log") as next_one:
            assert set(tmp_path.iterdir()) == {living, next_one}
    assert list(tmp_path.iterdir()) == []


def test_with_a_state_folder_generic_and_sagemaker_resources_survive_a_restart(tmp_path):
    with LocalAWS(state=tmp_path / "state") as aws:
        aws.client("s3").create_bucket(Bucket="bucket")
        aws.client("s3").put_object(Bucket="bucket", Key="key", Body=b"body")
        aws.client("sagemaker").create_model_package_group(ModelPackageGroupName="group")

    with LocalAWS(state=tmp_path / "state") as aws:
        assert aws.client("s3").get_object(Bucket="bucket", Key="key")["Body"].read() == b"body"
        groups = aws.client("sagemaker").list_model_package_groups()["ModelPackageGroupSummaryList"]

    assert [group["ModelPackageGroupName"] for group in groups] == ["group"]


@pytest.mark.parametrize("kill", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_restarted_server_is_found_at_the_same_addresses_with_its_state(tmp_path, kill):
    with LocalAWS(state=tmp_path / "state", account="210987654321") as aws:
        environment, pid = aws.environment, aws.server.pid
        s3, sagemaker = aws.client("s3"), aws.client("sagemaker")
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="key", Body=b"body")
        sagemaker.create_model_package_group(ModelPackageGroupName="group")

        aws.restart(kill=kill)

        assert aws.server.pid != pid
        assert aws.environment == environment
        assert s3.get_object(Bucket="bucket", Key="key")["Body"].read() == b"body"
        assert sagemaker.describe_model_package_group(ModelPackageGroupName="group")["ModelPackageGroupName"] == "group"
        assert aws.client("sts").get_caller_identity()["Account"] == "210987654321"
        with pytest.raises(ClientError, match=r"ValidationError.*Endpoint nobody of account 210987654321 not found"):
            aws.client("sagemaker-runtime").invoke_endpoint(EndpointName="nobody", Body=b"")


def test_a_server_without_a_state_folder_is_not_restarted(aws):
    with pytest.raises(ValueError, match=r"keeps nothing over a restart\. Give it a state folder"):
        aws.restart()

    assert aws.client("sts").get_caller_identity()["Account"] == "123456789012"


def test_after_the_block_the_server_answers_no_more():
    with LocalAWS() as aws:
        client = aws.client("sts")
        client.get_caller_identity()

    with pytest.raises(EndpointConnectionError):
        client.get_caller_identity()
