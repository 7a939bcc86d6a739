"""Functions run isolated: from their zip and their runtime, as their role, within their time and memory."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from local_aws.runtimes import Runtimes, RuntimeUnknown
from tests.local_aws.lambda_requests import Parts, archive
from tests.local_aws.waiting import wait_for


@pytest.fixture(scope="module")
def parts() -> Iterator[Parts]:
    with LocalAWS(clock_speed=60) as aws:
        yield Parts(aws)


# --- what a function sees


def test_a_function_sees_its_zip_its_runtimes_packages_and_nothing_of_the_server(parts):
    source = """
import importlib.util, os, sys
def handler(event, context):
    names = ("boto3", "botocore", "ministack", "local_aws", "pandas", "pydantic", "yaml")
    return {
        "found": [name for name in names if importlib.util.find_spec(name)],
        "variables": sorted(os.environ),
        "path": sys.path,
        "here": sorted(os.listdir(os.environ["LAMBDA_TASK_ROOT"])),
        "version": sys.version_info[:2],
    }
"""
    parts.function("isolated", source, Environment={"Variables": {"STAGE": "prod"}})

    answer, _ = parts.invoke("isolated")

    assert answer["found"] == ["boto3", "botocore"]
    assert answer["here"] == ["app.py"]
    assert answer["version"] == [3, 11]
    assert answer["path"][0].endswith("/functions/code/" + answer["path"][0].rpartition("/")[2])
    leaked = {"HOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "GATEWAY_PORT", "MINISTACK_ACCOUNT_ID", "USER"}
    assert not leaked & set(answer["variables"])
    documented = {"STAGE", "AWS_REGION", "AWS_LAMBDA_FUNCTION_NAME", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"}
    assert {*documented, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"} <= set(answer["variables"])


def test_a_function_calls_aws_as_its_role_and_that_is_who_approved(parts):
    source = """
import boto3
def handler(event, context):
    boto3.client("sagemaker").update_model_package(ModelPackageArn=event, ModelApprovalStatus="Approved")
    return boto3.client("sts").get_caller_identity()["Arn"]
"""
    parts.function("approver", source)
    parts.group("approver")
    package = parts.version("approver")

    identity, failed = parts.invoke("approver", package)
    by = parts.sagemaker.describe_model_package(ModelPackageName=package)["LastModifiedBy"]

    assert failed is None
    assert identity == "arn:aws:sts::123456789012:assumed-role/functions/approver"
    assert by["IamIdentity"]["Arn"] == identity


def test_what_a_function_prints_and_logs_is_in_its_log_group(parts):
    source = """
import logging
logging.getLogger().setLevel("INFO")
def handler(event, context):
    print("printed")
    logging.info("logged %s", context.aws_request_id)
"""
    parts.function("talkative", source, MemorySize=256)

    answer = parts.functions.invoke(FunctionName="talkative", LogType="Tail")
    tail = base64.b64decode(answer["LogResult"]).decode().splitlines()
    logs = parts.aws.client("logs").filter_log_events(logGroupName="/aws/lambda/talkative")["events"]

    assert tail[0].startswith("START RequestId: ")
    request_id = tail[0].split()[2]
    assert tail[1] == "printed"
    assert tail[2].split("\t")[0] == "[INFO]"
    assert tail[2].split("\t")[2:] == [request_id, f"logged {request_id}"]
    assert tail[3] == f"END RequestId: {request_id}"
    assert "Memory Size: 256 MB" in tail[4]
    assert 5 < int(tail[4].rpartition("Max Memory Used: ")[2].split()[0]) < 256
    assert [event["message"] for event in logs] == tail


def test_the_context_is_lambdas(parts):
    source = """
def handler(event, context):
    names = ("function_name", "function_version", "invoked_function_arn", "memory_limit_in_mb", "log_group_name")
    left = context.get_remaining_time_in_millis()
    return {name: getattr(context, name) for name in names} | {"left": left}
"""
    arn = parts.function("context", source, Timeout=7)

    answer, _ = parts.invoke("context")

    assert 6000 < answer.pop("left") <= 7000
    assert answer == {
        "function_name": "context",
        "function_version": "$LATEST",
        "invoked_function_arn": arn,
        "memory_limit_in_mb": "128",
        "log_group_name": "/aws/lambda/context",
    }


# --- processes


PIDS = """
import os, time
def handler(event, context):
    time.sleep(event or 0)
    return os.getpid()
