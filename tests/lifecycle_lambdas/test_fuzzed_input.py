"""Whatever comes in at the controller's doors: it is read, or refused with a reason; never anything else.

Stage files, the queue's messages, a version's metadata, the chat's answers, the webhook's secret.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lifecycle_lambdas import events, stage_schema
from lifecycle_lambdas.declared import AdministratorsFault, StageFileError, parse_stage_file, role_arn, stage_file_place
from lifecycle_lambdas.events import BrokenEvent, LookAt, LookAtMany, VersionChanged
from lifecycle_lambdas.handlers import notify
from lifecycle_lambdas.handlers.notify import NotPosted, Webhook
from tests import proof

PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn-prod/3"
WEBHOOK_SECRET = "T0/B0/very-secret"
LONGEST_REASON = 20_000  # characters; a message of SNS has 262,144 bytes
MOST_MEMORY = 64 * 1024**2  # bytes for reading one small file

STAGE_FILES = [
    "kind: real_time\ninstance_type: ml.m5.large\ninstance_count: 2\n",
    "kind: real_time\ninstance_type: ml.m5.large\nscaling: {min: 1, max: 4, target: {invocations_per_instance: 600}}\n",
    "kind: real_time\ninstance_type: ml.m5.large\ninstance_count: 4\n"
    "rollout: {type: canary, size: 25%, bake_minutes: 10}\nalarms: {error_share: 0.02, p99_latency_ms: 800}\n",
    "kind: real_time\ninstance_type: ml.m5.large\ninstance_count: 2\n"
    "rollout: {type: linear, step: 50%, bake_minutes: 5}\ndata_capture: {percent: 20}\nenvironment: {LEVEL: '3'}\n",
    "kind: serverless\nmemory_mb: 2048\nmax_concurrency: 5\n",
    "kind: batch\ninstance_type: ml.m5.large\nschedule: cron(0 3 * * ? *)\n"
    "input: s3://data/in/\noutput: s3://data/out/\ncontent_type: text/csv\n",
]
PIECES = [
    *(
        "\0",
        "\t",
        "\n",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "!!python/object/apply:os.system [id]",
        "<<: ",
        "|",
        ">",
    ),
    *(
        "'",
        '"',
        "%",
        "@",
        "#",
        "null",
        "~",
        "yes",
        "-1",
        "0",
        "1e400",
        ".nan",
        ".inf",
        "9" * 5_000,
        "0x1F",
        "2026-11-21",
    ),
    *(
        "../../etc/passwd",
        "arn:aws:iam::111122223333:role/admin",
        "role: admin",
        "kind: serverless",
        "💥",
        "\u202e",
        "\ud800",
    ),
    *("instance_count: 10000000", "${AWS_SECRET_ACCESS_KEY}", "{{ 7 * 7 }}", "? ", "---\n", "...\n", "\ufeff"),
]
HOSTILE = {
    "billion laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9))
    + "kind: real_time\n",
    "its own alias": "kind: &a [*a]\n",
    "its own alias as a key": "&a {*a : 1}\n",
    "its own alias within": "kind: real_time\ninstance_type: ml.m5.large\nenvironment: &a {A: *a}\n",
    "nested lists": "kind: " + "[" * 20_000,
    "nested fields": "".join(" " * n + "a:\n" for n in range(2_000)),
    "many fields": "".join(f"f{n}: 1\n" for n in range(50_000)),
    "one long line": "kind: " + "x" * 1_000_000,
    "a long number": "kind: real_time\ninstance_type: ml.m5.large\ninstance_count: " + "9" * 100_000 + "\n",
    "merge keys": "kind: real_time\n<<: {<<: {<<: {instance_type: ml.m5.large}}}\n",
    "a list as a key": "? [a, b]\n: 1\nkind: real_time\n",
    "a date": "kind: 2026-11-21\n",
    "a python object": "!!python/object/apply:os.system ['echo broken']\n",
}


def spoilt(text: str, chance: random.Random) -> bytes:
    """The text with one to three changes somewhere; now and then only with a comment or an empty line more."""
    if chance.random() < 0.1:
        lines = text.splitlines(keepends=True)
        lines.insert(chance.randrange(len(lines) + 1), chance.choice(["# a note\n", "\n", "# ${HOME}: {\n"]))
        return "".join(lines).encode()
    for _ in range(chance.choice([1, 1, 2, 3])):
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(PIECES) + text[at + chance.choice([0, 0, 1, 5, 40]) :]
    content = text.encode("utf-8", errors="surrogatepass")
    if chance.random() < 0.1:
        changed = bytearray(content)
        changed[chance.randrange(len(changed))] = chance.randrange(256)
        content = bytes(changed)
    return content


def read_stage_file(content: bytes, stage: str) -> str:
    """How a stage file was taken: "read" or "refused"; anything else is raised."""
    reason = ""
    tracemalloc.start()
    try:
        stage_file = parse_stage_file(content, stage)
    except StageFileError as error:
        reason = str(error)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < MOST_MEMORY
    if reason:
        assert reason.startswith(f"deployment/{stage}.yaml: ")
        assert len(reason) <= LONGEST_REASON
        return "refused"
    # What was read is kept in the ledger, and read again from there.
    kept = json.loads(json.dumps(stage_schema.dump(stage_file)))
    assert stage_schema.parse(kept, stage) == stage_file
    return "read"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_stage_file_is_refused_with_a_reason(name: str) -> None:
    assert read_stage_file(HOSTILE[name].encode(), "dev") == "refused"


@pytest.mark.parametrize("text", STAGE_FILES)
def test_what_is_spoilt_is_right_before(text: str) -> None:
    assert read_stage_file(text.encode(), "dev") == "read"


@pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.slow)])
def test_any_stage_file_is_read_or_refused_with_a_reason(count: int) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(count):
        chance = random.Random(seed)
        content = spoilt(chance.choice(STAGE_FILES), chance)
        try:
            outcomes[read_stage_file(content, chance.choice(["dev", "prod"]))] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {content!r}") from error
    assert outcomes["read"] > count / 50
    assert outcomes["refused"] > count / 2
    if count == 20_000:
        proof.keep("stage_files", {"tried": count + len(HOSTILE), "outcomes": dict(outcomes)})


EVENTS: list[dict[str, Any]] = [
    {
        "source": "aws.sagemaker",
        "detail-type": "SageMaker Model Package State Change",
        "time": "2026-11-21T10:00:00Z",
        "detail": {
            "ModelPackageGroupName": "churn-prod",
            "ModelPackageArn": PACKAGE,
            "CreationTime": "2026-11-21T09:00:00Z",
            "LastModifiedTime": "2026-11-21T10:00:00Z",
            "ModelApprovalStatus": "Approved",
            "UpdatedModelPackageFields": ["ModelApprovalStatus"],
        },
    },
    {
        "source": "aws.sagemaker",
        "detail-type": "SageMaker Endpoint State Change",
        "detail": {"EndpointName": "churn-prod", "EndpointStatus": "IN_SERVICE"},
    },
    {
        "source": "aws.cloudwatch",
        "detail-type": "CloudWatch Alarm State Change",
        "detail": {"alarmName": "churn-prod-errors", "state": {"value": "ALARM"}},
    },
    {"look": "endpoint", "endpoint": "churn-prod", "missed": True},
    {"look": "under-way"},
]
JUNK: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        1e308,
        "",
        "x",
        "../..",
        "0" * 10_000,
        [],
        {},
        [[]],
        {"a": {}},
        "2026-99-99",
        "\ud800",
        "Approved",
    ),
    *(
        "2026-11-21",
        "2026-11-21T10:00:00",
        PACKAGE.replace("/3", "/x"),
        PACKAGE.replace("prod", "dev"),
        "arn:aws:s3:::b/1",
    ),
]


def spoilt_event(chance: random.Random) -> str:
    """An event with a value replaced, taken away or put in, or text that is none."""
    event = json.loads(json.dumps(chance.choice(EVENTS)))
    place = chance.choice([event, event.get("detail", event)])
    key = chance.choice([*place, "source", "detail", "detail-type", "look", "further"])
    change = chance.choice(["replace", "replace", "remove", "text"])
    if change == "remove":
        place.pop(key, None)
    else:
        place[key] = chance.choice(JUNK)
    text = json.dumps(event)
    if change == "text":
        at = chance.randrange(len(text))
        text = chance.choice(
            [text[:at], text[:at] + chance.choice(PIECES) + text[at:], "[" * 100_000, json.dumps(chance.choice(JUNK))]
        )
    return text


@pytest.mark.parametrize("count", [2_000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_any_message_asks_for_a_look_or_is_refused(count: int) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(count):
        body = spoilt_event(random.Random(seed))
        try:
            event = events.parse(body)
        except BrokenEvent as error:
            outcomes["refused" if len(str(error)) <= LONGEST_REASON else "refused at length"] += 1
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}: {body[:500]!r}") from error
        assert event is None or isinstance(event, VersionChanged | LookAt | LookAtMany)
        if isinstance(event, VersionChanged):
            # Never another version or another decision than the event's own.
            detail = json.loads(body)["detail"]
            assert (event.package_arn, event.approval) == (detail["ModelPackageArn"], detail["ModelApprovalStatus"])
            assert event.group.lower() == event.package_arn.split("/")[1].lower()
        outcomes["not ours" if event is None else type(event).__name__] += 1
    assert (
        min(outcomes[name] for name in ("refused", "not ours", "VersionChanged", "LookAt", "LookAtMany")) > count / 100
    )
    if count == 50_000:
        proof.keep("events", {"tried": count, "outcomes": dict(outcomes)})


@pytest.mark.parametrize("seed", range(300))
def test_any_metadata_name_a_place_or_are_refused(seed: int) -> None:
    chance = random.Random(seed)
    prefix = chance.choice(["s3://bucket/churn/deployment/", "s3://bucket/", "file:///etc/", "https://x/", "", *PIECES])
    sha256 = chance.choice(["0a" * 32, "", *PIECES])
    package: dict[str, Any] = {
        "ModelPackageArn": PACKAGE,
        "CustomerMetadataProperties": {
            "deployment.prefix": prefix + chance.choice(["", "../", "a/", *PIECES]),
            "deployment.sha256.prod": sha256,
        },
    }
    try:
        bucket, key, found = stage_file_place(package, "prod")
    except StageFileError as error:
        said = str(error)
    else:
        assert f"s3://{bucket}/{key}" == f"{package['CustomerMetadataProperties']['deployment.prefix']}prod.yaml"
        assert found == sha256
        return
    assert PACKAGE in said


@pytest.mark.parametrize(
    "name", [*PIECES, "../admin", "models/../admin", "a/b", "x" * 65, "role\n", "arn:aws:iam::1:role/r"]
)
def test_a_groups_tag_names_a_role_of_the_models_path_and_no_other(name: str) -> None:
    try:
        arn = role_arn(PACKAGE, {"modelyard:model-role": name}, "/modelyard/models/", "default")
    except AdministratorsFault as error:
        said = str(error)
    else:
        assert arn == f"arn:aws:iam::123456789012:role/modelyard/models/{name}"
        assert not {"/", "\n"} & set(name)
        return
    assert "modelyard:model-role" in said


# --- the chat


@contextmanager
def chat(answers: Callable[[], bytes | None]) -> Iterator[tuple[str, list[bytes]]]:
    """A chat that answers each connection with these bytes (None: not at all), then closes it: URL, and what it got."""
    listener = socket.create_server(("127.0.0.1", 0))
    got: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                got.append(_request(connection))
                answer = answers()
                if answer is not None:
                    try:
                        connection.sendall(answer)
                    except OSError:
                        continue  # it has heard enough

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/{WEBHOOK_SECRET}", got
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _request(connection: socket.socket) -> bytes:
    connection.settimeout(5)
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(
        next((line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b"0")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


class Secret:
    """Secrets Manager with one secret."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self, SecretId: str) -> dict[str, Any]:
        return {"SecretString": self._text}


