"""Temporary folders that go with the process that made them, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A folder of our own, removed at the end; those of processes that were killed before theirs are removed now.

    Args:
        purpose: a word for its name.
    """
    prefix = f"local_aws-{purpose}-{os.getuid()}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        # A living process holds its folder's lock.
        with contextlib.suppress(OSError), (left / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    # Locked before it has the name that others look for, so that none takes it for abandoned.
    made = Path(tempfile.mkdtemp(prefix="local_aws-starting-"))
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = made.rename(made.with_name(prefix + made.name.rpartition("-")[2]))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
