"""Whether what is granted is needed: the policies in IAM against what was asked while a module's tests ran."""

from __future__ import annotations

import fnmatch
import types
from typing import Any

import pytest
import yaml

from local_aws import LocalAWS
from local_aws.ministack_host import policies_allow
from local_aws.permissions import report
from local_aws.permissions.identities import read_identities
from tests.story.story import CHECKOUT

EXCEPTIONS = CHECKOUT / "servicecatalog" / "unused_permissions.yaml"


def after_the_whole_module(request: pytest.FixtureRequest) -> None:
    """Skip unless every test of the module, slow ones aside, was chosen: what was not asked cannot be needed."""
    module: types.ModuleType = request.module
    chosen = {item.originalname for item in request.session.items if getattr(item, "module", None) is module}
    written = {name for name, value in vars(module).items() if name.startswith("test_") and not _is_slow(value)}
    if missing := written - chosen:
        pytest.skip(f"asks what all tests of the module needed, and {len(missing)} of them were not chosen")


def _is_slow(test: Any) -> bool:
    return any(mark.name == "slow" for mark in getattr(test, "pytestmark", []))


def reports(aws: LocalAWS, *names: str) -> list[report.IdentityReport]:
    """Of the users and roles that IAM has now, and whose names match a pattern."""
    decisions = report.counted(aws.server.settings("permissions"))
    everybody = read_identities(aws.client("iam"))
    ours = [one for one in everybody if any(fnmatch.fnmatchcase(one.name, name) for name in names)]
    return [one for one in report.report(ours, decisions, policies_allow) if one.exists]


def denied(found: list[report.IdentityReport]) -> list[str]:
    return [f"{one.name}: {each.action} on {each.resource} ({each.because})" for one in found for each in one.denied]


def unexplained(found: list[report.IdentityReport]) -> list[str]:
    return [f"{one.name}: {each.action} on {each.resource}" for one in found for each in one.unexplained]


def unneeded(found: list[report.IdentityReport], run: str) -> list[str]:
    """Args:
    run: the part of servicecatalog/unused_permissions.yaml that is about these tests.
    """
    exceptions = yaml.safe_load(EXCEPTIONS.read_text())[run]
    return report.unneeded(found, exceptions)


def counts(aws: LocalAWS, found: list[report.IdentityReport]) -> dict[str, int]:
    """For docs/proof.md, once nothing is `unneeded`: what is granted and not needed has its reason, then."""
    arns = {one.arn for one in found}
    decisions = report.counted(aws.server.settings("permissions"))
    actions = [use for one in found for use in one.actions]
    return {
        "users and roles": len(found),
        "actions granted": len(actions),
        "of them denied when they were taken away": sum(use.needed for use in actions),
        "of them kept for a reason": sum(not use.needed for use in actions),
        "questions asked": sum(count for decision, count in decisions.items() if decision.principal in arns),
        "questions denied": sum(denial.count for one in found for denial in one.denied),
    }
