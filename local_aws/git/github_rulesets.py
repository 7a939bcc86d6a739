"""Rulesets: what a repository's branches are protected from, as GitHub's API has them and as pushes are held to them.

Pure functions. https://docs.github.com/rest/repos/rules
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any
from urllib.parse import quote

from local_aws.git.github_errors import ApiError, malformed, not_built
from local_aws.git.push_rules import CREATE, DELETE, FAST_FORWARD, FORCE, RefRule

FIELDS = ("name", "target", "enforcement", "bypass_actors", "conditions", "rules")
ENFORCEMENTS = ("active", "disabled")
# What each kind of rule refuses, and what a push is told.
RULES = {
    # A branch is made by a pull request neither: who needs one makes it before the rule.
    "pull_request": ((CREATE, FAST_FORWARD, FORCE), "Changes must be made through a pull request."),
    "non_fast_forward": ((FORCE,), "Cannot force-push to this branch"),
    "deletion": ((DELETE,), "Cannot delete this branch"),
}
PULL_REQUEST_PARAMETERS = {  # all of them have to be given
    "dismiss_stale_reviews_on_push": bool,
    "require_code_owner_review": bool,
    "require_last_push_approval": bool,
    "required_approving_review_count": int,
    "required_review_thread_resolution": bool,
}
DECLINED = "push declined due to repository rule violations"
ALL, DEFAULT_BRANCH = "~ALL", "~DEFAULT_BRANCH"
BRANCHES = "refs/heads/"


def read_ruleset(body: dict[str, Any], known: dict[str, Any] | None, names: Collection[str]) -> dict[str, Any]:
    """A ruleset from the body of a request: name, target, enforcement, bypass_actors, conditions, rules.

    Args:
        known: the ruleset that is updated, whose fields stay when the body has none; None for a new one.
        names: of the repository's other rulesets.

    Raises:
        ApiError: 422, what is wrong with it, or what is not built.
    """
    if unknown := sorted(body.keys() - set(FIELDS)):
        raise not_built(f"{', '.join(unknown)} of rulesets", ", ".join(FIELDS))
    for name in ("name", "enforcement"):
        if known is None and name not in body:
            raise malformed(f'"{name}" wasn\'t supplied.')
    ruleset = {"target": "branch", "bypass_actors": [], "conditions": {}, "rules": []} | (known or {}) | body
    if not isinstance(ruleset["name"], str) or not ruleset["name"]:
        raise malformed(f"For 'properties/name', {ruleset['name']!r} is not a name.")
    if ruleset["name"] in names:
        raise ApiError(422, "Validation Failed", ["Name must be unique"])
    if ruleset["target"] != "branch":
        raise not_built(f"the target {ruleset['target']!r}", "branch")
    if ruleset["enforcement"] not in ENFORCEMENTS:
        raise not_built(f"the enforcement {ruleset['enforcement']!r}", ", ".join(ENFORCEMENTS))
    if ruleset["bypass_actors"]:
        raise not_built("bypass_actors", "an empty list")
    return ruleset | {"conditions": _conditions(ruleset["conditions"]), "rules": _rules(ruleset["rules"])}


def _conditions(conditions: Any) -> dict[str, Any]:
    if not conditions:
        return {}
    names = conditions.get("ref_name") if isinstance(conditions, dict) and conditions.keys() == {"ref_name"} else None
    if (
        not isinstance(names, dict)
        or not isinstance(names.get("include"), list)
        or names.keys() - {"include", "exclude"}
    ):
        raise not_built("these conditions", '{"ref_name": {"include": [...], "exclude": []}}')
    if names.get("exclude"):
        raise not_built("exclude", "an empty list")
    for pattern in names["include"]:
        if not isinstance(pattern, str) or not (pattern in (ALL, DEFAULT_BRANCH) or pattern.startswith(BRANCHES)):
            raise ApiError(422, "Validation Failed", [f"Invalid target patterns: '{pattern}'"])
    return {"ref_name": {"include": names["include"], "exclude": []}}


def _rules(rules: Any) -> list[dict[str, Any]]:
    if not isinstance(rules, list):
        raise malformed(f"For 'properties/rules', {rules!r} is not an array.")
    for place, rule in enumerate(rules):
        if not isinstance(rule, dict) or not isinstance(rule.get("type"), str):
            raise malformed(f"Invalid property /rules/{place}: data matches no possible input.")
        if rule["type"] not in RULES:
            raise not_built(f"the rule {rule['type']!r}", ", ".join(RULES))
        if rule["type"] == "pull_request":
            _check_pull_request(rule, place)
        elif rule.keys() != {"type"}:
            raise malformed(f"Invalid property /rules/{place}: data matches no possible input.")
    return rules


def _check_pull_request(rule: dict[str, Any], place: int) -> None:
    parameters = rule.get("parameters")
    right = isinstance(parameters, dict) and all(
        type(parameters.get(name)) is kind for name, kind in PULL_REQUEST_PARAMETERS.items()
    )
    if not right or rule.keys() != {"type", "parameters"}:
        raise malformed(
            f"Invalid property /rules/{place}: data matches no possible input. The parameters of pull_request are"
            f" {', '.join(PULL_REQUEST_PARAMETERS)}."
        )
    assert isinstance(parameters, dict)
    more = parameters.keys() - PULL_REQUEST_PARAMETERS.keys() - {"allowed_merge_methods"}
    if more:
        raise not_built(f"{', '.join(sorted(more))} of pull_request", ", ".join(PULL_REQUEST_PARAMETERS))


def push_rules(rulesets: Iterable[dict[str, Any]], default_branch: str, page: str) -> tuple[RefRule, ...]:
    """What the active rulesets let no push do.

    Args:
        default_branch: what "~DEFAULT_BRANCH" stands for.
        page: the address of the repository's page, which refusals name.
    """
    found = []
    for ruleset in rulesets:
        refs = tuple(
            _pattern(each, default_branch) for each in ruleset["conditions"].get("ref_name", {}).get("include", [])
        )
        if ruleset["enforcement"] == "active" and refs:
            for rule in ruleset["rules"]:
                refuses, words = RULES[rule["type"]]
                found.append(RefRule(refs, refuses, _message(words, page), DECLINED))
    return tuple(found)


def _pattern(include: str, default_branch: str) -> str:
    if include == ALL:
        return f"{BRANCHES}*"
    return BRANCHES + default_branch if include == DEFAULT_BRANCH else include


def _message(words: str, page: str) -> str:
    address = f"{page}/rules?ref={quote(BRANCHES, safe='')}{{branch}}"
    head = "error: GH013: Repository rule violations found for {ref}."
    return f"{head}\nReview all repository rules at {address}\n\n- {words}\n"
