"""What a version asks for: its stage file as it was registered, and the role that its group's tags allow."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from lifecycle_lambdas import stage_schema, yaml_text
from lifecycle_lambdas.declared import (
    AdministratorsFault,
    StageFileError,
    effective,
    parse_stage_file,
    read_stage_file,
    role_arn,
    stage_file_place,
)
from tests.lifecycle_lambdas.plans import PACKAGE, SCALING
from tests.lifecycle_lambdas.simulated_aws import SimulatedAWS

TEXT = b"kind: real_time\ninstance_type: ml.m5.large\n"


class Context:
    """As far as reading a stage file needs one."""

    def __init__(self, aws: SimulatedAWS) -> None:
        self.client = aws


def package(**metadata: str) -> dict[str, Any]:
    found = {
        "deployment.prefix": "s3://artifacts/churn/deployment/0a1b/",
        "deployment.sha256.prod": hashlib.sha256(TEXT).hexdigest(),
    }
    return {"ModelPackageArn": PACKAGE, "CustomerMetadataProperties": {**found, **metadata}}


def stored(text: bytes = TEXT) -> Any:
    return Context(SimulatedAWS(objects={("artifacts", "churn/deployment/0a1b/prod.yaml"): text}))


def test_the_stage_file_is_the_versions_own_with_the_stages_defaults() -> None:
    stage_file: Any = read_stage_file(stored(), package(), "prod")

    assert stage_file.instance_count == 2


def test_a_changed_stage_file_is_refused_with_both_hashes() -> None:
    with pytest.raises(StageFileError, match=r"prod\.yaml is not the file that was registered: its SHA-256 is"):
        read_stage_file(stored(TEXT + b"# more\n"), package(), "prod")


def test_a_stage_file_that_is_gone_is_named() -> None:
    with pytest.raises(StageFileError, match=r"s3://artifacts/churn/deployment/0a1b/prod\.yaml is not there any more"):
        read_stage_file(Context(SimulatedAWS()), package(), "prod")  # type: ignore[arg-type]


def test_a_missing_permission_is_not_the_versions_fault() -> None:
    context = stored()
    context.client.missing.add("GetObject")

    with pytest.raises(AdministratorsFault, match="AccessDenied"):
        read_stage_file(context, package(), "prod")


@pytest.mark.parametrize(
    ("metadata", "stage", "reason"),
    [
        ({"deployment.prefix": "file:///tmp/"}, "prod", "does not say where its stage files are"),
        ({"deployment.prefix": "s3://artifacts"}, "prod", "does not say where its stage files are"),
        ({}, "dev", "was registered without deployment/dev.yaml"),
    ],
)
def test_a_version_that_does_not_say_where_its_stage_file_is_cannot_be_deployed(
    metadata: dict[str, str], stage: str, reason: str
) -> None:
    with pytest.raises(StageFileError, match=reason):
        stage_file_place(package(**metadata), stage)


@pytest.mark.parametrize("text", ["kind: [", "- a list", "kind: real_time", "!!python/object:os.system {}", "\x00"])
def test_a_stage_file_that_is_wrong_is_refused_by_name(text: str) -> None:
    with pytest.raises(StageFileError, match=r"^deployment/prod\.yaml: "):
        parse_stage_file(text, "prod")


def test_the_role_lies_below_the_path_in_the_versions_account() -> None:
    path = "/modelyard/models/"

    assert role_arn(PACKAGE, {}, path, "default") == "arn:aws:iam::111122223333:role/modelyard/models/default"
    assert role_arn(PACKAGE, {"modelyard:model-role": "own"}, path, "default").endswith(":role/modelyard/models/own")
    chinese = PACKAGE.replace("arn:aws:", "arn:aws-cn:")
    assert role_arn(chinese, {}, path, "default").startswith("arn:aws-cn:iam::")


@pytest.mark.parametrize("name", ["../admin", "a/b", "", "arn:aws:iam::111122223333:role/admin", "a" * 65])
def test_a_tag_cannot_name_a_role_elsewhere(name: str) -> None:
    with pytest.raises(AdministratorsFault, match="which is no name of a role"):
        role_arn(PACKAGE, {"modelyard:model-role": name}, "/modelyard/models/", "default")


def real_time(**fields: Any) -> Any:
    return stage_schema.parse({"kind": "real_time", "instance_type": "ml.m5.large", **fields}, "prod")


def test_going_back_keeps_the_capacity_that_serves() -> None:
    serving = real_time(instance_type="ml.c5.large", instance_count=3, scaling=SCALING, alarms={"error_share": 0.5})

    applied: Any = effective(real_time(rollout="canary"), serving, 4)

    assert (applied.instance_type, applied.instance_count, applied.scaling) == ("ml.c5.large", 3, serving.scaling)
    assert applied.alarms is None
    assert applied.rollout.type == "canary"


def test_going_back_without_scaling_keeps_the_count_that_runs() -> None:
    changed: Any = effective(real_time(), real_time(instance_count=3), 5)
    unknown: Any = effective(real_time(), real_time(instance_count=3), None)

    assert (changed.instance_count, unknown.instance_count) == (5, 3)


def test_going_back_to_another_kind_is_as_that_version_says_and_replaces_what_serves() -> None:
    batch = {
        "kind": "batch",
        "instance_type": "ml.m5.large",
        "schedule": "rate(1 day)",
        "input": "s3://new/a",
        "output": "s3://old/b",
    }
    older = stage_schema.parse(batch, "prod")

    assert effective(older, real_time(), 2) == stage_schema.parse(batch | {"replace": True}, "prod")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("kind: real_time\nkind: batch\n", "is not readable YAML: line 2: 'kind' occurs twice"),
        ("kind: real_time\nrollout: {type: canary, type: linear}\n", "line 2: 'type' occurs twice"),
        ("kind: [\n", "is not readable YAML: line 2: "),
        (b"kind: \xff\n", "is not readable YAML: "),
        ("# nothing\n", "holds no fields"),
        ("- kind\n", "must hold fields (name: value), but is list"),
    ],
)
def test_a_stage_file_is_read_by_the_rule_of_the_repositories_check(text: str | bytes, fault: str) -> None:
    with pytest.raises(StageFileError, match=re.escape(fault)):
        parse_stage_file(text, "dev")
    assert Path(yaml_text.__file__).resolve().parent.name == "pipeline"  # one module, in both
