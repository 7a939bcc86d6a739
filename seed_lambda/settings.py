"""The platform's constants, from the function's environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from seed_lambda.errors import SeedError

NOTHING = "none"  # an SSM String cannot be empty
GITHUB = "https://github.com"


@dataclass(frozen=True)
class Settings:
    """One platform of one account and Region; what is not set is "".

    Args:
        git_host: where the platform's repositories lie unless a project says otherwise: codecommit or github.
        git_base_url: of GitHub or a GitHub Enterprise Server, such as https://github.com.
        git_owner: organization or user that owns new GitHub repositories; "": the token's own user.
        git_token_secret_arn: Secrets Manager secret with the token; "": there is none.
        code_bucket: S3 bucket that holds the template's archives, below modelyard/template/.
        queue_url: the controller's queue, for endpoints that must go.
        region: in which everything is made.
        artifact_buckets: names of the buckets that a project may keep its artifacts in; * stands for any characters.
        data_buckets: those that a project may read further data from, likewise.
        platform_buckets: those of the platform's own files beside the code bucket.
    """

    git_host: str
    git_base_url: str
    git_owner: str
    git_token_secret_arn: str
    code_bucket: str
    queue_url: str
    region: str
    artifact_buckets: tuple[str, ...] = ("*",)
    data_buckets: tuple[str, ...] = ()
    platform_buckets: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """GIT_HOST, GIT_BASE_URL, ... Raises SeedError naming the variables that are missing."""
        values = {name: environment.get(name, "") for name in _VARIABLES}
        if missing := [name for name in _VARIABLES if not values[name] and name not in _OPTIONAL]:
            raise SeedError(
                f"the seed function's environment variables {', '.join(missing)} are not set; bring the platform up to "
                "date with make install-platform"
            )
        return cls(
            git_host=values["GIT_HOST"],
            git_base_url=something(values["GIT_BASE_URL"]).rstrip("/") or GITHUB,
            git_owner=something(values["GIT_OWNER"]),
            git_token_secret_arn=something(values["GIT_TOKEN_SECRET_ARN"]),
            code_bucket=values["CODE_BUCKET"],
            queue_url=values["QUEUE_URL"],
            region=values["AWS_REGION"],
            artifact_buckets=listed(values["ARTIFACT_BUCKETS"]),
            data_buckets=listed(something(values["DATA_BUCKETS"])),
            platform_buckets=listed(values["PLATFORM_BUCKETS"]),
        )


_VARIABLES = (
    "GIT_HOST",
    "GIT_BASE_URL",
    "GIT_OWNER",
    "GIT_TOKEN_SECRET_ARN",
    "CODE_BUCKET",
    "QUEUE_URL",
    "AWS_REGION",
    "ARTIFACT_BUCKETS",
    "DATA_BUCKETS",
    "PLATFORM_BUCKETS",
)
_OPTIONAL = ("GIT_BASE_URL", "GIT_OWNER", "GIT_TOKEN_SECRET_ARN")


def listed(value: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(name for item in value.split(",") if (name := item.strip()))


def something(value: str) -> str:
    """The value, or "" for what stands for nothing."""
    return "" if value == NOTHING else value
