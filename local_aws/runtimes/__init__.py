"""Lambda runtimes are environments: what a runtime brings beside the standard library, as a Python environment.

A known runtime is a folder beside this file, named as AWS names it, with the runtime's packages in `requirements.txt`.
Its environment has the same name in `.envs/runtimes/`, or in the folder that `LOCAL_AWS_RUNTIMES` names.
"""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
BOOTSTRAP = HERE / "bootstrap.py"


class RuntimeUnknown(Exception):
    """No function can run here with this runtime; the message says why and what to do."""


class Runtimes:
    """The runtimes that functions can run in.

    Args:
        environments: the folder of their environments; by default `LOCAL_AWS_RUNTIMES`, else `.envs/runtimes` here.
        known: the folder with a folder for each known runtime.
    """

    def __init__(self, environments: Path | None = None, known: Path = HERE) -> None:
        default = os.environ.get("LOCAL_AWS_RUNTIMES") or HERE.parent.parent / ".envs" / "runtimes"
        self._environments = Path(environments or default).absolute()
        self._known = known

    @property
    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self._known.glob("*/requirements.txt"))

    def interpreter(self, runtime: str) -> Path:
        """The interpreter of a runtime, such as "python3.11".

        Raises:
            RuntimeUnknown: there is none by this name, or its environment is not there.
        """
        if runtime not in self.names:
            raise RuntimeUnknown(
                f"Runtime {runtime!r} has no interpreter in local_aws, which has {', '.join(self.names)}. Use that one,"
                f" or add local_aws/runtimes/{runtime}/requirements.txt and run `make install`."
            )
        interpreter = self._environments / runtime / "bin" / "python"
        if not interpreter.exists():
            raise RuntimeUnknown(
                f"Runtime {runtime!r} has no environment at {self._environments / runtime}. Run `make install`, or set"
                " LOCAL_AWS_RUNTIMES to the folder of the runtimes' environments before starting local_aws."
            )
        return interpreter
