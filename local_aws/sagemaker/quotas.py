"""How much of each thing an account may have in a Region.

https://docs.aws.amazon.com/general/latest/gr/sagemaker.html#limits_sagemaker
"""

from __future__ import annotations

from typing import Any

from local_aws.calls import ServiceError

DEFAULTS = {"instances_per_endpoint": 4, "model_package_groups": 250, "projects": 500}  # AWS's own
_NOUNS = {"model_package_groups": "model package groups", "projects": "projects"}


class Quotas:
    """The quotas of one server, which a request to AWS Service Quotas would change (`configure`)."""

    def __init__(self) -> None:
        self._quotas = dict(DEFAULTS)

    def __getitem__(self, name: str) -> int:
        return self._quotas[name]

    def check_count(self, name: str, there: int) -> None:
        """Raise ResourceLimitExceeded when there are as many of a thing as there may be, before one more is made."""
        if there >= self._quotas[name]:
            raise ServiceError(
                "ResourceLimitExceeded",
                f"The account-level service limit 'Total number of {_NOUNS[name]} allowed' is {self._quotas[name]}"
                f" {_NOUNS[name]}, with current utilization of {there} {_NOUNS[name]} and a request delta of 1"
                f" {_NOUNS[name]}. Please contact AWS support to request an increase for this limit.",
            )

    def settings(self) -> dict[str, Any]:
        return dict(self._quotas)

    def configure(self, settings: dict[str, Any]) -> None:
        """Change quotas.

        Raises:
            ValueError: a quota that there is not, or that is no positive whole number.
        """
        for name, value in settings.items():
            if name not in self._quotas:
                raise ValueError(f"quotas: there is no quota {name}; there are {', '.join(self._quotas)}")
            if type(value) is not int or value < 1:
                raise ValueError(f"quotas: {name} is {value!r}; give a positive whole number")
        self._quotas |= settings
