"""Runs a page's blocks in their order, as a person would in one shell."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import Block, PageError, apply, check_output, tells_of_a_failure

SECONDS = 600  # that one block may take
_AUTHOR = "[user]\n\tname = Data Scientist\n\temail = data.scientist@example.com\n"
# Of whoever runs the tests, these alone: no credentials, no configuration, no variables of a CI.
_KEPT = ("PATH", "LANG", "LC_ALL", "SSL_CERT_FILE", "LOCAL_AWS_IMAGES")
# Every assignment is kept, as a shell keeps it; the first command that fails ends the block.
_SCRIPT = """trap 'code=$?; set +x; { pwd; env -0; } > "$SHELL_STATE"; exit $code' EXIT
set -a -e -o pipefail
"""


@dataclass
class Shell:
    """One person's shell: where it stands and its variables are kept from block to block.

    Attributes:
        folder: where it stands.
        variables: its environment.
        home: the person's home; temporary files lie in it too, so that no other local_aws is seen.
    """

    folder: Path
    variables: dict[str, str]
    home: Path

    @classmethod
    def open(cls, folder: Path, home: Path, variables: Mapping[str, str] | None = None) -> Shell:
        """In `folder`, with an empty home. variables: what an earlier shell, or an administrator, has given."""
        (home / "tmp").mkdir(parents=True)
        (home / ".gitconfig").write_text(_AUTHOR, encoding="utf-8")
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        own = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "GIT_CONFIG_NOSYSTEM": "1", "COLUMNS": "160"}
        own["AWS_EC2_METADATA_DISABLED"] = "true"
        return cls(folder, kept | own | dict(variables or {}), home)

    def run(self, script: str) -> tuple[int, str]:
        """Types the script; the exit code of its last command and what was printed, errors included."""
        state, printed = self.home / "state", self.home / "printed"
        with printed.open("w", encoding="utf-8") as stream:
            # to a file: a server that was started would hold a pipe open
            done = subprocess.run(
                ["bash", "-c", _SCRIPT + script],
                cwd=self.folder,
                env=self.variables | {"SHELL_STATE": str(state)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                check=False,
            )
        folder, _, variables = state.read_bytes().partition(b"\n")
        self.folder = Path(os.fsdecode(folder))
        self.variables = dict(os.fsdecode(one).split("=", 1) for one in variables.split(b"\0") if one)
        return done.returncode, printed.read_text(encoding="utf-8", errors="replace")


def follow(page: Iterable[Block], shell: Shell) -> list[str]:
    """Does what the blocks say, but for those under a mark; the places of these.

    Raises:
        PageError: a command fails, or does not where the page says so; or the page does not fit what is there.
    """
    left_out: list[str] = []
    waiting = list(page)
    code, printed, skipped = 0, "", False
    for number, block in enumerate(waiting):
        following = waiting[number + 1] if number + 1 < len(waiting) else None
        skipped = bool(block.mark) or (skipped and block.kind == "text")
        if skipped:
            left_out.append(block.place)
        elif block.kind == "text":
            check_output(block, printed)
        elif block.kind == "bash":
            code, printed = shell.run(block.text)
            print(f"--- {block.place}\n{block.text}{printed}", file=sys.stderr)
            fails = following is not None and following.kind == "text" and tells_of_a_failure(following.text)
            if (code != 0) != fails:
                wanted = "to fail" if fails else "exit code 0"
                raise PageError(f"{block.place}: exit code {code}, {wanted} was expected:\n{block.text}\n{printed}")
        else:
            apply(block, shell.folder)
    return left_out
