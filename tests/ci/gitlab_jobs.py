"""Runs the jobs of a .gitlab-ci.yml on this machine, as far as the template's own goes; anything else is an error.

https://docs.gitlab.com/ci/yaml/ and https://docs.gitlab.com/ci/variables/predefined_variables/. Jobs run one after the
other in an environment of their own, each from its own checkout, with the variables that GitLab would set.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from local_aws.builds.workspace import Toolbox, Workspace

NO_COMMIT = "0" * 40
DEFAULT = "prod"  # the default branch
KEYWORDS = {"workflow", "stages", "variables", "default"}
INHERITED = ("image", "interruptible", "cache", "id_tokens", "before_script")
KNOWN = {*INHERITED, "stage", "rules", "script", "artifacts", "extends", "environment", "variables"}
TOKEN = re.compile(r'\s*(?:(?P<sign>&&|\|\||==|!=|=~|[()])|\$(?P<name>\w+)|"(?P<text>[^"]*)"|/(?P<regex>[^/]+)/)')
SPLIT_BY = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Done:
    """A job that ran.

    Args:
        code: exit code of its script.
        output: what it printed.
        artifacts: the files that it leaves, by path.
    """

    name: str
    code: int
    output: str
    artifacts: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class GitLab:
    """A project of a GitLab server.

    Args:
        origin: its repository.
        folder: for the jobs' folders.
        settings: variables of the project, such as {"MODELYARD_CI_ROLE_DEV": arn}.
        endpoint, runtime_endpoint: where AWS is.
        token: a job's identity token, by the ref of its pipeline and the audience.
        toolbox: the programs that jobs find.
    """

    origin: Path
    folder: Path
    settings: Mapping[str, str]
    endpoint: str
    runtime_endpoint: str
    token: Callable[[str, str], str]
    toolbox: Toolbox

    def push(self, branch: str, before: str = NO_COMMIT) -> list[Done]:
        """The pipeline of a push to the branch. before: its commit until then."""
        return self._pipeline(branch, pushed(branch, before))

    def merge_request(self, source: str, target: str) -> list[Done]:
        return self._pipeline(source, merge_request(source, target))

    def delete(self, branch: str) -> list[Done]:
        """What GitLab does when a branch is deleted: it stops the environment that the branch's job had opened."""
        found, variables = self._jobs(branch), self._variables(branch, pushed(branch))
        subprocess.run(["git", "update-ref", "-d", f"refs/heads/{branch}"], cwd=self.origin, check=True)
        opened = next(job for job in found.values() if "on_stop" in job.get("environment", {}))
        name = opened["environment"]["on_stop"]
        environment = found[name]["environment"]
        assert environment["action"] == "stop"
        assert expanded(environment["name"], variables) == expanded(opened["environment"]["name"], variables)
        assert applies(found[name]["rules"], variables) == "manual"
        return [self._run(name, found[name], {**variables, "CI_ENVIRONMENT_ACTION": "stop"})]

    def jobs_for(self, branch: str, event: Mapping[str, str]) -> list[str]:
        """The jobs of the branch's file that an event starts, in order; none when it starts no pipeline."""
        content, variables = self._content(branch), self._variables(branch, event)
        if applies(content["workflow"]["rules"], variables) is None:
            return []
        jobs = self._jobs(branch)
        chosen = [name for name, job in jobs.items() if applies(job["rules"], variables) == "on_success"]
        return sorted(chosen, key=lambda name: content["stages"].index(jobs[name]["stage"]))

    def _pipeline(self, branch: str, event: Mapping[str, str]) -> list[Done]:
        done: list[Done] = []
        for name in self.jobs_for(branch, event):
            done.append(self._run(name, self._jobs(branch)[name], self._variables(branch, event)))
            if done[-1].code:
                break
        return done

    def _run(self, name: str, job: Mapping[str, Any], variables: Mapping[str, str]) -> Done:
        number = sum(1 for _ in self.folder.iterdir())
        workspace = Workspace(self.folder / f"job-{number}", self.toolbox)
        own = job.get("variables", {})
        if own.get("GIT_STRATEGY") == "none":
            workspace.source.mkdir()
        else:
            git(workspace.folder, "clone", "--quiet", str(self.origin), str(workspace.source))
            git(workspace.source, "checkout", "--quiet", "--detach", variables["CI_COMMIT_SHA"])
        environment = {**workspace.environment(self.endpoint, self.runtime_endpoint), **variables}
        environment |= {"CI_PROJECT_DIR": str(workspace.source), "CI_JOB_ID": str(number), "CI_JOB_TOKEN": "job-token"}
        environment |= {"CI_JOB_URL": f"https://gitlab.example.com/acme/churn/-/jobs/{number}"}
        for variable, wanted in job["id_tokens"].items():
            environment[variable] = self.token(f"refs/heads/{variables['CI_COMMIT_REF_NAME']}", wanted["aud"])
        settings = {**self._content(variables["CI_COMMIT_REF_NAME"])["variables"], **own}
        environment |= {key: expanded(value, environment) for key, value in settings.items()}
        # one shell for both, which ends with the first command that fails
        script = "\n".join([*job["before_script"], *job["script"]])
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=workspace.source,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        left = {
            path.relative_to(workspace.source).as_posix(): path.read_bytes()
            for pattern in job.get("artifacts", {}).get("paths", [])
            for path in sorted((workspace.source / pattern).rglob("*"))
        }
        workspace.remove()
        return Done(name, done.returncode, done.stdout, left)

    def _variables(self, branch: str, event: Mapping[str, str]) -> dict[str, str]:
        return {
            **self.settings,
            "CI": "true",
            "GITLAB_CI": "true",
            "CI_COMMIT_REF_NAME": branch,
            "CI_COMMIT_REF_SLUG": SPLIT_BY.sub("-", branch.lower())[:63].strip("-"),
            "CI_COMMIT_SHA": git(self.origin, "rev-parse", f"refs/heads/{branch}"),
            "CI_COMMIT_MESSAGE": git(self.origin, "log", "-1", "--format=%B", f"refs/heads/{branch}"),
            "CI_DEFAULT_BRANCH": DEFAULT,
            "CI_REPOSITORY_URL": str(self.origin),
            **event,
        }

    def _content(self, branch: str) -> dict[str, Any]:
        """The file as the branch has it; of a job whose branch is gone, as the default branch has it."""
        known = git(self.origin, "branch", "--list", branch)
        return dict(yaml.safe_load(git(self.origin, "show", f"{branch if known else DEFAULT}:.gitlab-ci.yml")))

    def _jobs(self, branch: str) -> dict[str, dict[str, Any]]:
        """By name, with what they take from `default` and from the jobs that they extend."""
        content = self._content(branch)
        default = content["default"]
        assert default.keys() <= set(INHERITED)
        jobs = {}
        for name, job in content.items():
            if name in KEYWORDS or name.startswith("."):
                continue
            assert job.keys() <= KNOWN, f"{name}: {job.keys() - KNOWN}"
            jobs[name] = {**default, **content.get(job.get("extends"), {}), **job}
        return jobs