"""


def test_a_process_is_kept_for_the_next_invocation(parts):
    parts.function("kept", PIDS)

    first, _ = parts.invoke("kept")
    second, _ = parts.invoke("kept")

    assert first == second


def test_invocations_at_once_have_a_process_each(parts):
    parts.function("parallel", PIDS)

    with ThreadPoolExecutor() as pool:
        pids = [answer for answer, _ in pool.map(lambda _: parts.invoke("parallel", 0.5), range(3))]

    assert len(set(pids)) == 3


def test_new_code_and_new_settings_take_effect_at_once_and_end_the_old_process(parts):
    parts.function("changed", PIDS)
    old, _ = parts.invoke("changed")

    parts.functions.update_function_code(
        FunctionName="changed", ZipFile=archive(app="import os\ndef handler(e, c): return os.environ.get('A', 'new')")
    )
    code, _ = parts.invoke("changed")
    parts.functions.update_function_configuration(FunctionName="changed", Environment={"Variables": {"A": "set"}})
    settings, _ = parts.invoke("changed")

    assert (code, settings) == ("new", "set")
    with pytest.raises(ProcessLookupError):
        os.kill(old, 0)


def test_a_deleted_function_leaves_no_process(parts):
    parts.function("deleted", PIDS)
    pid, _ = parts.invoke("deleted")

    parts.functions.delete_function(FunctionName="deleted")

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(") ")[2][0] != "Z"


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_nothing_of_a_function_outlives_the_server(tmp_path, how):
    pids = tmp_path / "pids"
    source = f"""
import os, subprocess, time
def handler(event, context):
    child = subprocess.Popen(["sleep", "600"])
    open({str(pids)!r}, "a").write(f"{{os.getpid()}} {{child.pid}} ")
    time.sleep(event)
"""
    with LocalAWS() as aws:
        parts = Parts(aws)
        parts.function("idle", source)
        parts.function("busy", source, Timeout=600)
        parts.invoke("idle", 0)
        parts.functions.invoke(FunctionName="busy", InvocationType="Event", Payload="600")
        wait_for(lambda: len(pids.read_text().split()) == 4)
        if how == "kill":
            aws.kill()
    found = [int(pid) for pid in pids.read_text().split()]

    wait_for(lambda: not any(is_running(pid) for pid in found), 5)


# --- failures, as AWS tells them


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("import numpy", "Runtime.ImportModuleError", "Unable to import module 'app': No module named 'numpy'"),
        ("def handler(", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app': '(' was never closed"),
        ("handle = 1", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("raise KeyError('TABLE')", "KeyError", "'TABLE'"),
        ("def handler(e, c): raise ValueError('bad ' + str(e))", "ValueError", "bad {'a': 1}"),
        ("def handler(e, c): return {1}", "Runtime.MarshalError", "Unable to marshal response"),
        ("import sys\ndef handler(e, c): sys.exit(3)", "Runtime.ExitError", "Runtime exited with error: exit status 3"),
        ("import os\ndef handler(e, c): os._exit(0)", "Runtime.ExitError", "Runtime exited without providing a reason"),
        ("def handler(e, c): return 'x' * 7_000_000", "Function.ResponseSizeTooLarge", "exceeded maximum allowed"),
    ],
)
def test_a_failure_is_told_as_on_aws(parts, source, kind, message):
    name = f"failing-{zlib.crc32(source.encode())}"
    parts.function(name, source)

    first, failed = parts.invoke(name, {"a": 1})
    second, _ = parts.invoke(name, {"a": 1})

    assert failed == "Unhandled"
    assert first["errorType"] == second["errorType"] == kind
    assert message in first["errorMessage"]


def test_a_function_is_stopped_at_its_time_out_and_the_next_invocation_is_fresh(parts):
    source = """
import os, time
print("begun")
def handler(event, context):
    print("waiting", flush=True)
    time.sleep(event)
    return os.getpid()
"""
    parts.function("slow", source, Timeout=1)
    before, _ = parts.invoke("slow", 0)

    started = time.monotonic()
    answer = parts.functions.invoke(FunctionName="slow", Payload="30", LogType="Tail")
    took = time.monotonic() - started
    error = json.loads(answer["Payload"].read())
    after, failed = parts.invoke("slow", 0)

    assert 1 <= took < 25  # the function sleeps for 30
    assert error["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 1.00 seconds" in error["errorMessage"]
    assert "waiting\n" in base64.b64decode(answer["LogResult"]).decode()
    assert failed is None
    assert after != before
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is looked at in Linux's /proc")
def test_a_function_that_takes_more_than_its_memory_is_killed(parts):
    source = """
import time
def handler(event, context):
    taken = bytearray(event * 2**20)
    time.sleep(0.3)
    return len(taken)
"""
    parts.function("large", source, MemorySize=128)

    small, _ = parts.invoke("large", 16)
    error, failed = parts.invoke("large", 300)

    assert small == 16 * 2**20
    assert failed == "Unhandled"
    assert error["errorType"] == "Runtime.ExitError"
    assert error["errorMessage"].endswith("Runtime exited with error: signal: killed")


def test_a_function_that_is_killed_from_outside_says_by_which_signal(parts):
    source = f"import os\ndef handler(event, context): os.kill(os.getpid(), {int(signal.SIGSEGV)})"
    parts.function("crashing", source)

    error, _ = parts.invoke("crashing")

    assert error["errorMessage"].endswith("Runtime exited with error: signal: segmentation fault")


def test_what_a_function_starts_and_leaves_running_does_not_hold_its_answer(parts):
    source = """
