"""Processing jobs that really run: what goes in, what comes out, how they end, and what is refused before."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from local_aws.calls import Call
from local_aws.events import Events
from local_aws.images import Image, Images
from local_aws.jobs.host import remove_folder
from local_aws.jobs.log import JobLog
from local_aws.jobs.opt_ml import choose
from local_aws.jobs.plan import processing_plans
from local_aws.jobs.runner import Run
from local_aws.jobs.staging import S3Location, S3Object, Transfers, finish, relative_path
from local_aws.loopback import Loopback
from local_aws.sagemaker.jobs import Jobs
from local_aws.sagemaker.tags import Tags
from local_aws.store import Scope, Store
from tests.local_aws.job_requests import IMAGE, Workshop, tar_gz

pytestmark = pytest.mark.slow  # make test has fifteen minutes


def refusal(function, /, **request) -> tuple[str, str]:
    with pytest.raises(ClientError) as refused:
        function(**request)
    return refused.value.response["Error"]["Code"], refused.value.response["Error"]["Message"]


def sent(aws: LocalAWS, operation: str, body: object) -> tuple[int, str]:
    """The status and the message that answer a request, sent without a client's own checks."""
    request = urllib.request.Request(
        aws.endpoint,
        data=body if isinstance(body, bytes) else json.dumps(body).encode(),
        headers={
            "X-Amz-Target": f"SageMaker.{operation}",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={aws.server.account}/20260101/us-east-1/sagemaker/x",
        },
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["message"]


# What goes in and out


def test_a_script_gets_its_arguments_and_inputs_and_its_output_is_uploaded_as_a_tree(either_way):
    data = either_way.put("data-in/part/one.csv", "1,2\n")
    either_way.put("data-in/two.csv", "3,4\n")
    script = """
        import pathlib, sys
        source, target = map(pathlib.Path, sys.argv[2::2])
        for path in source.rglob("*.csv"):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text().replace(",", ";"))
        pathlib.Path("/opt/ml/processing/result/empty").write_bytes(b"")
    """

    ended = either_way.process(
        script,
        "--source",
        "/opt/ml/processing/input/data",
        "--target",
        "/opt/ml/processing/result",
        inputs={"data": data.removesuffix("/part/one.csv")},
        outputs=("result",),
    )

    name = ended["ProcessingJobName"]
    assert ended["ProcessingJobStatus"] == "Completed", ended
    assert either_way.keys(f"{name}/result/") == [f"{name}/result/{k}" for k in ("empty", "part/one.csv", "two.csv")]
    assert either_way.get(f"{name}/result/part/one.csv") == b"1;2\n"


def test_the_framework_processor_s_shell_script_and_code_archive_run(either_way):
    name = either_way.name()
    prefix = f"{name}/code"
    either_way.put(f"{prefix}/sourcedir.tar.gz", tar_gz({"prep.py": "open('/opt/ml/processing/result/x', 'w')"}))
    either_way.put(
        f"{prefix}/runproc.sh",
        '#!/bin/bash\nset -e\ncd /opt/ml/processing/input/code/\ntar -xzf sourcedir.tar.gz\npython3 prep.py "$@"\n',
    )
    request = either_way.processing_request("", outputs=("result",))
    request["AppSpecification"]["ContainerEntrypoint"] = ["/bin/bash", "/opt/ml/processing/input/code/runproc.sh"]
    request["ProcessingInputs"] = [either_way.processing_input("code", either_way.uri(prefix))]

    either_way.sagemaker.create_processing_job(**request)
    ended = either_way.ended("Processing", request["ProcessingJobName"])

    assert ended["ProcessingJobStatus"] == "Completed", ended
    assert either_way.keys(f"{request['ProcessingJobName']}/result/") != []


def test_the_configuration_files_say_what_was_asked_for(either_way):
    script = """
        import json, shutil
        for name in ("processingjobconfig", "resourceconfig"):
            shutil.copy(f"/opt/ml/config/{name}.json", "/opt/ml/processing/result")
        config = json.load(open("/opt/ml/config/processingjobconfig.json"))
        print(open(config["ProcessingInputs"][0]["S3Input"]["LocalPath"] + "/script.py").readline() == "\\n")
    """
    request = either_way.processing_request(script, outputs=("result",), Environment={"COLOUR": "blue"})

    either_way.sagemaker.create_processing_job(**request)
    name = request["ProcessingJobName"]
    assert either_way.ended("Processing", name)["ProcessingJobStatus"] == "Completed"

    config = json.loads(either_way.get(f"{name}/result/processingjobconfig.json"))
    assert config["ProcessingJobName"] == name
    assert config["ProcessingJobArn"] == f"arn:aws:sagemaker:us-east-1:123456789012:processing-job/{name}"
    assert config["Environment"] == {"COLOUR": "blue"}
    assert config["ProcessingInputs"][0]["InputName"] == "code"
    assert json.loads(either_way.get(f"{name}/result/resourceconfig.json")) == {
        "current_host": "algo-1",
        "hosts": ["algo-1"],
    }
    assert either_way.printed("Processing", name) == ["True"]


def test_the_log_says_how_opt_ml_was_provided(either_way):
    ended = either_way.process("print('hello')")

    first, *rest = either_way.printed("Processing", ended["ProcessingJobName"], with_ours=True)

    namespace = either_way.aws._options["opt_ml"] == "namespace"
    assert ("by a mount namespace" in first) == namespace
    assert ("is rewritten to the job's folder" in first) == (not namespace)
    assert rest == ["hello"]


def test_nothing_of_the_server_s_environment_reaches_the_job_and_its_clients_find_the_server(either_way):
    script = """
        import os
        for name in sorted(os.environ):
            print(name)
        print(os.environ["AWS_ENDPOINT_URL"], os.environ["COLOUR"])
    """
    ended = either_way.process(script, Environment={"COLOUR": "blue"})

    *names, last = either_way.printed("Processing", ended["ProcessingJobName"])
    aws = ["AWS_ACCESS_KEY_ID", "AWS_EC2_METADATA_DISABLED", "AWS_ENDPOINT_URL", "AWS_REGION"]
    aws += ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "AWS_SECRET_ACCESS_KEY"]
    if either_way.aws._options["opt_ml"] == "rewrite":  # by which Python programs find their hosts' names
        aws += ["LOCAL_AWS_HOSTS", "PYTHONPATH"]
    assert names == sorted([*aws, "COLOUR", "HOME", "LANG", "OMP_WAIT_POLICY", "PATH", "PYTHONUNBUFFERED", "TMPDIR"])
    assert last == f"{either_way.aws.endpoint} blue"


