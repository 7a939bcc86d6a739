"""Every call that the seed function makes fails in every way that a call fails, on both Git hosts."""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from seed_lambda.hosts import github
from seed_lambda.hosts.codecommit import MOST_FILES
from seed_lambda.hosts.github_api import GitHubApi
from tests import proof
from tests.faulty_calls import Fault
from tests.seed_lambda import fault_matrix
from tests.seed_lambda.account import FUNCTION_SECONDS, GIVEN_UP, KINDS, LASTING, TRIES
from tests.seed_lambda.fault_matrix import HOSTS, SCENARIOS, cases, faults_of, undisturbed
from tests.seed_lambda.requests import TOKEN
from tests.seed_lambda.simulated_github import OWNER

PLATFORM = Path(__file__).parents[2] / "servicecatalog" / "platform.yaml"
SAMPLE = 90
SERVICES = {
    "cloudformation",
    "cloudwatch",
    "codecommit",
    "github",
    "s3",
    "sagemaker",
    "scheduler",
    "secretsmanager",
    "sqs",
    "ssm",
}

Case = tuple[str, str, Fault]


def sample() -> list[Case]:
    """Every operation that changes something at least once, where the sample is large enough, the rest by the dice."""
    dice = random.Random(20261121)
    by_operation: dict[tuple[str, str], list[Case]] = {}
    for host in HOSTS:
        for scenario in SCENARIOS:
            for fault in cases(scenario, host):
                by_operation.setdefault((fault.call.service, fault.call.operation), []).append((scenario, host, fault))
    chosen = [dice.choice(found) for found in by_operation.values()]
    rest = [case for found in by_operation.values() for case in found]
    return chosen + dice.sample(rest, SAMPLE - len(chosen))


def check(found: list[Case]) -> dict[str, Any]:
    """Run the cases; the counts by operation and kind. Fails with all that is not as it should be."""
    wrong: list[str] = []
    counts: dict[str, Counter[str]] = {"operations": Counter(), "kinds": Counter()}
    for scenario, host, fault in found:
        counts["operations"][f"{fault.call.service}: {fault.call.operation}"] += 1
        counts["kinds"][fault.kind] += 1
        if faults := faults_of(scenario, host, fault):
            wrong.append(f"{scenario}, {host}: {fault.call.operation} {fault.call.nth} {fault.kind}: {faults}")
    assert not wrong, f"{len(wrong)} of {len(found)}:\n" + "\n".join(wrong[:20])
    return {"cases": len(found), **{name: dict(counted) for name, counted in counts.items()}}


def test_a_sample_of_the_matrix_ends_with_all_of_it_or_with_nothing() -> None:
    found = sample()
    assert {fault.call.service for _, _, fault in found} == SERVICES
    assert {fault.kind for _, _, fault in found} == {*KINDS, *GIVEN_UP, *LASTING}
    check(found)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", GIVEN_UP)
def test_a_group_that_is_made_when_the_stack_has_given_up_is_taken_back_were_it_the_last_call(
    host: str, kind: str
) -> None:
    last = [call for call in undisturbed("created", host).calls if call.operation == "CreateModelPackageGroup"][-1]
    assert faults_of("created", host, Fault(last, kind)) == []


@pytest.mark.slow
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_whichever_call_fails_in_whichever_way_all_of_it_is_there_or_nothing(scenario: str, host: str) -> None:
    found = check([(scenario, host, fault) for fault in cases(scenario, host)])
    proof.keep(f"seed_fault_matrix_{scenario}_{host}", found)


