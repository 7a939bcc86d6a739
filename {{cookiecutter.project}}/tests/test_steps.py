"""What training leaves."""

from __future__ import annotations

import tarfile

from conftest import Run


def test_the_archive_has_the_booster_alone_in_its_root(finished_run: Run) -> None:
    # the image takes every file in the root for a model
    with tarfile.open(finished_run.folder / "model.tar.gz") as archive:
        files = {member.name for member in archive if member.isfile()}
    assert {name for name in files if "/" not in name} == {"xgboost-model"}
    assert {"code/inference.py", "code/transform.py", "code/transform.json", "code/versions.json"} <= files
