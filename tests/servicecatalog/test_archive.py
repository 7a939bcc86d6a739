"""The functions' archive holds what they import, byte code included, and is the same each time."""

from __future__ import annotations

import io
import os
import subprocess
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from servicecatalog import archive
from servicecatalog.errors import InstallError

ROOT = Path(__file__).resolve().parent.parent.parent
RUNTIME = ROOT / ".envs" / "runtimes" / "python3.11" / "bin" / "python"
HANDLERS = ("deploy", "plan", "notify", "batch", "commit_status")


@pytest.fixture(scope="module")
def built() -> bytes:
    return archive.build()


@pytest.fixture(scope="module")
def unpacked(built: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    zipfile.ZipFile(io.BytesIO(built)).extractall(folder)
    return folder


def in_runtime(unpacked: Path, code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run code where the functions run: their archive, boto3, and nothing else."""
    environment = {"PYTHONPATH": str(unpacked), "PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "eu-west-1"}
    return subprocess.run(
        [RUNTIME, "-s", *options, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def little(tmp_path: Path) -> tuple[Path, Path]:
    """Sources and packages of one file each, for what does not depend on ours."""
    sources, packages = tmp_path / "functions", tmp_path / "packages"
    sources.mkdir()
    packages.mkdir()
    (sources / "__init__.py").write_text("VERSION = 1\n")
    (packages / "package.py").write_text("")
    (packages / ".installed").touch()
    return sources, packages


def test_the_same_sources_give_the_same_bytes(built: bytes) -> None:
    again = archive.build()
    assert again == built
    assert archive.key(again) == archive.key(built)


def test_other_sources_give_another_key(little: tuple[Path, Path]) -> None:
    before = archive.key(archive.build(*little))
    (little[0] / "__init__.py").write_text("VERSION = 2\n")
    assert archive.key(archive.build(*little)) != before


def test_what_was_built_last_is_taken_again_until_something_changes(little: tuple[Path, Path], tmp_path: Path) -> None:
    sources, packages = little
    times = []

    def make() -> bytes:
        times.append(1)
        return archive.build(*little)

    def built() -> bytes:
        return archive.built(sources, packages, make, tmp_path / "built")

    first = built()
    assert (built(), len(times)) == (first, 1)
    (packages / "package.py").write_text("changed = True\n")
    second = built()
    assert (second != first, len(times)) == (True, 2)
    assert second == archive.build(*little)
    (packages / "__pycache__").mkdir()
    (packages / "__pycache__" / "package.cpython-311.pyc").write_bytes(b"of another time")
    assert (built(), len(times)) == (second, 2)
    assert len(list((tmp_path / "built").iterdir())) == 1, "one of each is kept"
    (packages / ".installed").unlink()
    with pytest.raises(InstallError, match="make install"):
        built()


def test_what_installing_leaves_about_the_machine_makes_no_difference(little: tuple[Path, Path]) -> None:
    before = archive.build(*little)
    information = little[1] / "package-1.0.dist-info"
    information.mkdir()
    for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
        (information / name).write_text("from here")
    (little[1] / "__pycache__").mkdir()
    (little[1] / "__pycache__" / "package.cpython-311.pyc").write_bytes(b"of another time")
    assert archive.build(*little) == before


def test_it_is_small_enough_for_a_quick_start(built: bytes) -> None:
    assert len(built) < 10 * 1024 * 1024


def test_a_link_becomes_the_file_that_it_leads_to(built: bytes) -> None:
    entry = zipfile.ZipFile(io.BytesIO(built)).getinfo("lifecycle_lambdas/stage_schema.py")
    assert entry.external_attr >> 16 == 0o644
    assert entry.file_size == (archive.SOURCES / "stage_schema.py").stat().st_size


def test_boto3_is_left_to_the_runtime(built: bytes) -> None:
    top = {name.split("/")[0] for name in zipfile.ZipFile(io.BytesIO(built)).namelist()}
    assert {"lifecycle_lambdas", "pydantic", "pydantic_core", "yaml"} <= top
    assert not {"boto3", "botocore", "tests", "local_aws"} & top


@pytest.mark.parametrize("name", ["lambda", "seed_lambda"])
def test_what_the_runtimes_boto3_imports_of_ours_is_what_it_takes(name: str) -> None:
    """An archive's packages are found before the runtime's own."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    requirements = [
        Requirement(text) for package in ("boto3", "botocore") for text in distribution(package).requires or ()
    ]
    taken = {found.name: pins[found.name] in found.specifier for found in requirements if found.name in pins}
    assert all(taken.values()), taken
    assert name == "lambda" or set(taken) == {"python-dateutil", "urllib3"}


def test_every_source_comes_with_its_byte_code(built: bytes) -> None:
    names = zipfile.ZipFile(io.BytesIO(built)).namelist()
    sources = {Path(name) for name in names if name.endswith(".py")}
    compiled = {Path(name) for name in names if name.endswith(".cpython-311.pyc")}
    assert compiled == {path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc" for path in sources}


@pytest.mark.parametrize("handler", HANDLERS)
def test_every_handler_is_imported_from_the_archive_and_its_byte_code(unpacked: Path, handler: str) -> None:
    done = in_runtime(
        unpacked,
        f"import lifecycle_lambdas.handlers.{handler} as module; print(callable(module.handler), module.__cached__)",
        "-v",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("True")
    # Without a look at the source: what is compiled anew would be written, and nothing was.
    assert "wrote '" not in done.stderr


def test_without_the_packages_it_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="make install"):
        archive.build(packages=tmp_path)


def test_source_that_does_not_compile_is_refused_with_its_line(little: tuple[Path, Path]) -> None:
    (little[0] / "broken.py").write_text("def broken(:\n")
    with pytest.raises(InstallError, match=r"(?s)broken\.py.*line 1"):
        archive.build(*little)


def test_another_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "PYTHON", (3, 12))
    with pytest.raises(InstallError, match=r"Python 3\.12"):
        archive.build()


def test_what_outgrows_its_limit_is_refused(little: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LARGEST", 100)
    with pytest.raises(InstallError, match=r"may have 100"):
        archive.build(*little)


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_cold_start_loads_only_what_every_call_needs(unpacked: Path, handler: str) -> None:
    """What only some calls need is imported by them: `make bench` measures what that saves."""
    program = f"import sys, lifecycle_lambdas.handlers.{handler}; print([*sys.modules])"
    loaded = in_runtime(unpacked, program).stdout
    assert "'botocore.session'" in loaded
    assert [name for name in ("pydantic", "yaml") if f"'{name}'" in loaded] == []
