"""What the environments must agree on."""

from __future__ import annotations

import re
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"


def test_builds_on_this_machine_lint_with_the_version_that_lints_the_template() -> None:
    pins = {
        name: re.findall(r"^ruff==(\S+)$", (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8"), re.MULTILINE)
        for name in ("main", "lint")
    }
    assert len(pins["main"]) == 1
    assert pins["main"] == pins["lint"]
