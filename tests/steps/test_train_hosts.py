"""Several hosts train one model, each with its own files; what happens when one of them is lost.

A host is a process of this machine, with an address of its own in 127.0.0.0/8.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cluster
import numpy as np
import pytest
import train
import xgboost
from cluster import HostError, Hosts
from transform import Transform

from tests.steps.training_rows import HYPERPARAMETERS, RANDOM, SETTINGS, matrix, start_job, write_channels

pytestmark = pytest.mark.slow  # make test has fifteen minutes

if sys.platform != "linux":
    pytest.skip("only Linux has every address of 127.0.0.0/8", allow_module_level=True)

# The port stays taken for a while after a job, but only at its address: each job gets addresses that no other has.
ADDRESSES = (f"127.{os.getpid() % 250 + 1}.{number // 250}.{number % 250 + 2}" for number in itertools.count())


def host_names(count: int) -> list[str]:
    """Sorted, as the hosts of a job are."""
    return sorted(next(ADDRESSES) for _ in range(count))


def shards(folder: Path, channels: dict[str, Path], hosts: int) -> list[dict[str, Path]]:
    """The channels as each host sees them when they are sharded by S3 key."""
    seen = []
    for host in range(hosts):
        own = dict(channels)
        for part in ("train", "validation"):
            own[part] = folder / f"host-{host}" / part
            own[part].mkdir(parents=True)
            for number, file in enumerate(sorted(channels[part].iterdir())):
                if number % hosts == host:
                    (own[part] / file.name).hardlink_to(file)
        seen.append(own)
    return seen


def start_hosts(
    folder: Path, seen: list[dict[str, Path]], hyperparameters: dict[str, Any], **options: Any
) -> list[subprocess.Popen[str]]:
    names = host_names(len(seen))
    return [
        start_job(folder / f"host-{number}", channels, hyperparameters, hosts=(names, names[number]), **options)
        for number, channels in enumerate(seen)
    ]


def finish(jobs: list[subprocess.Popen[str]]) -> list[str]:
    logs: list[str] = []
    try:
        logs += [job.communicate(timeout=60)[0] for job in jobs]
    finally:
        for job in jobs:
            job.kill()
            job.wait()
    return logs


@pytest.mark.parametrize(
    ("problem_type", "settings", "files"),
    [
        ("binary_classification", {"class_weights": "balanced"}, 4),
        ("multiclass_classification", {"external_memory": True}, 2),
        ("regression", {}, 1),  # one host has no file at all
    ],
)
def test_two_hosts_train_as_one_would(problem_type: str, settings: dict[str, Any], files: int, tmp_path: Path) -> None:
    channels = write_channels(tmp_path, problem_type, rows=4000, files=files)
    settings = {**SETTINGS, **settings}
    jobs = start_hosts(tmp_path, shards(tmp_path, channels, 2), {**HYPERPARAMETERS, **RANDOM}, settings=settings)
    logs = finish(jobs)
    assert [job.returncode for job in jobs] == [0, 0], logs
    written = [(tmp_path / f"host-{number}" / "model").exists() for number in range(2)]
    assert written == [True, False], "SageMaker puts the hosts' models together: only one may write"
    assert len(re.findall(r"^\[\d+\]", logs[0], re.M)) > 5
    assert not re.findall(r"^\[\d+\]", logs[1], re.M), "each metric is logged once"
    alone = train.train(settings, {**HYPERPARAMETERS, **RANDOM}, channels, tmp_path / "alone")
    both = xgboost.Booster(model_file=bytearray((tmp_path / "host-0" / "model" / "xgboost-model").read_bytes()))
    fitted = Transform.load(channels["transform"] / "transform.json")
    features, labels = matrix(channels["validation"], fitted)
    losses = [loss(booster, features, labels, fitted) for booster in (alone, both)]
    assert losses[1] == pytest.approx(losses[0], rel=0.06)


def loss(booster: xgboost.Booster, features: np.ndarray, labels: np.ndarray, fitted: Transform) -> float:
    """The deciding metric on these rows."""
    rows = xgboost.DMatrix(features, labels, feature_types=fitted.feature_types, enable_categorical=True)
    metric = {"binary": "logloss", "multiclass": "mlogloss", "regression": "rmse"}[fitted.problem_type.split("_")[0]]
    booster.set_param("eval_metric", metric)
    return float(booster.eval(rows).rpartition(":")[2])


@pytest.mark.parametrize("killed", [1, 2])  # without the first one the others may wait for WAIT_SECONDS (cluster.py)
def test_hosts_end_when_one_is_killed(killed: int, tmp_path: Path) -> None:
    channels = write_channels(tmp_path, "binary_classification", files=3)
    endless = {**HYPERPARAMETERS, "num_round": 100000, "early_stopping_rounds": 10000, "eta": 0.001}
    jobs = start_hosts(tmp_path, shards(tmp_path, channels, 3), endless)
    try:
        assert jobs[0].stdout is not None
        for line in jobs[0].stdout:
            if line.startswith("[5]"):
                jobs[killed].kill()
                break
    finally:
        logs = finish(jobs)
    for number in {0, 1, 2} - {killed}:
        assert jobs[number].returncode == 1
        said = (tmp_path / f"host-{number}" / "output" / "failure").read_text()
        assert "cannot go on, since another host ended early" in said
        assert re.search(r"the log of 127\.\S+, 127\.\S+ says why", said)
        assert f"ERROR: {said}" in logs[number]
        assert not (tmp_path / f"host-{number}" / "model").exists()


def test_a_host_that_refuses_its_data_ends_the_others(tmp_path: Path) -> None:
    channels = write_channels(tmp_path, "binary_classification")
    seen = shards(tmp_path, channels, 2)
    other = write_channels(tmp_path / "other", "regression")
    wrong = Transform.load(other["transform"] / "transform.json")
    replace(wrong, target="other").save(other["transform"] / "transform.json")
    seen[1]["transform"] = other["transform"]
    jobs = start_hosts(tmp_path, seen, HYPERPARAMETERS)
    logs = finish(jobs)
    assert [job.returncode for job in jobs] == [1, 1]
    assert "does not hold the target and the features" in logs[1]
    assert "cannot go on, since another host ended early" in logs[0]


def test_an_interrupted_training_of_two_hosts_goes_on_with_the_same_model(tmp_path: Path) -> None:
    channels = write_channels(tmp_path, "binary_classification")
    hyperparameters = {**HYPERPARAMETERS, **RANDOM, "num_round": 150, "early_stopping_rounds": 10}
    seen = shards(tmp_path, channels, 2)
    # SageMaker gives every host what lies in S3, and the first host's are there
    arguments = ("--checkpoints", str(tmp_path / "checkpoints"), "--checkpoint-seconds", "0")
    interrupted = start_hosts(tmp_path, seen, hyperparameters, arguments=arguments)
    try:
        assert interrupted[0].stdout is not None
        for line in interrupted[0].stdout:
            if line.startswith("[6]"):
                break
        for job in interrupted:
            job.kill()
    finally:
        finish(interrupted)
    jobs = start_hosts(tmp_path, seen, hyperparameters, arguments=arguments)
    logs = finish(jobs)
    assert [job.returncode for job in jobs] == [0, 0], logs
    assert int(re.findall(r"^\[(\d+)\]", logs[0], re.M)[0]) >= 6
    resumed = (tmp_path / "host-0" / "model" / "xgboost-model").read_bytes()
    whole = start_hosts(tmp_path, seen, hyperparameters)
    finish(whole)
    assert resumed == (tmp_path / "host-0" / "model" / "xgboost-model").read_bytes()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_hosts_that_do_not_come_together_are_told_so() -> None:
    names = host_names(2)
    said = rf"the 2 hosts did not come together within 2 seconds at {names[0]}:9091 .*The log of {names[1]} says"
    with pytest.raises(HostError, match=said), cluster.joined(Hosts(names, names[0]), join_seconds=2):
        pass


def test_a_first_host_without_an_address_is_named() -> None:
    with pytest.raises(HostError, match=r"the first host 'algo-1.invalid' has no address after 0 seconds"):
        cluster.find_address("algo-1.invalid", 0)


def test_the_hosts_are_those_of_sagemakers_variables() -> None:
    environment = {"SM_HOSTS": '["algo-2", "algo-1"]', "SM_CURRENT_HOST": "algo-2"}
    hosts = Hosts.of_job(environment)
    assert (hosts.names, hosts.number, hosts.is_first, hosts.others) == (["algo-1", "algo-2"], 1, False, "algo-1")
    assert Hosts.of_job({}).is_first
