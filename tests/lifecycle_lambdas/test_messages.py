"""What whoever watches is told, and how it reaches a chat."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from lifecycle_lambdas import endpoint_runs
from lifecycle_lambdas.handlers import notify
from lifecycle_lambdas.handlers.notify import NotPosted, Webhook, payload, post
from lifecycle_lambdas.messages import (
    LONGEST_HEADER,
    LONGEST_SUBJECT,
    LONGEST_TEXT,
    MOST_FIELDS,
    MOST_SECTIONS,
    Message,
    compared,
    duration,
    of_deployment,
    of_endpoint,
    of_entry,
    of_going_back,
    remedy,
    short_name,
)
from lifecycle_lambdas.records import Deployment, Entry, TestRun

START = datetime(2026, 11, 21, 8, 12, 5, tzinfo=UTC)
ANN = "arn:aws:iam::123456789012:user/teams/ann"
STACK = "arn:aws:cloudformation:eu-central-1:123456789012:stack/SC-churn/1b2c-3d4e"
ENTRY = "ENTRY#2026-11-21T08:12:05Z#0000000012#approve"


def arn(version: int) -> str:
    return f"arn:aws:sagemaker:eu-central-1:123456789012:model-package/churn-prod/{version}"


def package(version: int, **metrics: str) -> dict[str, Any]:
    metadata = {f"metric.{name}": value for name, value in metrics.items()}
    lineage = {
        "git.commit": "0a1b2c3d",
        "git.branch": "dev",
        "git.repository": "https://github.com/acme/churn",
        "report": "s3://models/churn/report.html",
    }
    return {"ModelPackageArn": arn(version), "CustomerMetadataProperties": metadata | lineage}


NEW = package(12, main="auc", auc="0.9123456", logloss="0.31", threshold="0.8", tolerance="0.01")
OLD = package(11, main="auc", auc="0.9", threshold="0.8")


def entry(kind: str, **changes: Any) -> Entry:
    given = {"package_arn": arn(12), "why": "better on the east coast", "until": None} | changes
    return Entry("churn-prod", kind, START, given["package_arn"], ANN, given["why"], "event", given["until"])  # type: ignore[arg-type]


def deployment(seconds: int | None = 372) -> Deployment:
    ended = None if seconds is None else START + timedelta(seconds=seconds)
    return Deployment("churn-prod", 7, ENTRY, arn(12), {}, "ab", "under-way", START, ended=ended)


# --- what they say


def test_an_approval_says_who_approved_what_from_which_commit_and_how_good_it_is():
    message = of_entry(entry("approve"), NEW, OLD)
    assert message.title == "churn-prod: version 12 approved by ann"
    assert message.as_text() == (
        "churn-prod: version 12 approved by ann\n\n"
        f"By: {ANN}\nAt: 2026-11-21 08:12:05 UTC\nWhy: better on the east coast\nCommit: 0a1b2c3d\nBranch: dev\n"
        "auc: 0.9123 (version 11: 0.9)\nlogloss: 0.31\n\n"
        "Report: s3://models/churn/report.html\n"
        "Endpoint: https://eu-central-1.console.aws.amazon.com/sagemaker/home?region=eu-central-1#/endpoints/churn-prod\n"
        "Repository: https://github.com/acme/churn"
    )


@pytest.mark.parametrize(
    ("asked", "title"),
    [
        (entry("reject"), "version 12 rejected by ann"),
        (entry("go-back"), "ann goes back to version 12"),
        (entry("park", package_arn=None), "ann lets nothing serve until something is approved"),
        (
            entry("park", package_arn=None, until=START + timedelta(days=1)),
            "ann lets nothing serve until 2026-11-22 08:12:05 UTC",
        ),
        (replace(entry("remove", package_arn=None), by=STACK), "removed by SC-churn"),
    ],
)
def test_every_entry_has_a_message(asked, title):
    assert of_entry(asked, None, None).title == f"churn-prod: {title}"


def test_a_deployment_says_how_long_it_took():
    message = of_deployment("deployed", deployment(), approved_by=ANN, package=NEW, before=OLD)
    assert message.title == "churn-prod: version 12 serves"
    assert ("Took", "6 min 12 s") in message.facts
    assert ("auc", "0.9123 (version 11: 0.9)") in message.facts


def test_a_failed_deployment_says_what_happened_and_what_to_do():
    failed = of_deployment("failed", deployment(), approved_by=ANN, reason="Alarm rang.", remedy="Approve it again.")
    assert failed.title == "churn-prod: version 12 could not be deployed"
    assert failed.text == "Alarm rang.\nApprove it again."
    assert dict(failed.links)["Endpoint"].endswith("#/endpoints/churn-prod")


def test_the_same_news_has_the_same_id_and_other_news_another():
    ids = {
        of_entry(entry("approve"), NEW, OLD).id,
        of_entry(entry("approve"), None, None).id,
        of_entry(entry("reject"), None, None).id,
        of_deployment("deployed", deployment(), approved_by=ANN).id,
        of_deployment("failed", deployment(None), approved_by="unknown").id,
        of_endpoint("removed", "churn-prod", ENTRY, "").id,
        of_endpoint("stuck", "churn-prod", ENTRY, "waits").id,
    }
    assert len(ids) == 6


def test_metrics_begin_with_the_main_one_and_words_stay_words():
    version = package(2, main="rmse", mae="1.23456789e-7", rmse="nan-ish", aic="3")
    assert compared(version, None) == (("rmse", "nan-ish"), ("aic", "3"), ("mae", "1.235e-07"))
    assert compared(None, OLD) == ()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.7, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")]
)
def test_durations_are_in_words(seconds, words):
    assert duration(timedelta(seconds=seconds)) == words


def test_people_are_called_by_the_end_of_their_arn():
    assert short_name("arn:aws:sts::123456789012:assumed-role/Admin/ann@example.com") == "ann@example.com"
    assert short_name("arn:aws:iam::123456789012:root") == "arn:aws:iam::123456789012:root"
    assert short_name("unknown") == "unknown"


def test_other_partitions_have_consoles_of_their_own():
    chinese = arn(1).replace("arn:aws:", "arn:aws-cn:").replace("eu-central-1", "cn-north-1")
    link = dict(of_entry(entry("approve", package_arn=chinese), {"ModelPackageArn": chinese}, None).links)["Endpoint"]
    assert link.startswith("https://cn-north-1.console.amazonaws.cn/sagemaker/home?region=cn-north-1#")


# --- in which form


def test_in_slack_nothing_can_be_smuggled_in_by_a_text():
    slack = of_entry(entry("approve", why="<!channel> & <https://evil.example|our report>"), None, None).as_slack()
    assert "&lt;!channel&gt; &amp; &lt;https://evil.example|our report&gt;" in json.dumps(slack)
    assert "<!channel>" not in json.dumps(slack)


def test_in_slack_everything_keeps_within_its_limits():
    facts = tuple((f"metric {n}", "x" * 3000) for n in range(23))
    text = "y" * 100_000 + "\nthe end"
    slack = Message("failed", "churn-prod", "1", "t" * 400, text, facts, (("Report", "s3://a/b"),)).as_slack()
    header, *texts = slack["blocks"][: MOST_SECTIONS + 1]
    *sections, links = slack["blocks"][MOST_SECTIONS + 1 :]
    assert len(header["text"]["text"]) <= LONGEST_HEADER
    assert all(len(one["text"]["text"]) <= LONGEST_TEXT for one in texts)
    assert texts[-2]["text"]["text"] == "..."
    assert texts[-1]["text"]["text"].endswith("the end")
    assert [len(section["fields"]) for section in sections] == [MOST_FIELDS, MOST_FIELDS, 3]
    assert all(len(field["text"]) <= 2000 for section in sections for field in section["fields"])
    assert links["text"]["text"] == "Report: `s3://a/b`"


def failed_tests(failures: tuple[str, ...]) -> list[str]:
    """Of the message in Slack's format what its text became."""
    run = TestRun("churn-prod", 7, arn(12), "deployed", "failed", "go-back", START, START, 30, 8, failures)
    return [one["text"]["text"] for one in endpoint_runs.message(run).as_slack()["blocks"][1:] if "text" in one]


