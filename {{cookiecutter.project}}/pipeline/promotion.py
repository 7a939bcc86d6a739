"""Promoting: the version that was approved on dev for exactly these files is copied to the stages that serve users.

Nothing is trained. Which version it is, is found by the tree, the id that git gives to all files of a commit: so a
merge commit, a squash, a rebase and a cherry-pick promote what was tested on dev, and no history is needed (a shallow
clone does). The copy waits for its own approval.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipeline import InputError, endpoint_test, registry
from pipeline.aws import error_code
from pipeline.lineage import Lineage, read_lineage
from pipeline.names import group_name
from pipeline.settings import ROOT, Settings
from pipeline.stage_file import DEPLOYMENT, load_stage_files

Package = dict[str, Any]
"""DescribeModelPackage's answer."""

# Of which version a copy is; the commit of prod for which it was made; and, between champion and challenger, in which
# exchange (pair.py).
FROM, COMMIT, BY = "promoted.from", "promoted.commit", "promoted.by"
# What the platform writes onto a version tells what became of that one, not of its copy.
TESTS, TESTED = "tests.sha256", "tests.status"
STAMPS = (
    *("approval.by", "approval.at", "deployment.number", "deployment.status", "deployment.ended"),
    *(TESTED, "tests.at"),
)
# SageMaker API reference, CreateModelPackage: CustomerMetadataProperties, 50 of them. So many a version can be
# registered with: the platform adds its own, and a copy's three take the places of what it can do without.
MOST_PROPERTIES = 50 - len(STAMPS)
# What a version does without where there is no room: MetadataProperties say it too (GeneratedBy), and data.sha256 does.
SAID_ELSEWHERE = ("pipeline.execution", "data.fingerprint")
# And a copy: hashes of stages that it never serves (deployment.prefix ends with the hash of all of them), what the gate
# was asked then, and what MetadataProperties say too (Repository).
SPARED = (
    *("deployment.sha256.feature", *SAID_ELSEWHERE),
    *("deployment.sha256.dev", "metric.tolerance", "git.repository"),
)
# What CreateModelPackage takes of DescribeModelPackage's answer, and a copy has in common with its source. Not:
# SourceUri, which cannot be given together with InferenceSpecification; ModelLifeCycle, whose stage is the source's;
# ValidationSpecification, whose jobs would run again; ManagedStorageType, which is for data that SageMaker keeps.
CARRIED = (
    "ModelPackageDescription",
    "InferenceSpecification",
    "AdditionalInferenceSpecifications",
    "SourceAlgorithmSpecification",
    "MetadataProperties",
    "ModelMetrics",
    "DriftCheckBaselines",
    "ModelCard",
    "SecurityConfig",
    "Domain",
    "Task",
    "SamplePayloadUrl",
    "SkipModelValidation",
)
# Which bytes lie at an address: SageMaker fills them in.
ETAGS = ("ModelDataETag", "ETag", "ManifestEtag")
CREATIONS = 10  # a copy that was deleted is made again, that often
LOOKED_AT, SHOWN = 200, 3  # newest versions among which the nearest are looked for; how many of them are said
TREE = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
# CI's role for prod may, and of people an administrator alone.
AGAIN = "Then promote again: prod's CI job once more (README.md, Promoting), or python -m pipeline promote"


def promote_branch(settings: Settings, connection: boto3.Session, root: Path = ROOT) -> int:
    """Copies the version that was approved on dev for this commit's files; prints what it does, returns 0.

    Can run again at any time, and twice at once: a copy that is there is not made again.

    Raises:
        InputError: no such version; files that are not committed; no group; a version without the stage's file.
        ClientError: what AWS refuses. What was copied before stays, and the next try goes on.
    """
    lineage = read_lineage(root)
    if lineage.is_dirty:
        raise InputError(
            "files here are changed and not committed, and what is promoted is a commit: commit them, or put them away "
            "(git stash --include-untracked), then promote again"
        )
    stages = serving_stages(load_stage_files(root / DEPLOYMENT.name).contents)
    for stage in stages:
        registry.group_arn(connection, group_name(settings.project, stage))  # raises where there is none
    source = _approved_version(connection, group_name(settings.project, "dev"), lineage, root)
    for stage in stages:
        check_serves(source, stage)
    check_tested(source, endpoint_test.digest(settings, root / "tests" / "endpoint"))
    print(f"promoting {short(source)} (commit {metadata_of(source).get('git.commit', '')[:12]}, tree {lineage.tree})")
    for stage in stages:
        group = group_name(settings.project, stage)
        made = copy(connection, source, group, {FROM: source["ModelPackageArn"], COMMIT: lineage.commit})
        check_data(source, made)
        _say(made, stage, registry.approved_later(connection, group, made))
    return 0


