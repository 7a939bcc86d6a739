"""The contract with MiniStack: every private name and variable that local_aws.ministack_host relies on.

When one of these fails after a new version was pinned, the name in the failing test is what moved.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS
from local_aws.ministack_host import SAVED_STORES

CHECKOUT = Path(__file__).resolve().parents[2]

# Each private name with its type, or a function's parameters: they are given, or the function is replaced by ours.
NAMES = {
    "ministack.core.iam_evaluator.is_root_access_key": "(access_key_id)",
    "ministack.services.cloudformation._ACTION_HANDLERS": "dict",
    "ministack.services.cloudformation.handlers._resolve_stack": "(stack_name)",
    "ministack.services.cloudformation.handlers._create_stack_task_in_region": "(coro, stack, stack_id)",
    "ministack.services.cloudformation.changesets._create_stack_task_in_region": "(coro, stack, stack_id)",
    "ministack.services.cloudformation.changesets._find_change_set": "(cs_name, stack_name)",
    "ministack.services.cloudformation.helpers._p": "(params, key, default)",
    "ministack.services.cloudformation.helpers._esc": "(s, quote)",
    "ministack.services.cloudformation.helpers._error": "(code, message, status)",
    "ministack.services.cloudformation.helpers._resolve_document": "(params, body_key, url_key, label)",
    "ministack.services.cloudformation.engine._resolve_dynamic_reference": "(literal)",
    "ministack.services.cloudformation.provisioners._DEFERRED_PREDECESSOR_DELETES": "ContextVar",
    "ministack.services.cloudformation.provisioners._provision_resource": (
        "(resource_type, logical_id, props, stack_name)"
    ),
    "ministack.services.cloudformation.provisioners._update_resource": (
        "(resource_type, physical_id, old_props, new_props, stack_name, logical_id, old_attrs)"
    ),
    "ministack.services.cloudformation.provisioners._delete_resource": (
        "(resource_type, physical_id, props, stack_name, logical_id)"
    ),
    "ministack.services.cloudformation.stacks._provision_resource": "(resource_type, logical_id, props, stack_name)",
    "ministack.services.cloudformation.stacks._update_resource": (
        "(resource_type, physical_id, old_props, new_props, stack_name, logical_id, old_attrs)"
    ),
    "ministack.services.cloudformation.stacks._delete_resource": (
        "(resource_type, physical_id, props, stack_name, logical_id)"
    ),
    "ministack.services.ssm.resolve_parameter_value": "(name_or_arn, version, decrypt)",
    "ministack.app.app": "(scope, receive, send)",
    "ministack.app.SERVICE_HANDLERS": "dict",
    "ministack.core.router.SERVICE_PATTERNS": "dict",
    "ministack.core.responses.get_account_id": "()",
    "ministack.core.responses.get_region": "()",
    "ministack.core.responses.set_request_account_id": "(access_key_id)",
    "ministack.core.responses.request_scope": "(account_id, region)",
    "ministack.core.responses.error_response_json": "(code, message, status, extra, message_key, content_type)",
    "ministack.core.iam_evaluator.resolve_caller_identity": "(access_key_id)",
    "ministack.services.sts.register_session": "(access_key, session)",
    "ministack.services.eventbridge._put_events": "(data, allow_aws_source)",
    "ministack.services.eventbridge._dispatch_to_lambda": "(arn, payload)",
    "ministack.services.eventbridge._rules": "AccountRegionScopedDict",
    "ministack.services.eventbridge._targets": "AccountRegionScopedDict",
    "ministack.services.eventbridge._invoke_target": "(target, event, rule, view)",
    "ministack.services.eventbridge._parse_cron_fields": "(expr)",
    "ministack.services.eventbridge._cron_next_fire": "(fields, after_dt)",
    "ministack.services.eventbridge.start_scheduler": "()",
    "ministack.services.lambda_svc._emit_lambda_metrics": "(function_name, duration_ms, error, throttle)",
    "ministack.services.lambda_svc._emit_lambda_logs": "(func, request_id, log_text, error, duration_ms, log_source)",
    "ministack.services.lambda_svc._execute_function_dispatch": "(func, config, event, request_id, started)",
    "ministack.services.lambda_svc._execute_function_with_config_scope": "(func, event)",
    "ministack.services.lambda_svc._get_func_record_for_ref": "(function_ref)",
    "ministack.services.lambda_svc._execution_record_for_config": "(func, config)",
    "ministack.services.lambda_svc.invoke_async_with_retry": "(func, event)",
    "ministack.services.lambda_svc.invalidate_worker": "(func_name, qualifier, account, region)",
    "ministack.services.lambda_svc._create_function": "(data)",
    "ministack.services.lambda_svc._update_config": "(name, data)",
    "ministack.services.lambda_svc._run_sqs_batch": "(esm, func_rec, event, batch, queue_url, queue_name)",
    "ministack.services.lambda_svc._esm_wake": "Event",
    "ministack.services.lambda_svc._ESM_IDLE_WAKE_GAP_SECONDS": "float",
    "ministack.services.lambda_svc._ESM_BACKOFF_SECONDS": "float",
    "ministack.services.sns._deliver_to_lambda": (
        "(endpoint, envelope, topic_arn, sub_arn, msg_id, raw_message, message_attributes)"
    ),
    "ministack.services.sns.publish_internal": (
        "(topic_arn, message, subject, message_structure, message_attributes, message_group_id, "
        "message_deduplication_id)"
    ),
    "ministack.services.sqs._collect_msgs": "(q, max_n, vis_timeout)",
    "ministack.services.sqs._act_send_message": "(data, qurl)",
    "ministack.services.sqs._act_change_visibility": "(data, qurl)",
    "ministack.services.sqs._act_change_visibility_batch": "(data, qurl)",
    "ministack.services.sqs._get_q": "(url, action)",
    "ministack.services.sqs._receive_messages_for_esm": "(queue_url, max_number)",
    "ministack.services.sqs._delete_messages_for_esm": "(queue_url, receipt_handles)",
    "ministack.services.sqs._HANDLERS": "dict",
    "ministack.services.sqs._queues": "AccountRegionScopedDict",
    "ministack.services.sqs._queue_by_arn": "(arn)",
    "ministack.services.sns._topic_by_arn_any_scope": "(topic_arn)",
    "ministack.services.cloudwatch.record_metric": "(namespace, metric_name, value, unit, dimensions)",
    "ministack.services.cloudwatch._alarms": "AccountRegionScopedDict",
    "ministack.services.cloudwatch._metrics": "AccountRegionScopedDict",
    "ministack.services.cloudwatch._dims_key": "(dims)",
    "ministack.services.cloudwatch._point_stats": "(pt)",
    "ministack.services.cloudwatch._put_metric_alarm": "(params, cbor_data, is_cbor, is_json)",
    "ministack.services.cloudwatch._evict_old_metrics": "()",
    "ministack.services.cloudwatch._evaluate_alarm": "(alarm)",
    "ministack.services.cloudwatch._evaluate_all_alarms": "()",
    "ministack.services.cloudwatch._dispatch_alarm_actions": "(alarm, old_state, new_state, reason)",
    "ministack.services.cloudwatch._record_history": (
        "(alarm_name, old_state, new_state, reason, alarm_type, reason_data)"
    ),
    "ministack.services.cloudwatch._evaluate_parent_alarms": "(child, seen)",
    "ministack.services.cloudwatch._error": "(code, message, status, use_json, use_cbor)",
    "ministack.services.scheduler._schedules": "AccountRegionScopedDict",
    "ministack.services.scheduler._to_epoch": "(value)",
    "ministack.services.scheduler._create_schedule": "(name, body)",
    "ministack.services.scheduler._update_schedule": "(name, body)",
    "ministack.services.scheduler._error": "(status, code, message)",
    "ministack.services.scheduler.start_scheduler": "()",
    "ministack.core.iam_evaluator.EvalContext": "type",
    "ministack.core.iam_actions.extract_iam_action": "(service, method, path, headers, body, query_params)",
    "ministack.core.iam_actions.extract_resource_arn": (
        "(service, method, path, headers, body, query_params, region, account_id)"
    ),
    "ministack.core.iam_actions.request_tag_context": "(service, iam_action, body, params)",
    "ministack.core.iam_actions.logs_service_context": "(action, body, resource_arn, region, account_id)",
    "ministack.core.iam_actions._match_rest_action": "(service, method, path, query_params)",
    "ministack.core.iam_actions._BOTOCORE_SERVICE_MAP": "dict",
    "ministack.core.iam_actions._AUTH_FAILURES": "dict",
    "ministack.core.iam_evaluator.enforce": (
        "(access_key_id, iam_action, service, region, resource_arn, service_context)"
    ),
    "ministack.core.iam_evaluator.parse_policy_document": "(doc)",
    "ministack.core.iam_evaluator.resolve_credential": "(access_key_id, account_id, session_token)",
    "ministack.core.iam_evaluator.find_iam_access_key_account": "(access_key_id)",
    "ministack.core.iam_evaluator.CredentialResolutionError": "type",
    "ministack.services.tagging.resource_tags": "(arn)",
    "ministack.services.cloudwatch._resource_tags": "AccountScopedDict",
    "ministack.services.eventbridge._tags": "AccountRegionScopedDict",
    "ministack.services.scheduler._tags": "AccountScopedDict",
    "ministack.services.iam._users": "AccountScopedDict",
    "ministack.services.iam._groups": "AccountScopedDict",
    "ministack.services.iam._instance_profiles": "AccountScopedDict",
    "ministack.core.iam_evaluator.evaluate_resource_policy": "(doc, ctx, service, named_only, direct_only)",
    "ministack.core.iam_evaluator._resource_policy": "(service, resource_arn)",
    "ministack.services.lambda_svc._sqs_esm_concurrency": "(esm, func_rec, config, queue)",
    "ministack.services.sns._deliver_to_sqs": (
        "(endpoint, envelope, raw, raw_message, message_group_id, message_dedup_id, message_attributes, topic_arn)"
    ),
    "ministack.services.sns._topics": "AccountRegionScopedDict",
    "ministack.services.kms._resolve_key": "(key_id_or_arn)",
    "ministack.services.kms._keys": "AccountRegionScopedDict",
    "ministack.services.iam._roles": "AccountScopedDict",
    "ministack.services.cloudwatch_logs._log_groups": "AccountRegionScopedDict",
    "ministack.services.dynamodb._tables": "AccountRegionScopedDict",
    "ministack.services.dynamodb._sse_description_from_spec": "(spec)",
    "ministack.services.s3._ensure_bucket": "(name)",
    "ministack.services.s3._stored_sse_headers": "(obj)",
    "ministack.services.s3._resolve_sse_write_headers": "(headers, bucket_name)",
    "ministack.services.s3._multipart_uploads": "AccountScopedDict",
    "ministack.services.secretsmanager._resolve": "(secret_id, use_arn_scope)",
    "ministack.services.ssm._select_parameter": "(name_or_arn)",
    "ministack.services.ssm._parameters": "AccountRegionScopedDict",
    "ministack.services.cloudformation.provisioners._RESOURCE_HANDLERS": "dict",
    "ministack.services.cloudformation.engine._evaluate_conditions": "(template, params)",
    "ministack.core.iam_evaluator._action_matches": "(request_action, actions, not_actions)",
    "ministack.core.iam_evaluator.evaluate": "(ctx, policies, limits)",
    "ministack.services.cloudformation.provisioners._cw_metric_alarm_record": "(name, props)",
    "ministack.app.load_state": "(service)",
    "ministack.app.save_all": "(services)",
    "ministack.app._load_persisted_state": "()",
    "ministack.core.persistence.STATE_DIR": "str",
    "ministack.core.persistence._json_default": "(obj)",
    "ministack.core.persistence._json_object_hook": "(obj)",
    "ministack.services.sts._sessions": "dict",
    "ministack.services.sns._threading": "module",
    "ministack.services.lambda_svc._get_func_record_for_ref_in_scope": "(function_ref, account_id, region)",
    "ministack.services.lambda_svc._write_code_blob": "(code_zip)",
    "ministack.services.lambda_svc._prune_orphan_code_blobs": "(referenced)",
    "ministack.services.lambda_svc._BLOB_REF_KEY": "str",
    "ministack.services.dynamodb._set_item": "(table, pk_val, sk_val, item)",
    "ministack.services.dynamodb._remove_item": "(table, pk_val, sk_val)",
    "ministack.services.dynamodb._INDEX_MEMBERS": "str",
    "ministack.services.cloudformation._stacks": "AccountRegionScopedDict",
    "ministack.services.cloudformation._change_sets": "AccountRegionScopedDict",
}

LOOK_UP = """
import importlib, inspect, json, sys
found = {}
for name in sys.argv[1:]:
    module, _, attribute = name.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), attribute)
        found[name] = type(value).__name__
        if inspect.isfunction(value):
            found[name] = f"({', '.join(inspect.signature(value).parameters)})"
    except (ImportError, AttributeError) as error:
        found[name] = f"gone: {error}"
