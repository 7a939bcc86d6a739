"""The ARNs that names, ids and aliases stand for.

Touches: where IAM, KMS, Secrets Manager and CloudFormation keep what they have.
"""

from __future__ import annotations

from local_aws.ministack_host.app import requested_from
from local_aws.store import Scope


def kms_key_arn(scope: Scope, key: str) -> str:
    """The ARN of the key that an id, an alias or an ARN stands for; as if it were there when it is not."""
    from ministack.services import kms

    with requested_from(scope):
        record = kms._resolve_key(key)
    if record is not None:
        return str(record["Arn"])
    return key if key.startswith("arn:") else f"arn:aws:kms:{scope.region}:{scope.account}:key/{key}"


def find_arn(kind: str, name: str) -> str | None:
    """The ARN of a role, user, group, instance profile or KMS key of the request's account, of a boundary, or of the
    stack that a change set is of."""
    from ministack.services import iam, kms

    if kind == "change set's stack":
        from ministack.services.cloudformation import changesets

        return (changesets._find_change_set(name)[1] or {}).get("StackId")
    if kind == "key":
        record = kms._resolve_key(name)
        return record and str(record["Arn"])
    kept = {"role": iam._roles, "user": iam._users, "group": iam._groups, "instance-profile": iam._instance_profiles}
    record = kept[kind.partition(" ")[0]].get(name) if kind.partition(" ")[0] in kept else None
    if record is None:
        return None
    found = record.get("PermissionsBoundary" if kind.endswith(" boundary") else "Arn")
    return None if found is None else str(found)


def secret_arn(scope: Scope, reference: str) -> str:
    """Of a secret as a dynamic reference names it: by ARN or name, and what follows."""
    from ministack.services import secretsmanager

    if reference.startswith("arn:"):
        return ":".join(reference.split(":")[:7])
    name = reference.partition(":")[0]
    secret = secretsmanager._resolve(name)[1]
    return str(secret["ARN"]) if secret else f"arn:aws:secretsmanager:{scope.region}:{scope.account}:secret:{name}"
