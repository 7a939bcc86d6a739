"""How jobs get /opt/ml: by a mount namespace, or by another path in its place; as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_aws.jobs.opt_ml import choose, substitute, substitute_in_code
from local_aws.jobs.process import Ending, JobProcess, Namespace
from tests.local_aws.job_requests import tar_gz

CHECKOUT = Path(__file__).resolve().parents[2]
NOBODY = 65534
SYSTEM_PYTHON = Path("/usr/bin/python3")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/opt/ml", "/job"),
        ("/opt/ml/model", "/job/model"),
        ("open('/opt/ml/model/x')", "open('/job/model/x')"),
        ("PATH=/opt/ml/code:/opt/ml", "PATH=/job/code:/job"),
        ("file:///opt/ml/model", "file:///job/model"),
        ("--out=/opt/ml/model", "--out=/job/model"),
        ("s3://bucket/opt/ml/model", "s3://bucket/opt/ml/model"),
        ("{prefix}/opt/ml/model", "{prefix}/opt/ml/model"),
        ("/srv/opt/ml", "/srv/opt/ml"),
        ("/opt/mlflow", "/opt/mlflow"),
        ("/opt/ml-data", "/opt/ml-data"),
        ("/opt/ml_1", "/opt/ml_1"),
    ],
)
def test_only_the_path_itself_is_replaced(text, expected):
    assert substitute(text, Path("/job")) == expected


def test_code_is_rewritten_and_data_is_not(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.py").write_bytes(b"# caf\xe9\r\nopen('/opt/ml/model')\r\n")
    (tmp_path / "b.sh").write_text("ls /opt/ml")
    (tmp_path / "data.csv").write_text("/opt/ml")

    substitute_in_code(tmp_path, Path("/job"))

    assert (tmp_path / "sub" / "a.py").read_bytes() == b"# caf\xe9\r\nopen('/job/model')\r\n"
    assert (tmp_path / "b.sh").read_text() == "ls /job"
    assert (tmp_path / "data.csv").read_text() == "/opt/ml"


def test_code_inside_archives_is_rewritten(tmp_path):
    (tmp_path / "sourcedir.tar.gz").write_bytes(tar_gz({"run.sh": "ls /opt/ml", "x.csv": "/opt/ml"}))
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("__main__.py", "print('/opt/ml/model')")
    untouched = tar_gz({"run.sh": "ls", "x.csv": "/opt/ml"})
    (tmp_path / "data.tar.gz").write_bytes(untouched)
    (tmp_path / "broken.tar.gz").write_bytes(b"no archive")

    substitute_in_code(tmp_path, Path("/job"))

    with tarfile.open(tmp_path / "sourcedir.tar.gz") as reading:
        contents = {member.name: stream.read() for member in reading if (stream := reading.extractfile(member))}
    assert contents == {"run.sh": b"ls /job", "x.csv": b"/opt/ml"}
    with zipfile.ZipFile(tmp_path / "code.zip") as reading:
        assert reading.read("__main__.py") == b"print('/job/model')"
    assert (tmp_path / "data.tar.gz").read_bytes() == untouched
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "broken.tar.gz",
        "code.zip",
        "data.tar.gz",
        "sourcedir.tar.gz",
    ]


def run(argv: list[str], folder: Path, opt_ml: Path | None, seconds: float = 20.0) -> tuple[Ending, str]:
    output: list[bytes] = []
    environment = {"PATH": "/usr/bin:/bin"}
    namespace = None
    if opt_ml is not None:
        hosts = opt_ml / "hosts"
        hosts.write_text("127.9.9.9 algo-1\n")
        namespace = Namespace(opt_ml, hosts)
    ending = JobProcess().run(argv, environment, folder, namespace, seconds, output.append)
    return ending, b"".join(output).decode()


@LINUX
def test_in_a_namespace_the_program_sees_its_folder_and_all_else_of_opt_and_the_machine_sees_nothing(tmp_path):
    before = sorted(path.name for path in Path("/opt").iterdir())

    ending, printed = run(["sh", "-c", "echo x > /opt/ml/made; ls /opt"], tmp_path, tmp_path)

    assert ending == Ending(exit_code=0)
    assert printed.split() == sorted({*before, "ml"})
    assert (tmp_path / "made").read_text() == "x\n"
    assert sorted(path.name for path in Path("/opt").iterdir()) == before


@LINUX
def test_two_namespaces_at_once_do_not_see_each_other(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "name").write_text(folder.name)

    assert [run(["cat", "/opt/ml/name"], folder, folder)[1] for folder in folders] == ["one", "two"]


def test_a_stop_that_comes_before_the_program_starts_nothing(tmp_path):
    process = JobProcess()
    process.stop()
    ending = process.run(
        ["touch", "made"], {"PATH": "/usr/bin:/bin"}, tmp_path, None, seconds=20.0, on_output=lambda data: None
    )

    assert ending == Ending(ended_by="stop")
    assert list(tmp_path.iterdir()) == []


def test_the_way_can_be_forced_and_says_so(tmp_path):
    assert not choose("rewrite").namespace
    assert "as was asked" in choose("rewrite").why


@LINUX
def test_a_namespace_is_taken_where_the_system_allows_it():
    assert choose("auto").namespace
    assert choose("namespace").namespace


# A whole server of an ordinary user. Its Python must lie where that user may read it.
ORDINARY_USER = pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0 or not SYSTEM_PYTHON.exists(),
    reason="becoming an ordinary user takes root, and a Python that everybody may run",
)
PROGRAM = """if True:
    import json, os, sys, time
    from local_aws import LocalAWS
    from tests.local_aws.job_requests import Workshop

    with LocalAWS(opt_ml=sys.argv[1]) as aws:
        workshop = Workshop(aws)
        script = '''if True:
            import os
            open("/opt/ml/processing/result/user", "w").write(f"{os.getuid()} {'ml' in os.listdir('/opt')}")
        '''
        ended = workshop.process(script, outputs=("result",))
        name = ended["ProcessingJobName"]
        trained = workshop.train({"train.py": "open('/opt/ml/model/m', 'w').write('x')"})
        print(json.dumps({
            "reason": [job.get("FailureReason") for job in (ended, trained)],
            "result": workshop.get(f"{name}/result/user").decode(),
            "model": workshop.keys("models/"),
        }))
