"""An installed platform, portfolio and project can be updated: nothing changes that only creation sets."""

from __future__ import annotations

from copy import deepcopy

from tests.servicecatalog import fixed_properties as fixed

POLICY = "platform/ApproverPolicy"


def test_no_named_resource_would_have_to_be_replaced() -> None:
    assert fixed.refused(fixed.recorded(), fixed.written()) == []


def test_the_record_is_complete() -> None:
    """After a resource was added, removed or renamed: python -m tests.servicecatalog.fixed_properties"""
    assert fixed.recorded() == fixed.written()


def test_another_description_of_a_policy_is_refused_and_says_what_to_put_back() -> None:
    now = deepcopy(fixed.written())
    now[POLICY]["Description"] = "Another one"
    (fault,) = fixed.refused(fixed.written(), now)
    assert POLICY in fault
    assert "For people who approve and reject versions" in fault


def test_so_is_one_that_is_left_out_or_new() -> None:
    without = deepcopy(fixed.written())
    del without[POLICY]["Description"]
    assert len(fixed.refused(fixed.written(), without)) == len(fixed.refused(without, fixed.written())) == 1


def test_a_resource_of_another_name_is_another_resource() -> None:
    now = deepcopy(fixed.written())
    now[POLICY] |= {"ManagedPolicyName": "another", "Description": "Another one"}
    assert fixed.refused(fixed.written(), now) == []


def test_every_type_that_has_a_name_and_more_that_only_creation_sets_is_there() -> None:
    kinds = {one["Type"] for one in fixed.written().values()}
    assert {"AWS::IAM::Role", "AWS::IAM::ManagedPolicy", "AWS::S3::Bucket", "AWS::DynamoDB::Table"} <= kinds