@pytest.mark.parametrize("host", HOSTS)
def test_the_scenarios_are_what_they_are_called(host: str) -> None:
    """A matrix whose scenarios do nothing would always pass."""
    ends = {scenario: undisturbed(scenario, host).end for scenario in SCENARIOS}
    created, others = ends["created"][host]["churn"], {"churn-dev-dev", "churn-dev-prod"}
    assert set(created["branches"]) == {"prod", "dev"}
    assert created["heads"] == 1
    assert ".cruft.json" in created["branches"]["prod"]
    assert set(ends["created"]["groups"]) == others | {"churn-feature", "churn-dev", "churn-prod"}
    assert len(ends["created_in_parts"][host]["churn"]["branches"]["dev"]) > MOST_FILES
    assert set(ends["published"][host]["modelyard-template"]["branches"]) == {"main", "version-1.0"}
    assert set(ends["published_anew"][host]["modelyard-template"]["branches"]) == {"main", "version-1.0", "version-2.0"}
    taken_back = undisturbed("updated_taken_back", host)
    assert taken_back.before == ends["updated"] != taken_back.end == ends["created"]
    assert ends["created_empty"][host]["churn"]["branches"] == {}
    assert "churn-challenger" in ends["updated"]["groups"]
    assert ends["pushed"] != undisturbed("pushed", host).before
    for scenario in (name for name in SCENARIOS if name.startswith("deleted")):
        assert set(ends[scenario]["groups"]) == others
        assert ends[scenario]["pipelines"] == ends[scenario]["endpoints"] == []
        assert ("churn" in ends[scenario][host]) == (scenario == "deleted")
        assert "churn-dev" in ends[scenario][host]
    called = {call.operation for scenario in SCENARIOS for call in undisturbed(scenario, host).calls}
    assert called >= {"StopPipelineExecution", "DeletePipeline", "DeleteModelPackage", "DeleteModelPackageGroup"}


# What the function may do and no call of a scenario is: the runtime's own calls, and what makes others' answers clear.
NO_CALLS = {
    "s3:ListBucket",  # or else a version that is missing is "access denied"
    "kms:Decrypt",  # by Secrets Manager
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "ec2:AssignPrivateIpAddresses",  # by Lambda, within a VPC
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
}


def test_the_matrix_has_every_call_that_the_function_may_make() -> None:
    calls = [call for host in HOSTS for scenario in SCENARIOS for call in undisturbed(scenario, host).calls]
    made = {f"{call.service}:{call.operation}" for call in calls if call.service != "github"}
    statements = platform()["SeedPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    allowed = {
        action
        for statement in statements
        if statement["Effect"] == "Allow"
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert made - {"cloudformation:answer"} == allowed - NO_CALLS
    assert allowed >= NO_CALLS


def test_the_matrix_has_every_call_of_github_that_the_host_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    source, made = Path(str(github.__file__)), set()

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            frame = sys._getframe(1)
            if frame.f_code.co_filename == str(source):
                made.add(frame.f_lineno)
            return function(*given, **named)

        return call

    for owner, name in ((GitHubApi, "call"), (GitHubApi, "pages"), (github.GitHub, "_post_again")):
        monkeypatch.setattr(owner, name, noted(getattr(owner, name)))
    for scenario in SCENARIOS:
        fault_matrix.run(scenario, "github", None)
    lines = source.read_text(encoding="utf-8").splitlines()
    pattern = re.compile(r"self\._(api\.(call|pages)|post_again)\(")
    assert {number: line for number, line in enumerate(lines, 1) if pattern.search(line) and number not in made} == {}


def test_a_matrix_sees_a_second_repository_a_strangers_thing_and_a_secret() -> None:
    """The checks themselves."""
    account, _ = fault_matrix.run("created", "github", None)
    assert account.faults() == []
    account.said.write(TOKEN)
    assert account.faults() == ["the token was said"]
    before = account.state()
    account.github.make("POST", {"name": "churn-1", "description": "", "homepage": ""}, OWNER)
    assert account.state() != before
    account.aws.groups["churn-dev-dev"].clear()
    assert account.state()["groups"] != before["groups"]


def platform() -> dict[str, Any]:
    """The resources of platform.yaml; of what is conditional the first alternative, of other functions nothing."""

    class Loader(yaml.SafeLoader):
        """With CloudFormation's tags."""

    def function(loader: Any, name: str, node: yaml.Node) -> Any:
        return loader.construct_sequence(node, deep=True)[1] if name == "If" else None

    Loader.add_multi_constructor("!", function)
    resources: dict[str, Any] = yaml.load(PLATFORM.read_text(encoding="utf-8"), Loader)["Resources"]
    return resources


def test_times_and_tries_are_those_of_the_installed_platform() -> None:
    resources = platform()
    assert resources["SeedFunction"]["Properties"]["Timeout"] == FUNCTION_SECONDS
    assert resources["SeedInvokeConfig"]["Properties"]["MaximumRetryAttempts"] == TRIES - 1
