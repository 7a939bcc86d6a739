"""What changed in the template since this repository was made from it, as one pull request to dev.

`cruft update` compares the template of then and of now, each filled in with this repository's answers, and merges the
difference (https://cruft.github.io/cruft/). Here that happens in a clone of its own, on the branch template-update,
which is pushed and proposed. Where this repository has changed the same lines, the branch keeps them as they are, so
that its CI can pass, and the pull request says what the template would have there: a person decides.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipeline import InputError, remote
from pipeline.ci_systems import GitHub, GitLab, System
from pipeline.lineage import without_credentials
from pipeline.pull_requests import (
    BASE,
    BRANCH,
    LONGEST_TEXT,
    TOKEN,
    CodeCommitPulls,
    GitHubPulls,
    GitLabRequests,
    PullRequests,
    Rest,
)
from pipeline.settings import ROOT

if TYPE_CHECKING:
    from pipeline.ci import Job

STATE = ".cruft.json"
# By the address it is known which commits of the branch are this job's, and may be replaced.
AUTHOR, ADDRESS = "Modelyard template update", "template-update@modelyard.invalid"
GIT_SECONDS = 300  # for one command of git or cruft
# Of a template that only one machine has: the published one has commits of its own.
REMEDY = (
    f"In {STATE} make template the address of the published one (aws ssm get-parameter --name "
    f"/modelyard/template/url), and commit its newest one (/modelyard/template/commit); push that to {BASE} "
    "(README.md, CI)"
)


@dataclass(frozen=True)
class Conflict:
    """A file in which the template's change and this repository's own meet. hunks: what the template would change."""

    path: str
    hunks: str


@dataclass(frozen=True)
class Update:
    """What the branch brings. before, after: commits of the template. changed: git's letter and path of each file."""

    before: str
    after: str
    changed: tuple[tuple[str, str], ...]
    conflicts: tuple[Conflict, ...]

    @property
    def title(self) -> str:
        return f"Bring the template to {self.after[:12]}"


def update(job: Job) -> int:
    """Opens or refreshes the pull request; nothing when the template has nothing new. Returns the exit code.

    Can run again at any time: it goes on where it was interrupted. A branch that somebody else has pushed to is left as
    it is; when the template has gone on since, that is a fault (1).

    Raises:
        InputError: this was made without cruft's state, cruft is not installed, the template cannot be read, the
            branch cannot be pushed, or the Git host refuses; with the remedy.
    """
    address = remote.url()
    if address is None:
        raise InputError(f"there is no remote {remote.REMOTE}: the pull request is opened there")
    environment, pulls = _connect(job, address)
    with tempfile.TemporaryDirectory(prefix="modelyard-template-") as folder:
        return propose(job.system, Clone.of(address, Path(folder), environment), pulls)


def propose(system: System, clone: Clone, pulls: PullRequests | None) -> int:
    """As update. pulls: None where pull requests are opened by hand."""
    found = clone.update()
    if found is None:
        print("the template has nothing new for this repository")
        return 0
    with system.section(f"the template at {found.after[:12]}"):
        print(text(found))
    there = clone.head_of(BRANCH)
    if others := clone.others():
        if clone.template_of(there or "") == found.after:
            print(f"{BRANCH} has this already, and commits of {', '.join(others)}: it is left as it is")
            return 0
        system.fault(
            f"{BRANCH} has commits of {', '.join(others)}, and the template has gone on since: merge or close its pull "
            f"request and delete the branch (git push {remote.REMOTE} --delete {BRANCH}), then run this job again"
        )
        return 1
    commit = clone.commit(found.title)
    if there != commit:
        clone.push(there)
        print(f"pushed {BRANCH} ({commit[:12]})")
    if pulls is None:
        print(f"open a pull request from {BRANCH} to {BASE} with the text above: by hand nobody else does it here")
        return 0
    proposal = pulls.find()
    if proposal is not None:
        if (proposal.title, proposal.text) != (found.title, text(found)):
            pulls.change(proposal, found.title, text(found))
        print(f"the pull request is up to date: {proposal.url}")
    elif there == commit and pulls.was_closed(commit):
        print("its pull request was closed: it is opened again when the template, or dev, has gone on")
    else:
        print(f"opened a pull request: {pulls.create(found.title, text(found), commit)}")
    return 0


