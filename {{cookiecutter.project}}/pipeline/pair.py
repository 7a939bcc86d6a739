"""Champion and challenger: what they serve is exchanged, or the challenger's version is served by the champion too.

A version serves the stage of its group alone. So a stage gets a copy of what the other one serves, and that copy is
approved: the platform deploys it as any approved version, and its ledger keeps who did it, when, and why.

Every copy carries in which exchange it was made (promoted.by), which names the versions that served before it. An
exchange that was interrupted is found by that, and goes on: it is never taken for one that is to be reversed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import boto3

from pipeline import InputError, promotion, registry
from pipeline.endpoint import NONE, SCHEDULED, endpoint_name, read
from pipeline.names import group_name
from pipeline.promotion import BY, FROM, Package, metadata_of, short
from pipeline.registry import approved_at

CHAMPION, CHALLENGER = "champion", "challenger"
STAGES = (CHAMPION, CHALLENGER)
OTHER = {CHAMPION: CHALLENGER, CHALLENGER: CHAMPION}
SWAP, PROMOTE = "swap", "promote-challenger"
# Metadata take no more than letters, digits, spaces and _.:/=+-@
EXCHANGE = re.compile(r"swap champion/(\d+) challenger/(\d+)")
LOOKED_AT = 100  # newest versions of a group among which an exchange that was interrupted is looked for
LONGEST_REASON = 1024  # SageMaker API reference, UpdateModelPackage: ApprovalDescription


@dataclass(frozen=True)
class Move:
    """A stage gets a copy of what the other one serves.

    by: in which exchange, as its metadata say. before: what the stage served.
    """

    stage: str
    source: Package
    before: Package
    by: str

    @property
    def added(self) -> dict[str, str]:
        """What the copy's metadata have besides."""
        return {FROM: self.source["ModelPackageArn"], BY: self.by}


def swap(
    project: str,
    connection: boto3.Session,
    stages: Iterable[str],
    versions: tuple[int, int] | None,
    why: str | None,
    sure: Callable[[], None],
) -> int:
    """Champion and challenger exchange what they serve; one that was interrupted is finished. Returns 0.

    Args:
        stages: of deployment/.
        versions: of champion and challenger, which are to be exchanged; None: those that serve. With them it can run
            again: when they are exchanged already, nothing is done.
        why: the reason, which the registry and the ledger keep.
        sure: raises InputError when nobody agrees to what was printed.

    Raises:
        InputError: one of them serves nothing, or is being deployed; or other versions serve than are named.
    """
    _check_scenario(stages, SWAP)
    groups = {stage: registry.packages(connection, group_name(project, stage), LOOKED_AT) for stage in STAGES}
    if versions is not None and _is_done(groups, by := _name(*versions)):
        print(f"{by}: both are done already, and approved: nothing has to be done")
        return 0
    moves = _interrupted(project, connection, groups)
    if moves is None:
        serving = {stage: _serving(project, connection, stage, groups[stage]) for stage in STAGES}
        if _same_model(*serving.values()):
            print("champion and challenger serve the same model: there is nothing to exchange")
            return 0
        by = _name(*(serving[stage]["ModelPackageVersion"] for stage in STAGES))
        moves = [Move(stage, serving[OTHER[stage]], serving[stage], by) for stage in STAGES]
    if versions is not None and moves[0].by != _name(*versions):
        raise InputError(
            f"what serves is not what you named: it would be {moves[0].by}. Look at python -m pipeline status --stage "
            "champion (and challenger), and name those versions, or none"
        )
    return _carry_out(connection, project, moves, why, sure)


def promote_challenger(
    project: str, connection: boto3.Session, stages: Iterable[str], why: str | None, sure: Callable[[], None]
) -> int:
    """The champion serves what the challenger serves, which goes on serving it. Arguments and errors as for swap."""
    _check_scenario(stages, PROMOTE)
    groups = {stage: registry.packages(connection, group_name(project, stage), LOOKED_AT) for stage in STAGES}
    serving = {stage: _serving(project, connection, stage, groups[stage]) for stage in STAGES}
    if _same_model(*serving.values()):
        print(f"champion serves what challenger serves ({short(serving[CHALLENGER])}) already: nothing has to be done")
        return 0
    over, source = serving[CHAMPION], serving[CHALLENGER]
    by = f"{PROMOTE} challenger/{source['ModelPackageVersion']} champion/{over['ModelPackageVersion']}"
    return _carry_out(connection, project, [Move(CHAMPION, source, over, by)], why, sure)


def _carry_out(
    connection: boto3.Session, project: str, moves: list[Move], why: str | None, sure: Callable[[], None]
) -> int:
    """Copies first, then approvals: killed in between, what is missing is done by the next try."""
    reasons = {move.stage: _reason(move, why) for move in moves}
    for move in moves:
        promotion.check_serves(move.source, move.stage)
        print(f"{move.stage} serves {_shown(move.before)}, and will serve a copy of {_shown(move.source)}")
    sure()
    copies = [promotion.copy(connection, move.source, group_name(project, move.stage), move.added) for move in moves]
    for move, made in zip(moves, copies, strict=True):
        promotion.check_data(move.source, made)
    for move, made in zip(moves, copies, strict=True):
        if made["ModelApprovalStatus"] == "Approved":
            print(f"{short(made)} is approved already")
        else:
            registry.set_approval(connection, made, "Approved", reasons[move.stage])
            print(f"Approved: {made['ModelPackageArn']}")
    for move in moves:
        print(f"  python -m pipeline status --stage {move.stage}")
    return 0


def _check_scenario(stages: Iterable[str], command: str) -> None:
    if CHAMPION not in stages:
        raise InputError(
            f"{command} is for projects with champion and challenger (scenario advanced), and this one serves its "
            "users from prod alone: merge into prod, and promote"
        )