def test_jobs_of_both_kinds_call_aws_with_the_image_s_boto3_in_the_region_that_they_are_told(either_way):
    script = f"""
        import os, boto3
        from botocore.exceptions import ClientError, NoRegionError
        try:
            boto3.client("sagemaker")
        except NoRegionError:
            print("as on AWS, AWS_REGION alone is no Region for boto3")
        session = boto3.Session(region_name=os.environ["AWS_REGION"])
        print(boto3.__version__, session.client("sts").get_caller_identity()["Account"])
        print(session.client("s3").get_object(Bucket="{either_way.bucket}", Key="called/x")["Body"].read())
        try:
            session.client("sagemaker").describe_endpoint(EndpointName="churn-prod")
        except ClientError as error:
            print(error.response["Error"]["Code"], error.response["Error"]["Message"])
    """
    either_way.put("called/x", "data")

    processed, trained = either_way.process(script), either_way.train({"train.py": script})

    endpoint = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/churn-prod"
    for kind, name in (("Processing", processed["ProcessingJobName"]), ("Training", trained["TrainingJobName"])):
        assert either_way.printed(kind, name) == [
            "as on AWS, AWS_REGION alone is no Region for boto3",
            "1.38.0 123456789012",
            "b'data'",
            f'ValidationException Could not find endpoint "{endpoint}".',
        ]


@pytest.mark.parametrize("program", ["python", "python3"])
def test_python_is_the_image_s_own(workshop, program):
    request = workshop.processing_request("import sys, xgboost; print(xgboost.__version__, sys.prefix)")
    request["AppSpecification"]["ContainerEntrypoint"][0] = program

    workshop.sagemaker.create_processing_job(**request)
    ended = workshop.ended("Processing", request["ProcessingJobName"])

    assert ended["ProcessingJobStatus"] == "Completed", ended
    (line,) = workshop.printed("Processing", request["ProcessingJobName"])
    assert re.fullmatch(r"3\.2\.0 .*sagemaker-xgboost-3\.2-0", line)


def test_what_a_job_writes_beside_its_outputs_goes_with_its_folder(workshop):
    script = """
        import os, tempfile
        open("stray", "w").write("x")
        open(os.path.expanduser("~/stray"), "w").write("x")
        os.mkdir("locked"); open("locked/x", "w"); os.chmod("locked", 0)
        print(os.getcwd(), tempfile.gettempdir(), os.path.expanduser("~"))
    """
    ended = workshop.process(script)

    assert ended["ProcessingJobStatus"] == "Completed"
    folders = workshop.printed("Processing", ended["ProcessingJobName"])[0].split()
    assert len({Path(folder).parent for folder in folders}) == 1
    assert not Path(folders[0]).parent.exists()


def test_job_folders_are_kept_for_a_look_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_AWS_KEEP_JOBS", "1")
    with LocalAWS() as aws:
        workshop = Workshop(aws)
        ended = workshop.process("print(__import__('os').getcwd())")

        (folder,) = workshop.printed("Processing", ended["ProcessingJobName"])
        assert (Path(folder).parent / "ml" / "processing" / "input" / "code" / "script.py").exists()


def test_a_locked_folder_is_removed_by_an_ordinary_user_too(tmp_path):
    folder = tmp_path / "job"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").touch()
    (folder / "a" / "b").chmod(0)
    (folder / "a").chmod(0o500)

    remove_folder(folder)

    assert not folder.exists()


