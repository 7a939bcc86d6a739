"""deployment/<stage>.yaml: how each stage serves the model that was approved for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.errors import InputError
from pipeline.settings import ROOT, InstanceType, Section
from pipeline.yaml_file import load_yaml

DEPLOYMENT = ROOT / "deployment"
STAGES = ("feature", "dev", "prod", "champion", "challenger")
# Whose version a new model is compared with: what users are served with, else what comes before it.
SERVED_FIRST = ("prod", "champion", "dev")


class StageFile(Section):
    """kind: real_time, an endpoint that always runs. instance_count: how many instances serve it."""

    kind: Literal["real_time"]
    instance_type: InstanceType
    instance_count: Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class StageFiles:
    """The stage files of this commit, by stage; whoever deploys a registered model reads exactly these."""

    contents: dict[str, bytes]

    @property
    def sha256(self) -> dict[str, str]:
        return {stage: hashlib.sha256(content).hexdigest() for stage, content in self.contents.items()}

    def prefix(self, project: str) -> str:
        """The S3 key prefix of these contents, with a slash at the end: other contents have another one."""
        together = "".join(f"{stage} {digest}\n" for stage, digest in sorted(self.sha256.items()))
        return f"{project}/deployment/{hashlib.sha256(together.encode()).hexdigest()}/"


def load_stage_files(folder: Path = DEPLOYMENT) -> StageFiles:
    """Reads and checks deployment/*.yaml. Raises InputError when one is wrong, unknown, or none is there."""
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise InputError(f"{folder.name}/ holds no stage file: restore it (git checkout -- {folder.name})")
    for path in paths:
        if path.stem not in STAGES:
            raise InputError(
                f"{folder.name}/{path.name}: there is no stage {path.stem!r} (stages: {', '.join(STAGES)})"
            )
        load_yaml(path, StageFile)
    return StageFiles({path.stem: path.read_bytes() for path in paths})