def serving_stages(stages: Iterable[str]) -> list[str]:
    """Where this project's users are served: prod, or champion and challenger. stages: those of deployment/."""
    return ["champion", "challenger"] if "champion" in stages else ["prod"]


def copy(connection: boto3.Session, source: Package, group: str, added: Mapping[str, str]) -> Package:
    """The version of `group` that is the copy of `source`: the one that is there, or a new one, waiting for approval.

    Args:
        added: metadata of the copy; FROM and BY say which copy it is.

    Two at once make one: their client tokens are the same (CreateModelPackage, ClientToken). Raises InputError when the
    copy cannot carry all its metadata.
    """
    sagemaker = connection.client("sagemaker", config=registry.PATIENT)
    for creation in range(CREATIONS):
        if found := find_copy(connection, source, group, added):
            return found
        try:
            made = sagemaker.create_model_package(
                **copied(source, added), ModelPackageGroupName=group, ClientToken=_token(group, added, creation)
            )
        except ClientError as error:
            if error_code(error) != "ConflictException":
                raise
            continue  # somebody makes the same copy for another commit, and it will be found
        # a token that was used answers with what it made then, which may be deleted by now
        if (package := registry.describe_package(sagemaker, made["ModelPackageArn"])) is not None:
            return package
    raise InputError(
        f"the copy of {short(source)} in {group} was made and deleted {CREATIONS} times: find out who deletes it, "
        "and promote again tomorrow, when SageMaker has forgotten the earlier ones"
    )


def find_copy(connection: boto3.Session, source: Package, group: str, added: Mapping[str, str]) -> Package | None:
    """The newest version of `group` that is the copy of `source`; `added` as for copy."""
    for package in registry.packages(connection, group, CreationTimeAfter=source["CreationTime"]):
        metadata = metadata_of(package)
        if all(metadata.get(name) == added.get(name) for name in (FROM, BY)):
            return package
    return None


def copied(source: Package, added: Mapping[str, str]) -> dict[str, Any]:
    """What CreateModelPackage is asked for, but for the group and the token. Pure.

    Raises InputError when it would have more metadata than a version that is deployed can carry.
    """
    request = {name: _without_etags(source[name]) for name in CARRIED if name in source}
    if "InferenceSpecification" not in source and "SourceUri" in source:
        request["SourceUri"] = source["SourceUri"]
    own = {name: value for name, value in metadata_of(source).items() if name not in (*STAMPS, BY)}
    metadata = own | dict(added)
    for name in SPARED:
        if len(metadata) > MOST_PROPERTIES:
            metadata.pop(name, None)
    if len(metadata) > MOST_PROPERTIES:
        raise InputError(
            f"{short(source)} carries {len(own)} metadata properties, and there is no room for "
            f"{' and '.join(added)} ({MOST_PROPERTIES} at most): remove some of your own from it (aws sagemaker "
            "update-model-package --customer-metadata-properties-to-remove), then try again"
        )
    return {**request, "CustomerMetadataProperties": metadata, "ModelApprovalStatus": "PendingManualApproval"}


def check_serves(source: Package, stage: str) -> None:
    """Raises InputError when the version does not say how it is to be served there."""
    if not metadata_of(source).get(f"deployment.sha256.{stage}"):
        raise InputError(
            f"{short(source)} was registered without deployment/{stage}.yaml, and nobody knows how it would be served "
            "there: add the file on dev, train and approve there"
        )