@pytest.mark.parametrize(
    ("prefix", "key", "expected"),
    [
        ("data/train.csv", "data/train.csv", "train.csv"),
        ("data", "data/train.csv", "train.csv"),
        ("data/", "data/a/train.csv", "a/train.csv"),
        ("data/tr", "data/train.csv", "train.csv"),
        ("", "data/train.csv", "data/train.csv"),
        ("data/", "data//x", "x"),
    ],
)
def test_an_object_goes_where_its_key_leads_from_the_prefix_on(prefix, key, expected):
    assert relative_path(prefix, key) == expected


@pytest.mark.parametrize("key", ["data/../../x", "data/.."])
def test_a_key_that_leads_out_of_the_folder_is_refused(key):
    with pytest.raises(ValueError, match="leads out of its folder"):
        relative_path("data/", key)


def test_large_files_and_many_files_arrive_whole(workshop):
    script = """
        import hashlib, pathlib
        files = sorted(pathlib.Path("/opt/ml/processing/input/data").iterdir())
        print(len(files))
        with open("/opt/ml/processing/result/big", "wb") as stream:
            for number in range(20):
                stream.write(bytes([number]) * 1024 * 1024)
        for number in range(100):
            pathlib.Path(f"/opt/ml/processing/result/{number}").write_text(str(number))
    """
    for number in range(100):
        workshop.put(f"many/{number}", str(number))

    ended = workshop.process(script, inputs={"data": workshop.uri("many")}, outputs=("result",))

    name = ended["ProcessingJobName"]
    assert ended["ProcessingJobStatus"] == "Completed"
    assert workshop.printed("Processing", name) == ["100"]
    assert len(workshop.keys(f"{name}/result/")) == 101
    assert workshop.get(f"{name}/result/big") == b"".join(bytes([number]) * 1024 * 1024 for number in range(20))


def test_jobs_run_side_by_side(workshop):
    """Each waits for the other's object."""
    script = """
        import sys, time, urllib.request
        own, other = sys.argv[1:]
        urllib.request.urlopen(urllib.request.Request(own, data=b"here", method="PUT"))
        for _ in range(500):
            try:
                urllib.request.urlopen(other)
                sys.exit(0)
            except urllib.error.HTTPError:
                time.sleep(0.02)
        sys.exit("the other one never came")
    """
    urls = [f"{workshop.aws.endpoint}/{workshop.bucket}/meeting-{number}" for number in (1, 2)]
    script = script.replace("import sys,", "import urllib.error, sys,")
    requests = [workshop.processing_request(script, *order) for order in (urls, urls[::-1])]

    for request in requests:
        workshop.sagemaker.create_processing_job(**request)

    for request in requests:
        ended = workshop.ended("Processing", request["ProcessingJobName"])
        assert ended["ProcessingJobStatus"] == "Completed", ended.get("FailureReason")


# How it ends


def test_a_description_has_the_request_its_defaults_and_the_times(workshop):
    request = workshop.processing_request("", Tags=[{"Key": "team", "Value": "churn"}])

    arn = workshop.sagemaker.create_processing_job(**request)["ProcessingJobArn"]
    ended = workshop.ended("Processing", request["ProcessingJobName"])

    assert arn == ended["ProcessingJobArn"]
    tags = request.pop("Tags")
    assert {key: ended[key] for key in request} == request
    assert ended["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    assert ended["CreationTime"] <= ended["ProcessingStartTime"] <= ended["ProcessingEndTime"]
    assert "FailureReason" not in ended
    assert workshop.sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags


def test_a_script_that_raises_fails_the_job_with_its_last_line_and_the_log_is_complete_by_then(workshop):
    script = "print('before')\nopen('/opt/ml/processing/result/half', 'w')\nraise ValueError('no target column')\n"
    ended = workshop.process(script, outputs=("result",))
    printed = workshop.printed("Processing", ended["ProcessingJobName"])

    assert ended["ProcessingJobStatus"] == "Failed"
    assert ended["FailureReason"] == "AlgorithmError: ValueError: no target column, exit code: 1"
    assert printed[0] == "before"
    assert printed[1] == "Traceback (most recent call last):"
    assert printed[-1] == "ValueError: no target column"
    assert workshop.keys(f"{ended['ProcessingJobName']}/result/") == [], "nothing of a failed job is uploaded"


def test_the_files_failure_and_message_become_failure_reason_and_exit_message(workshop):
    script = """
        import sys
        open("/opt/ml/output/failure", "w").write("the target has one class only")
        open("/opt/ml/output/message", "w").write("rows=0" + "." * 2000)
        sys.exit(3)
    """
    ended = workshop.process(script)

    assert ended["FailureReason"] == "AlgorithmError: the target has one class only, exit code: 3"
    assert ended["ExitMessage"] == "rows=0" + "." * (1024 - 6)


def test_a_successful_job_has_its_exit_message_too(workshop):
    ended = workshop.process("open('/opt/ml/output/message', 'w').write('rows=5')")

    assert (ended["ProcessingJobStatus"], ended["ExitMessage"]) == ("Completed", "rows=5")


def test_a_program_that_says_nothing_is_reported_as_aws_does(workshop):
    ended = workshop.process("import os; os._exit(7)")

    assert ended["FailureReason"] == "AlgorithmError: See job logs for more information, exit code: 7"


def test_a_killed_program_is_named_as_such_with_the_likely_cause(workshop):
    ended = workshop.process("import os; print('step 3', flush=True); os.kill(os.getpid(), 9)")

    assert ended["FailureReason"] == (
        "AlgorithmError: the program was ended by signal 9: something killed it from outside, most often because"
        " memory ran out. Its last line: step 3, exit code: 137"
    )


def test_a_program_that_is_not_there_is_named(workshop):
    request = workshop.processing_request("")
    request["AppSpecification"]["ContainerEntrypoint"] = ["/miniconda3/bin/python", "x.py"]

    workshop.sagemaker.create_processing_job(**request)
    ended = workshop.ended("Processing", request["ProcessingJobName"])

    assert (
        ended["FailureReason"] == "AlgorithmError: /miniconda3/bin/python: no such program in the image, exit code: 127"
    )


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"Environment": {"KEY": "nul\0"}}, "embedded null byte"),
        ({"Environment": {"KEY": "half \ud800"}}, "surrogates not allowed"),
        ({"AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["echo", "nul\0"]}}, "embedded null byte"),
        ({"AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": [""]}}, "argv first element cannot be empty"),
    ],
)
def test_what_no_program_can_be_given_is_said(workshop, members, fault):
    request = workshop.processing_request("") | members

    workshop.sagemaker.create_processing_job(**request)

    reason = workshop.ended("Processing", request["ProcessingJobName"])["FailureReason"]
    assert "an argument or environment variable cannot be given to a program" in reason
    assert fault in reason


