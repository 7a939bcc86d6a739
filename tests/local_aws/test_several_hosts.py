"""Jobs on several instances: one program for each, which find and hear each other; their data, ends and outputs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time

import pytest

from local_aws.jobs.contract import host_names
from local_aws.jobs.host_names import hosts_file, loopback_addresses, python_environment
from local_aws.jobs.staging import pack, unpack
from tests.local_aws.job_requests import Workshop

pytestmark = pytest.mark.slow  # make test has fifteen minutes

# The first host listens by its own name, the others bring their sums: as distributed training does it.
SUMS = """
    import json, os, pathlib, socket, time
    hosts, me = json.loads(os.environ["SM_HOSTS"]), os.environ["SM_CURRENT_HOST"]
    files = sorted(pathlib.Path(os.environ["SM_CHANNEL_TRAIN"]).iterdir())
    total = sum(int(path.read_text()) for path in files)
    if me == hosts[0]:
        with socket.create_server((me, 9099)) as server:
            for _ in hosts[1:]:
                connection, _ = server.accept()
                total += int(connection.recv(100))
        pathlib.Path(os.environ["SM_MODEL_DIR"], "total").write_text(str(total))
    else:
        for _ in range(200):
            try:
                connection = socket.create_connection((hosts[0], 9099))
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        connection.sendall(str(total).encode())
    print(me, [path.name for path in files])
