"""Lint IAM policies: unknown actions, resources and conditions that cannot match.

Run by tests/lint.sh in the linters' environment: python -m tests.lint_policies FILE..., as lint_resources reads them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import parliament

from tests.lint_resources import policies

# (file, what parliament calls it, a part of what it says) -> why it is no fault.
EXCEPTIONS = {
    ("administrator-policy.json", "RESOURCE_POLICY_PRIVILEGE_ESCALATION", "modelyard-platform-"): (
        "whoever installs makes this bucket and its policy; it holds the functions' archives, which he puts there"
    ),
    ("administrator-policy.json", "RESOURCE_MISMATCH", "alias/*"): (
        "an alias is made by a right on the alias and one on the key, which stand in two statements"
    ),
    ("administrator-policy.json", "RESOURCE_MISMATCH", "key/*"): "the other of the two",
    ("administrator-policy-product.json", "RESOURCE_POLICY_PRIVILEGE_ESCALATION", "modelyard-artifacts-"): (
        "whoever installs makes this bucket and its policy, as CloudFormation's caller"
    ),
    ("administrator-policy-product.json", "RESOURCE_POLICY_PRIVILEGE_ESCALATION", "modelyard-builds-"): (
        "the same, of the bucket with what CodePipeline hands on"
    ),
    ("administrator-policy-product.json", "RESOURCE_POLICY_PRIVILEGE_ESCALATION", "modelyard-templates-"): (
        "the same, of the bucket with the product's templates, which he puts there"
    ),
    ("platform.yaml", "RESOURCE_STAR", "ec2:AssignPrivateIpAddresses"): (
        "what Lambda itself does for a function in a VPC: tests/lint_resources.py"
    ),
    ("platform.yaml", "UNKNOWN_CONDITION_FOR_ACTION", "lambda:SourceFunctionArn"): (
        "a function's code has it in all its calls; parliament knows it for none"
    ),
    ("portfolio.yaml", "RESOURCE_STAR", "s3:GetObject"): (
        "Service Catalog's copy of the template, which its tag bounds: tests/lint_resources.py"
    ),
    ("administrator-policy-services.json", "RESOURCE_MISMATCH", "dynamodb:GetResourcePolicy"): (
        "the ledger's table has no stream"
    ),
}


def main() -> int:
    lines, excepted = [], set()
    for path in map(Path, sys.argv[1:]):
        for name, document in policies(path).items():
            for finding in parliament.analyze_policy_string(json.dumps(document)).findings:
                text = f"{finding.detail} {finding.location}"
                known = [key for key in EXCEPTIONS if key[:2] == (path.name, finding.issue) and key[2] in text]
                excepted |= set(known)
                if not known:
                    lines.append(f"{path}: {name}: {finding.issue} {text}")
    read = {Path(path).name for path in sys.argv[1:]}
    gone = [key for key in EXCEPTIONS if key[0] in read and key not in excepted]
    lines += [f"{key[0]}: excepted here, and not found any more: {key[1:]}" for key in gone]
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
