"""An account with CloudFormation, Lambda and the two Git hosts around the seed function, in which a call fails."""

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
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError
from urllib3 import exceptions

from local_aws.api_calls import throttling
from local_aws.request_checks import service_model
from seed_lambda import handler
from seed_lambda.answer import NotDelivered
from seed_lambda.context import Context
from seed_lambda.request import Request, parse
from seed_lambda.settings import Settings
from tests.faulty_calls import Call, Fault, Killed
from tests.seed_lambda.requests import OTHER_STACK, REGION, TEMPLATE, TOKEN, event, project
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
# From the call on, until somebody puts it right, the Git host refuses for an hour, cannot be reached, or takes the
# function's credentials no more; the last one when the call was made and the function was killed.
LASTING = ("limited from here", "down from here", "refused from here", "killed, then refused")
MADE, PUBLISHED = "modelyard-project/churn", "modelyard-template/modelyard-template"  # ids of what was made
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
    heard: dict[str, Any] = field(default_factory=dict)  # the last request's answer; none when nobody gave one
    asked: list[str] = field(default_factory=list)  # endpoints that the controller is to take away
    silent: str = ""  # which of LASTING it is by now
    since: float = 0.0  # when the function was requested

    def __post_init__(self) -> None:
        self.aws = installed(token=TOKEN, archive=ARCHIVE)
        self.aws.resource_age = lambda: self.seconds - self.since
        self.github = SimulatedGitHub()
        self.aws.around = self.github.around = self.around
        self.aws.on_message = lambda body: self.asked.append(json.loads(body)["endpoint"])
        self.add_others_things()

    # --- calls

    def around(self, service: str, operation: str, call: Callable[[], Any]) -> Any:
        self.go_on()
        self.seconds += CALL_SECONDS
        kind, fails = "", self.fail_host if service == "github" else self.fail_aws
        if self.silent and service == self.host:
            return fails(self.silent, service, operation, call)
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
        if kind in LASTING:
            self.silent = kind
            if kind == "killed, then refused":
                call()
                self.die()
        return fails(kind, service, operation, call)

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
        if kind in ("throttled", "limited from here"):
            code, status = throttling(service, service_model(service).operation_model(operation))
            raise refusal(operation, code, "Rate exceeded", status)
        if kind in ("refused from here", "killed, then refused"):
            raise refusal(operation, "AccessDeniedException", "not authorized")
        if kind in ("not sent", "down from here"):
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
        if kind == "limited from here":
            return response(403, {"message": "API rate limit exceeded"}, Retry_After="3000")
        if kind in ("refused from here", "killed, then refused"):
            return response(401, {"message": "Bad credentials"})
        if kind in ("not sent", "down from here"):
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
        settings = replace(SETTINGS, git_host=self.host)
        return Context(
            request, settings, client, self.seconds + seconds, monotonic=lambda: self.seconds, sleep=self.sleep
        )

    def sleep(self, seconds: float) -> None:
        self.go_on()
        self.seconds += seconds
        for endpoint in self.asked:
            self.take_away(endpoint)
        self.asked.clear()
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
        before, self.counting, self.silent = self.state(), False, ""
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
        self.since = self.seconds
        answer = self.call_function(event(request_type, properties, **more))
        succeeded = answer is not None and answer["Status"] == "SUCCESS"
        self.heard = answer or {}
        if succeeded and stack_status == "CREATE_IN_PROGRESS":
            self.aws.stack_outputs = dict(self.heard["Data"])
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
            self.roll_back(self.heard.get("PhysicalResourceId", MADE))
        return succeeded

    def roll_back(self, physical_id: str = MADE) -> None:
        """As CloudFormation does; where the Git host is silent somebody heals it, and deletes again."""
        if self.request("Delete", "ROLLBACK_IN_PROGRESS", self.creating, PhysicalResourceId=physical_id):
            return
        reason = self.heard.get("Reason", "")
        if not self.silent or "repository churn may be left" not in reason or "delete again to continue" not in reason:
            raise AssertionError(f"the roll-back failed: {self.answers[-1:]}")
        self.silent, self.aws.stack_events = "", (*self.aws.stack_events, "ROLLBACK_FAILED")
        if not self.request("Delete", "DELETE_IN_PROGRESS", self.creating, PhysicalResourceId=physical_id):
            raise AssertionError(f"deleting again failed: {self.answers[-1:]}")

    def update(self, old: dict[str, Any], new: dict[str, Any]) -> bool:
        before, after = self.project(**old), self.project(**new)
        if self.request("Update", "UPDATE_IN_PROGRESS", after, OldResourceProperties=before):
            return True
        self.take_back(before, after)
        if not self.silent:
            return False
        self.silent = ""
        if not self.request("Update", "UPDATE_IN_PROGRESS", after, OldResourceProperties=before):
            raise AssertionError(f"the update failed when its host was well: {self.answers[-1:]}")
        return True

    def put_template(self, version: str, archive: bytes) -> None:
        self.aws.objects[CODE_BUCKET, f"modelyard/template/{version}.zip"] = archive

    def publish(self, request_type: str, version: str, before: str = "") -> bool:
        """The template is published; where that fails, it is taken back, and somebody installs again."""
        new, old = TEMPLATE | {"TemplateVersion": version}, TEMPLATE | {"TemplateVersion": before}
        more: dict[str, Any] = {} if not before else {"PhysicalResourceId": PUBLISHED, "OldResourceProperties": old}
        waiting = f"{request_type.upper()}_IN_PROGRESS"
        succeeded = self.request(request_type, waiting, new, **more)
        if not succeeded:
            back = ("Update", "UPDATE_ROLLBACK_IN_PROGRESS", old) if before else ("Delete", "ROLLBACK_IN_PROGRESS", new)
            taken_back = self.request(*back, PhysicalResourceId=PUBLISHED, OldResourceProperties=new)
            self.silent = ""
            if not taken_back or not self.request(request_type, waiting, new, **more):
                raise AssertionError(f"the roll-back failed, or installing again: {self.heard}")
        self.announce(version)
        return succeeded

    def announce(self, version: str) -> None:
        """What portfolio.yaml does with the function's answer."""
        for name, member in (("version", "TemplateVersion"), ("url", "CloneUrl"), ("commit", "Commit")):
            self.aws.parameters[f"/modelyard/template/{name}"] = self.heard["Data"][member]
        assert self.heard["Data"]["TemplateVersion"] == version

    def take_back(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """What CloudFormation does with an update that has failed, here or at another resource."""
        if not self.request("Update", "UPDATE_ROLLBACK_IN_PROGRESS", before, OldResourceProperties=after):
            raise AssertionError(f"the roll-back failed: {self.answers[-1:]}")
        # another value would change what CloudFormation makes of it; of the commit it makes nothing
        known = self.aws.stack_outputs | {"Commit": self.heard["Data"]["Commit"]}
        if self.heard["Data"] != known:
            raise AssertionError(f"the roll-back answered {self.heard['Data']} instead of {known}")

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
        self.aws.alarms.discard(f"{endpoint}-errors")

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
        self.aws.alarms.add("churn-prod-errors")
        self.aws.tags[arn("cloudwatch", "alarm:churn-prod-errors")] = of_stage | {"modelyard:stage": "prod"}
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
            "alarms": sorted(aws.alarms),
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
        # what was made has one id, whatever becomes of it
        ids = {answer["PhysicalResourceId"] for answer in self.answers if answer["Data"]}
        if ids - {MADE, PUBLISHED}:
            found.append(f"other physical ids: {ids}")
        return found


_SECRETS = {"the token": TOKEN, "the response's address": SIGNATURE}


def partial_status() -> Any:
    """urlopen's answer."""

    @dataclass
    class Answered:
        status: int = 200

    return Answered()