def test_a_job_over_its_time_is_stopped(workshop):
    started = time.monotonic()
    ended = workshop.process(
        "print('here', flush=True)\nimport time; time.sleep(60)", StoppingCondition={"MaxRuntimeInSeconds": 1}
    )

    assert ended["ProcessingJobStatus"] == "Stopped"
    assert ended["FailureReason"] == "The job ran longer than its MaxRuntimeInSeconds (1). Raise it."
    assert time.monotonic() - started < 10
    assert workshop.printed("Processing", ended["ProcessingJobName"])[0] == "here"


def test_a_stopped_job_gets_sigterm_and_is_stopping_then_stopped(workshop):
    script = """
        import signal, sys, time
        def end(*_):
            print("asked to end", flush=True)
            time.sleep(0.5)
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        print("ready", flush=True)
        time.sleep(60)
    """
    request = workshop.processing_request(script)
    name = request["ProcessingJobName"]
    workshop.sagemaker.create_processing_job(**request)
    workshop.wait_for_line("Processing", name, "ready")

    workshop.sagemaker.stop_processing_job(ProcessingJobName=name)

    assert workshop.describe("Processing", name)["ProcessingJobStatus"] == "Stopping"
    assert workshop.ended("Processing", name)["ProcessingJobStatus"] == "Stopped"
    assert workshop.printed("Processing", name) == ["ready", "asked to end"]
    code, message = refusal(workshop.sagemaker.stop_processing_job, ProcessingJobName=name)
    assert (code, "is in status Stopped" in message) == ("ValidationException", True)


