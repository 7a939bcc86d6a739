"""From a branch to the names of what it trains: stage, model package group, pipeline, tags. Pure.

| branch    | stage   | model package group | pipeline                         | writes below      |
|-----------|---------|---------------------|----------------------------------|-------------------|
| dev       | dev     | <project>-dev       | <project>-dev                    | <project>/dev     |
| feature-* | feature | <project>-feature   | <project>-feature-<slug>-<hash6> | <project>/feature |
| prod      | trains nothing: promoting copies the approved version        |
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from pipeline import InputError

SLUG_LENGTH = 40


@dataclass(frozen=True)
class Names:
    """What one branch of one project is called on AWS."""

    project: str
    project_id: str
    branch: str
    stage: str
    pipeline: str

    @property
    def group(self) -> str:
        return group_name(self.project, self.stage)

    @property
    def folder(self) -> str:
        return stage_folder(self.project, self.stage)

    @property
    def tags(self) -> dict[str, str]:
        return tags(self.project, self.project_id, self.stage)


def names_of(project: str, branch: str) -> Names:
    """The names for a branch that trains. Raises InputError for every other branch.

    project_id is a stand-in: which one SageMaker gave the project is in the tags of its groups alone.
    """
    stage = stage_of(branch)
    return Names(
        project=project,
        project_id=default_project_id(project),
        branch=branch,
        stage=stage,
        pipeline=pipeline_name(project, branch, stage),
    )


def trains(branch: str) -> bool:
    """Whether a push to the branch trains a model: on dev and feature-* alone."""
    return branch == "dev" or branch.startswith("feature-")


def stage_of(branch: str) -> str:
    """dev or feature. Raises InputError for prod, which trains nothing, and for any other branch."""
    if trains(branch):
        return "dev" if branch == "dev" else "feature"
    if branch == "prod":
        raise InputError(
            "the branch prod trains nothing: promoting copies the version that was approved on dev. "
            "Train on dev or on a branch feature-*"
        )
    raise InputError(f"the branch {branch!r} trains nothing: rename it, or choose another (dev, feature-*)")


def group_name(project: str, stage: str) -> str:
    """At most 32 + 1 + 10 of the 63 characters that a model package group's name may have."""
    return f"{project}-{stage}"


def stage_folder(project: str, stage: str) -> str:
    """Where in the bucket everything lies that its branches write: code, stage files, results. IAM keeps them apart."""
    return f"{project}/{stage}"


def pipeline_name(project: str, branch: str, stage: str) -> str:
    """Unique per branch even where upper and lower case are one: the hash is of the exact branch.

    At most 32 + 9 + 40 + 7 = 88 of the 256 characters that a pipeline's name may have.
    """
    if stage == "dev":
        return f"{project}-dev"
    slug = re.sub(r"[^a-z0-9]+", "-", branch.removeprefix("feature-").lower())[:SLUG_LENGTH].strip("-")
    digest = hashlib.sha256(f"{project}/{branch}".encode()).hexdigest()[:6]
    return "-".join(part for part in (project, "feature", slug, digest) if part)


def stage_of_pipeline(project: str, pipeline: str) -> str:
    """dev or feature: what trains with a pipeline of that name."""
    return "dev" if pipeline == f"{project}-dev" else "feature"


def default_project_id(project: str) -> str:
    """An id as SageMaker Projects gives them, for a project that was not created there."""
    return "p-" + hashlib.sha256(project.encode()).hexdigest()[:12]


def tags(project: str, project_id: str, stage: str) -> dict[str, str]:
    """SageMaker Studio groups a project's resources by the first two; modelyard's platform reads the others."""
    return {
        "sagemaker:project-name": project,
        "sagemaker:project-id": project_id,
        "modelyard:project": project,
        "modelyard:stage": stage,
    }
