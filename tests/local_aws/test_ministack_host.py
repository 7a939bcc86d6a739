"""The contract with MiniStack: what local_aws.ministack_host relies on that it does. Names: test_ministack_names."""

from __future__ import annotations

import importlib.util
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS
from local_aws.ministack_host.stores import SAVED_STORES
from tests.local_aws.scripts import run

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


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(ONE_REQUEST, str(tmp_path_factory.mktemp("ministack")))


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
from local_aws.ministack_host.stores import ATTRIBUTES, MODULES, SAVED_STORES
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

    found["codebuild"].remove("builds")  # which local_aws.builds runs and keeps
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
