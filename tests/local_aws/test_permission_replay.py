"""Taking away one thing that a policy grants, and asking again what was asked."""

from __future__ import annotations

from typing import Any

from local_aws.ministack_host import policies_allow
from local_aws.permissions.decisions import Decision, frozen_context
from local_aws.permissions.replay import Grant, Replayed, explained, grants, replay, without

ROLE = "arn:aws:iam::123456789012:role/modelyard/r"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:q"


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: str | list[str], resource: str | list[str], sid: str = "", **condition: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"Effect": "Allow", "Action": action, "Resource": resource}
    return found | ({"Sid": sid} if sid else {}) | ({"Condition": condition} if condition else {})


def asked(action: str, resource: str = QUEUE, context: dict[str, Any] | None = None, **other: Any) -> Decision:
    members = {"allowed": True} | other
    return Decision(ROLE, action, resource, "us-east-1", frozen_context(context or {}), **members)


def needed(policies: dict[str, Any], *decisions: Decision) -> set[tuple[str, str]]:
    found = replay(policies, decisions, policies_allow)
    return {(grant.kind, grant.text) for grant, replayed in found.items() if replayed.denied}


def test_every_statement_action_and_resource_is_a_grant_and_denials_are_none() -> None:
    document = policy(
        allow(["sqs:SendMessage", "sqs:Receive*"], QUEUE, "Queue"), {"Effect": "Deny", "Action": "*", "Resource": "*"}
    )
    assert grants({"p": document}) == [
        Grant("p", 0, "Queue", "statement", "Queue"),
        Grant("p", 0, "Queue", "action", "sqs:SendMessage"),
        Grant("p", 0, "Queue", "action", "sqs:Receive*"),
        Grant("p", 0, "Queue", "resource", QUEUE),
    ]


def test_a_single_statement_may_stand_without_a_list() -> None:
    policies = {"p": {"Version": "2012-10-17", "Statement": allow("sqs:SendMessage", QUEUE)}}
    assert needed(policies, asked("sqs:SendMessage")) == {
        ("statement", "0"),
        ("action", "sqs:SendMessage"),
        ("resource", QUEUE),
    }


def test_a_statement_goes_with_its_last_action_and_the_policy_that_was_given_stays_as_it_is() -> None:
    policies = {"p": policy(allow("sqs:SendMessage", QUEUE, "Queue"), allow("sns:Publish", "*"))}
    less = without(policies, Grant("p", 0, "Queue", "action", "sqs:SendMessage"))
    assert less == {"p": policy(allow("sns:Publish", "*"))}
    assert len(policies["p"]["Statement"]) == 2


def test_what_was_asked_is_denied_without_the_action_and_the_resource_that_allowed_it() -> None:
    policies = {"p": policy(allow(["sqs:SendMessage", "sqs:DeleteQueue"], [QUEUE, QUEUE + "2"], "Queue"))}
    assert needed(policies, asked("sqs:SendMessage")) == {
        ("statement", "Queue"),
        ("action", "sqs:SendMessage"),
        ("resource", QUEUE),
    }


def test_the_questions_that_would_be_denied_are_named() -> None:
    policies = {"p": policy(allow(["sqs:*"], "*", "Queues"))}
    send, receive = asked("sqs:SendMessage"), asked("sqs:ReceiveMessage")
    found = replay(policies, [send, receive, asked("sns:Publish", allowed=False)], policies_allow)
    assert found[Grant("p", 0, "Queues", "action", "sqs:*")] == Replayed((send, receive), (send, receive))


def test_what_two_statements_allow_rests_on_neither() -> None:
    policies = {"one": policy(allow("sqs:SendMessage", QUEUE)), "two": policy(allow("sqs:*", "*"))}
    found = replay(policies, [asked("sqs:SendMessage")], policies_allow)
    assert {replayed.allowed for replayed in found.values()} == {(asked("sqs:SendMessage"),)}
    assert {replayed.denied for replayed in found.values()} == {()}


def test_a_condition_is_evaluated_in_the_context_in_which_it_was_asked() -> None:
    tagged = {"StringLike": {"aws:RequestTag/modelyard:project": "?*"}}
    policies = {
        "p": policy(
            allow("sagemaker:CreateModel", "*", "Tagged", **tagged),
            allow("sagemaker:CreateModel", "*", "Untagged", Null={"aws:TagKeys": "true"}),
        )
    }
    with_tags = {"aws:RequestTag/modelyard:project": "churn", "aws:TagKeys": ["modelyard:project"]}
    assert ("statement", "Tagged") in needed(policies, asked("sagemaker:CreateModel", context=with_tags))
    assert ("statement", "Untagged") not in needed(policies, asked("sagemaker:CreateModel", context=with_tags))
    assert ("statement", "Untagged") in needed(policies, asked("sagemaker:CreateModel"))


def test_what_the_resources_own_policy_allowed_needs_no_grant() -> None:
    policies = {"p": policy(allow("sqs:SendMessage", QUEUE))}
    assert needed(policies, asked("sqs:SendMessage", by_resource=True)) == set()


def test_a_deny_statement_still_denies_when_something_else_is_taken_away() -> None:
    policies = {
        "p": policy(allow("sqs:*", "*", "All"), {"Effect": "Deny", "Action": "sqs:DeleteQueue", "Resource": "*"})
    }
    yes, no = explained(policies, [asked("sqs:SendMessage"), asked("sqs:DeleteQueue")], policies_allow)
    assert [decision.action for decision in yes] == ["sqs:SendMessage"]
    assert [decision.action for decision in no] == ["sqs:DeleteQueue"]


def test_an_answer_that_the_policies_do_not_give_any_more_is_said() -> None:
    yes, no = explained({}, [asked("sqs:SendMessage"), asked("sqs:SendMessage", allowed=False)], policies_allow)
    assert (yes, len(no)) == ([], 1)


def test_a_users_own_arn_and_the_region_are_conditions_too() -> None:
    here = {"StringEquals": {"aws:RequestedRegion": "us-east-1", "aws:PrincipalArn": ROLE}}
    assert ("statement", "Here") in needed(
        {"p": policy(allow("sqs:SendMessage", "*", "Here", **here))}, asked("sqs:SendMessage")
    )
