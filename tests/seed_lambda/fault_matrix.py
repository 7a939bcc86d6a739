"""Creating, updating and deleting a project, and every call of it failed in every way that a call fails.

A scenario is run once undisturbed, which tells its calls and how it ends; then once more for each call and each kind
of fault. CloudFormation and Lambda do around it what they do: they call again what was killed, take back what failed,
and somebody deletes again what could not be deleted; a creation is given up while the function is still at it; in the
end every event comes once more. However it was disturbed: everything is there as in the undisturbed run, or nothing of
it is; what is somebody else's is as it was; nothing secret was said.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import tempfile
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch

from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError
from urllib3 import exceptions

from seed_lambda import handler
from seed_lambda.answer import NotDelivered
from seed_lambda.context import Context
from seed_lambda.request import Request, parse
from seed_lambda.settings import Settings
from tests.faulty_calls import Call, Fault, Killed
from tests.seed_lambda.requests import OTHER_STACK, REGION, TOKEN, event, project
from tests.seed_lambda.simulated_aws import CODE_BUCKET, QUEUE_URL, SECRET_ARN, arn, group_arn, installed, refusal
from tests.seed_lambda.simulated_github import BASE_URL, OWNER, SimulatedGitHub, response
from tests.seed_lambda.small_template import ARCHIVE

FUNCTION_SECONDS = 900.0  # Timeout in platform.yaml
TRIES = 3  # Lambda's, of an asynchronous call: MaximumRetryAttempts in platform.yaml and one
CALL_SECONDS = 0.05
UNREACHABLE_SECONDS, SILENT_SECONDS = 22.0, 84.0  # what botocore's four tries take
SIGNATURE = "X-Amz-Signature-0123456789abcdef"
RESPONSE_URL = f"https://cloudformation-custom-resource-response-eucentral1.s3.amazonaws.com/a?{SIGNATURE}"
# What can happen to a call here (tests.faulty_calls.Fault).
KINDS = ("error", "throttled", "not sent", "not answered", "closed", "killed before", "killed after")
# Only while a stack is created: it gives up (another resource failed, somebody deletes it), and its Delete is over
# before the call is made, or when it has just been made.
GIVEN_UP = ("given up before", "given up after")
SETTINGS = Settings("codecommit", BASE_URL, OWNER, SECRET_ARN, CODE_BUCKET, QUEUE_URL, REGION)


@dataclass
class Account:
    """An account with CloudFormation, Lambda and the two Git hosts around the function."""

    host: str
    fault: Fault | None = None
    counting: bool = False
    made: list[Call] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    hit: bool = False
    dead: bool = False
    seconds: float = 0.0
    answers: list[dict[str, Any]] = field(default_factory=list)
    outcomes: list[bool] = field(default_factory=list)  # of each request, as CloudFormation heard it
    said: io.StringIO = field(default_factory=io.StringIO)
    requests: int = 0
    sent: list[dict[str, Any]] = field(default_factory=list)  # the function's events
    creating: dict[str, Any] = field(default_factory=dict)  # properties
    given_up: bool = False

    def __post_init__(self) -> None:
        self.aws = installed(token=TOKEN, archive=ARCHIVE)
        self.github = SimulatedGitHub()
        self.aws.around = self.github.around = self.around
        self.aws.on_message = lambda body: self.take_away(json.loads(body)["endpoint"])
        self.add_others_things()

    # --- calls

    def around(self, service: str, operation: str, call: Callable[[], Any]) -> Any:
        self.go_on()
        self.seconds += CALL_SECONDS
        kind = ""
        if self.counting:
            self.counts[service, operation] += 1
            made = Call(service, operation, self.counts[service, operation])
            self.made.append(made)
            if self.fault is not None and self.fault.call == made:
                self.hit, kind = True, self.fault.kind
        if not kind:
            return call()
        if kind in GIVEN_UP:
            return self.give_up(kind, call)
        return (self.fail_host if service == "github" else self.fail_aws)(kind, service, operation, call)

    def go_on(self) -> None:
        if self.dead:
            raise Killed

    def die(self) -> None:
        self.dead = True
        raise Killed

    def fail_aws(self, kind: str, service: str, operation: str, call: Callable[[], Any]) -> Any:
        address = f"https://{service}.{REGION}.amazonaws.com/"
        if operation == "answer":
            return self.fail_answer(kind, call)
        if kind == "error":
            raise refusal(operation, "InternalFailure", "try again", 500)
        if kind == "throttled":
            raise refusal(operation, "ThrottlingException", "Rate exceeded")
        if kind == "not sent":
            self.seconds += UNREACHABLE_SECONDS
            raise EndpointConnectionError(endpoint_url=address)
        if kind == "killed before":
            self.die()
        call()
        if kind == "killed after":
            self.die()
        if kind == "not answered":
            self.seconds += SILENT_SECONDS
            raise ReadTimeoutError(endpoint_url=address)
        raise ConnectionClosedError(endpoint_url=address)

    def fail_host(self, kind: str, service: str, operation: str, call: Callable[[], Any]) -> Any:
        if kind == "error":
            return response(502, {"message": "Server Error"})
        if kind == "throttled":
            limited = {"message": "You have exceeded a secondary rate limit."}
            return response(429, limited, Retry_After="2")
        if kind == "not sent":
            raise exceptions.ProtocolError("Connection refused")
        if kind == "killed before":
            self.die()
        call()
        if kind == "killed after":
            self.die()
        if kind == "not answered":
            raise exceptions.ReadTimeoutError(None, BASE_URL, "Read timed out.")  # type: ignore[arg-type]
        raise exceptions.ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer"))

    def give_up(self, kind: str, call: Callable[[], Any]) -> Any:
        """The stack takes its creation back, by another call of the function, while this one is still at it."""
        answer = call() if kind == "given up after" else None
        self.given_up = True
        self.outcomes.append(False)
        self.roll_back()
        self.aws.stack_status = "ROLLBACK_COMPLETE"
        return call() if kind == "given up before" else answer

    def fail_answer(self, kind: str, call: Callable[[], Any]) -> Any:
        if kind in ("error", "throttled"):
            raise urllib.error.HTTPError(RESPONSE_URL, 503, "Slow Down", {}, None)  # type: ignore[arg-type]
        if kind == "not sent":
            raise urllib.error.URLError("Connection refused")
        if kind == "killed before":
            self.die()
        call()
        if kind == "killed after":
            self.die()
        raise TimeoutError("timed out")

    # --- Lambda and CloudFormation

    @contextlib.contextmanager
    def running(self) -> Iterator[Account]:
        """The function's clock, connections and log are these."""
        environment = {"AWS_REGION": REGION, "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/modelyard-seed"}
        with (
            tempfile.TemporaryDirectory() as folder,  # a new machine of Lambda's
            patch.object(tempfile, "tempdir", folder),
            self.github.reachable(),
            patch("seed_lambda.answer.urllib.request.urlopen", self.put_answer),
            patch.object(handler.Context, "of", self.context),
            patch.dict(os.environ, environment),
            contextlib.redirect_stderr(self.said),
        ):
            yield self

    def context(self, request: Request, client: Any, seconds: float) -> Context:
        return Context(
            request, SETTINGS, client, self.seconds + seconds, monotonic=lambda: self.seconds, sleep=self.sleep
        )

    def sleep(self, seconds: float) -> None:
        self.go_on()
        self.seconds += seconds
        for executions in self.aws.pipelines.values():
            for execution, status in executions.items():
                executions[execution] = "Stopped" if status == "Stopping" else status

    def put_answer(self, request: Any, timeout: float) -> Any:
        def take() -> Any:
            assert len(request.data) <= 4096
            assert request.full_url == RESPONSE_URL
            self.answers.append(json.loads(request.data))
            return contextlib.nullcontext(partial_status())

        return self.around("cloudformation", "answer", take)

    def call_function(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """Lambda calls, up to three times; the first answer is what counts. None: nobody answered."""
        before = len(self.answers)
        self.requests += 1
        body |= {"RequestId": f"request-{self.requests}", "ResponseURL": RESPONSE_URL}
        self.sent.append(body)
        for number in range(TRIES):
            self.dead = False
            try:
                handler.respond(parse(body), FUNCTION_SECONDS, self.aws)
            except (Killed, NotDelivered):
                self.seconds += 60 * (number + 1)
                if len(self.answers) > before:
                    self.settle(body["RequestType"], self.answers[before])
                continue
            break
        self.dead = False
        return self.answers[before] if len(self.answers) > before else None

    def hear_again(self) -> list[str]:
        """Lambda may deliver an event more than once, however late: what of the state that changes."""
        before, self.counting = self.state(), False
        for body in self.sent:
            with contextlib.suppress(NotDelivered):
                handler.respond(parse(body), FUNCTION_SECONDS, self.aws)
        after = self.state()
        return [f"{what} changed when events came again" for what in before if after[what] != before[what]]

    def settle(self, request_type: str, answer: Mapping[str, Any]) -> None:
        ended = "COMPLETE" if answer["Status"] == "SUCCESS" else "FAILED"
        self.aws.resource_status = f"{request_type.upper()}_{ended}"

    def request(self, request_type: str, stack_status: str, properties: dict[str, Any], **more: Any) -> bool:
        """One request to the resource; whether it succeeded."""
        self.aws.resource_status, self.aws.stack_status = f"{request_type.upper()}_IN_PROGRESS", stack_status
        answer = self.call_function(event(request_type, properties, **more))
        succeeded = answer is not None and answer["Status"] == "SUCCESS"
        self.aws.resource_status = f"{request_type.upper()}_{'COMPLETE' if succeeded else 'FAILED'}"
        self.outcomes.append(succeeded)
        return succeeded

    def create(self, **properties: Any) -> bool:
        """A stack is created, and taken back where that fails."""
        given = self.project(**properties)
        self.aws.stack_events = ("CREATE_IN_PROGRESS",)
        self.creating = given
        succeeded = self.request("Create", "CREATE_IN_PROGRESS", given)
        if self.given_up:
            self.aws.resource_status = "DELETE_COMPLETE"
            return False
        if succeeded:
            self.aws.stack_events += ("CREATE_COMPLETE",)
        else:
            self.roll_back()
        return succeeded

    def roll_back(self) -> None:
        if not self.request("Delete", "ROLLBACK_IN_PROGRESS", self.creating):
            raise AssertionError(f"the roll-back failed: {self.answers[-1:]}")

    def update(self, old: dict[str, Any], new: dict[str, Any]) -> bool:
        before, after = self.project(**old), self.project(**new)
        if self.request("Update", "UPDATE_IN_PROGRESS", after, OldResourceProperties=before):
            return True
        if not self.request("Update", "UPDATE_ROLLBACK_IN_PROGRESS", before, OldResourceProperties=after):
            raise AssertionError(f"the roll-back failed: {self.answers[-1:]}")
        return False

    def delete(self, **properties: Any) -> bool:
        """A stack is deleted, and once more where that fails: whether the first try did it."""
        given = self.project(**properties)
        if self.request("Delete", "DELETE_IN_PROGRESS", given):
            return True
        if not self.request("Delete", "DELETE_IN_PROGRESS", given):
            raise AssertionError(f"deleting again failed: {self.answers[-1:]}")
        return False

    def project(self, **changes: Any) -> dict[str, Any]:
        return project(**{"GitHost": self.host, "GitOwner": OWNER if self.host == "github" else "none"} | changes)

    def begin(self) -> None:
        """From here on calls are counted, and the fault may happen."""
        self.counting = True

    # --- what is there

    def take_away(self, endpoint: str) -> None:
        """What the controller does with the function's message."""
        self.aws.endpoints.pop(endpoint, None)

    def add_life(self) -> None:
        """Versions, pipelines, an endpoint and a retraining schedule, as a project that is used has them."""
        for group in ("churn-dev", "churn-feature"):
            self.aws.groups[group] = [arn("sagemaker", f"model-package/{group}/{number}") for number in range(1, 4)]
        for name, statuses in {"churn-dev": ["Executing", "Failed"], "churn-feature-x-1a2b3c": ["Succeeded"]}.items():
            pipeline = arn("sagemaker", f"pipeline/{name}")
            self.aws.pipelines[name] = {f"{pipeline}/execution/{one}": one for one in statuses}
            self.aws.tags[pipeline] = {"modelyard:project": "churn"}
        self.aws.endpoints["churn-dev"] = "InService"
        of_stage = {"modelyard:project": "churn", "modelyard:stage": "dev"}
        self.aws.tags[arn("sagemaker", "endpoint/churn-dev")] = of_stage
        self.schedule_retraining("churn")

    def schedule_retraining(self, project: str) -> None:
        self.aws.schedules.add(f"{project}-retrain")
        self.aws.schedule_roles[f"{project}-retrain"] = f"modelyard/ci/{project}-ci-retrain"

    def add_others_things(self) -> None:
        """A project churn-dev, whose names begin the same, of another stack."""
        for name in ("churn-dev-dev", "churn-dev-prod"):
            self.aws.groups[name] = [arn("sagemaker", f"model-package/{name}/1")]
            self.aws.tags[group_arn(name)] = {"modelyard:stack": OTHER_STACK, "modelyard:project": "churn-dev"}
        self.schedule_retraining("churn-dev")
        self.aws.create_repository("churn-dev", {"modelyard:stack": OTHER_STACK})
        self.github.make("POST", {"name": "churn-dev", "description": "", "homepage": ""}, OWNER)

    def state(self) -> dict[str, Any]:
        """All that must be the same however it came about; commits by their files, since they carry times."""
        aws = self.aws
        found = {
            "groups": {name: (sorted(versions), aws.tags[group_arn(name)]) for name, versions in aws.groups.items()},
            "pipelines": sorted(aws.pipelines),
            "endpoints": sorted(aws.endpoints),
            "schedules": sorted(aws.schedules),
            "codecommit": {
                name: {
                    "metadata": one["metadata"],
                    "tags": aws.tags[one["metadata"]["Arn"]],
                    "branches": {
                        branch: aws.commits[name, commit]["files"] for branch, commit in one["branches"].items()
                    },
                    "heads": len(set(one["branches"].values())),
                }
                for name, one in aws.repositories.items()
            },
            "github": {
                name: {
                    "description": one.description,
                    "homepage": one.homepage,
                    "default": one.default_branch,
                    "variables": one.variables,
                    "rulesets": one.rulesets,
                    "branches": {branch: one.files(branch) for branch in one.branches},
                    "heads": len(set(one.branches.values())),
                }
                for name, one in self.github.repositories.items()
            },
        }
        return copy.deepcopy(found)

    def faults(self) -> list[str]:
        """What may be at no scenario's end."""
        said = self.said.getvalue() + json.dumps(self.answers)
        found = [f"{what} was said" for what, secret in _SECRETS.items() if secret in said]
        ids = {answer["PhysicalResourceId"] for answer in self.answers}
        if ids - {"modelyard-project/churn"}:
            found.append(f"other physical ids: {ids}")
        return found


_SECRETS = {"the token": TOKEN, "the response's address": SIGNATURE}


def partial_status() -> Any:
    """urlopen's answer."""

    @dataclass
    class Answered:
        status: int = 200

    return Answered()


# --- scenarios


def created(account: Account) -> None:
    account.begin()
    account.create()


def created_empty(account: Account) -> None:
    account.begin()
    account.create(InitialContent="empty", Scenario="advanced")


def updated(account: Account) -> None:
    assert account.create()
    changes = {"Description": "Who leaves within a year", "CiVariables": {"AWS_REGION": REGION, "NEW": "1"}}
    account.begin()
    account.update({}, {"Scenario": "advanced", **changes})


def pushed(account: Account) -> None:
    """The person has pushed into the empty repository; then the stack says so."""
    assert account.create(InitialContent="empty")
    push(account, "prod", "dev")
    account.begin()
    account.update({"InitialContent": "empty"}, {"InitialContent": "pushed"})


def deleted(account: Account) -> None:
    assert account.create()
    account.add_life()
    account.begin()
    account.delete()


def deleted_with_its_repository(account: Account) -> None:
    assert account.create()
    account.add_life()
    account.begin()
    account.delete(OnDelete="delete")


def deleted_twice(account: Account) -> None:
    assert account.create()
    assert account.delete(OnDelete="delete")
    account.begin()
    account.delete(OnDelete="delete")


def deleted_before_its_stack_was_complete(account: Account) -> None:
    """The function had done its part when somebody deleted the stack."""
    assert account.create()
    account.aws.stack_events = ("CREATE_IN_PROGRESS", "DELETE_IN_PROGRESS")
    account.begin()
    account.delete()


SCENARIOS: dict[str, Callable[[Account], None]] = {
    scenario.__name__: scenario
    for scenario in (
        created,
        created_empty,
        updated,
        pushed,
        deleted,
        deleted_with_its_repository,
        deleted_twice,
        deleted_before_its_stack_was_complete,
    )
}
HOSTS = ("codecommit", "github")


def push(account: Account, *branches: str) -> None:
    """What a person does with git."""
    if account.host == "codecommit":
        content = [{"filePath": "README.md", "fileContent": b"mine", "fileMode": "NORMAL"}]
        commit = account.aws.create_commit("churn", branches[0], content, "ada", "ada@example.com", "x")["commitId"]
        for branch in branches[1:]:
            account.aws.create_branch("churn", branch, commit)
        return
    from seed_lambda.hosts import File
    from seed_lambda.hosts.git_push import commit_of

    made = commit_of({"README.md": File(b"mine")}, "x", 0)
    stored = account.github.repositories["churn"].git
    for one in made.objects:
        stored.object_store.add_object(one)
    for branch in branches:
        stored.refs[f"refs/heads/{branch}".encode()] = made.commit.encode()


@dataclass(frozen=True)
class Undisturbed:
    """How a scenario goes by itself: its calls, what was before it began to count, and how it ends."""

    calls: tuple[Call, ...]
    before: dict[str, Any]
    end: dict[str, Any]


def run(scenario: str, host: str, fault: Fault | None) -> tuple[Account, dict[str, Any]]:
    """The account afterwards, and the state when the scenario began to count.

    Raises AssertionError when a roll-back or a second deletion fails, or an event that comes again changes something.
    """
    account = Account(host, fault)
    before: dict[str, Any] = {}
    begin = account.begin

    def noted() -> None:
        before.update(account.state())
        begin()

    account.begin = noted  # type: ignore[method-assign]
    with account.running():
        SCENARIOS[scenario](account)
        assert not (changed := account.hear_again()), changed
    return account, before


@cache
def undisturbed(scenario: str, host: str) -> Undisturbed:
    account, before = run(scenario, host, None)
    assert all(account.outcomes), account.answers
    assert not account.faults(), account.faults()
    return Undisturbed(tuple(account.made), before, account.state())


def cases(scenario: str, host: str) -> Iterator[Fault]:
    for call in undisturbed(scenario, host).calls:
        for kind in (*KINDS, *GIVEN_UP) if scenario.startswith("created") else KINDS:
            yield Fault(call, kind)


def faults_of(scenario: str, host: str, fault: Fault) -> list[str]:
    """What is not as it should be, after this fault."""
    expected = undisturbed(scenario, host)
    try:
        account, _ = run(scenario, host, fault)
    except AssertionError as error:
        return [f"{type(error).__name__}: {error}"]
    found = account.faults()
    if not account.hit:
        found.append("the call was not made")
    end = account.state()
    ends = [expected.end] if scenario.startswith("deleted") else [expected.end, expected.before]
    if scenario == "pushed":
        ends.append(_with_default_branch(expected.before, host))
    if end not in ends:
        found += [
            f"{what}: {end[what]} instead of {[one[what] for one in ends]}"
            for what in end
            if all(end[what] != one[what] for one in ends)
        ] or ["neither all of it nor nothing"]
    # of an update or a roll-back the last outcome is the roll-back's
    elif scenario.startswith("created") and account.outcomes[0] != (end == expected.end):
        found.append(f"CloudFormation heard {account.outcomes}, and it is otherwise")
    return found


def _with_default_branch(state: dict[str, Any], host: str) -> dict[str, Any]:
    """What the person pushed is theirs: a default branch that was set already is not taken back."""
    changed = copy.deepcopy(state)
    if host == "github":
        changed["github"]["churn"]["default"] = "dev"
    else:
        changed["codecommit"]["churn"]["metadata"]["defaultBranch"] = "dev"
    return changed
