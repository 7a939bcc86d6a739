"""How long `make install` takes where nothing has been fetched before."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench.figures import Figure

ROOT = Path(__file__).resolve().parents[2]


def install() -> list[Figure]:
    with tempfile.TemporaryDirectory(dir=ROOT / ".envs") as folder:  # one file system with the real ones
        caches = {"UV_CACHE_DIR": f"{folder}/uv", "PIP_NO_CACHE_DIR": "1"}
        started = time.monotonic()
        command = ["make", "--no-print-directory", f"ENVS={folder}/envs", "install"]
        subprocess.run(command, cwd=ROOT, env=os.environ | caches, stdout=subprocess.DEVNULL, check=True)
        seconds = time.monotonic() - started
    return [Figure("make install, nothing cached", [seconds], "s", at_most=240)]
