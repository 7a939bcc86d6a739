"""What was tried and what came out, kept for docs/proof.md when somebody makes it (`make proof`)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FOLDER = "PROOF_FOLDER"  # the environment variable; without it nothing is kept


def keep(name: str, found: dict[str, Any]) -> None:
    """Write what a test found to <folder>/<name>.json.

    Args:
        name: of the proof, such as "requests".
        found: counts and texts that tests/proof_page.py knows how to show.
    """
    folder = os.environ.get(FOLDER)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, f"{name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
