"""The environments are made with pip's settings, whoever makes them (requirements/uv_as_pip.py)."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from requirements.uv_as_pip import for_uv, settings

ROOT = Path(__file__).resolve().parents[1]
ALWAYS = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "true"}


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("", {}),
        ("global.index-url='https://a/simple'\n", {"index-url": "https://a/simple"}),
        # a variable before [install], that before [global], in whatever order they are listed
        (":env:.cert='/e'\nglobal.cert='/g'\ninstall.cert='/i'\n", {"cert": "/e"}),
        ("install.cert='/i'\nglobal.cert='/g'\n", {"cert": "/i"}),
        ("download.cert='/d'\n", {}),
        ("global.extra-index-url='\\nhttps://a/?x=1\\nhttps://b'", {"extra-index-url": "\nhttps://a/?x=1\nhttps://b"}),
        (":env:.default-timeout='180'\n", {"default-timeout": "180", "timeout": "180"}),
        (":env:.default-timeout='180'\n:env:.timeout='9'\n", {"default-timeout": "180", "timeout": "9"}),
    ],
)
def test_what_pip_would_go_by(listed, found):
    assert settings(listed) == found


@pytest.mark.parametrize(
    ("pip", "environment", "variables"),
    [
        ({}, {}, ALWAYS),
        ({"index-url": "https://a/simple"}, {}, ALWAYS | {"UV_DEFAULT_INDEX": "https://a/simple"}),
        ({"extra-index-url": "\nhttps://a\n  https://b"}, {}, ALWAYS | {"UV_INDEX": "https://a https://b"}),
        ({"find-links": "/a https://b"}, {}, ALWAYS | {"UV_FIND_LINKS": "/a,https://b"}),
        ({"cert": "/my certificates.pem"}, {}, ALWAYS | {"SSL_CERT_FILE": "/my certificates.pem"}),
        ({"disable-pip-version-check": "1"}, {}, ALWAYS),
        # what the user tells uv itself stays
        (
            {"cert": "/a"},
            {"SSL_CERT_FILE": "/b", "UV_SYSTEM_CERTS": "false"},
            {"UV_INDEX_STRATEGY": "unsafe-best-match"},
        ),
    ],
)
def test_uv_is_told_the_same(pip, environment, variables):
    assert for_uv(pip, environment) == (variables, [])


@pytest.mark.parametrize(
    ("value", "options"), [("true", ["--no-index"]), ("1", ["--no-index"]), ("false", []), ("0", [])]
)
def test_no_index_is_an_option(value, options):
    assert for_uv({"no-index": value}, {})[1] == options


def test_packages_come_from_where_pips_settings_say(tmp_path):
    for name in ("one", "two"):
        wheel(tmp_path / name, f"modelyard_{name}")
    (tmp_path / "pip.conf").write_text(
        f"[global]\nno-index = true\n[install]\nfind-links =\n    {tmp_path / 'one'}\n    {tmp_path / 'two'}\n"
    )
    uv = ROOT / ".envs" / "uv" / "bin" / "python"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    subprocess.run(
        [
            uv,
            ROOT / "requirements" / "uv_as_pip.py",
            "--quiet",
            "--target",
            tmp_path / "made",
            "modelyard-one",
            "modelyard-two",
        ],
        env=kept | {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "UV_CACHE_DIR": str(tmp_path / "cache")},
        check=True,
    )

    assert {path.name for path in (tmp_path / "made").glob("*.py")} == {"modelyard_one.py", "modelyard_two.py"}


def wheel(folder: Path, module: str) -> None:
    """A distribution of one empty module, in a folder of its own."""
    folder.mkdir()
    about = f"{module}-1.0.dist-info"
    files = {
        f"{module}.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{about}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"]))
