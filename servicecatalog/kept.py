"""What outlives an installation: finished where an attempt left it half-made, never changed under projects."""

from __future__ import annotations

from collections.abc import Mapping

from botocore.exceptions import ClientError

from servicecatalog.account import KEY_ALIAS, Account
from servicecatalog.stack import Stack

# Of parameters that name what projects have: the platform's output that says what it is now, and what people call it.
_OF_PROJECTS = {
    "ExistingArtifactBucket": ("ArtifactBucket", "--existing-artifact-bucket", "artifact bucket"),
    "ExistingBuildBucket": ("BuildBucket", "--existing-build-bucket", "bucket for builds"),
    "ExistingKmsKeyArn": ("KmsKey", "--existing-kms-key-arn", "KMS key"),
}
# The alias is there already; or the key is gone, or will be: then a new one is made.
_NOT_NAMED = ("AlreadyExistsException", "NotFoundException", "KMSInvalidStateException")


def name_key(account: Account, platform: Stack) -> None:
    """Give the key of a creation that failed its alias, by which the next finds it: or else every try left one more.

    The alias is made after the key, and may not have been when something else failed.
    """
    key = platform.left().get("PlatformKey")
    if key is None or account.kept_key():
        return
    try:
        account.client("kms").create_alias(AliasName=KEY_ALIAS, TargetKeyId=key)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NOT_NAMED:
            raise


def changes_under_projects(account: Account, given: Mapping[str, str], platform: Stack) -> list[str]:
    """What is wrong with naming another bucket or key while there are projects, one text each.

    A project has the bucket that its data lies in for life, and its roles name its buckets and key: the boundary, which
    knows the platform's only, would take them away.

    Args:
        given: parameters that are given now.
        platform: its stack, which is there.
    """
    from servicecatalog import uninstall  # which knows install.py's parameters

    before, outputs = platform.parameters, platform.outputs
    changed = {
        parameter: outputs[output]
        for parameter, (output, _option, _what) in _OF_PROJECTS.items()
        if parameter in given
        and given[parameter] not in (before.get(parameter, ""), outputs.get(output))
        and output in outputs
    }
    if not changed or not (projects := uninstall.projects(account)):
        return []
    listed = ", ".join(projects[:3]) + (f" and {len(projects) - 3} more" if len(projects) > 3 else "")
    found = []
    for parameter, now in changed.items():
        _output, option, what = _OF_PROJECTS[parameter]
        found.append(
            f"{option}: the {what} is {now}, which the projects that are there have for life ({listed}): leave the "
            f"option out, or delete them first{_or_beside(parameter, given[parameter])}"
        )
    return found


def _or_beside(parameter: str, name: str) -> str:
    """How new projects get another one all the same."""
    if parameter != "ExistingArtifactBucket" or not name:
        return ""
    return f"; new projects can name another one, once it is in --artifact-buckets {name}"