"""


@pytest.fixture
def ordinary_python() -> Iterator[Path]:
    """An environment like this one, on the system's Python, and an image's environment on it too."""
    version = subprocess.run([str(SYSTEM_PYTHON), "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    if version.split(".")[:2] != [str(number) for number in sys.version_info[:2]]:
        pytest.skip(f"the system's Python is {version}, these packages are for another one")
    folder = Path(tempfile.mkdtemp(prefix="ordinary-"))  # pytest's own folders are closed to other users
    folder.chmod(0o755)
    packages = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    for environment in (folder / "main", folder / "images" / "sagemaker-xgboost-3.2-0"):
        (environment / "bin").mkdir(parents=True)
        (environment / "bin" / "python3").symlink_to(SYSTEM_PYTHON)
        (environment / "pyvenv.cfg").write_text(f"home = {SYSTEM_PYTHON.parent}\n")
    library = folder / "main" / "lib" / "python{}.{}".format(*version.split("."))
    library.mkdir(parents=True)
    (library / "site-packages").symlink_to(packages)
    home = folder / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


@LINUX
@ORDINARY_USER
@pytest.mark.parametrize(("opt_ml", "sees_opt_ml"), [("namespace", True), ("rewrite", False)])
def test_an_ordinary_user_s_server_runs_jobs_both_ways(ordinary_python, opt_ml, sees_opt_ml):
    home = ordinary_python / "home"
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LOCAL_AWS_IMAGES": str(ordinary_python / "images"),
    }
    ended = subprocess.run(
        [str(ordinary_python / "main" / "bin" / "python3"), "-c", PROGRAM, opt_ml],
        env=environment,
        cwd=home,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["reason"] == [None, None]
    assert result["result"] == f"{NOBODY} {sees_opt_ml}"
    assert [Path(key).name for key in result["model"]] == ["model.tar.gz"]
    assert list(home.iterdir()) == []
