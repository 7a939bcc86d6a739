"""deployment/<stage>.yaml: how each stage serves the model that was approved for it. The fields: stage_schema.py."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipeline import InputError, endpoint_suite, stage_schema
from pipeline.aws import unknown_instance_type
from pipeline.settings import ROOT
from pipeline.yaml_file import parse_yaml, read_bytes

DEPLOYMENT = ROOT / "deployment"
STAGES = ("feature", "dev", "prod", "champion", "challenger")
# Whose version a new model is compared with: what users are served with, else what comes before it.
SERVED_FIRST = ("prod", "champion", "dev")


# What lies beside the stage files in S3: the cases of tests/endpoint/, as endpoint_suite.canonical writes them.
ENDPOINT_TESTS = "endpoint-tests.json"


@dataclass(frozen=True)
class StageFiles:
    """The stage files of this commit, by stage; whoever deploys a registered model reads exactly these.

    endpoint_tests: what its endpoints are asked (endpoint_test.py); None: they are not tested.
    """

    contents: dict[str, bytes]
    endpoint_tests: bytes | None = None

    @property
    def sha256(self) -> dict[str, str]:
        return {stage: hashlib.sha256(content).hexdigest() for stage, content in self.contents.items()}

    @property
    def parsed(self) -> dict[str, stage_schema.StageFile]:
        """By stage, with all defaults."""
        return {stage: parse(content, stage) for stage, content in sorted(self.contents.items())}

    @property
    def warnings(self) -> list[str]:
        """What may not be meant, one line each: file, and what would happen."""
        return [
            f"{DEPLOYMENT.name}/{stage}.yaml: {text}"
            for stage, stage_file in self.parsed.items()
            for text in (*stage_schema.warnings(stage_file, stage), unknown_instance_type(stage_file))
            if text is not None
        ]

    def prefix(self, home: str) -> str:
        """The S3 key prefix of these contents, with a slash at the end: other contents have another one.

        home: the S3 key below which it lies, without a slash at the end.
        """
        digests = self.sha256
        if self.endpoint_tests is not None:
            digests[ENDPOINT_TESTS] = endpoint_suite.sha256(self.endpoint_tests)
        together = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
        return f"{home}/deployment/{hashlib.sha256(together.encode()).hexdigest()}/"

    def objects(self, home: str) -> dict[str, bytes]:
        """What lies in S3, by key; home as for prefix."""
        found = {f"{stage}.yaml": content for stage, content in self.contents.items()}
        if self.endpoint_tests is not None:
            found[ENDPOINT_TESTS] = self.endpoint_tests
        return {f"{self.prefix(home)}{name}": content for name, content in found.items()}


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
    contents = {path.stem: read_bytes(path) for path in paths}
    for stage, content in contents.items():
        parse(content, stage)
    return StageFiles(contents)


def parse(content: bytes, stage: str) -> stage_schema.StageFile:
    """A stage file's content, checked, with all defaults. Raises InputError with one line per fault."""
    name = f"{stage}.yaml"
    try:
        return stage_schema.parse(parse_yaml(name, content), stage)
    except stage_schema.StageFileError as error:
        raise InputError("\n".join(f"{name}: {fault}" for fault in error.faults)) from None