def test_a_job_that_does_not_heed_sigterm_is_killed(workshop):
    script = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("ready", flush=True)
        time.sleep(60)
    """
    request = workshop.processing_request(script)
    workshop.sagemaker.create_processing_job(**request)
    workshop.wait_for_line("Processing", request["ProcessingJobName"], "ready")

    workshop.sagemaker.stop_processing_job(ProcessingJobName=request["ProcessingJobName"])

    assert workshop.ended("Processing", request["ProcessingJobName"], 20)["ProcessingJobStatus"] == "Stopped"


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(1, f"{os.getpid()}\\n".encode())  # not print: it may write the end of the line separately
        time.sleep(60)
    os._exit(0)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie waits for its parent, it does not run.
    return subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout[:1] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives a daemon's orphans to the launcher")
def test_no_process_outlives_its_job_not_even_a_daemon(workshop):
    ended = workshop.process(DAEMON + "time.sleep(0.3)")

    (pid,) = workshop.printed("Processing", ended["ProcessingJobName"])
    assert ended["ProcessingJobStatus"] == "Completed"
    assert not alive(int(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives a daemon's orphans to the launcher")
@pytest.mark.parametrize("way", ["kill", "stop"])
def test_no_process_outlives_the_server_and_the_job_is_failed_after_a_restart(tmp_path, monkeypatch, way):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # a killed server cannot remove its folder
    with LocalAWS(state=tmp_path / "state") as aws:
        workshop = Workshop(aws)
        request = workshop.processing_request(DAEMON + "os.write(1, f'{os.getpid()}\\n'.encode())\ntime.sleep(60)")
        name = request["ProcessingJobName"]
        workshop.sagemaker.create_processing_job(**request)
        deadline = time.monotonic() + 20
        while len(pids := printed_so_far(workshop, name)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert all(alive(pid) for pid in pids)
        if way == "kill":
            aws.kill()

    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a process outlived its server"
        time.sleep(0.02)
    with LocalAWS(state=tmp_path / "state") as aws:
        after = aws.client("sagemaker").describe_processing_job(ProcessingJobName=name)
    assert after["ProcessingJobStatus"] == "Failed"
    assert after["FailureReason"].startswith("InternalServerError: local_aws was stopped while the job was under way.")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_who_waits_for_a_job_hears_of_its_end_though_it_cannot_be_written_down(workshop, tmp_path, monkeypatch):
    store = Store()
    loopback = Loopback(workshop.aws.endpoint, workshop.aws.server.runtime_endpoint)
    jobs = Jobs(store, Tags(store), loopback, Images(), tmp_path, "rewrite", Events(lambda scope, entry: None))
    scope = Scope(workshop.aws.server.account, workshop.aws.server.region)
    request = workshop.processing_request("")
    jobs.create_processing_job(Call(scope, "x"), request)

    def full(*arguments):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store, "write", full)

    assert jobs.wait(scope, "Processing", request["ProcessingJobName"], timeout=20)
    assert not jobs.busy
    jobs.kill()
    jobs.join()


@pytest.mark.parametrize("phase", ["creation", "download", "upload"])
def test_a_job_says_in_every_phase_that_the_server_ended_it(tmp_path, phase):
    large = b"x" * (100 << 20)
    with LocalAWS(state=tmp_path) as aws:
        workshop = Workshop(aws)
        source = f"open('/opt/ml/processing/out/x', 'wb').write(b'x' * {len(large)}); print('written', flush=True)"
        inputs = {"large": workshop.put("large", large)} if phase == "download" else {}
        request = workshop.processing_request(source, inputs=inputs, outputs=("out",))
        name = request["ProcessingJobName"]
        workshop.sagemaker.create_processing_job(**request)
        if phase == "upload":
            workshop.wait_for_line("Processing", name, "written")

    with LocalAWS(state=tmp_path) as aws:
        after = aws.client("sagemaker").describe_processing_job(ProcessingJobName=name)
    if after["ProcessingJobStatus"] == "Completed":
        pytest.skip("the job was faster than the server's end")
    assert after["FailureReason"].startswith("InternalServerError: local_aws was stopped while the job was under way.")


def test_a_stop_does_not_wait_for_the_rest_of_a_download(tmp_path):
    stopped = threading.Event()

    class S3:
        def get_object(self, **request):
            return {"Body": self}

        def iter_chunks(self, size):
            yield b"first"
            stopped.set()
            yield b"second"
            pytest.fail("it went on")

        def close(self):
            pass

    transfers = Transfers()
    location, objects = S3Location("bucket", "a/"), [S3Object("a/1", 10)]
    finish(transfers.download(S3(), location, objects, tmp_path, stopped))
    transfers.close()

    assert (tmp_path / "1").read_bytes() == b"first"


def printed_so_far(workshop: Workshop, name: str) -> list[int]:
    try:
        return [int(line) for line in workshop.printed("Processing", name)]
    except workshop.logs.exceptions.ResourceNotFoundException:
        return []


def test_a_full_disk_is_said_with_what_to_do(workshop):
    ended = workshop.process(f"raise OSError({errno.ENOSPC}, 'No space left on device')")

    assert ended["ProcessingJobStatus"] == "Failed"
    assert re.match(r"ClientError: No space left on device: \d+ MB are free where .* Make room", ended["FailureReason"])


FULL_DISK = """
from local_aws import LocalAWS
from tests.local_aws.job_requests import Workshop

with LocalAWS() as aws:
    workshop = Workshop(aws)
    print(workshop.process("open('big', 'wb').write(bytes(60_000_000))")["FailureReason"])
    print(workshop.process("print('a small one')")["ProcessingJobStatus"])
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs Linux and root")
def test_a_disk_that_is_really_full_is_said_and_the_server_lives_on(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "program.py").write_text(FULL_DISK)
    # The mount is made in a namespace of its own, and gone with it.
    script = f"mount -t tmpfs -o size=30m tmpfs {disk} && exec {sys.executable} {tmp_path}/program.py"

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env=os.environ | {"TMPDIR": str(disk), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert re.match(r"ClientError: No space left on device: \d+ MB are free where .* Make room", done.stdout), done
    assert done.stdout.endswith("\nCompleted\n")


def test_a_disk_full_while_fetching_is_said_too(tmp_path):
    class FullDisk:
        """S3, on a machine whose disk is full."""

        def get_paginator(self, operation):
            return self

        def paginate(self, **request):
            return [{"Contents": [{"Key": request["Prefix"] + "/x", "Size": 1}]}]

        def get_object(self, **request):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def create_log_stream(self, **request):
            pass

        put_log_events = create_log_stream

    request = {
        "ProcessingJobName": "job",
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["true"]},
        "ProcessingResources": {"ClusterConfig": {"InstanceCount": 1}},
        "ProcessingInputs": [
            {"InputName": "x", "S3Input": {"S3Uri": "s3://bucket/x", "LocalPath": "/opt/ml/processing/x"}}
        ],
    }
    log = JobLog(FullDisk(), "group", "stream")
    transfers = Transfers()
    run = Run(
        processing_plans(request, "arn"),
        Image("image", tmp_path),
        choose("rewrite"),
        tmp_path / "work",
        FullDisk(),
        FullDisk(),
        lambda: None,
        transfers,
        [log],
        {},
        on_phase=lambda phase: None,
    )

    outcome = run.run()
    log.close()
    transfers.close()

    assert outcome.status == "Failed"
    assert str(outcome.reason).startswith("ClientError: No space left on device")
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("nothing/here", 'ClientError: No S3 objects found under S3 URL "s3://{bucket}/nothing/here"'),
        (None, "ClientError: Data download failed: input 'data' (s3://no-such-bucket/x): NoSuchBucket"),
    ],
)
def test_an_input_that_is_not_there_fails_the_job_by_its_name(workshop, key, said):
    uri = workshop.uri(key) if key else "s3://no-such-bucket/x"

    ended = workshop.process("", inputs={"data": uri})

    assert ended["ProcessingJobStatus"] == "Failed"
    assert ended["FailureReason"].startswith(said.format(bucket=workshop.bucket))