def _serving(project: str, connection: boto3.Session, stage: str, packages: list[Package]) -> Package:
    """The version that a stage serves. Raises InputError when it serves none, or is about to change.

    packages: of its group.
    """
    found = read(connection, endpoint_name(project, stage))
    look = f"python -m pipeline status --stage {stage}"
    if _is_changing(found):
        raise InputError(f"{stage} is {found['status']}: wait until it serves one version, and stays so ({look})")
    arn = found["package_arn"]
    package = None if arn is None else registry.describe_package(connection.client("sagemaker"), arn)
    if package is None:
        what = "no version" if arn is None else f"{short(arn)}, which was deleted"
        raise InputError(
            f"{stage} serves {what}: promote to it, and approve a version there (python -m pipeline versions "
            f"--stage {stage})"
        )
    newer = [
        one
        for one in packages
        if one["ModelApprovalStatus"] == "Approved" and approved_at(one) > approved_at(package) and not _has_ended(one)
    ]
    if newer:
        raise InputError(
            f"{short(newer[0])} was approved after {short(package)}, which serves, and its deployment has not ended: "
            f"wait until it has ({look}), or reject it"
        )
    return package


def _is_changing(found: dict[str, Any]) -> bool:
    return found["status"] not in ("InService", SCHEDULED, NONE) or found["next_config"] is not None


def _has_ended(package: Package) -> bool:
    """Whether a deployment of the version, since it was approved last, has ended. As the platform stamps it."""
    ended = registry.deployment_of(package)["ended"] or ""
    return ended >= metadata_of(package).get("approval.at", "") and ended != ""


def _interrupted(project: str, connection: boto3.Session, groups: dict[str, list[Package]]) -> list[Move] | None:
    """What an exchange that was interrupted is: one stage has its copy approved, the other one has not. Else None.

    Raises InputError when the other one's was rejected: a person, or the platform, ended it.
    """
    named = [package for packages in groups.values() for package in packages if EXCHANGE.fullmatch(_by(package))]
    if not named:
        return None
    by = _by(max(named, key=lambda package: package["CreationTime"]))
    copies = {stage: next((one for one in groups[stage] if _by(one) == by), None) for stage in STAGES}
    approved = [stage for stage, one in copies.items() if one is not None and one["ModelApprovalStatus"] == "Approved"]
    if len(approved) != 1:
        return None  # nothing of it serves, or all of it
    (done,) = approved
    made, missing = copies[done], OTHER[done]
    if made is not None and _decided(groups[done]) != made["ModelPackageArn"]:
        return None  # something else was approved there since: it is no exchange any more
    numbers = dict(zip(STAGES, map(int, EXCHANGE.fullmatch(by).groups()), strict=True))  # type: ignore[union-attr]
    before = {
        stage: registry.describe_version(connection, group_name(project, stage), numbers[stage]) for stage in STAGES
    }
    rejected = copies[missing]
    if rejected is not None and rejected["ModelApprovalStatus"] == "Rejected":
        why = rejected.get("ApprovalDescription")
        raise InputError(
            f"{by}: {done} has its copy, and that of {missing} was rejected{f' ({why})' if why else ''}. Finish with "
            f"python -m pipeline approve {rejected['ModelPackageVersion']} --stage {missing}, or go back with "
            f"python -m pipeline reject {made['ModelPackageVersion'] if made else ''} --stage {done}"
        )
    serving = _serving(project, connection, missing, groups[missing])
    if serving["ModelPackageArn"] != before[missing]["ModelPackageArn"]:
        return None
    print(f"{by} was interrupted, and goes on")
    return [Move(stage, before[OTHER[stage]], before[stage], by) for stage in STAGES]


def _is_done(groups: dict[str, list[Package]], by: str) -> bool:
    """Whether both copies of an exchange were approved."""
    approved = [
        any(_by(one) == by and one["ModelApprovalStatus"] == "Approved" for one in groups[stage]) for stage in STAGES
    ]
    return all(approved)


def _decided(packages: list[Package]) -> str | None:
    """The ARN of the version that was approved last, and is still."""
    approved = [package for package in packages if package["ModelApprovalStatus"] == "Approved"]
    newest = max(approved, key=lambda package: (approved_at(package), package["ModelPackageVersion"]), default=None)
    return None if newest is None else str(newest["ModelPackageArn"])


def _same_model(one: Package, other: Package) -> bool:
    """Whether they are copies of one registered model, however often it was copied."""
    first, second = (promotion.copied(package, {}) for package in (one, other))
    return first.get("InferenceSpecification") == second.get("InferenceSpecification")


def _name(champion: int, challenger: int) -> str:
    return f"{SWAP} champion/{champion} challenger/{challenger}"


def _by(package: Package) -> str:
    return metadata_of(package).get(BY, "")


def _shown(package: Package) -> str:
    """churn-champion/5 (commit 0a1b2c3d4e5f, auc 0.991)."""
    metadata = metadata_of(package)
    main = metadata.get("metric.main", "")
    said = [f"commit {metadata['git.commit'][:12]}"] if "git.commit" in metadata else []
    said += [f"{main} {float(metadata[f'metric.{main}']):.4g}"] if f"metric.{main}" in metadata else []
    return short(package) + (f" ({', '.join(said)})" if said else "")


def _reason(move: Move, why: str | None) -> str:
    reason = f"{move.by}: {move.stage} serves what was {short(move.source)}{f'; {why}' if why else ''}"
    if len(reason) > LONGEST_REASON:
        raise InputError(f"--reason: {len(reason) - LONGEST_REASON} characters too many: say it in fewer")
    return reason
