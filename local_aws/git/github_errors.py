"""How the stand-in for GitHub refuses a REST call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """An error that the client gets as GitHub would send it.

    Args:
        status: of HTTP.
        message: GitHub's words where they are known.
        errors: what exactly is wrong, as GitHub lists it: objects of resource, field, code and message, or texts.
        headers: more of the answer's.
        limit: one of the rate limits of `local_aws.git.github_calls`, when it is one.
    """

    def __init__(
        self,
        status: int,
        message: str,
        errors: list[Any] | None = None,
        headers: Mapping[str, str] | None = None,
        limit: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.errors = status, message, errors
        self.headers, self.limit = dict(headers or {}), limit


def not_found() -> ApiError:
    return ApiError(404, "Not Found")


def invalid(
    field: str, message: str, *, code: str = "custom", what: str = "Validation Failed", resource: str = "Repository"
) -> ApiError:
    """A field of a repository, or of another resource, is not as it has to be.

    Args:
        what: has failed.
    """
    return ApiError(422, what, [{"resource": resource, "code": code, "field": field, "message": message}])


def malformed(message: str) -> ApiError:
    """The body is not of the form that the call has."""
    return ApiError(422, f"Invalid request.\n\n{message}")


def not_built(what: str, answered: str) -> ApiError:
    """Something that GitHub has and this stand-in does not, rather than an answer that would be untrue."""
    return ApiError(422, f"local_aws does not build {what}: nothing of Modelyard's uses it. It takes {answered}.")
