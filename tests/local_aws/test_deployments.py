"""What an update of an endpoint does, as data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_aws.calls import ServiceError
from local_aws.sagemaker.deployments import (
    Deployed,
    Variant,
    check_deployment_config,
    check_quota,
    deployment_stages,
    rescaled,
    with_retained,
)


def variant(name: str = "AllTraffic", count: int = 2, weight: float = 1.0, serverless: dict | None = None) -> Variant:
    return Variant(
        name=name,
        model="churn-1",
        image="image:1",
        model_data_url="s3://bucket/model.tar.gz",
        environment={},
        weight=weight,
        desired_weight=weight,
        count=0 if serverless else count,
        desired_count=0 if serverless else count,
        instance_type=None if serverless else "ml.m5.large",
        serverless=serverless,
        desired_serverless=serverless,
        resolved=1.0,
    )


def deployed(*variants: Variant, config: str = "churn-prod-1") -> Deployed:
    return Deployed(config, variants or (variant(),))


def policy(kind: str, wait: int = 300, last: int = 0, **size: Any) -> dict[str, Any]:
    routing = {"Type": kind, "WaitIntervalInSeconds": wait, **size}
    return {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": last}


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def instances(value: int) -> dict[str, Any]:
    return {"Type": "INSTANCE_COUNT", "Value": value}


def course(blue_green: dict[str, Any] | None, count: int = 4) -> list[tuple[str, float, float, int]]:
    """Each stage's status, AWS's seconds, share of the traffic and instances with traffic on."""
    stages = deployment_stages(blue_green, {"AllTraffic": count})
    on = [stage.on["AllTraffic"] for stage in stages]
    return [(one.status, one.seconds, turned.share, turned.instances) for one, turned in zip(stages, on, strict=True)]


# Stages


def test_without_a_configuration_everything_is_shifted_at_once_and_nothing_bakes():
    assert course(None) == [
        ("Creating", 120, 0.0, 0),
        ("ActivatingTraffic", 10, 1.0, 4),
        ("Deleting", 20, 1.0, 4),
    ]


def test_all_at_once_bakes_for_the_termination_wait_only():
    assert [one[:3] for one in course(policy("ALL_AT_ONCE", wait=600, last=900))] == [
        ("Creating", 120, 0.0),
        ("ActivatingTraffic", 10, 1.0),
        ("Baking", 900, 1.0),
        ("Deleting", 20, 1.0),
    ]


def test_a_canary_bakes_with_its_share_and_then_with_everything():
    assert course(policy("CANARY", wait=600, last=300, CanarySize=percent(25)))[1:-1] == [
        ("ActivatingTraffic", 10, 0.25, 1),
        ("Baking", 600, 0.25, 1),
        ("ActivatingTraffic", 10, 1.0, 4),
        ("Baking", 300, 1.0, 4),
    ]


def test_linear_steps_bake_between_each_other_and_the_last_one_for_the_termination_wait():
    stages = course(policy("LINEAR", wait=60, last=300, LinearStepSize=percent(33)))

    assert [one[1:] for one in stages if one[0] == "Baking"] == [
        (60, 0.33, 2),
        (60, 0.66, 3),
        (60, 0.99, 4),
        (300, 1.0, 4),
    ]


def test_a_size_in_instances_is_their_share_of_each_variant():
    stages = deployment_stages(policy("LINEAR", LinearStepSize=instances(1)), {"small": 2, "large": 4})

    baking = [stage.on for stage in stages if stage.status == "Baking"]
    assert [(on["small"].share, on["large"].share) for on in baking] == [(0.5, 0.25), (1.0, 0.5), (1.0, 0.75)]
    assert [(on["small"].instances, on["large"].instances) for on in baking] == [(1, 1), (2, 2), (2, 3)]


def test_a_baking_stage_says_how_long_by_which_member_and_with_what_capacity():
    stages = deployment_stages(policy("CANARY", wait=600, last=60, CanarySize=instances(1)), {"AllTraffic": 3})

    assert [stage.message("AllTraffic") for stage in stages if stage.status == "Baking"] == [
        "Baking for 600 seconds (WaitIntervalInSeconds) with traffic enabled on canary capacity of 1 instance(s).",
        "Baking for 60 seconds (TerminationWaitInSeconds) with traffic enabled on full capacity of 3 instance(s).",
    ]


SIZES = st.one_of(st.integers(10, 50).map(percent), st.integers(1, 5).map(instances))


@given(kind=st.sampled_from(["CANARY", "LINEAR"]), size=SIZES, counts=st.lists(st.integers(10, 60), min_size=1))
def test_traffic_only_ever_goes_to_the_new_fleet_and_all_of_it_in_the_end(kind, size, counts):
    member = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}[kind]
    names = {f"v{number}": count for number, count in enumerate(counts)}
    stages = deployment_stages(policy(kind, last=1, **{member: size}), names)

    for name, count in names.items():
        shares = [stage.on[name].share for stage in stages]
        assert shares[0] == 0
        assert shares == sorted(shares)
        assert shares[-1] == 1
        assert all(stage.on[name].instances >= stage.on[name].share * count - 1e-6 for stage in stages)
    activations = [stage for stage in stages if stage.status == "ActivatingTraffic"]
    assert len(activations) == len([stage for stage in stages if stage.status == "Baking"])
    assert len(activations) == 2 or kind == "LINEAR"
    # no step but the last turns everything on: one that did would bake twice with the same traffic
    assert all(any(turned.share < 1 for turned in stage.on.values()) for stage in activations[:-1])


# What is refused


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"RollingUpdatePolicy": {}}, "RollingUpdatePolicy: rolling deployments are not built"),
        ({"BlueGreenUpdatePolicy": policy("CANARY")}, "CanarySize is missing with Type CANARY"),
        ({"BlueGreenUpdatePolicy": policy("LINEAR", CanarySize=percent(10))}, "CanarySize cannot be given"),
        ({"BlueGreenUpdatePolicy": policy("CANARY", CanarySize=percent(51))}, "CanarySize 51% .* at most 50 %"),
        ({"BlueGreenUpdatePolicy": policy("CANARY", CanarySize=instances(2))}, "2 of 2 instance.* at most 50 %"),
        ({"BlueGreenUpdatePolicy": policy("LINEAR", LinearStepSize=percent(9))}, "10 % to 50 %"),
    ],
)
def test_a_deployment_configuration_that_cannot_be(config, message):
    with pytest.raises(ServiceError, match=message):
        check_deployment_config(config, deployed(config="churn-prod-2"), deployed())


def test_a_canary_needs_the_same_variants_and_all_at_once_does_not():
    new = deployed(variant("blue"), variant("green"), config="churn-prod-2")

    with pytest.raises(ServiceError, match="churn-prod-1 has AllTraffic, churn-prod-2 has blue, green"):
        check_deployment_config({"BlueGreenUpdatePolicy": policy("CANARY", CanarySize=percent(50))}, new, deployed())
    check_deployment_config({"BlueGreenUpdatePolicy": policy("ALL_AT_ONCE")}, new, deployed())


def test_serverless_endpoints_have_no_guardrails():
    serverless = deployed(variant(serverless={"MemorySizeInMB": 2048, "MaxConcurrency": 5}))

    with pytest.raises(ServiceError, match="not supported for serverless"):
        check_deployment_config({"BlueGreenUpdatePolicy": policy("ALL_AT_ONCE")}, serverless, serverless)


def test_both_fleets_count_towards_the_quota_of_instances():
    check_quota(deployed(variant(count=2)), deployed(variant(count=2)), 4)
    with pytest.raises(ServiceError, match=r"is 4 Instances, with current utilization of 3 .* delta of 2") as error:
        check_quota(deployed(variant(count=2)), deployed(variant(count=3)), 4)
    assert error.value.code == "ResourceLimitExceeded"


# What is retained


@pytest.mark.parametrize(
    ("request_members", "count", "weight"),
    [
        ({}, 1, 1.0),  # AWS's default: what scaling and people have set at run time is lost
        ({"RetainAllVariantProperties": True}, 3, 0.5),
        (
            {
                "RetainAllVariantProperties": True,
                "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredInstanceCount"}],
            },
            1,
            0.5,
        ),
        (
            {
                "RetainAllVariantProperties": True,
                "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredWeight"}],
            },
            3,
            1.0,
        ),
    ],
)
def test_which_properties_an_update_keeps_of_the_variants_that_serve(request_members, count, weight):
    serving = deployed(variant(count=3, weight=0.5))

    new = with_retained(deployed(variant(count=1), config="churn-prod-2"), serving, request_members)

    (only,) = new.variants
    assert (only.count, only.desired_count, only.weight, only.desired_weight) == (count, count, weight, weight)


def test_a_variant_that_is_new_has_nothing_to_keep():
    serving = deployed(variant(count=3))
    new = deployed(variant("AllTraffic", 1), variant("challenger", 1), config="churn-prod-2")

    kept = with_retained(new, serving, {"RetainAllVariantProperties": True})

    assert [one.count for one in kept.variants] == [3, 1]


def test_an_endpoint_that_was_serverless_keeps_no_count():
    serving = deployed(variant(serverless={"MemorySizeInMB": 2048, "MaxConcurrency": 5}))

    kept = with_retained(deployed(variant(count=2)), serving, {"RetainAllVariantProperties": True})

    assert kept.instances == 2


@pytest.mark.parametrize(
    ("request_members", "message"),
    [
        ({"ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredWeight"}]}, "RetainAllVariantProp"),
        (
            {
                "RetainAllVariantProperties": True,
                "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DataCaptureConfig"}],
            },
            "DataCaptureConfig is not supported",
        ),
    ],
)
def test_exclusions_that_mean_nothing(request_members, message):
    with pytest.raises(ServiceError, match=message):
        with_retained(deployed(), deployed(), request_members)


# Rescaling


def test_rescaling_changes_what_is_desired_and_leaves_what_is_in_effect():
    new = rescaled(
        deployed(variant("a"), variant("b")), [{"VariantName": "b", "DesiredInstanceCount": 3, "DesiredWeight": 0.0}]
    )

    assert [(one.count, one.desired_count) for one in new.variants] == [(2, 2), (2, 3)]
    assert new.settled().variants[1] == replace(variant("b", count=3), weight=0.0, desired_weight=0.0)


def test_rescaling_a_serverless_variant_changes_its_concurrency():
    serverless = deployed(variant(serverless={"MemorySizeInMB": 2048, "MaxConcurrency": 5}))
    update = {"VariantName": "AllTraffic", "ServerlessUpdateConfig": {"MaxConcurrency": 8, "ProvisionedConcurrency": 2}}

    new = rescaled(serverless, [update]).settled()

    assert new.variants[0].serverless == {"MemorySizeInMB": 2048, "MaxConcurrency": 8, "ProvisionedConcurrency": 2}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"VariantName": "other"}, 'Could not find variant "other"; the endpoint has AllTraffic'),
        ({"VariantName": "AllTraffic", "DesiredInstanceCount": 0}, "at least 1"),
        ({"VariantName": "AllTraffic", "ServerlessUpdateConfig": {"MaxConcurrency": 1}}, "no ServerlessUpdateConfig"),
    ],
)
def test_rescaling_that_cannot_be(item, message):
    with pytest.raises(ServiceError, match=message):
        rescaled(deployed(), [item])


def test_what_is_deployed_comes_back_whole_from_a_document():
    serving = Deployed("churn-prod-1", (variant("a"), variant("b", 3)), {"DestinationS3Uri": "s3://bucket"})

    assert Deployed.load(serving.dump()) == serving