def chats_answer(chance: random.Random) -> bytes | None:
    """As a chat, a proxy in between, or somebody else may answer."""
    status = chance.choice([200, 200, 204, 301, 302, 303, 307, 308, 400, 403, 404, 410, 429, 500, 503, 99, 1000])
    body = chance.choice([b"ok", b"", b"x" * 100_000, chance.randbytes(50), b'{"ok": false}'])
    headers = chance.choice(
        [
            b"",
            b"Location: /elsewhere\r\n",
            b"Location: file:///etc/passwd\r\n",
            b"Location: http://[\r\n",
            b"Content-Length: 5\r\n",
            b"Content-Length: many\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Content-Encoding: gzip\r\n",
            b"Retry-After: soon\r\n",
            b"X: " + b"y" * 70_000 + b"\r\n",
            b"".join(b"X%d: y\r\n" % number for number in range(150)),
            b"\0\0\0: \xff\r\n",
        ]
    )
    return chance.choice(
        [
            *[f"HTTP/1.1 {status} Reason\r\n".encode() + headers + b"\r\n" + body] * 8,
            None,
            b"",
            chance.randbytes(30),
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/9.9 200 OK\r\n\r\n",
            b"SSH-2.0-OpenSSH_9\r\n",
        ]
    )


@pytest.mark.parametrize("count", [150, pytest.param(3_000, marks=pytest.mark.slow)])
def test_whatever_the_chat_answers_a_message_is_posted_or_comes_again(
    count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes: Counter[str] = Counter()
    chance = random.Random(count)
    last: list[bytes | None] = []

    def answer() -> bytes | None:
        last.append(chats_answer(chance))
        return last[-1]

    with chat(answer) as (url, got):
        webhook = Webhook(Secret(url), "arn:aws:secretsmanager:us-east-1:123456789012:secret:webhook")
        for _ in range(count):
            got.clear()
            last.clear()
            try:
                notify.post(webhook, {"text": "hello"}, sleep=lambda _: None)
            except NotPosted as error:
                leaks = WEBHOOK_SECRET in f"{error} {error.__cause__!r}"
                outcomes["comes again, and tells the URL" if leaks else "comes again"] += 1
            else:
                # The chat itself took it: a redirect, which would lose the message, is none.
                assert b" 2" in (last[-1] or b"")[:12], last[-1]
                assert got[-1].startswith(b"POST ")
                assert got[-1].endswith(b'{"text": "hello"}')
                outcomes["posted"] += 1
    assert set(outcomes) == {"posted", "comes again"}
    assert WEBHOOK_SECRET not in capsys.readouterr().out
    assert min(outcomes["posted"], outcomes["comes again"]) > count / 10
    if count == 3_000:
        proof.keep("chat", {"tried": count, "outcomes": dict(outcomes)})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"url": 5}',
        '{"url": null}',
        "{}",
        '["x"]',
        "file:///etc/passwd",
        "http://[",
        "https://",
        "\0",
        "ftp://x/",
        "x",
    ],
)
def test_a_secret_that_holds_no_web_address_is_said_without_its_text(text: str) -> None:
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:webhook"
    with pytest.raises(NotPosted, match="holds no web address: put the webhook's URL into it") as refused:
        notify.post(Webhook(Secret(text), arn), {"text": "hello"}, sleep=lambda _: None)
    assert arn in str(refused.value)
    assert refused.value.__cause__ is None