"""


def request_of(workshop: Workshop, script: str, hosts: int, distribution: str = "ShardedByS3Key", **members):
    channels = {"train": workshop.uri("shards/")}
    for number in range(5):
        workshop.put(f"shards/part-{number}", str(10**number))
    request = workshop.training_request({"train.py": script}, channels=channels, **members)
    request["ResourceConfig"]["InstanceCount"] = hosts
    request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3DataDistributionType"] = distribution
    return request


def run(workshop: Workshop, *arguments, **members):
    request = request_of(workshop, *arguments, **members)
    workshop.sagemaker.create_training_job(**request)
    return workshop.ended("Training", request["TrainingJobName"])


# Training


def test_the_hosts_of_a_job_share_its_data_and_talk_to_each_other_by_name(either_way):
    ended = run(either_way, SUMS, 2)

    name = ended["TrainingJobName"]
    assert ended["TrainingJobStatus"] == "Completed", ended
    assert either_way.unpacked(f"models/{name}/output/model.tar.gz") == {"total": b"11111"}
    assert either_way.printed("Training", name) == ["algo-1 ['part-0', 'part-2', 'part-4']"]
    assert either_way.printed("Training", name, host="algo-2") == ["algo-2 ['part-1', 'part-3']"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
def test_two_jobs_at_once_may_use_the_same_port(either_way):
    requests = [request_of(either_way, SUMS.replace("total)\n", "total)\n    time.sleep(0.5)\n"), 2) for _ in range(2)]
    for request in requests:
        either_way.sagemaker.create_training_job(**request)

    for request in requests:
        ended = either_way.ended("Training", request["TrainingJobName"])
        assert ended["TrainingJobStatus"] == "Completed", ended


def test_xgboost_trains_one_model_on_the_shards_of_all_hosts(either_way):
    script = """
        import hashlib, json, os, socket, threading, numpy as np, xgboost as xgb
        from xgboost.tracker import RabitTracker
        hosts, me = json.loads(os.environ["SM_HOSTS"]), os.environ["SM_CURRENT_HOST"]
        address = socket.gethostbyname(hosts[0])
        if me == hosts[0]:
            tracker = RabitTracker(n_workers=len(hosts), host_ip=address, port=9099, sortby="task")
            tracker.start()
            threading.Thread(target=tracker.wait_for, daemon=True).start()
        folder = os.environ["SM_CHANNEL_TRAIN"]
        seeds = [int(name[-1]) for name in sorted(os.listdir(folder))]
        x = np.concatenate([np.random.default_rng(seed).random((100, 3)) for seed in seeds])
        with xgb.collective.CommunicatorContext(
            dmlc_tracker_uri=address, dmlc_tracker_port=9099, dmlc_task_id=me, dmlc_retry=20
        ):
            data = xgb.DMatrix(x, x[:, 0] * 2 + x[:, 1])
            booster = xgb.train({"nthread": 1, "eta": 0.5}, data, 3, [(data, "train")])
            trained = [xgb.collective.get_world_size(), len(x), hashlib.sha256(booster.save_raw()).hexdigest()]
        json.dump(trained, open(os.environ["SM_MODEL_DIR"] + "/" + me, "w"))
    """
    ended = run(either_way, script, 2)

    name = ended["TrainingJobName"]
    assert ended["TrainingJobStatus"] == "Completed", ended
    # not by the log: what XGBoost's own threads print can come into the middle of a line
    files = either_way.unpacked(f"models/{name}/output/model.tar.gz")
    (*first, digest), (*second, other) = (json.loads(files[host]) for host in ("algo-1", "algo-2"))
    assert (first, second) == ([2, 300], [2, 200])
    assert digest == other


def test_every_host_has_everything_by_default_and_knows_its_name(workshop):
    script = """
        import json, os, pathlib
        config = pathlib.Path("/opt/ml/input/config")
        resources = json.loads((config / "resourceconfig.json").read_text())
        me = resources["current_host"]
        channel = json.loads((config / "inputdataconfig.json").read_text())["train"]["S3DistributionType"]
        environment = json.loads(os.environ["SM_TRAINING_ENV"])
        facts = {
            "hosts": [resources["hosts"], resources["instance_groups"][0]["hosts"], json.loads(os.environ["SM_HOSTS"])],
            "me": [me, os.environ["SM_CURRENT_HOST"], environment["current_host"]],
            "master": [environment["is_master"], environment["master_hostname"]],
            "files": len(os.listdir("/opt/ml/input/data/train")),
            "channel": channel,
        }
        pathlib.Path("/opt/ml/model", me).write_text(json.dumps(facts))
        pathlib.Path("/opt/ml/model/common").write_text(me)
        pathlib.Path("/opt/ml/output/data", me).touch()
    """
    ended = run(workshop, script, 3, "FullyReplicated")

    name = ended["TrainingJobName"]
    assert ended["TrainingJobStatus"] == "Completed", ended
    files = workshop.unpacked(f"models/{name}/output/model.tar.gz")
    names = ["algo-1", "algo-2", "algo-3"]
    assert sorted(files) == [*names, "common"]
    assert files["common"] == b"algo-1"
    for host in names:
        assert json.loads(files[host]) == {
            "hosts": [names] * 3,
            "me": [host] * 3,
            "master": [host == "algo-1", "algo-1"],
            "files": 5,
            "channel": "FullyReplicated",
        }
    assert sorted(workshop.unpacked(f"models/{name}/output/output.tar.gz")) == names
    assert ended["ResourceConfig"]["InstanceCount"] == 3


def test_a_host_without_a_shard_gets_an_empty_channel(workshop):
    workshop.put("one-shard/part-0", "1")
    request = request_of(workshop, "import os; print(os.listdir('/opt/ml/input/data/train'))", 2)
    request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] = workshop.uri("one-shard/")
    workshop.sagemaker.create_training_job(**request)

    ended = workshop.ended("Training", request["TrainingJobName"])

    assert ended["TrainingJobStatus"] == "Completed", ended
    printed = [workshop.printed("Training", request["TrainingJobName"], host=host) for host in ("algo-1", "algo-2")]
    assert printed == [["['part-0']"], ["[]"]]


# How they end

SECOND_HOST = """
    import os, sys, time
    if os.environ["SM_CURRENT_HOST"] == "algo-2":
        {}
    print("waits", flush=True)
    time.sleep(60)
