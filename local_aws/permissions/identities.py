"""Users and roles of an account with their policies, as IAM tells them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Identity:
    """A user or a role.

    Args:
        arn: with its path, as decisions name it.
        policies: the policies' documents by their names: inline, attached, and those of a user's groups.
    """

    arn: str
    policies: Mapping[str, Document]

    @property
    def name(self) -> str:
        """Such as "modelyard-deploy-us-east-1"."""
        return self.arn.rpartition("/")[2]


def read_identities(iam: Any) -> list[Identity]:
    """All users and roles of the account, sorted by ARN.

    Args:
        iam: boto3's client; it may iam:GetAccountAuthorizationDetails, GetPolicy and GetPolicyVersion.
    """
    details: dict[str, list[dict[str, Any]]] = {}
    for page in iam.get_paginator("get_account_authorization_details").paginate():
        for kind in ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies"):
            details.setdefault(kind, []).extend(page.get(kind, []))
    managed = {one["Arn"]: _default_version(one) for one in details["Policies"]}  # of the account's own

    def documents(owner: Mapping[str, Any], inline: str) -> dict[str, Document]:
        found = {one["PolicyName"]: _document(one["PolicyDocument"]) for one in owner.get(inline, [])}
        for attached in owner.get("AttachedManagedPolicies", []):
            arn = attached["PolicyArn"]
            if arn not in managed:
                managed[arn] = _fetched(iam, arn)
            found[attached["PolicyName"]] = managed[arn]
        return found

    groups = {one["GroupName"]: documents(one, "GroupPolicyList") for one in details["GroupDetailList"]}
    identities = []
    for user in details["UserDetailList"]:
        of_groups = {
            f"{group}/{name}": document
            for group in user.get("GroupList", [])
            for name, document in groups.get(group, {}).items()
        }
        identities.append(Identity(user["Arn"], documents(user, "UserPolicyList") | of_groups))
    identities += [Identity(role["Arn"], documents(role, "RolePolicyList")) for role in details["RoleDetailList"]]
    return sorted(identities, key=lambda identity: identity.arn)


def statements(document: Document) -> list[dict[str, Any]]:
    """A policy's statements, each as written; a single one may stand without a list."""
    found = document.get("Statement", [])
    return list(found) if isinstance(found, list) else [found]


def as_list(value: Any) -> list[Any]:
    """Of an element that may be one value or several, or none."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _default_version(policy: Mapping[str, Any]) -> Document:
    return next(_document(one["Document"]) for one in policy["PolicyVersionList"] if one["IsDefaultVersion"])


def _fetched(iam: Any, arn: str) -> Document:
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return _document(iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"])


def _document(written: Any) -> Document:
    """boto3 has parsed it, unless what answered had not encoded it as IAM does."""
    found: Document = json.loads(unquote(written)) if isinstance(written, str) else written
    return found