print(json.dumps(found))
"""

# One request to a mounted service, without a server: what the handler was given, and what the client got.
ONE_REQUEST = """
import asyncio, json, os, sys
from pathlib import Path
from local_aws import ministack_host

before = dict(os.environ)
ministack_host.configure(4599, "123456789012", "eu-west-1", Path(sys.argv[1]) / "s3", Path(sys.argv[1]) / "state")
seen = {"variables": sorted(name for name in os.environ if os.environ[name] != before.get(name))}

async def handler(method, path, headers, body, query):
    seen["request"] = [method, path, body.decode(), query]
    seen["header names are lower case"] = "x-amz-target" in headers
    seen["scope"] = await asyncio.to_thread(ministack_host.request_scope)
    return 418, {"Content-Type": "application/x-amz-json-1.1"}, b'{"answer": 42}'

ministack_host.mount("probe", "Probe_20260101.", handler)
application = ministack_host.application()

async def request():
    credential = "Credential=210987654321/20260101/us-west-2/probe/aws4_request"
    headers = {
        "host": "127.0.0.1:4599",
        "x-amz-target": "Probe_20260101.Ask",
        "content-type": "application/x-amz-json-1.1",
        "authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=00",
    }
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/", "raw_path": b"/",
        "query_string": b"", "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 4599),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    messages = [{"type": "http.request", "body": b'{"question": 1}', "more_body": False}]
    answers = []

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        answers.append(message)

    await application(scope, receive, send)
    seen["status"] = answers[0]["status"]
    seen["body"] = b"".join(answer.get("body", b"") for answer in answers[1:]).decode()