"""


def test_when_one_host_fails_the_others_are_stopped_and_its_reason_is_the_job_s(workshop):
    started = time.monotonic()
    ended = run(workshop, SECOND_HOST.format("raise ValueError('no rows here')"), 2)

    assert time.monotonic() - started < 30
    assert ended["TrainingJobStatus"] == "Failed"
    assert 'ErrorMessage "ValueError: no rows here"' in ended["FailureReason"]
    name = ended["TrainingJobName"]
    assert "no rows here" in workshop.printed("Training", name, with_ours=True, host="algo-2")[-1]
    assert workshop.printed("Training", name) in ([], ["waits"])


def test_a_job_over_its_time_is_stopped_on_every_host_and_so_is_one_that_is_asked_to_stop(workshop):
    saves = """
        import os, signal, sys, time
        def end(*_):
            open("/opt/ml/model/" + os.environ["SM_CURRENT_HOST"], "w").close()
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        print("ready", flush=True)
        time.sleep(60)
    """
    late = run(workshop, saves, 2, StoppingCondition={"MaxRuntimeInSeconds": 1})
    request = request_of(workshop, saves, 2)
    name = request["TrainingJobName"]
    workshop.sagemaker.create_training_job(**request)
    for _ in range(600):
        if [workshop.printed("Training", name, host=host) for host in ("algo-1", "algo-2")] == [["ready"]] * 2:
            break
        time.sleep(0.05)
    workshop.sagemaker.stop_training_job(TrainingJobName=name)
    stopped = workshop.ended("Training", name)

    assert (late["TrainingJobStatus"], late["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert (stopped["TrainingJobStatus"], stopped["SecondaryStatus"]) == ("Stopped", "Stopped")
    for job in (late["TrainingJobName"], name):
        assert sorted(workshop.unpacked(f"models/{job}/output/model.tar.gz")) == ["algo-1", "algo-2"]


def test_metrics_are_found_in_the_log_of_any_host(workshop):
    script = "import os; print('loss=0.5;' if os.environ['SM_CURRENT_HOST'] == 'algo-2' else '')"
    request = request_of(workshop, script, 2)
    request["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "loss", "Regex": "loss=(.*);"}]
    workshop.sagemaker.create_training_job(**request)

    (metric,) = workshop.ended("Training", request["TrainingJobName"])["FinalMetricDataList"]

    assert (metric["MetricName"], metric["Value"]) == ("loss", 0.5)


def test_checkpoints_are_on_every_host_before_and_saved_from_all_of_them(workshop):
    script = """
        import os, pathlib
        folder, me = pathlib.Path("/opt/ml/checkpoints"), os.environ["SM_CURRENT_HOST"]
        done = sorted(path.name for path in folder.iterdir())
        (folder / f"{me}-{len(done)}").write_text("x")
        (folder / "common").write_text(me)
        print(done)
    """
    prefix = workshop.name()
    checkpoints = {"CheckpointConfig": {"S3Uri": workshop.uri(prefix)}}

    first, second = (run(workshop, script, 2, **checkpoints) for _ in range(2))

    assert [first["TrainingJobStatus"], second["TrainingJobStatus"]] == ["Completed", "Completed"]
    before = str(["algo-1-0", "algo-2-0", "common"])
    for job, wanted in ((first, "[]"), (second, before)):
        for host in ("algo-1", "algo-2"):
            assert workshop.printed("Training", job["TrainingJobName"], host=host) == [wanted]
    assert workshop.keys(f"{prefix}/") == [
        f"{prefix}/{name}" for name in ("algo-1-0", "algo-1-3", "algo-2-0", "algo-2-3", "common")
    ]
    assert workshop.get(f"{prefix}/common") == b"algo-1"


# Processing


def test_a_processing_job_runs_on_several_hosts_too(workshop):
    for number in range(3):
        workshop.put(f"pieces/{number}.csv", str(number))
    script = """
        import json, pathlib
        resources = json.loads(pathlib.Path("/opt/ml/config/resourceconfig.json").read_text())
        names = sorted(path.name for path in pathlib.Path("/opt/ml/processing/input/data").iterdir())
        out = pathlib.Path("/opt/ml/processing/out", resources["current_host"])
        out.write_text(f"{resources['hosts']} {names}")
    """
    request = workshop.processing_request(script, inputs={"data": workshop.uri("pieces/")}, outputs=("out",))
    request["ProcessingResources"]["ClusterConfig"]["InstanceCount"] = 2
    request["ProcessingInputs"][1]["S3Input"]["S3DataDistributionType"] = "ShardedByS3Key"
    name = request["ProcessingJobName"]

    workshop.sagemaker.create_processing_job(**request)
    ended = workshop.ended("Processing", name)

    assert ended["ProcessingJobStatus"] == "Completed", ended
    assert workshop.get(f"{name}/out/algo-1") == b"['algo-1', 'algo-2'] ['0.csv', '2.csv']"
    assert workshop.get(f"{name}/out/algo-2") == b"['algo-1', 'algo-2'] ['1.csv']"


# The parts


def test_hosts_have_addresses_of_their_own_where_the_system_has_them(monkeypatch):
    addresses = loopback_addresses(host_names(3))
    if sys.platform == "linux":
        assert len(set(addresses.values())) == 3
        for address in addresses.values():
            with socket.create_server((address, 0)):
                pass

    monkeypatch.setattr(sys, "platform", "darwin")
    assert loopback_addresses(["algo-1", "algo-2"]) == {"algo-1": "127.0.0.1", "algo-2": "127.0.0.1"}


def test_a_job_s_etc_hosts_has_its_own_hosts_first_and_keeps_the_machine_s(monkeypatch, tmp_path):
    machine = tmp_path / "hosts"
    monkeypatch.setattr("local_aws.jobs.host_names.ETC_HOSTS", machine)
    assert hosts_file({"algo-1": "127.64.0.1"}) == "127.64.0.1 algo-1\n"
    machine.write_text("127.0.0.1 localhost\n")
    assert hosts_file({"algo-1": "127.64.0.1"}) == "127.64.0.1 algo-1\n127.0.0.1 localhost\n"


def test_python_programs_find_the_hosts_without_etc_hosts_and_all_else_as_ever():
    server = socket.create_server(("127.0.0.1", 0))
    with server:
        port = server.getsockname()[1]
        script = f"""if True:
            import socket
            print(socket.gethostbyname("algo-7"), socket.gethostbyname("localhost"))
            print(socket.getaddrinfo(host="algo-7", port=80, type=socket.SOCK_STREAM)[0][4])
            for host in ("algo-7", b"127.0.0.1", "127.0.0.1"):
                connection = socket.socket()
                print(connection.connect_ex((host, {port})), connection.getpeername())
                connection.close()
            left, right = socket.socketpair()
            unix = socket.socket(socket.AF_UNIX)
            print(unix.connect_ex("/no/such/socket") != 0)
        """
        environment = python_environment({"algo-7": "127.0.0.1"}, {"PYTHONPATH": "/nowhere"})
        assert environment["PYTHONPATH"].startswith("/nowhere:")
        answer = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
    lines = answer.stdout.splitlines()
    assert lines[0] == "127.0.0.1 127.0.0.1"
    assert lines[1] == "('127.0.0.1', 80)"
    assert lines[2:5] == [f"0 ('127.0.0.1', {port})"] * 3
    assert lines[5] == "True"


def test_folders_are_packed_together_and_the_first_wins(tmp_path):
    contents = {"one": ["a", "both/x", "both/same"], "two": ["b", "both/y", "both/same"], "three": []}
    for folder, files in contents.items():
        (tmp_path / folder).mkdir()
        for name in files:
            path = tmp_path / folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(folder)

    assert not pack([tmp_path / "three", tmp_path / "missing"], tmp_path / "empty.tar.gz")
    assert pack([tmp_path / "three", tmp_path / "one", tmp_path / "two"], tmp_path / "all.tar.gz")

    unpack(tmp_path / "all.tar.gz", tmp_path / "out")
    found = {str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {name: path.read_text() for name, path in found.items()} == {
        "a": "one",
        "b": "two",
        "both/x": "one",
        "both/y": "two",
        "both/same": "one",
    }
    assert not (tmp_path / "empty.tar.gz").exists()