def check_tested(source: Package, expected: str | None) -> None:
    """Raises InputError unless the endpoint of dev answered with this version as tests/endpoint/ says.

    A version whose files have no such cases passes. So does one whose failures are only reported (on_failure).

    Args:
        expected: SHA-256 of the cases in the files that are promoted: a version that was registered without them, or
            with others, was never asked what was reviewed.
    """
    metadata = metadata_of(source)
    status = metadata.get(TESTED)
    # the same words as in the platform's own messages
    rerun = f"an operator of the platform has them run again (python -m lifecycle_lambdas test {_endpoint(source)})"
    if metadata.get(TESTS) != expected:
        raise InputError(
            f"{short(source)} was not registered with the cases of tests/endpoint/ in these files ({TESTS} is "
            f"{metadata.get(TESTS, 'missing')}, and theirs is {expected or 'none'}), and is not promoted: have this "
            "commit trained by dev's pipeline and approved there, then promote again"
        )
    if TESTS not in metadata or status in ("passed", "reported"):
        return
    if status == "failed":
        raise InputError(
            f"{short(source)} failed its endpoint tests on dev ({metadata.get('tests.at', 'time unknown')}), and is "
            "not promoted: the platform's message says which cases, and python -m pipeline test-endpoint --stage dev "
            "shows how they end now. Correct the model or tests/endpoint/ on dev, and have it trained and approved "
            f"there. Or where they fail no more, {rerun}: the platform's verdict alone counts. {AGAIN}"
        )
    if status == "broken":
        raise InputError(
            f"{short(source)} is not promoted: its endpoint tests on dev could not be run, and the platform's message "
            f"says why. When that is put right, {rerun}; python -m pipeline test-endpoint --stage dev shows beforehand "
            f"how they end. {AGAIN}"
        )
    raise InputError(
        f"{short(source)} is not promoted before its endpoint tests on dev have passed, and nothing is known of them "
        "yet. They are run when dev's deployment of it has ended (python -m pipeline status --stage dev), and take "
        "seconds. Or it never served there, since another version was approved after it: reject that one on dev, and "
        f"this one is deployed and tested. {AGAIN}"
    )


def check_data(source: Package, made: Package) -> None:
    """Raises InputError when the model's data is not what it was when the source was registered."""
    then, now = _etags(source), _etags(made)
    if changed := [place for place, tag in then.items() if now.get(place, tag) != tag]:
        raise InputError(
            f"the data of {short(source)} was changed after it was registered ({changed[0]}): do not approve "
            f"{short(made)}, find out who changed it, and train again"
        )


def metadata_of(package: Package) -> dict[str, str]:
    return dict(package.get("CustomerMetadataProperties", {}))


def short(package: Package | str) -> str:
    """churn-dev/7, of a version or its ARN."""
    arn = package if isinstance(package, str) else package["ModelPackageArn"]
    return str(arn).partition(":model-package/")[2]


def _endpoint(package: Package) -> str:
    """The endpoint that serves the version's stage: it is called as the group is."""
    return short(package).partition("/")[0]


def _approved_version(connection: boto3.Session, group: str, lineage: Lineage, root: Path) -> Package:
    """The version of dev that was approved last for this tree. Raises InputError, with the nearest, when none was."""
    approved = registry.packages(connection, group, ModelApprovalStatus="Approved")
    found = [package for package in approved if metadata_of(package).get("git.tree") == lineage.tree]
    if found:
        return registry.approved_last(found)
    raise InputError(_none_approved(group, lineage, registry.packages(connection, group, LOOKED_AT), root))


def _none_approved(group: str, lineage: Lineage, newest: list[Package], root: Path) -> str:
    """Which version is missing, and what there is instead. newest: the group's newest versions, the newest first."""
    lines = [
        f"no version of {group} that is approved was trained from the files of commit {lineage.commit[:12]} "
        f"(tree {lineage.tree}), and prod trains nothing."
    ]
    same = [package for package in newest if metadata_of(package).get("git.tree", "").partition("-")[0] == lineage.tree]
    for package in same[:SHOWN]:
        lines.append(f"  {_described(package)}: {_what_it_needs(package)}")
    if any(not _is_dirty(package) for package in same):
        return "\n".join([*lines, AGAIN])
    trees = {tree for package in newest if TREE.fullmatch(tree := metadata_of(package).get("git.tree", ""))}
    changed = {tree: files for tree in trees if (files := _changed_files(tree, root)) is not None}

    def distance(package: Package) -> tuple[bool, int]:
        files = changed.get(metadata_of(package).get("git.tree", ""))
        return (files is None, len(files or ()))

    others = sorted((package for package in newest if package not in same), key=distance)[:SHOWN]
    if others:
        lines.append("The nearest are:")
    for package in others:
        files = changed.get(metadata_of(package).get("git.tree", ""))
        lines.append(f"  {_described(package)}{_differing(files)}")
    lines.append(
        "Either give prod exactly the files of an approved version (merge that commit of dev, nothing else), or bring "
        "these files to dev (git checkout dev && git merge prod), have them trained and approved there. Then promote "
        "again"
    )
    return "\n".join(lines)