def test_objects_that_would_be_the_same_file_fail_the_job(workshop):
    name = workshop.name()
    for key in (f"{name}/a/b", f"{name}/a//b"):
        workshop.put(key, "x")

    ended = workshop.process("", inputs={"data": workshop.uri(f"{name}/")})

    assert f"objects '{name}/a//b' and '{name}/a/b' would be the same file" in ended["FailureReason"]


def test_an_input_where_an_output_s_folder_is_fails_the_job_with_the_place(workshop):
    request = workshop.processing_request("", outputs=("result",))
    code = request["ProcessingInputs"][0]["S3Input"]["LocalPath"]
    request["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["LocalPath"] = f"{code}/script.py"

    workshop.sagemaker.create_processing_job(**request)

    reason = workshop.ended("Processing", request["ProcessingJobName"])["FailureReason"]
    assert re.match(r"ClientError: Data download failed: input: .* Is a directory: '.*/code/script\.py'$", reason)


def test_an_output_bucket_that_is_not_there_fails_the_job_before_the_program_runs(workshop):
    request = workshop.processing_request("print('I ran')", outputs=("result",))
    request["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"] = "s3://no-such-bucket/x"

    workshop.sagemaker.create_processing_job(**request)
    ended = workshop.ended("Processing", request["ProcessingJobName"])

    assert ended["FailureReason"].startswith(
        "ClientError: Data upload failed: output (s3://no-such-bucket/x): NoSuchBucket"
    )
    assert workshop.printed("Processing", request["ProcessingJobName"]) == []


def test_logs_keep_their_order_and_survive_odd_lines(workshop):
    script = """
        import sys
        for number in range(300):
            print(number, file=sys.stderr if number % 2 else sys.stdout, flush=True)
        print()
        print("x" * 300_000)
        sys.stdout.buffer.write(b"caf\\xc3\\xa9 \\xff\\r\\nno newline at the end")
    """
    ended = workshop.process(script)

    printed = workshop.printed("Processing", ended["ProcessingJobName"])
    assert printed[:300] == [str(number) for number in range(300)]
    assert "".join(printed[300:302]) == "x" * 300_000
    assert printed[302:] == ["caf\u00e9 \ufffd", "no newline at the end"]


def test_a_program_that_prints_faster_than_its_lines_are_taken_waits():
    logs = Logs(seconds=0.2)
    log = JobLog(logs, "group", "stream")
    started = time.monotonic()

    for _ in range(30):
        log.write(b"line\n" * 10_000)

    sent = sum(len(batch) for batch in logs.batches)
    assert time.monotonic() - started > 1.0, "it did not wait"
    assert 300_000 - sent <= 60_000, "too many lines wait in memory"
    log.close()
    assert sum(len(batch) for batch in logs.batches) == 300_000


class Logs:
    """CloudWatch Logs, as far as a job's log calls it."""

    def __init__(self, fault: Exception | None = None, seconds: float = 0.0) -> None:
        self.batches: list[list[str]] = []
        self._fault, self._seconds = fault, seconds

    def create_log_stream(self, **request):
        pass

    def put_log_events(self, **request):
        time.sleep(self._seconds)
        if self._fault:
            raise self._fault
        self.batches.append([event["message"] for event in request["logEvents"]])


def test_a_chatty_job_s_lines_go_out_in_batches_that_cloudwatch_takes():
    logs = Logs()
    log = JobLog(logs, "group", "stream")
    lines = [f"{number} {'x' * 200}" for number in range(25_000)]

    log.write("\n".join(lines).encode())
    log.close()

    assert [line for batch in logs.batches for line in batch] == lines
    assert max(len(batch) for batch in logs.batches) <= 10_000
    assert max(sum(len(line) + 26 for line in batch) for batch in logs.batches) <= 1_048_576


def test_a_log_that_cannot_be_written_is_said_in_the_server_s_and_the_job_goes_on(caplog):
    fault = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "PutLogEvents")
    log = JobLog(Logs(fault), "group", "stream")

    log.write(b"one\ntwo\n")
    log.close()

    assert "The log of stream lost" in caplog.text
    assert list(log.tail) == ["one", "two"]