def pushed(branch: str, before: str = NO_COMMIT) -> dict[str, str]:
    return {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": branch, "CI_COMMIT_BEFORE_SHA": before}


def merge_request(source: str, target: str) -> dict[str, str]:
    return {
        "CI_PIPELINE_SOURCE": "merge_request_event",
        "CI_MERGE_REQUEST_IID": "1",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": source,
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": target,
        "CI_COMMIT_BEFORE_SHA": NO_COMMIT,
    }


def scheduled(branch: str) -> dict[str, str]:
    """A pipeline schedule of the branch."""
    return {"CI_PIPELINE_SOURCE": "schedule", "CI_COMMIT_BRANCH": branch}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """`$NAME` replaced by its value."""
    return re.sub(r"\$(\w+)", lambda match: variables.get(match[1], ""), text)


def applies(rules: list[dict[str, Any]], variables: Mapping[str, str]) -> str | None:
    """`when` of the first rule that holds; None when none does: the job, or the pipeline, is left out."""
    for rule in rules:
        assert rule.keys() <= {"if", "when", "allow_failure"}, rule
        if _Condition(rule["if"], variables).holds():
            return str(rule.get("when", "on_success"))
    return None


class _Condition:
    """$A == "b" && ($C =~ /^d/ || $E != "f"): https://docs.gitlab.com/ci/jobs/job_rules/#cicd-variable-expressions."""

    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._left = list(self._tokens(text))

    def holds(self) -> bool:
        found = self._either()
        assert not self._left, f"{self._left} is left of a condition"
        return found

    def _tokens(self, text: str) -> Iterator[tuple[str, str]]:
        at = 0
        while at < len(text.rstrip()):
            match = TOKEN.match(text, at)
            assert match, f"{text[at:]!r} is not understood"
            yield str(match.lastgroup), match[str(match.lastgroup)]
            at = match.end()

    def _either(self) -> bool:
        found = self._both()
        while self._left[:1] == [("sign", "||")]:
            self._left.pop(0)
            found = self._both() or found
        return found

    def _both(self) -> bool:
        found = self._one()
        while self._left[:1] == [("sign", "&&")]:
            self._left.pop(0)
            found = self._one() and found
        return found

    def _one(self) -> bool:
        kind, text = self._left.pop(0)
        assert kind == "name", f"a variable is expected, not {text!r}"
        value = self._variables.get(text)
        if self._left[:1] not in ([("sign", "==")], [("sign", "!=")], [("sign", "=~")]):
            return bool(value)
        sign, (kind, wanted) = self._left.pop(0)[1], self._left.pop(0)
        if sign == "=~":
            assert kind == "regex"
            return value is not None and re.search(wanted, value) is not None
        assert kind == "text"
        return (value == wanted) is (sign == "==")
