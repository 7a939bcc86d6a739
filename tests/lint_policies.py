"""Lint IAM policies: unknown actions, resources and conditions that cannot match.

Run by tests/lint.sh in the linters' environment: python -m tests.lint_policies FILE, one that lint_resources reads.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import parliament

from tests.lint_resources import policies


def main() -> int:
    findings = 0
    for name, document in policies(Path(sys.argv[1])).items():
        for finding in parliament.analyze_policy_string(json.dumps(document)).findings:
            findings += 1
            print(f"{sys.argv[1]}: {name}: {finding.issue} {finding.detail} {finding.location}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