import subprocess
def handler(event, context):
    subprocess.Popen(["sh", "-c", "while true; do echo more; sleep 0.1; done"])
    return "done"
"""
    parts.function("leaving", source, Timeout=3)

    assert parts.invoke("leaving") == ("done", None)
    time.sleep(0.3)
    assert parts.invoke("leaving") == ("done", None)


def test_invocations_and_errors_of_all_kinds_are_counted(parts):
    parts.function("counted", "def handler(event, context): return 1 / event")
    parts.functions.put_function_event_invoke_config(FunctionName="counted", MaximumRetryAttempts=0)

    parts.invoke("counted", 1)
    parts.invoke("counted", 0)
    parts.functions.invoke(FunctionName="counted", InvocationType="Event", Payload="0")

    def total(metric: str) -> float:
        now = datetime.now(UTC)
        points = parts.aws.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName=metric,
            Dimensions=[{"Name": "FunctionName", "Value": "counted"}],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(hours=1),
            Period=86400,
            Statistics=["Sum"],
        )["Datapoints"]
        return sum(point["Sum"] for point in points)

    wait_for(lambda: total("Invocations") == 3)
    assert total("Errors") == 2


def test_an_archive_that_cannot_be_extracted_is_the_invocation_s_error(parts):
    damaged = archive(app="def handler(event, context):\n    return 1\n", **{"app.py/inner": ""})
    request = {"Runtime": "python3.11", "Handler": "app.handler", "Role": parts.role}
    parts.functions.create_function(FunctionName="damaged", Code={"ZipFile": damaged}, **request)

    error, failed = parts.invoke("damaged")

    assert failed == "Unhandled"
    assert error["errorType"] == "Runtime.InvalidZipFile"
    assert "cannot be extracted" in error["errorMessage"]


# --- runtimes


@pytest.mark.parametrize("runtime", ["python3.12", "nodejs20.x", "java21"])
def test_a_runtime_without_an_interpreter_is_refused_by_name(parts, runtime):
    with pytest.raises(ClientError) as caught:
        parts.function("other", "", Runtime=runtime)

    assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
    assert f"Runtime '{runtime}' has no interpreter in local_aws, which has python3.11" in str(caught.value)


def test_a_template_with_such_a_runtime_fails_saying_so(parts):
    stacks = parts.aws.client("cloudformation")
    function = {"Runtime": "nodejs20.x", "Handler": "a.b", "Role": parts.role, "Code": {"ZipFile": "x"}}
    resources = {"Function": {"Type": "AWS::Lambda::Function", "Properties": function}}
    stacks.create_stack(StackName="node", TemplateBody=json.dumps({"Resources": resources}))

    def failure() -> str:
        events = stacks.describe_stack_events(StackName="node")["StackEvents"]
        return next((each["ResourceStatusReason"] for each in events if each["ResourceStatus"] == "CREATE_FAILED"), "")

    assert "Runtime 'nodejs20.x' has no interpreter" in wait_for(failure)


def test_images_and_layers_are_refused(parts):
    with pytest.raises(ClientError, match="no functions from container images"):
        parts.functions.create_function(
            FunctionName="image", Role=parts.role, PackageType="Image", Code={"ImageUri": "1.dkr.ecr/a:b"}
        )
    with pytest.raises(ClientError, match="Put what the function needs into its zip"):
        parts.function("layered", "", Layers=["arn:aws:lambda:us-east-1:123456789012:layer:a:1"])


def test_a_runtime_whose_environment_is_missing_says_how_to_make_it(tmp_path):
    with pytest.raises(RuntimeUnknown, match="Run `make install`"):
        Runtimes(tmp_path).interpreter("python3.11")


def test_functions_survive_a_restart_with_state(tmp_path):
    with LocalAWS(state=tmp_path) as first:
        Parts(first).function("lasting", "def handler(event, context): return event")
    with LocalAWS(state=tmp_path) as second:
        answer = second.client("lambda").invoke(FunctionName="lasting", Payload='"still here"')

    assert json.loads(answer["Payload"].read()) == "still here"


def test_a_function_of_another_account_and_region_runs_there(parts):
    account, region = "210987654321", "eu-west-1"
    source = """
import boto3, os
def handler(event, context):
    session = boto3.Session(region_name=os.environ["AWS_REGION"])
    identity = session.client("sts").get_caller_identity()
    return [identity["Account"], os.environ["AWS_REGION"], session.client("lambda").list_functions()["Functions"]]
"""
    functions = parts.aws.client("lambda", account, region)
    functions.create_function(
        FunctionName="elsewhere",
        Runtime="python3.11",
        Handler="app.handler",
        Role=f"arn:aws:iam::{account}:role/functions",
        Code={"ZipFile": archive(app=source)},
        Timeout=10,
    )

    answer = functions.invoke(FunctionName="elsewhere")
    found = json.loads(answer["Payload"].read())

    assert found[:2] == [account, region]
    assert [each["FunctionName"] for each in found[2]] == ["elsewhere"]
