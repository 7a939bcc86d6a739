"""What builds are run with, whichever service begins them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from local_aws.builds.runner import Runner
from local_aws.builds.workspace import Toolbox, Workspace


@dataclass(frozen=True)
class Machine:
    """Args:
    endpoint, runtime_endpoint: where AWS's calls are answered.
    folder: where builds have their workspaces.
    logs: a folder for what they print; it may survive the server.
    """

    runner: Runner
    toolbox: Toolbox
    endpoint: str
    runtime_endpoint: str
    folder: Path
    logs: Path

    def workspace(self) -> Workspace:
        """A new one."""
        return Workspace(self.folder / uuid.uuid4().hex[:12], self.toolbox)

    def environment(self, workspace: Workspace) -> dict[str, str]:
        """The variables that every program of a build has; no credentials."""
        return workspace.environment(self.endpoint, self.runtime_endpoint)