async def lifespan():
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    said = []

    async def receive():
        return events.pop(0)

    async def send(message):
        said.append(message["type"])

    await application({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    seen["lifespan"] = said

asyncio.run(request())
asyncio.run(lifespan())
print(json.dumps(seen))
"""


def run(script: str, *arguments: str) -> Any:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    return run(LOOK_UP, *NAMES)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(ONE_REQUEST, str(tmp_path_factory.mktemp("ministack")))


@pytest.mark.parametrize("name", NAMES)
def test_ministack_still_has_the_private_name(found, name):
    assert found[name] == NAMES[name], f"{name} moved: look for its successor and change local_aws/ministack_host.py"


def test_ministack_still_reads_every_variable_that_is_set(seen):
    specification = importlib.util.find_spec("ministack")
    assert specification is not None
    assert specification.submodule_search_locations is not None
    source = Path(specification.submodule_search_locations[0])
    code = "".join(file.read_text() for file in source.rglob("*.py"))

    assert "S3_DATA_DIR" in seen["variables"]
    unread = [name for name in seen["variables"] if not re.search(rf"environ\W.*[\"']{name}[\"']", code)]
    assert unread == []


def test_a_mounted_service_is_given_the_requests_with_its_target_prefix(seen):
    assert seen["request"] == ["POST", "/", '{"question": 1}', {}]
    assert seen["header names are lower case"]


def test_what_a_mounted_service_answers_reaches_the_client(seen):
    assert (seen["status"], json.loads(seen["body"])) == (418, {"answer": 42})


def test_account_and_region_of_the_request_are_known_in_the_handlers_threads(seen):
    assert seen["scope"] == ["210987654321", "us-west-2"]


def test_the_application_starts_and_ends_in_the_asgi_lifespan(seen):
    assert seen["lifespan"] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_caller_who_names_no_account_is_the_servers(aws):
    assert aws.client("sts", account="some-key").get_caller_identity()["Account"] == "123456789012"
    assert aws.client("sts", account="210987654321").get_caller_identity()["Account"] == "210987654321"


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's table of sockets")
def test_the_server_listens_on_its_two_loopback_ports_only(aws):
    inodes = set()
    for descriptor in Path(f"/proc/{aws.server.pid}/fd").iterdir():
        if descriptor.is_symlink() and (socket := re.match(r"socket:\[(\d+)\]", str(descriptor.readlink()))):
            inodes.add(socket[1])
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{aws.server.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.append(fields[1])

    assert sorted(listening) == sorted(f"0100007F:{port:04X}" for port in (aws.server.port, aws.server.runtime_port))


# What each service would save itself: the names, and whether each is the dictionary that is watched.
SAVED = """
import importlib, json
from local_aws.ministack_host import ATTRIBUTES, MODULES, SAVED_STORES
found = {}
for service in SAVED_STORES:
    module = importlib.import_module(f"ministack.services.{MODULES.get(service, service)}")
    names = module.get_state()
    found[service] = sorted(names)
    for name in names:
        store = getattr(module, ATTRIBUTES.get(f"{service}/{name}", f"_{name}"))
        assert type(store._data) is dict, name
        assert type(store) is type(names[name]), name
print(json.dumps(found))
"""


def test_what_is_written_down_is_what_each_service_would_save():
    found = run(SAVED)

    assert found == {service: sorted(names.split()) for service, names in SAVED_STORES.items()}


def test_objects_are_kept_on_disk_and_survive_a_restart_with_the_rest(tmp_path):
    body = b"a model" * 1000
    with LocalAWS(state=tmp_path) as first:
        first.client("s3").create_bucket(Bucket="models")
        first.client("s3").put_object(Bucket="models", Key="churn/model.tar.gz", Body=body)
        first.client("sns").create_topic(Name="approvals")
        on_disk = [file for file in (tmp_path / "s3").rglob("*") if file.is_file() and file.read_bytes() == body]
    with LocalAWS(state=tmp_path) as second:
        kept = second.client("s3").get_object(Bucket="models", Key="churn/model.tar.gz")["Body"].read()
        topics = second.client("sns").list_topics()["Topics"]

    assert len(on_disk) == 1
    assert kept == body
    assert [topic["TopicArn"].rpartition(":")[2] for topic in topics] == ["approvals"]


JOINED = {
    "Parameters": {"Names": {"Type": "CommaDelimitedList", "Default": ""}},
    "Conditions": {"Named": {"Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": "Names"}]}, ""]}]}},
    "Resources": {
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Fn::If": ["Named", "named", "unnamed"]}}}
    },
}


@pytest.mark.parametrize(("names", "queue"), [("", "unnamed"), ("a", "named"), ("a,b", "named")])
def test_a_condition_knows_whether_a_list_has_anything_in_it(aws, names, queue):
    account = str(random.randint(10**11, 10**12 - 1))
    cloudformation = aws.client("cloudformation", account=account)
    cloudformation.create_stack(
        StackName="joined",
        TemplateBody=json.dumps(JOINED),
        Parameters=[{"ParameterKey": "Names", "ParameterValue": names}],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName="joined", WaiterConfig={"Delay": 1})
    (url,) = aws.client("sqs", account=account).list_queues()["QueueUrls"]
    assert url.endswith(f"/{queue}")