# What is refused before


def test_a_null_inside_a_request_counts_as_absent(workshop):
    request = workshop.processing_request("print('ran')")
    request["AppSpecification"]["ContainerArguments"] = None

    status, _ = sent(workshop.aws, "CreateProcessingJob", request)

    assert status == 200
    assert workshop.ended("Processing", request["ProcessingJobName"])["ProcessingJobStatus"] == "Completed"


def test_a_null_for_what_is_needed_is_refused(workshop):
    request = workshop.processing_request("")
    request["ProcessingInputs"][0]["S3Input"] = None

    assert sent(workshop.aws, "CreateProcessingJob", request) == (400, "ProcessingInputs 'code': S3Input is missing.")


@pytest.mark.parametrize("policy", ["no JSON", "[1]", '{"Statement": "x"}', '{"Statement": [{"Principal": "x"}]}'])
def test_a_role_with_a_policy_that_is_none_is_refused(workshop, policy):
    name = workshop.name()
    role = workshop.aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy)["Role"]["Arn"]

    code, message = refusal(workshop.sagemaker.create_processing_job, **workshop.processing_request("", RoleArn=role))

    assert (code, f"Could not assume role {role}" in message) == ("ValidationException", True)


def test_bad_tags_leave_no_job_behind(workshop):
    tags = [{"Key": "aws:team", "Value": "x"}]
    request = workshop.processing_request("", Tags=tags)

    code, _ = refusal(workshop.sagemaker.create_processing_job, **request)

    assert code == "ValidationException"
    del request["Tags"]
    workshop.sagemaker.create_processing_job(**request)
    assert workshop.ended("Processing", request["ProcessingJobName"])["ProcessingJobStatus"] == "Completed"


def test_a_name_is_taken_once_ignoring_case(workshop):
    request = workshop.processing_request("")
    workshop.sagemaker.create_processing_job(**request)

    same = request | {"ProcessingJobName": request["ProcessingJobName"].upper()}
    code, message = refusal(workshop.sagemaker.create_processing_job, **same)

    assert code == "ResourceInUse"
    assert f"processing-job/{request['ProcessingJobName']}" in message
    workshop.ended("Processing", request["ProcessingJobName"])


def test_an_unknown_image_is_refused_when_the_job_is_created(workshop):
    request = workshop.processing_request("")
    request["AppSpecification"]["ImageUri"] = IMAGE.replace("3.2-0", "1.7-1")

    code, message = refusal(workshop.sagemaker.create_processing_job, **request)

    assert code == "ValidationException"
    assert "sagemaker-xgboost:1.7-1' is not known to local_aws" in message
    assert "It knows sagemaker-xgboost-3.2-0." in message


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("arn:aws:iam::123456789012:role/nobody", "Could not assume role arn:aws:iam::123456789012:role/nobody."),
        ("arn:aws:iam::210987654321:role/theirs", "Cross-account pass role is not allowed."),
    ],
)
def test_a_role_that_cannot_be_taken_is_refused(workshop, role, said):
    code, message = refusal(workshop.sagemaker.create_processing_job, **workshop.processing_request("", RoleArn=role))

    assert (code, said in message) == ("ValidationException", True)


def test_a_role_that_does_not_trust_sagemaker_is_refused(workshop):
    policy = '{"Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}}]}'
    role = workshop.aws.client("iam").create_role(RoleName="for-lambda", AssumeRolePolicyDocument=policy)["Role"]

    code, message = refusal(
        workshop.sagemaker.create_processing_job, **workshop.processing_request("", RoleArn=role["Arn"])
    )

    assert (code, "allows principal 'sagemaker.amazonaws.com'" in message) == ("ValidationException", True)


def change_source(**members):
    return lambda request: request["ProcessingInputs"][0]["S3Input"].update(members)


def change_output(**members):
    return lambda request: request["ProcessingOutputConfig"]["Outputs"][0]["S3Output"].update(members)


def change(**members):
    return lambda request: request.update(members)


