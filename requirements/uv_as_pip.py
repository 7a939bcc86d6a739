"""`uv pip install ARGUMENTS` with pip's settings: run as `python requirements/uv_as_pip.py ARGUMENTS`.

uv reads neither pip.conf nor pip's variables (https://docs.astral.sh/uv/pip/compatibility/), so an index, a folder
of wheels or a certificate that pip was told of is passed on here, and nowhere else. The interpreter's environment holds
both.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# pip's option -> uv's variable, and what separates several values (None: there is one).
# https://docs.astral.sh/uv/reference/environment/
VARIABLES: dict[str, tuple[str, str | None]] = {
    "index-url": ("UV_DEFAULT_INDEX", None),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "keyring-provider": ("UV_KEYRING_PROVIDER", None),
    "timeout": ("UV_HTTP_TIMEOUT", None),
    "cert": ("SSL_CERT_FILE", None),
    "proxy": ("ALL_PROXY", None),
}


def settings(listed: str) -> dict[str, str]:
    """What pip would go by, option -> value, from the output of `pip config list`.

    A line is `SECTION.OPTION='VALUE'`. A variable counts more than a file's [install], that more than its [global]
    (https://pip.pypa.io/en/stable/topics/configuration/); other commands' sections are no concern of installing.
    """
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{section}."):
                found[name.removeprefix(f"{section}.").replace("_", "-")] = str(ast.literal_eval(value))
    if "default-timeout" in found:  # the older name of the variable
        found.setdefault("timeout", found["default-timeout"])
    return found


def for_uv(pip: Mapping[str, str], environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables and the options that tell uv the same; a variable that the user has set stays as it is."""
    variables: dict[str, str] = {}
    for option, (variable, separator) in VARIABLES.items():
        value = pip.get(option, "").strip()
        if value and variable not in environment:
            variables[variable] = value if separator is None else separator.join(value.split())
    # pip takes the best of all indexes, and trusts the system's certificates.
    variables |= {
        name: value
        for name, value in {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "true"}.items()
        if name not in environment
    }
    no_index = pip.get("no-index", "").lower() in {"1", "true", "yes", "on"}
    return variables, ["--no-index"] if no_index else []


def main(arguments: list[str]) -> int:
    here = Path(sys.executable).parent
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=True
    )
    variables, options = for_uv(settings(listed.stdout), os.environ)
    command = [str(here / "uv"), "pip", "install", *options, *arguments]
    return subprocess.run(command, env=os.environ | variables, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
