"""What importing a function's module costs over importing boto3, which each of them needs."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

from tests.story.story import CHECKOUT

RUNTIME = CHECKOUT / ".envs" / "runtimes" / "python3.11" / "bin" / "python"


def unpack(archive: bytes, folder: Path) -> None:
    """A function's archive, as Lambda has it."""
    path = folder / "functions.zip"
    path.write_bytes(archive)
    with zipfile.ZipFile(path) as functions:
        functions.extractall(folder)


def import_ratio(folder: Path, module: str) -> float:
    """Of importing boto3 and then the rest of the module, in one process: what disturbs the one disturbs the other."""
    program = (
        f"import sys, time; sys.path.insert(0, {str(folder)!r}); start = time.perf_counter(); import boto3;"
        f" middle = time.perf_counter(); import {module}; print((time.perf_counter() - start) / (middle - start))"
    )
    # -B, as on Lambda, where the code's folder cannot be written to
    command = [str(RUNTIME), "-I", "-B", "-c", program]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