def _described(package: Package) -> str:
    metadata = metadata_of(package)
    return (
        f"version {package['ModelPackageVersion']}, {package['ModelApprovalStatus']}, commit "
        f"{metadata.get('git.commit', 'unknown')[:12]}, tree {metadata.get('git.tree', 'unknown')[:12]}"
        f"{'-dirty' if _is_dirty(package) else ''}"
    )


def _is_dirty(package: Package) -> bool:
    return metadata_of(package).get("git.tree", "").endswith("-dirty")


def _what_it_needs(package: Package) -> str:
    """What has to happen before a version of the right tree is promoted."""
    version = package["ModelPackageVersion"]
    if _is_dirty(package):
        return "files were changed and not committed when it was trained, and it is never promoted: train the commit"
    approve = f"python -m pipeline approve {version} --stage dev"
    if package["ModelApprovalStatus"] == "Rejected":
        why = package.get("ApprovalDescription")
        return f"it was rejected{f' ({why})' if why else ''}; were that to be changed: {approve}"
    return f"approve it: {approve}"


def _differing(files: list[str] | None) -> str:
    if files is None:
        return ""  # its commit is not in this clone
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return f": {len(files)} files differ ({', '.join(files[:SHOWN])}{more})"


def _changed_files(tree: str, root: Path) -> list[str] | None:
    """The files in which HEAD differs from that tree; None where git does not have it, as in a shallow clone."""
    command = ["git", "diff", "--name-only", "--no-renames", tree, "HEAD"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout.splitlines()


def _say(package: Package, stage: str, approved_later: list[int]) -> None:
    """What the copy waits for."""
    version, status = package["ModelPackageVersion"], package["ModelApprovalStatus"]
    approve = f"python -m pipeline approve {version} --stage {stage}"
    if status == "PendingManualApproval":
        print(f"{short(package)} waits for approval:")
        print(f"  python -m pipeline plan {version} --stage {stage}\n  {approve}")
    elif status == "Rejected":
        why = package.get("ApprovalDescription")
        print(f"{short(package)} is this version already, and was rejected{f': {why}' if why else ''}", file=sys.stderr)
        print(f"  nothing was made; to have it served all the same: {approve}", file=sys.stderr)
    elif approved_later:
        numbers = ", ".join(str(number) for number in approved_later)
        print(f"{short(package)} is this version already, and approved; approved after it: {numbers}")
        print("  to go back to it, reject what was approved later:")
        for number in approved_later:
            print(f"  python -m pipeline reject {number} --stage {stage}")
    else:
        print(f"{short(package)} is this version already, and approved: nothing has to be done")


def _token(group: str, added: Mapping[str, str], creation: int) -> str:
    """The same for the same copy; 36 letters and digits at most."""
    which = "\n".join((group, added[FROM], added.get(BY, ""), str(creation)))
    return hashlib.sha256(which.encode()).hexdigest()[:36]


def _without_etags(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_etags(inner) for name, inner in value.items() if name not in ETAGS}
    return [_without_etags(inner) for inner in value] if isinstance(value, list) else value


def _etags(package: Package) -> dict[str, str]:
    """The hashes of the model's data by where they stand."""
    found: dict[str, str] = {}

    def walk(place: str, value: Any) -> None:
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if name in ETAGS:
                found[f"{place}.{name}"] = inner
            elif isinstance(inner, (dict, list)):
                walk(f"{place}.{name}", inner)

    for name in ("InferenceSpecification", "AdditionalInferenceSpecifications"):
        walk(name, package.get(name, {}))
    return found
