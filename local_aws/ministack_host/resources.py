"""What MiniStack's CloudFormation leaves out of types that our templates use.

Touches: the provisioners of buckets, roles, managed policies, log groups, rules and CodeBuild projects, and what their
services do for them. AWS::IAM::OIDCProvider is made of IAM's own calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

from local_aws.ministack_host.app import before_first_request

BUCKET, ROLE, POLICY = "AWS::S3::Bucket", "AWS::IAM::Role", "AWS::IAM::ManagedPolicy"
OIDC_PROVIDER, BUILD_PROJECT = "AWS::IAM::OIDCProvider", "AWS::CodeBuild::Project"
LOG_GROUP, RULE = "AWS::Logs::LogGroup", "AWS::Events::Rule"


def complete_resources() -> None:
    """Let templates set what they can on AWS, where ours rely on it."""

    def prepare() -> None:
        from ministack.services.cloudformation import provisioners

        _complete_buckets(provisioners)
        _complete_roles(provisioners)
        _refuse_taken_names(provisioners)
        _keep_policies_in_use(provisioners)
        _complete_build_projects(provisioners)
        provisioners._RESOURCE_HANDLERS[OIDC_PROVIDER] = {
            "create": _create_oidc_provider,
            "update": _update_oidc_provider,
            "delete": _delete_oidc_provider,
        }
        for kind in (BUCKET, OIDC_PROVIDER):
            provisioners._STACK_TAG_PROPERTY[kind] = ("Tags", "list")

    before_first_request("cloudformation", prepare)


# --- buckets


def _complete_buckets(provisioners: Any) -> None:
    from ministack.services import s3

    handlers = provisioners._RESOURCE_HANDLERS[BUCKET]
    create, update = handlers["create"], handlers["update"]

    def create_bucket(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
        answer = create(logical_id, properties, stack)
        try:
            _configure_bucket(s3, answer[0], {}, properties)
        except ValueError:
            s3._delete_bucket(answer[0])  # nothing of a creation that fails is left
            raise
        return answer

    def update_bucket(name: str, before: dict[str, Any], properties: dict[str, Any], stack: str) -> Any:
        answer = update(name, before, properties, stack)
        _configure_bucket(s3, answer[0], before if answer[0] == name else {}, properties)
        return answer

    def delete_bucket(name: str, _properties: dict[str, Any]) -> None:
        if name in s3._buckets:
            _succeeded(s3._delete_bucket(name))

    handlers |= {"create": create_bucket, "update": update_bucket, "delete": delete_bucket}


def _configure_bucket(s3: Any, name: str, before: Mapping[str, Any], properties: Mapping[str, Any]) -> None:
    """Give a bucket by S3's own calls what its template's properties say.

    Raises:
        ValueError: S3 refuses it.
    """
    configurations: dict[str, tuple[Callable[[Any], str], Any, Any]] = {
        "BucketEncryption": (_encryption, s3._put_bucket_encryption, s3._delete_bucket_encryption),
        "LifecycleConfiguration": (_lifecycle, s3._put_bucket_lifecycle, s3._delete_bucket_lifecycle),
        "OwnershipControls": (_ownership, s3._put_bucket_ownership_controls, s3._delete_bucket_ownership_controls),
        "Tags": (_tagging, s3._put_bucket_tagging, s3._delete_bucket_tagging),
    }
    for key, (written, put, delete) in configurations.items():
        if properties.get(key):
            _succeeded(put(name, written(properties[key]).encode()))
        elif before.get(key):
            _succeeded(delete(name))
    # Versioning is never off again; MiniStack's provisioner switches it on and no more.
    now, then = (each.get("VersioningConfiguration") or {} for each in (properties, before))
    status = now.get("Status") or ("Suspended" if then.get("Status") == "Enabled" else None)
    if status == "Suspended":
        _succeeded(s3._put_bucket_versioning(name, _xml("VersioningConfiguration", {"Status": status}).encode()))


def _encryption(configuration: Mapping[str, Any]) -> str:
    rules = []
    for rule in configuration.get("ServerSideEncryptionConfiguration") or []:
        default = rule.get("ServerSideEncryptionByDefault") or {}
        by_default = {name: default[name] for name in ("SSEAlgorithm", "KMSMasterKeyID") if default.get(name)}
        rules.append(
            {"ApplyServerSideEncryptionByDefault": by_default, "BucketKeyEnabled": rule.get("BucketKeyEnabled", False)}
        )
    return _xml("ServerSideEncryptionConfiguration", {"Rule": rules})


def _ownership(configuration: Mapping[str, Any]) -> str:
    return _xml("OwnershipControls", {"Rule": configuration.get("Rules") or []})


def _tagging(tags: list[dict[str, Any]]) -> str:
    return _xml("Tagging", {"TagSet": {"Tag": [{"Key": tag["Key"], "Value": tag["Value"]} for tag in tags]}})


def _lifecycle(configuration: Mapping[str, Any]) -> str:
    return _xml("LifecycleConfiguration", {"Rule": [_lifecycle_rule(rule) for rule in configuration["Rules"]]})


def _lifecycle_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule as a template writes it, as S3 takes it.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-s3-bucket-rule.html
    """
    conditions: dict[str, Any] = {
        name: rule[name]
        for name in ("Prefix", "ObjectSizeGreaterThan", "ObjectSizeLessThan")
        if rule.get(name) is not None
    }
    if tags := rule.get("TagFilters"):
        conditions["Tag"] = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in tags]
    several = len(conditions) + len(conditions.get("Tag", [])) - ("Tag" in conditions) > 1
    written: dict[str, Any] = {
        "ID": rule.get("Id") or "rule",
        "Status": rule.get("Status"),
        "Filter": {"And": conditions} if several else conditions or {"Prefix": ""},
    }
    expiration = {"Days": rule.get("ExpirationInDays"), "Date": rule.get("ExpirationDate")}
    if rule.get("ExpiredObjectDeleteMarker") is not None:
        expiration["ExpiredObjectDeleteMarker"] = rule["ExpiredObjectDeleteMarker"]
    noncurrent = dict(rule.get("NoncurrentVersionExpiration") or {})
    if days := rule.get("NoncurrentVersionExpirationInDays"):
        noncurrent["NoncurrentDays"] = days
    written |= {
        "Expiration": expiration,
        "Transition": [
            {"Days": each.get("TransitionInDays"), "Date": each.get("TransitionDate"), **_storage_class(each)}
            for each in rule.get("Transitions") or [rule[name] for name in ("Transition",) if rule.get(name)]
        ],
        "NoncurrentVersionExpiration": noncurrent,
        "NoncurrentVersionTransition": [
            {
                "NoncurrentDays": each.get("TransitionInDays"),
                "NewerNoncurrentVersions": each.get("NewerNoncurrentVersions"),
                **_storage_class(each),
            }
            for each in rule.get("NoncurrentVersionTransitions") or []
        ],
        "AbortIncompleteMultipartUpload": rule.get("AbortIncompleteMultipartUpload") or {},
    }
    return written