def test_in_slack_the_first_failures_of_endpoint_tests_stand_in_full_and_what_follows():
    failures = tuple(f"case {number}: expected 1, came {'x' * 1900} at its end" for number in range(5))
    texts = failed_tests(failures)
    assert all(len(text) <= LONGEST_TEXT for text in texts)
    assert all(any(failure in text for text in texts) for failure in failures)
    assert "what served before it comes back" in texts[-1]


def test_in_slack_no_escaped_character_is_cut_in_two():
    texts = failed_tests((f"case 1: {'&' * 1900}",))
    assert all(len(text) <= LONGEST_TEXT for text in texts)
    assert sum(text.count("&amp;") for text in texts) == sum(text.count("&") for text in texts) == 1900


def test_a_subject_is_short_ascii():
    subject = Message("approved", "e", "1", "Jürgen " + "x" * 200).subject
    assert subject.startswith("J?rgen xxx")
    assert len(subject) < LONGEST_SUBJECT
    assert Message("approved", "e", "1", "churn: done").subject == "churn: done"


def test_the_topic_carries_text_for_everybody_and_slacks_format_for_the_function():
    message = of_entry(entry("approve"), NEW, OLD)
    body = json.loads(message.body())
    assert body["default"] == message.as_text()
    assert payload({"Message": body["lambda"]}) == message.as_slack()


