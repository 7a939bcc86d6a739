"""What every step needs inside its job: its settings, and saying why it failed."""

from __future__ import annotations

import json
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def read_settings(module_name: str) -> dict[str, Any]:
    """The settings that were packed beside the module (settings.json), from a folder or from a zip archive."""
    packed = pkgutil.get_data(module_name, "settings.json")
    if packed is None:
        raise RuntimeError(f"{module_name} was loaded from nowhere that could hold settings.json")
    return json.loads(packed)


def run_step(step: Callable[[], None], expected: tuple[type[Exception], ...], message_file: Path) -> int:
    """Runs the step and returns the exit code.

    An expected exception becomes one clear line, in the log and in `message_file`, where SageMaker takes a job's
    ExitMessage (the first 1,024 bytes) or FailureReason from. Any other exception keeps its traceback.
    """
    try:
        step()
    except expected as error:
        message_file.parent.mkdir(parents=True, exist_ok=True)
        message_file.write_text(str(error), encoding="utf-8")
        print(f"ERROR: {error}", file=sys.stderr, flush=True)
        return 1
    return 0