def _storage_class(transition: Mapping[str, Any]) -> dict[str, Any]:
    return {"StorageClass": transition.get("StorageClass")}


def _xml(name: str, content: Any) -> str:
    """An element with what is in it: a mapping's elements, once for each of a list; nothing that is None or empty."""
    root = ElementTree.Element(name, xmlns="http://s3.amazonaws.com/doc/2006-03-01/")
    _fill(root, content)
    return ElementTree.tostring(root, encoding="unicode")


def _fill(element: ElementTree.Element, content: Any) -> None:
    if not isinstance(content, Mapping):
        element.text = str(content).lower() if isinstance(content, bool) else str(content)
        return
    for name, value in content.items():
        for each in value if isinstance(value, list) else [value]:
            says_nothing = isinstance(each, Mapping) and all(part is None for part in each.values())
            if each is not None and not says_nothing:
                _fill(ElementTree.SubElement(element, name), each)


# --- IAM


def _complete_roles(provisioners: Any) -> None:
    from ministack.services import iam

    handlers = provisioners._RESOURCE_HANDLERS[ROLE]
    create, update = handlers["create"], handlers["update"]

    def check(properties: dict[str, Any]) -> None:
        """A trust policy may be a text, since a key of its conditions can hold a parameter only there."""
        if boundary := properties.get("PermissionsBoundary"):
            _succeeded(iam._boundary_policy_error(boundary) or (200, {}, b""))
        policy = properties.get("AssumeRolePolicyDocument")
        if isinstance(policy, str):
            try:
                json.loads(policy)
            except ValueError as error:
                raise ValueError(f"AssumeRolePolicyDocument is not JSON: {error} (Status Code: 400)") from error

    def create_role(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
        check(properties)
        _refuse_taken(ROLE, iam._roles, properties.get("RoleName"))
        answer = create(logical_id, properties, stack)
        iam._roles[answer[0]]["PermissionsBoundary"] = properties.get("PermissionsBoundary")
        return answer

    def update_role(name: str, before: dict[str, Any], properties: dict[str, Any], *more: Any) -> Any:
        check(properties)
        answer = update(name, before, properties, *more)
        iam._roles[answer[0]]["PermissionsBoundary"] = properties.get("PermissionsBoundary")
        return answer

    handlers |= {"create": create_role, "update": update_role}


def _create_oidc_provider(logical_id: str, properties: dict[str, Any], _stack: str) -> tuple[str, dict[str, Any]]:
    from ministack.core.responses import get_account_id
    from ministack.services import iam

    url = properties.get("Url")
    if not url:
        raise ValueError(f"{logical_id}: {OIDC_PROVIDER} needs a Url (Status Code: 400)")
    request = {"Url": url}
    for name, key in (("ClientIDList", "ClientIdList"), ("ThumbprintList", "ThumbprintList")):
        request |= {f"{name}.member.{place}": each for place, each in enumerate(properties.get(key) or [], 1)}
    _succeeded(iam._create_oidc_provider(request))
    arn = f"arn:aws:iam::{get_account_id()}:oidc-provider/{url.split('://', 1)[-1].rstrip('/')}"
    iam._oidc_providers[arn]["Tags"] = properties.get("Tags") or []
    return arn, {"Arn": arn}


def _update_oidc_provider(
    arn: str, before: dict[str, Any], properties: dict[str, Any], stack: str
) -> tuple[str, dict[str, Any]]:
    from ministack.services import iam

    if before.get("Url") != properties.get("Url"):
        return _create_oidc_provider(arn, properties, stack)  # the one that was goes when the stack is updated
    iam._oidc_providers[arn] |= {
        "ClientIDList": properties.get("ClientIdList") or [],
        "ThumbprintList": properties.get("ThumbprintList") or [],
        "Tags": properties.get("Tags") or [],
    }
    return arn, {"Arn": arn}


def _delete_oidc_provider(arn: str, _properties: dict[str, Any]) -> None:
    from ministack.services import iam

    iam._oidc_providers.pop(arn, None)


# --- CodeBuild


def _complete_build_projects(provisioners: Any) -> None:
    from ministack.services import codebuild

    handlers = provisioners._RESOURCE_HANDLERS[BUILD_PROJECT]
    create, update = handlers["create"], handlers["update"]

    def complete(name: str, properties: dict[str, Any]) -> None:
        project = codebuild._projects[name]
        for given, kept in (("LogsConfig", "logsConfig"), ("EncryptionKey", "encryptionKey"), ("Cache", "cache")):
            if given in properties:
                project[kept] = provisioners._codebuild_cfn_to_api(properties[given])

    def create_project(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
        answer = create(logical_id, properties, stack)
        complete(answer[0], properties)
        return answer

    def update_project(name: str, before: dict[str, Any], properties: dict[str, Any], stack: str) -> Any:
        answer = update(name, before, properties, stack)
        complete(answer[0], properties)
        return answer

    handlers |= {"create": create_project, "update": update_project}


# --- names


def _refuse_taken_names(provisioners: Any) -> None:
    """What MiniStack would take for the stack's own, and delete with it, though it was somebody's before."""
    from ministack.core.responses import get_account_id
    from ministack.services import cloudwatch_logs, eventbridge, iam

    def policy(properties: dict[str, Any]) -> str | None:
        if name := properties.get("ManagedPolicyName"):
            return f"arn:aws:iam::{get_account_id()}:policy{properties.get('Path', '/')}{name}"
        return None

    def rule(properties: dict[str, Any]) -> str | None:
        if name := properties.get("Name"):
            return str(eventbridge._rule_key(name, provisioners._eb_rule_bus_name(properties)))
        return None

    def refuse(kind: str, kept: Any, identify: Callable[[dict[str, Any]], str | None]) -> None:
        handlers = provisioners._RESOURCE_HANDLERS[kind]
        create = handlers["create"]

        def create_new(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
            _refuse_taken(kind, kept, identify(properties))
            return create(logical_id, properties, stack)

        handlers["create"] = create_new

    refuse(POLICY, iam._policies, policy)
    refuse(RULE, eventbridge._rules, rule)
    refuse(LOG_GROUP, cloudwatch_logs._log_groups, lambda properties: properties.get("LogGroupName"))


def _keep_policies_in_use(provisioners: Any) -> None:
    """A managed policy that somebody still has, or is bounded by, is not deleted: as IAM says of DeletePolicy."""
    from ministack.services import iam

    def delete_policy(arn: str, properties: dict[str, Any]) -> None:
        if arn not in iam._policies:
            return
        provisioners._iam_policy_reconcile_entities(arn, properties, {})
        try:
            _succeeded(iam._delete_policy({"PolicyArn": arn}))
        except ValueError:
            provisioners._iam_policy_reconcile_entities(arn, {}, properties)
            raise

    provisioners._RESOURCE_HANDLERS[POLICY]["delete"] = delete_policy


def _refuse_taken(kind: str, kept: Any, name: str | None) -> None:
    if name and kept.get(name) is not None:
        raise ValueError(f"Resource of type '{kind}' with identifier '{name}' already exists.")


def _succeeded(answer: Any) -> None:
    """Raises ValueError with what a service has answered, unless it is a success."""
    status, _, body = answer
    if status < 400:
        return
    text = body.decode() if isinstance(body, bytes) else str(body)
    answered = ElementTree.fromstring(text)  # noqa: S314  # MiniStack has just written it
    found = {part.tag.rpartition("}")[2]: part.text for part in answered.iter()}
    raise ValueError(f"{found.get('Message')} (Error Code: {found.get('Code')}, Status Code: {status})")