def test_the_context_tells_the_same_news_once(context, told):
    message = of_entry(entry("approve"), NEW, OLD)
    for _ in range(2):
        context.tell(message)
    context.tell(of_entry(entry("reject"), NEW, None))
    assert sorted(text.splitlines()[0] for text in told()) == [
        "churn-prod: version 12 approved by ann",
        "churn-prod: version 12 rejected by ann",
    ]


# --- to a chat


class Chat:
    """An HTTP server that answers what it is told to, and keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.bodies: list[Any] = []
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                chat.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(chat.answers.pop(0) if chat.answers else 200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Not on the tests' output."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/T0/B0/secret-token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """Can be called again."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Secrets:
    """Secrets Manager with one secret."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def get_secret_value(self, SecretId: str) -> dict[str, str]:
        return {"ARN": SecretId, "SecretString": self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]}


@pytest.fixture
def chat() -> Iterator[Chat]:
    server = Chat()
    yield server
    server.close()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def send(chat: Chat, pauses: list[float]) -> Callable[[], None]:
    return lambda: post(Webhook(Secrets(chat.url), "arn:secret"), {"text": "hello"}, pauses.append)


def test_a_message_is_posted_once(send, chat, pauses):
    send()
    assert (chat.bodies, pauses) == ([{"text": "hello"}], [])


@pytest.mark.parametrize("trouble", [500, 503, 429])
def test_a_chat_in_trouble_is_tried_again_after_longer_and_longer_pauses(send, chat, pauses, trouble):
    chat.answers = [trouble, trouble]
    send()
    assert (len(chat.bodies), pauses) == (3, [1.0, 2.0])


def test_a_chat_that_stays_in_trouble_is_an_error_so_that_lambda_comes_again(send, chat, pauses, capsys):
    chat.answers = [500] * 3
    with pytest.raises(NotPosted, match=r"answered 500 .* 3 times"):
        send()
    assert (len(chat.bodies), pauses) == (3, [1.0, 2.0])


def test_a_chat_that_refuses_is_not_asked_again_and_the_secret_is_read_anew(chat):
    chat.answers = [403]
    webhook = Webhook(Secrets(chat.url + "-old", chat.url), "arn:secret")
    with pytest.raises(NotPosted, match="answered 403"):
        post(webhook, {"text": "hello"})
    assert len(chat.bodies) == 1
    post(webhook, {"text": "hello"})
    assert webhook.url() == chat.url


def test_the_webhooks_address_is_in_no_log_and_no_error(send, chat, capsys):
    chat.answers = [500, 500, 404]
    with pytest.raises(NotPosted) as refused:
        send()
    chat.close()
    with pytest.raises(NotPosted) as unreachable:
        send()
    written = "".join(capsys.readouterr())
    assert "not posted" in written
    for text in (written, str(refused.value), str(unreachable.value)):
        assert "secret-token" not in text
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("text", ['{"url": "%s"}', " %s\n"])
def test_the_secret_is_the_address_or_json_with_it(chat, text):
    assert Webhook(Secrets(text % chat.url), "arn:secret").url() == chat.url


@pytest.mark.parametrize("text", ["", "none", "file:///etc/passwd", "{}"])
def test_a_secret_without_a_web_address_is_an_error_that_names_the_secret(text):
    with pytest.raises(NotPosted, match="arn:secret holds no web address"):
        Webhook(Secrets(text), "arn:secret").url()


def test_without_a_secret_there_is_nothing_to_do_and_that_is_said_once(monkeypatch, capsys):
    monkeypatch.delenv("WEBHOOK_SECRET_ARN", raising=False)
    notify._webhook.cache_clear()
    for _ in range(2):
        notify.handler({"Records": [{"Sns": {"Message": "hello"}}]}, None)
    assert capsys.readouterr().err.count("no chat is told") == 1


def test_the_function_posts_what_the_topic_was_told_but_no_alarm_that_is_new_and_finds_all_well(aws, chat, monkeypatch):
    secret = aws.client("secretsmanager").create_secret(Name=f"webhook-{id(chat)}", SecretString=chat.url)["ARN"]
    monkeypatch.setenv("WEBHOOK_SECRET_ARN", secret)
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    notify._webhook.cache_clear()
    message = of_entry(entry("approve"), NEW, OLD)
    notification = {"Subject": message.subject, "Message": json.loads(message.body())["lambda"]}
    quiet = {"Message": json.dumps(ALARM | {"OldStateValue": "INSUFFICIENT_DATA", "NewStateValue": "OK"})}
    notify.handler({"Records": [{"Sns": notification}, {"Sns": quiet}]}, None)
    assert chat.bodies == [message.as_slack()]


# CloudWatch user guide, "Alarm notifications in Amazon SNS"
ALARM = {
    "AlarmName": "churn-prod-errors",
    "AlarmDescription": None,
    "NewStateValue": "ALARM",
    "NewStateReason": "Threshold Crossed: 1 datapoint (0.2) was greater than the threshold (0.05).",
    "StateChangeTime": "2023-01-12T16:30:42.236+0000",
    "Region": "EU (Ireland)",
    "OldStateValue": "OK",
}


def test_an_alarm_is_put_into_words():
    assert payload({"Subject": "ALARM: ...", "Message": json.dumps(ALARM)}) == {
        "text": f":rotating_light: churn-prod-errors is ALARM: {ALARM['NewStateReason']}"
    }
    over = payload({"Message": json.dumps(ALARM | {"NewStateValue": "OK"})})
    assert over["text"].startswith(":information_source: churn-prod-errors is OK")


@pytest.mark.parametrize("text", ["hello <you>", "7", '["a"]', '{"a": 1}'])
def test_whatever_else_the_topic_is_told_is_posted_as_it_is(text):
    assert payload({"Message": text, "Subject": "News"})["text"].replace("&lt;", "<").replace("&gt;", ">") == (
        f"News\n{text}"
    )


@pytest.mark.parametrize(
    ("reason", "who"),
    [
        ("ResourceLimitExceeded: The account-level service limit 'ml.m5.large' is 2", "Whoever owns the account: ask"),
        (
            "AccessDeniedException: x is not authorized to perform: sagemaker:CreateModel",
            "administers the platform: give",
        ),
        ("ValidationException: Could not assume role x.", "administers the platform: give"),
        ("AccessDenied: x is not authorized to perform: kms:Decrypt on key k", "Whoever owns the key: enable it"),
        ("KMS.DisabledException: the key is disabled", "Whoever owns the key: enable it"),
        (
            "there is a model churn-prod-3 of no model package: delete or rename it",
            "administers the platform: put it right",
        ),
    ],
)
def test_who_has_to_do_what_is_said_of_what_holds_an_endpoint_up(reason, who):
    assert who in remedy(reason)


# --- the controller's own going back


def test_going_back_says_what_happened_and_lists_what_to_look_at() -> None:
    back = entry("go-back", package_arn=arn(11), why="the alarm churn-prod-errors is raised, since 08:40 UTC")
    back = replace(back, leaves=arn(12), cause="ALARM#12")
    message = of_going_back(back, ("the dashboard", "the logs", "the record"), OLD, NEW, (("Incident", "s3://a/b.md"),))
    assert (message.kind, message.title) == ("went-back", "churn-prod: goes back to version 11 by itself")
    assert message.id == f"went-back#{back.key}"
    lines = message.as_text().splitlines()
    assert lines[2].startswith(
        "The alarm churn-prod-errors is raised, since 08:40 UTC. When it serves again, version 12"
    )
    assert lines[3:6] == ["1. the dashboard", "2. the logs", "3. the record"]
    assert "auc: 0.9123 (version 11: 0.9)" in lines
    assert "Incident: s3://a/b.md" in lines
    assert message.as_slack()["blocks"][0]["text"]["text"].startswith(":rewind:")
