"""Lint the IAM policies of a CloudFormation template: unknown actions, resources and conditions that cannot match.

Run by tests/lint.sh in the linters' environment: python -m tests.lint_policies TEMPLATE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import parliament

from tests.servicecatalog import template

EVERYTHING = {
    "ArtifactBuckets": "my-artifacts,team-*-artifacts",
    "BatchBuckets": "my-data",
    "ProjectKmsKeyArns": "arn:aws:kms:eu-west-1:111122223333:key/11112222-3333-4444-5555-666677778888",
    "WebhookSecretArn": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:webhook-AbCdEf",
}


def main() -> int:
    written = template.load(Path(sys.argv[1]))
    findings = 0
    for name, document in template.policies(template.resolved(written, EVERYTHING)).items():
        for finding in parliament.analyze_policy_string(json.dumps(document)).findings:
            findings += 1
            print(f"{sys.argv[1]}: {name}: {finding.issue} {finding.detail} {finding.location}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
