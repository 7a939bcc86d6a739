"""What every step needs inside its job: its settings, and saying why it failed."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def read_settings(module_name: str) -> dict[str, Any]:
    """The settings that were packed beside the module (settings.json), from a folder or from a zip archive."""
    spec = importlib.util.find_spec(module_name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{module_name} is not a module in a file")
    path = Path(spec.origin).parent / "settings.json"
    return json.loads(spec.loader.get_data(str(path)))


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