def text(found: Update) -> str:
    """What the pull request says, in Markdown; at most LONGEST_TEXT characters."""
    kinds = {"A": "new", "D": "removed", "M": "changed", "T": "changed"}
    lines = [
        f"The template that this repository was made from has changed, from `{found.before[:12]}` to "
        f"`{found.after[:12]}`. This brings what changed to `{BASE}`, with this repository's answers (`{STATE}`).",
        "",
        *(f"- `{path}`: {kinds.get(letter, 'changed')}" for letter, path in found.changed if path != STATE),
    ]
    if found.conflicts:
        names = ", ".join(f"`{one.path}`" for one in found.conflicts)
        lines += [
            "",
            "### To be decided by hand",
            "",
            f"In {names} this repository and the template have changed the same lines. The branch keeps this "
            "repository's; merged as it is, nobody will offer the following again. Where it is wanted, push it to "
            f"`{BRANCH}` before merging.",
        ]
        for one in found.conflicts:
            lines += ["", f"`{one.path}`:", "", _fenced(one.hunks)]
    whole = "\n".join(lines)
    if len(whole) <= LONGEST_TEXT:
        return whole
    end = f"\n\n(cut here: the job's log has all of it; {len(found.conflicts)} files are to be decided)"
    cut = whole[: LONGEST_TEXT - len(end) - 5]
    return cut + ("\n```" if cut.count("\n```") % 2 else "") + end


