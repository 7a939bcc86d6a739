"""This repository's own settings, names, archives and stage files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import InputError, endpoint_test, lineage, names, parameters, source, terminal
from pipeline.settings import SETTINGS_FILE, Settings, load_settings
from pipeline.stage_file import STAGES, StageFiles, load_stage_files

HOME = "churn/dev"  # where archives lie in the bucket


def changed_settings(tmp_path: Path, changes: dict[str, Any], text: str = "") -> Path:
    """A file like settings.yaml, whatever that says by now, with these fields changed (None: not taken away, but null).

    changes: by path, as in {"train.spot": True}. text: put at the file's end.
    """
    content: dict[str, Any] = yaml.safe_load(SETTINGS_FILE.read_text(encoding="utf-8"))
    settings = load_settings()
    filled = json.dumps(changes).replace("{target}", settings.data.target).replace("{metric}", settings.gate.metric)
    for path, value in json.loads(filled).items():
        *sections, name = path.split(".")
        section = content
        for each in sections:
            section = section.setdefault(each, {})
        section[name] = value
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False) + text, encoding="utf-8")
    return file


def test_the_settings_and_stage_files_are_right() -> None:
    assert load_settings().project
    assert {"feature", "dev"} < set(load_stage_files().contents)


ETA = "train.hyperparameters.eta"
TUNE = {"max_jobs": 4, "parallel_jobs": 1, "strategy": "Bayesian"}
TUNED = {"train.hyperparameters.eta": 0.1, "train.hyperparameters.seed": 1}
NO_SPLIT = {"data.key": None, "data.time": None, "split.column": None, "split.files": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({ETA: 3}, r"train\.hyperparameters\.eta: 3 is not allowed: it must be less than"),
        ({"train.hyperparameters.etta": 0.1}, r"hyperparameters\.etta: there is no such field.*eta"),
        ({"train.spot": True, "train.max_wait_seconds": None}, "max_wait_seconds .* must be set"),
        ({"split.validation": 0.9, "split.test": 0.2}, "make their sum less than 1"),
        ({"data.format": "excel"}, r"data\.format: 'excel' is not allowed"),
        ({"data.uri": "http://data/all.csv"}, r"data\.uri: 'http://"),
        ({"gates": {}}, "gates: there is no such field"),
        ({"gate": {}}, r"gate\.metric: the field is missing"),
        ({"gate.metric": "auc", "gate.threshold": -7}, r"gate\.(threshold -7 is out of range|metric 'auc' is not)"),
        ({"gate.metric": "beauty"}, r"gate\.metric 'beauty' is not computed for .*choose one of"),
        (NO_SPLIT | {"data.key": "a", "data.time": "b"}, "set one of them to null"),
        ({"data.ignore": ["{target}"]}, "is the target and cannot be ignore too"),
        ({"data.columns": {"zip": {"kind": "postcode"}}}, r"data\.columns\.zip\.kind: 'postcode' is not allowed"),
        ({"data.columns": {"zip": {"kine": "date"}}}, r"kine: there is no such field.*known here: kind, format"),
        ({"data.columns": {"zip": {"kind": "category", "format": "%d"}}}, "format is for dates"),
        ({"data.columns": {"{target}": {"kind": "number"}}}, "columns describes features"),
        ({"data.csv.encoding": "utf-9"}, "no encoding 'utf-9': write one that Python knows"),
        (NO_SPLIT | {"split.column": "part", "split.files": {"test": "a"}}, "set one of them to null"),
        (NO_SPLIT | {"split.column": "{target}"}, "is neither target nor feature"),
        ({"gate.tolerance": -1}, r"gate\.tolerance: -1 is not allowed"),
        ({"gate.conditions": [{"metric": "latency.one_row_ms"}]}, "exactly one of at_least and at_most"),
        ({"gate.conditions": [{"metric": "beauty", "at_least": 1}]}, "beauty"),
        ({"gate.conditions": [{"metric": "slice.a.worst.{metric}", "at_most": 1}]}, "evaluate.slices asks"),
        (TUNED | {"train.tune": TUNE | {"parallel_jobs": 9, "ranges": {"eta": [0.1, 0.2]}}}, "lower it"),
        (TUNED | {"train.tune": TUNE | {"ranges": {"eta": [0.1, 2]}}}, "eta: 2.0 is not allowed"),
        (TUNED | {"train.tune": TUNE | {"ranges": {"seed": [1, 2]}}}, "'seed' cannot be tuned"),
        (TUNED | {"train.tune": TUNE | {"ranges": {"eta": [0.2, 0.1]}}}, "lower number first"),
    ],
    ids=str,
)
def test_a_broken_settings_file_is_refused_by_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_settings(changed_settings(tmp_path, changes))


@pytest.mark.parametrize(
    ("text", "message"), [("gate: {}\n", "'gate' occurs twice"), ("data: [", "not readable YAML")], ids=str
)
def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_settings(changed_settings(tmp_path, {}, text))


@pytest.mark.parametrize(
    ("data", "split", "message"),
    [
        ({"time": "day"}, {"column": "part"}, "data.time and split.column both say"),
        ({"time": "day"}, {"files": {"test": "a"}}, "data.time and split.files both say"),
        ({"time": "day", "columns": {"day": {"kind": "number"}}}, {}, "'day' orders the rows in time"),
        ({"columns": {"part": {"kind": "category"}}}, {"column": "part"}, "neither target nor feature"),
    ],
)
def test_the_settings_say_once_how_rows_are_split(
    data: dict[str, object], split: dict[str, object], message: str
) -> None:
    content = load_settings().model_dump()
    content["data"] |= {"key": None, "time": None, "columns": {}} | data
    content["split"] |= {"column": None, "files": None} | split
    with pytest.raises(ValueError, match=message):
        Settings.model_validate(content)


def test_parameters_are_checked_like_the_settings(tmp_path: Path) -> None:
    fixed = {"train.tune": None, ETA: 0.1, "train.hyperparameters.max_depth": 4}
    settings = load_settings(changed_settings(tmp_path, fixed))
    assert parameters.parse(settings, ["eta=3e-1", "max_depth=7"]) == {"eta": "0.3", "max_depth": "7"}
    for text, message in [
        ("eta=5", "--parameter eta: '5' is not allowed: it must be less than or equal to 1"),
        ("max_depth=deep", "--parameter max_depth: 'deep' is not allowed"),
        ("depth=7", "there is no such parameter .*max_depth"),
        ("max_depth", "write Name=Value"),
        (f"{parameters.threshold_name(settings)}=-7", "gate.threshold -7 is out of range"),
        ("DataUri=data.csv", "DataUri: 'data.csv' is not allowed"),
    ]:
        with pytest.raises(InputError, match=message):
            parameters.parse(settings, [text])


def test_a_broken_stage_file_is_refused_by_field(tmp_path: Path) -> None:
    (tmp_path / "dev.yaml").write_text("kind: real_time\ninstance_type: m5.large\ninstance_count: 0\n")
    with pytest.raises(InputError, match=r"dev.yaml: instance_type: 'm5.large'(.|\n)*instance_count: 0 is not allowed"):
        load_stage_files(tmp_path)
    (tmp_path / "dev.yaml").write_text("kind: real_time\ninstance_type: ml.m5.large\nrole: admin\n")
    with pytest.raises(InputError, match=r"dev.yaml: role: a stage file cannot name a role"):
        load_stage_files(tmp_path)
    (tmp_path / "dev.yaml").write_text("kind: real_time\nkind: batch\n")
    with pytest.raises(InputError, match=r"dev.yaml is not readable YAML: .*'kind' occurs twice"):
        load_stage_files(tmp_path)
    (tmp_path / "dev.yaml").rename(tmp_path / "stage.yaml")
    with pytest.raises(InputError, match="no stage 'stage'"):
        load_stage_files(tmp_path)


def test_a_broken_endpoint_test_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "cases.yaml").write_text("cases:\n  - {name: one, row: {age: 1}, expct: {score: 1}}\n")
    with pytest.raises(InputError, match=r"cases.yaml: cases.0.expct \(one\): there is no such field, did you mean"):
        endpoint_test.load_suite(load_settings(), tmp_path)
    assert endpoint_test.load_suite(load_settings(), tmp_path / "none") is None


def test_what_may_not_be_meant_in_a_stage_file_is_warned_of() -> None:
    two = b"kind: real_time\ninstance_type: ml.m5.large\ninstance_count: 2\n"
    assert StageFiles({"prod": two}).warnings == []
    one = StageFiles({"prod": b"kind: real_time\ninstance_type: ml.m5.large\ninstance_count: 1\n"})
    assert [text.split(":")[0] for text in one.warnings] == ["deployment/prod.yaml"]
    misspelt = StageFiles({"dev": b"kind: real_time\ninstance_type: ml.m5.larg\n"})
    assert re.search("knows no ml.m5.larg for kind: real_time, did you mean ml.m5.large", misspelt.warnings[0])


@pytest.mark.parametrize(
    ("branch", "group", "pipeline"),
    [
        ("dev", "churn-dev", "churn-dev"),
        ("feature-New_Data/2", "churn-feature", "churn-feature-new-data-2-"),
        ("feature-" + 200 * "x", "churn-feature", "churn-feature-" + 40 * "x" + "-"),
        ("feature-___", "churn-feature", "churn-feature-"),
    ],
)
def test_a_branch_decides_group_and_pipeline(branch: str, group: str, pipeline: str) -> None:
    found = names.names_of("churn", branch)
    assert found.group == group
    assert found.pipeline.startswith(pipeline)
    assert len(found.pipeline) <= len(pipeline) + 6
    assert found.tags["modelyard:stage"] == found.stage


def test_names_of_the_longest_project_stay_within_the_limits_of_aws() -> None:
    project = 32 * "x"
    assert len(names.names_of(project, "feature-" + 200 * "y").pipeline) <= 256
    assert max(len(names.group_name(project, stage)) for stage in STAGES) <= 63


def test_branches_that_differ_in_case_have_their_own_pipelines() -> None:
    one, other = (names.names_of("churn", branch).pipeline for branch in ("feature-A", "feature-a"))
    assert one.lower() != other.lower()


@pytest.mark.parametrize(("branch", "message"), [("prod", "promoting"), ("main", r"dev, feature-\*"), ("", "trains")])
def test_other_branches_train_nothing(branch: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        names.names_of("churn", branch)


def test_the_branch_is_the_given_one_or_the_one_that_ci_builds(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "commit", "-q"]
    subprocess.run([*commit, "--allow-empty", "-m", "x"], cwd=tmp_path, check=True)
    subprocess.run(["git", "checkout", "-q", "--detach"], cwd=tmp_path, check=True)
    assert lineage.current_branch("feature-x", {}, tmp_path) == "feature-x"
    assert lineage.current_branch(None, {"GITHUB_REF_NAME": "dev"}, tmp_path) == "dev"
    with pytest.raises(InputError, match="name it with --branch"):
        lineage.current_branch(None, {}, tmp_path)
    (tmp_path / "file").touch()
    assert lineage.read_lineage(tmp_path).tree.endswith("-dirty")


def test_without_a_repository_nothing_can_be_registered(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make this folder a git repository"):
        lineage.read_lineage(tmp_path)


def test_a_version_of_files_that_were_not_committed_is_listed_so(capsys: pytest.CaptureFixture[str]) -> None:
    common = {"version": 1, "approval": "Approved", "created": "2026-11-21T08:00:00+00:00", "branch": "dev"}
    common |= {"promoted_from": None, "deployment": {"number": None, "status": None, "ended": None}}
    common |= {"tests": {"status": None, "at": None}}
    clean = {**common, "commit": "a" * 40, "tree": "b" * 40, "main_metric": "auc", "metrics": {"auc": 0.9}}
    terminal.print_versions(terminal.console(), [clean, {**clean, "tree": "b" * 40 + "-dirty"}])
    commits = [line.split()[-1] for line in capsys.readouterr().out.splitlines()[::2]]
    assert commits == ["a" * 10, "a" * 10 + "-dirty"]


def test_a_version_whose_deployment_failed_is_listed_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    version = {"version": 1, "approval": "Rejected", "created": "2026-11-21T08:00:00+00:00", "branch": "dev"}
    version |= {"commit": "a" * 40, "tree": "b" * 40, "main_metric": "auc", "metrics": {"auc": 0.9}}
    version |= {"approval_description": "too slow", "promoted_from": None}
    version |= {"deployment": {"number": "4", "status": "failed", "ended": "x"}, "tests": {"status": None, "at": None}}
    terminal.print_versions(terminal.console(), [version])
    assert capsys.readouterr().out.splitlines()[2] == "      deployment 4 failed: too slow"


def test_a_version_is_listed_with_what_became_of_its_endpoint_tests(capsys: pytest.CaptureFixture[str]) -> None:
    version = {"version": 1, "approval": "Approved", "created": "2026-11-21T08:00:00+00:00", "branch": "dev"}
    version |= {"commit": "a" * 40, "tree": "b" * 40, "main_metric": "auc", "metrics": {"auc": 0.9}}
    version |= {"promoted_from": None, "tests": {"status": "failed", "at": "x"}}
    version |= {"deployment": {"number": "4", "status": "succeeded", "ended": "x"}}
    terminal.print_versions(terminal.console(), [version])
    assert capsys.readouterr().out.splitlines()[2] == "      deployment 4 succeeded, endpoint tests failed"


def test_a_remotes_credentials_stay_out_of_the_registry() -> None:
    assert lineage.without_credentials("https://me:secret@host/a.git") == "https://host/a.git"
    assert lineage.without_credentials("git@host:a.git") == "git@host:a.git"


def test_archives_are_the_same_bytes_every_time() -> None:
    settings = load_settings()
    first, second = (source.build_archives(settings, HOME) for _ in range(2))
    assert [archive.content for archive in first] == [archive.content for archive in second]
    assert len({archive.key for archive in first}) == 3


def test_an_archive_holds_what_its_step_imports_and_no_more() -> None:
    preprocess, train, evaluate = (set(source.local_modules(step)) for step in ("preprocess", "train", "evaluate"))
    assert {"preprocess", "split", "baseline", "transform", "job"} <= preprocess
    assert {"train", "inference", "transform", "job"} <= train
    assert {"evaluate", "comparison", "report", "job"} <= evaluate
    assert {"report", "train", "inference"}.isdisjoint(preprocess)
    assert {"report", "preprocess", "split"}.isdisjoint(train)
    assert {"train", "inference", "preprocess"}.isdisjoint(evaluate)


@pytest.mark.parametrize("step", ["preprocess", "evaluate"])
def test_an_archive_runs_by_itself(step: str, tmp_path: Path) -> None:
    archive = tmp_path / f"{step}.zip"
    archive.write_bytes(getattr(source.build_archives(load_settings(), HOME), step).content)
    ran = subprocess.run([sys.executable, archive, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--message" in ran.stdout


def test_a_change_of_the_gate_leaves_preprocess_and_train_as_they_are(tmp_path: Path) -> None:
    before = source.build_archives(load_settings(), HOME)
    other = {"fail": "pass", "pass": "fail"}[load_settings().gate.incomparable]
    changed = load_settings(changed_settings(tmp_path, {"gate.incomparable": other}))
    after = source.build_archives(changed, HOME)
    assert (before.preprocess, before.train) == (after.preprocess, after.train)
    assert before.evaluate.key != after.evaluate.key


def test_a_change_of_the_data_settings_changes_preprocess(tmp_path: Path) -> None:
    before = source.build_archives(load_settings(), HOME)
    ignored = [*load_settings().data.ignore, "a column more"]
    changed = load_settings(changed_settings(tmp_path, {"data.ignore": ignored}))
    after = source.build_archives(changed, HOME)
    assert before.preprocess.key != after.preprocess.key
    assert before.train == after.train
