"""What the identity token of a job in GitHub Actions says.

https://docs.github.com/en/actions/reference/security/oidc
"""

from __future__ import annotations

from typing import Any

from local_aws.git.github_rest import subject_prefix
from local_aws.git.github_state import Account, Repository

PUSH, PULL_REQUEST = "push", "pull_request"
EVENTS = (PUSH, PULL_REQUEST, "delete", "schedule", "workflow_dispatch")
REF_TYPES = {"refs/heads/": "branch", "refs/tags/": "tag", "refs/pull/": "branch"}
USUAL_AUDIENCE = "sts.amazonaws.com"  # what aws-actions/configure-aws-credentials asks for


def job_claims(
    repository: Repository,
    owner: Account,
    ref: str = "refs/heads/main",
    audience: str = USUAL_AUDIENCE,
    environment: str | None = None,
    event: str = PUSH,
) -> dict[str, Any]:
    """The claims of a job's token, without those that are the issuer's.

    Args:
        ref: what the workflow runs for, such as "refs/heads/dev".
        environment: the deployment environment that the job names.
        event: of EVENTS, by which the workflow was started.

    Raises:
        ValueError: what is wrong.
    """
    ref_type = next((kind for start, kind in REF_TYPES.items() if isinstance(ref, str) and ref.startswith(start)), None)
    if ref_type is None:
        raise ValueError(f"github: issue_oidc_token: ref {ref!r} does not begin with {', '.join(REF_TYPES)}.")
    if event not in EVENTS:
        raise ValueError(f"github: issue_oidc_token: event {event!r} is none of {', '.join(EVENTS)}.")
    for name, value in (("audience", audience), ("environment", environment)):
        if not (value is None and name == "environment") and not (isinstance(value, str) and value):
            raise ValueError(f"github: issue_oidc_token: {name} {value!r} is no text.")
    if environment is not None:
        context = f"environment:{environment.replace(':', '%3A')}"
    else:
        context = PULL_REQUEST if event == PULL_REQUEST else f"ref:{ref}"
    claims = {
        "sub": f"{subject_prefix(repository, owner)}:{context}",
        "aud": audience,
        "ref": ref,
        "ref_type": ref_type,
        "repository": repository.full_name,
        "repository_id": str(repository.id),
        "repository_owner": owner.login,
        "repository_owner_id": str(owner.id),
        "repository_visibility": "private" if repository.private else "public",
        "event_name": event,
    }
    return claims | ({"environment": environment} if environment is not None else {})
