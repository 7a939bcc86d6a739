"""Every call that the seed function makes fails in every way that a call fails, on both Git hosts."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import proof
from tests.seed_lambda import fault_matrix
from tests.seed_lambda.fault_matrix import GIVEN_UP, HOSTS, KINDS, SCENARIOS, Fault, cases, faults_of, undisturbed

PLATFORM = Path(__file__).parents[2] / "servicecatalog" / "platform.yaml"
SAMPLE = 70
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
    assert {fault.kind for _, _, fault in found} == {*KINDS, *GIVEN_UP}
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


def test_a_matrix_sees_a_second_repository_a_strangers_thing_and_a_secret() -> None:
    """The checks themselves."""
    account, _ = fault_matrix.run("created", "github", None)
    assert account.faults() == []
    account.said.write(fault_matrix.TOKEN)
    assert account.faults() == ["the token was said"]
    before = account.state()
    account.github.make("POST", {"name": "churn-1", "description": "", "homepage": ""}, fault_matrix.OWNER)
    assert account.state() != before
    account.aws.groups["churn-dev-dev"].clear()
    assert account.state()["groups"] != before["groups"]


def test_times_and_tries_are_those_of_the_installed_platform() -> None:
    class Loader(yaml.SafeLoader):
        """CloudFormation's tags as what they are put on."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    resources = yaml.load(PLATFORM.read_text(encoding="utf-8"), Loader)["Resources"]
    assert resources["SeedFunction"]["Properties"]["Timeout"] == fault_matrix.FUNCTION_SECONDS
    assert resources["SeedInvokeConfig"]["Properties"]["MaximumRetryAttempts"] == fault_matrix.TRIES - 1
