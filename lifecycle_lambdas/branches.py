"""Which branches a project's repository has at its Git host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lifecycle_lambdas.commit_hosts import CODECOMMIT, GitHub, NotTold
from lifecycle_lambdas.log import log

PER_PAGE, MOST_PAGES = 100, 100  # branches of a page, GitHub's most, and pages


@dataclass(frozen=True)
class Hosts:
    """
    Args:
        codecommit: a boto3 client.
        github: the platform's own host.
    """

    codecommit: Any
    github: GitHub

    def branches(self, repository: str) -> frozenset[str] | None:
        """The names of the branches; None when the host does not say: then nobody knows which are gone.

        Args:
            repository: the ARN of one of CodeCommit's, or the address of its page.
        """
        try:
            if repository.startswith("arn:"):
                return self._of_codecommit(repository)
            return self._of_github(repository)
        except (NotTold, ClientError, BotoCoreError) as error:
            log("the Git host does not say which branches there are", level="WARNING", error=str(error))
            return None

    def _of_codecommit(self, repository: str) -> frozenset[str] | None:
        found = CODECOMMIT.fullmatch(repository)
        if found is None or found["region"] != self.codecommit.meta.region_name:
            return None
        pages = self.codecommit.get_paginator("list_branches").paginate(repositoryName=found["name"])
        return frozenset(name for page in pages for name in page["branches"])

    def _of_github(self, repository: str) -> frozenset[str] | None:
        """https://docs.github.com/rest/branches/branches#list-branches"""
        names: set[str] = set()
        for page in range(1, MOST_PAGES + 1):
            found = self.github.get(repository, f"/branches?per_page={PER_PAGE}&page={page}")
            if not isinstance(found, list) or not all(isinstance(one, dict) and "name" in one for one in found):
                return None
            names |= {str(one["name"]) for one in found}
            if len(found) < PER_PAGE:
                return frozenset(names)
        return None