def _fenced(hunks: str) -> str:
    longest = max((len(run) for run in re.findall("`+", hunks)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}diff\n{hunks.rstrip()}\n{fence}"


def folder_of(template: str) -> Path | None:
    """The folder that an address leads to, None of what git fetches from elsewhere (https://..., git@host:name)."""
    if template.startswith("file:"):
        return Path(url2pathname(urlsplit(template).path))
    # git's own rule: host:path has its colon before any slash; one letter before it is a drive of Windows
    if "://" in template or re.match(r"[^/\\]{2,}:", template):
        return None
    return Path(template)


# --- the clone


class Clone:
    """A clone of BASE with all its history: what merges needs the files of the first commit.

    environment: with what git needs to sign in, to the repository and to the template.
    """

    def __init__(self, folder: Path, scratch: Path, environment: Mapping[str, str]) -> None:
        self.folder, self._scratch = folder, scratch
        self._environment = {**environment, "GIT_TERMINAL_PROMPT": "0"}

    @classmethod
    def of(cls, address: str, folder: Path, environment: Mapping[str, str]) -> Clone:
        clone = cls(folder / "repository", folder, environment)
        # a path is relative to this repository, and not to the clone
        origin = str(ROOT / address) if (ROOT / address).is_dir() else address
        clone._run("git", "clone", "--quiet", "--branch", BASE, origin, str(clone.folder), folder=folder)
        return clone

    def update(self) -> Update | None:
        """Merges what is new in the template into the working tree; None when nothing of it concerns this repository.

        Raises InputError when it cannot.
        """
        if not (self.folder / STATE).is_file():
            raise InputError(
                f"{BASE} has no {STATE}, which says which template this was made from: cruft link ADDRESS writes one"
            )
        if importlib.util.find_spec("cruft") is None:
            raise InputError('cruft is not installed here: pip install ".[template]"')
        template = str(self._state()["template"])
        # a relative one is what it is to cruft, which runs there
        if (folder := folder_of(template)) is not None and not (self._scratch / folder).exists():
            raise InputError(
                f"{STATE} on {BASE} names the template by a folder, {template}, which this machine does not have: this "
                f"repository was generated from a copy of it on somebody's machine. {REMEDY}"
            )
        before = self._template()
        self._cruft()
        after = self._template()
        if after == before:
            return None
        conflicts = (*self._unmerged(), *self._rejected())
        self.git("add", "--all")
        listed = self.git("diff", "--cached", "--name-status", "--no-renames", "-z").split("\0")
        changed = tuple(zip(listed[0::2], listed[1::2], strict=False))
        if not conflicts and [path for _, path in changed] == [STATE]:
            return None
        return Update(before, after, changed, conflicts)

    def _template(self) -> str:
        return str(self._state()["commit"])

    def _state(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / STATE).read_text(encoding="utf-8")))

    def _cruft(self) -> None:
        # cookiecutter would keep the answers below the home folder, and read defaults from there
        config = self._scratch / "cookiecutter.yaml"
        config.write_text(json.dumps({name: str(self._scratch / name) for name in ("cookiecutters_dir", "replay_dir")}))
        command = (sys.executable, "-m", "cruft", "update", "--skip-apply-ask", "--project-dir", str(self.folder))
        self._run(*command, folder=self._scratch, more={"COOKIECUTTER_CONFIG": str(config)})

    def _unmerged(self) -> list[Conflict]:
        """Of each file with conflicts its own side is kept where they are, and the template's everywhere else."""
        stages: dict[str, dict[str, str]] = {}
        for line in filter(None, self.git("ls-files", "--unmerged", "-z").split("\0")):
            said, _, path = line.partition("\t")
            _, blob, stage = said.split()
            stages.setdefault(path, {})[stage] = blob
        return [self._resolved(path, blobs) for path, blobs in stages.items()]

    def _resolved(self, path: str, blobs: dict[str, str]) -> Conflict:
        """blobs by stage: 1 the template's before, 2 this repository's, 3 the template's now."""
        sides = {}
        for stage in ("1", "2", "3"):
            sides[stage] = self._scratch / f"stage-{stage}"
            content = self._run("git", "cat-file", "blob", blobs[stage]) if stage in blobs else b""
            sides[stage].write_bytes(content)
        own = sides["2"].read_bytes()
        (self.folder / path).write_bytes(own)
        if "3" not in blobs:
            return Conflict(path, "The template removes this file.")
        merged = {}
        for side in ("ours", "theirs"):
            files = (str(sides[stage]) for stage in ("2", "1", "3"))
            done = self._done("git", "merge-file", "-p", f"--{side}", *files)
            if done.returncode:
                return Conflict(path, "The template changes this file, which is no text.")
            merged[side] = self._scratch / side
            merged[side].write_bytes(done.stdout)
        (self.folder / path).write_bytes(merged["ours"].read_bytes())
        return Conflict(path, self._difference(merged["ours"], merged["theirs"]))

    def _difference(self, ours: Path, theirs: Path) -> str:
        """The hunks, without the lines that name the files."""
        done = self._done("git", "diff", "--no-index", "--text", "--", str(ours), str(theirs))
        lines = done.stdout.decode(errors="replace").splitlines()
        first = next((number for number, line in enumerate(lines) if line.startswith("@@")), len(lines))
        return "\n".join(lines[first:])

    def _rejected(self) -> list[Conflict]:
        """What git could not apply: it left it beside the files, where nobody wants it."""
        found = []
        for name in filter(None, self.git("ls-files", "--others", "-z").split("\0")):
            if name.endswith(".rej"):
                path = self.folder / name
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                found.append(Conflict(name.removesuffix(".rej"), "\n".join(lines[1:])))
                path.unlink()
        return found

    def head_of(self, branch: str) -> str | None:
        """The commit that the branch has at the remote."""
        return self._asked("rev-parse", "--quiet", "--verify", f"refs/remotes/origin/{branch}")

    def template_of(self, commit: str) -> str | None:
        """The template's commit that a commit of this repository was brought to."""
        try:
            return str(json.loads(self._asked("show", f"{commit}:{STATE}") or "{}")["commit"])
        except (ValueError, KeyError, TypeError):
            return None

    def others(self) -> list[str]:
        """Who else has commits on BRANCH that are not on BASE: their addresses, sorted."""
        if self.head_of(BRANCH) is None:
            return []
        between = f"refs/remotes/origin/{BASE}..refs/remotes/origin/{BRANCH}"
        addresses = self.git("log", "--format=%ce%n%ae", between).splitlines()
        return sorted(set(addresses) - {ADDRESS})

    def commit(self, title: str) -> str:
        """The id of the commit; the same for the same changes of the same BASE."""
        date = self.git("show", "--no-patch", "--format=%cI", "HEAD")
        who = {"NAME": AUTHOR, "EMAIL": ADDRESS, "DATE": date}
        more = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in who.items()}
        command = ("git", "-c", "commit.gpgSign=false", "commit", "--quiet", "--no-verify", "--message", title)
        self._run(*command, more=more)
        return self.git("rev-parse", "HEAD")

    def push(self, there: str | None) -> None:
        """there: what BRANCH has at the remote, as it was looked at; when it has something else, nothing is pushed."""
        lease = f"--force-with-lease=refs/heads/{BRANCH}:{there or ''}"
        self._run("git", "push", "--quiet", "--no-verify", lease, "origin", f"HEAD:refs/heads/{BRANCH}")

    def git(self, *arguments: str) -> str:
        """What git says, without the last line end."""
        return self._run("git", *arguments).decode(errors="surrogateescape").strip("\n")

    def _asked(self, *arguments: str) -> str | None:
        """What git says, None where it fails: it is asked whether there is such a thing."""
        done = self._done("git", *arguments)
        return None if done.returncode else done.stdout.decode(errors="replace").strip()

    def _run(self, *command: str, folder: Path | None = None, more: Mapping[str, str] | None = None) -> bytes:
        """What the command says. Raises InputError when it fails."""
        done = self._done(*command, folder=folder, more=more)
        if done.returncode:
            raise InputError(_failure(command, done))
        return done.stdout

    def _done(
        self, *command: str, folder: Path | None = None, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        environment = {**self._environment, **(more or {})}
        try:
            return subprocess.run(
                command,
                cwd=folder or self.folder,
                env=environment,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=GIT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"{_named(command)} did not end within {GIT_SECONDS} seconds: run this again") from None


def _failure(command: Iterable[str], done: subprocess.CompletedProcess[bytes]) -> str:
    """What failed, in its own words, and who can help."""
    said = (done.stderr or done.stdout).decode(errors="replace").strip()
    words = without_credentials("\n".join(said.splitlines()[-10:]))
    return (
        f"{_named(command)} failed:\n{words}\nThis job reads this repository and the template's, and pushes {BRANCH} "
        "(README.md, CI, says what lets it)"
    )


def _named(command: Iterable[str]) -> str:
    words = [word for word in command if not word.startswith("-")]
    return " ".join(words[1:3] if words[0] == sys.executable else words[:2])


# --- the Git host


def _connect(job: Job, address: str) -> tuple[Mapping[str, str], PullRequests | None]:
    """What git signs in with, and where pull requests are; None where that is not known."""
    system, environment = job.system, job.system.environment
    if isinstance(system, GitHub):
        # by the variables that system.git_environment sets for the job's own token
        signed_in = GitHub({**environment, "GITHUB_TOKEN": _token(system, GITHUB_TOKEN)})
        repository = system.need("GITHUB_REPOSITORY")
        rest = Rest(system.need("GITHUB_API_URL"), {"Authorization": f"Bearer {signed_in.environment['GITHUB_TOKEN']}"})
        return signed_in.git_environment(), GitHubPulls(rest, repository)
    if isinstance(system, GitLab):
        token = _token(system, GITLAB_TOKEN)
        rest = Rest(system.need("CI_API_V4_URL"), {"PRIVATE-TOKEN": token})
        return _gitlab_environment(environment, token), GitLabRequests(rest, system.need("CI_PROJECT_ID"))
    if match := re.search(r"/v1/repos/([\w.-]+)$", address):
        return system.git_environment(), CodeCommitPulls(job.session, match[1])
    return system.git_environment(), None


GITHUB_TOKEN = (
    "a fine-grained token of an account for machines, for this repository (contents, pull requests and workflows: read "
    "and write) and the template's (contents: read), as a secret of the environment template, which dev alone may "
    "use: GitHub's own GITHUB_TOKEN may neither read another private repository nor push workflow files"
)
GITLAB_TOKEN = (
    "a project access token (role Developer, scopes api and write_repository) as a masked and protected variable of "
    "the project, which the template's project lets in too: the job's own token may not push"
)


def _token(system: System, what: str) -> str:
    token = system.environment.get(TOKEN)
    if not token:
        raise InputError(f"{TOKEN} is not set: make {what} (README.md, CI)")
    return token


def _gitlab_environment(environment: Mapping[str, str], token: str) -> dict[str, str]:
    """With the token instead of the job's own, which stands in the address of origin."""
    basic = base64.b64encode(f"oauth2:{token}".encode()).decode()
    server, project = environment["CI_SERVER_URL"], environment["CI_PROJECT_URL"]
    settings = {
        f"http.{server}/.extraheader": f"Authorization: Basic {basic}",
        f"url.{project}.git.insteadOf": environment["CI_REPOSITORY_URL"],
    }
    found = {**environment, "GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return found