REFUSED = [
    (change_source(S3DataType="ManifestFile"), "S3DataType 'ManifestFile' is not supported"),
    (change_source(S3InputMode="Pipe"), "S3InputMode 'Pipe' is not supported"),
    (change_source(S3CompressionType="Gzip"), "S3CompressionType 'Gzip' is not supported"),
    (change_source(LocalPath="/data"), "must be an absolute path that begins with /opt/ml/processing/"),
    (change_source(LocalPath="/opt/ml/processing/../../etc"), "must be an absolute path that begins with"),
    (change_source(LocalPath="/opt/ml/processing/a\0b"), "has characters that a path cannot have or show"),
    (change_source(S3Uri="https://example.com/x"), "'https://example.com/x' is no S3 address"),
    (change_source(S3Uri="s3://no bucket/x"), "'s3://no bucket/x' is no S3 address: bucket names have letters"),
    (change_output(S3UploadMode="Continuous"), "S3UploadMode 'Continuous' is not supported"),
    (change_output(LocalPath="/tmp/x"), "must be an absolute path that begins with /opt/ml/processing/"),
    (
        lambda request: request["ProcessingResources"]["ClusterConfig"].update(InstanceCount=17),
        "ProcessingResources.ClusterConfig.InstanceCount 17 is not supported by local_aws; 1 to 16 are.",
    ),
    (change(NetworkConfig={"EnableNetworkIsolation": True}), "NetworkConfig.EnableNetworkIsolation True"),
    (lambda request: request["ProcessingInputs"].append(request["ProcessingInputs"][0]), "'code' is given twice"),
    (
        lambda request: request["ProcessingInputs"].append(request["ProcessingInputs"][0] | {"InputName": "other"}),
        "LocalPath '/opt/ml/processing/input/code' is given twice",
    ),
    (lambda request: request["AppSpecification"].pop("ContainerEntrypoint"), "ContainerEntrypoint is missing"),
    (
        lambda request: request["ProcessingInputs"][0].update(AppManaged=True),
        "AppManaged True is not supported by local_aws",
    ),
    (
        lambda request: request["ProcessingInputs"].append(
            {"InputName": "sql", "DatasetDefinition": {"LocalPath": "/opt/ml/processing/x"}}
        ),
        "'sql': DatasetDefinition is not supported by local_aws",
    ),
]


@pytest.mark.parametrize(("alter", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_cannot_be_done_here_is_refused_by_name(workshop, alter, said):
    request = workshop.processing_request("", outputs=("result",))
    alter(request)

    code, message = refusal(workshop.sagemaker.create_processing_job, **request)

    assert (code, said in message) == ("ValidationException", True), message
    with pytest.raises(ClientError, match="Requested resource not found"):
        workshop.describe("Processing", request["ProcessingJobName"])


@pytest.mark.parametrize("operation", ["describe_processing_job", "stop_processing_job"])
def test_an_unknown_job_is_not_found(workshop, operation):
    code, message = refusal(getattr(workshop.sagemaker, operation), ProcessingJobName="no-such-job")

    assert (code, "Requested resource not found" in message) == ("ValidationException", True)


# Listing


def test_jobs_are_listed_in_the_order_and_by_the_filters_asked_for():
    with LocalAWS() as aws:
        workshop = Workshop(aws)
        names = []
        for script in ("", "raise SystemExit(1)", ""):
            names.append(workshop.process(script)["ProcessingJobName"])
        client = workshop.sagemaker

        def listed(**request):
            pages = client.get_paginator("list_processing_jobs").paginate(**request)
            return [item["ProcessingJobName"] for page in pages for item in page["ProcessingJobSummaries"]]

        middle = workshop.describe("Processing", names[1])["CreationTime"]
        assert listed() == names
        assert listed(MaxResults=1) == names
        assert listed(SortOrder="Descending") == names[::-1]
        assert listed(SortBy="Name", SortOrder="Descending") == sorted(names)[::-1]
        assert listed(SortBy="Status")[-1] == names[1]
        assert listed(StatusEquals="Failed") == [names[1]]
        assert listed(NameContains=names[2].upper()) == [names[2]]
        assert listed(CreationTimeAfter=middle) == [names[2]]
        assert listed(CreationTimeBefore=middle) == [names[0]]
        assert listed(LastModifiedTimeAfter=datetime.now(UTC) + timedelta(hours=1)) == []
        (failed,) = client.list_processing_jobs(StatusEquals="Failed")["ProcessingJobSummaries"]
        assert failed["FailureReason"].startswith("AlgorithmError: ")


def test_another_account_and_another_region_do_not_see_the_job(workshop):
    name = workshop.process("")["ProcessingJobName"]

    for elsewhere in ({"account": "210987654321"}, {"region": "eu-west-1"}):
        client = workshop.aws.client("sagemaker", **elsewhere)
        assert client.list_processing_jobs()["ProcessingJobSummaries"] == []
        with pytest.raises(ClientError, match="Requested resource not found"):
            client.describe_processing_job(ProcessingJobName=name)


def test_the_launcher_killed_from_outside_takes_the_program_with_it(workshop):
    script = "import os, time; print(os.getppid(), os.getpid(), flush=True); time.sleep(60)"
    request = workshop.processing_request(script)
    name = request["ProcessingJobName"]
    workshop.sagemaker.create_processing_job(**request)
    deadline = time.monotonic() + 20
    pids: list[int] = []
    while not pids:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        try:
            pids = [int(part) for line in workshop.printed("Processing", name) for part in line.split()]
        except workshop.logs.exceptions.ResourceNotFoundException:
            continue

    os.kill(pids[0], signal.SIGKILL)

    ended = workshop.ended("Processing", name)
    assert ended["ProcessingJobStatus"] == "Failed"
    assert "the process that watched the program was killed from outside" in ended["FailureReason"]
    assert not alive(pids[1])
