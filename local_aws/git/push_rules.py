"""What a push may not do, as data; and the two hooks that enforce it, which run this file as a program.

Git runs hooks/pre-receive when the objects of a push have arrived and before any ref changes. What it prints, the
client shows as "remote: ..."; the push is taken as a whole or not at all: https://git-scm.com/docs/githooks#pre-receive.
Rules that have a reason are enforced ref by ref: hooks/proc-receive refuses those that break one, with the rule's
reason, and leaves the others to Git: https://git-scm.com/docs/githooks#proc-receive.
As a program this file has the standard library alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path

NOTHING = "0" * 40  # the id that Git gives a ref that is not (before its creation, after its deletion)
RULES_VARIABLE = "LOCAL_AWS_PUSH_RULES"  # names the file in which the hook finds the rules, as JSON

CREATE, FAST_FORWARD, FORCE, DELETE = "create", "fast-forward", "force", "delete"
ANYTHING = (CREATE, FAST_FORWARD, FORCE, DELETE)


@dataclass(frozen=True)
class RefUpdate:
    """A ref that a push makes, moves or deletes.

    Args:
        ref: its full name, such as "refs/heads/dev".
        before, after: the ids that it held and holds; 40 zeros when it is new or deleted.
    """

    ref: str
    before: str
    after: str


@dataclass(frozen=True)
class RefRule:
    """What may not be done to some refs.

    Args:
        refs: patterns of full names, such as "refs/heads/prod" or "refs/heads/release-*"; * matches slashes too.
        refuses: of "create", "fast-forward", "force" (a move that leaves commits behind) and "delete".
        message: what the client is told; {ref} is the ref's full name and {branch} its name without refs/heads/.
        reason: what stands beside the ref in the push's report, "! [remote rejected] prod -> prod (<reason>)"; without
            one Git's own words do, and the push is refused as a whole.
    """

    refs: tuple[str, ...]
    refuses: tuple[str, ...]
    message: str
    reason: str = ""

    def __post_init__(self) -> None:
        if unknown := set(self.refuses) - set(ANYTHING):
            names = ", ".join(sorted(unknown))
            raise ValueError(f"A rule cannot refuse {names}: give create, fast-forward, force, delete.")


@dataclass(frozen=True)
class PathRule:
    """Files that no commit that is new to the repository may make, change or delete.

    Args:
        prefix: of their paths, such as ".github/workflows/"; also the name of a single file.
        message: what the client is told; {ref} and {path} are the ref and the first such file. It may be empty.
        reason: as that of a RefRule, with {path}.
    """

    prefix: str
    message: str
    reason: str = ""


@dataclass(frozen=True)
class PushRules:
    """What a push may not do. Without rules it may do everything that Git allows."""

    refs: tuple[RefRule, ...] = ()
    paths: tuple[PathRule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.refs or self.paths)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PushRules:
        data = json.loads(text)
        return cls(
            tuple(
                RefRule(**rule | {"refs": tuple(rule["refs"]), "refuses": tuple(rule["refuses"])})
                for rule in data["refs"]
            ),
            tuple(PathRule(**rule) for rule in data["paths"]),
        )

    def refusal(self, update: RefUpdate, kind: str) -> str | None:
        """Why an update of a ref is refused; None when the rules about refs let it be.

        Args:
            kind: "create", "fast-forward", "force" or "delete".
        """
        return next((_about(update, rule.message) for rule in self.broken(update, kind)), None)

    def broken(self, update: RefUpdate, kind: str) -> list[RefRule]:
        """The rules about refs that an update breaks."""
        return [
            rule
            for rule in self.refs
            if kind in rule.refuses and any(fnmatchcase(update.ref, pattern) for pattern in rule.refs)
        ]

    def with_reason(self, wanted: bool) -> PushRules:
        """The rules that have a reason of their own, or the others."""
        return PushRules(
            tuple(rule for rule in self.refs if bool(rule.reason) == wanted),
            tuple(rule for rule in self.paths if bool(rule.reason) == wanted),
        )

    @property
    def settings(self) -> dict[str, str]:
        """Git's settings for a push that is held to these rules."""
        return {"receive.procReceiveRefs": "refs"} if self.with_reason(True) else {}


@dataclass(frozen=True)
class _Refusal:
    message: str
    reason: str


def main() -> int:
    rules = PushRules.from_json(Path(os.environ[RULES_VARIABLE]).read_text())
    if sys.argv[1:] == ["proc-receive"]:
        return _proc_receive(rules.with_reason(True))
    return _pre_receive(rules.with_reason(False))


def _pre_receive(rules: PushRules) -> int:
    """Lines "<before> <after> <ref>" come on standard input, in the quarantine of the push."""
    refusals = []
    for line in sys.stdin:
        before, after, ref = line.rstrip("\n").split(" ", 2)
        refusals += _refusals(rules, RefUpdate(ref, before, after))
    for text in dict.fromkeys(refusal.message for refusal in refusals):
        print(text)
    return 1 if refusals else 0


def _proc_receive(rules: PushRules) -> int:
    """A conversation in pkt-lines: versions and features, the push's commands, what becomes of each."""
    features = b"".join(_packets()).partition(b"\0")[2].split()
    _send(b"version=1\0")
    _flush()
    updates = []
    for line in _packets():
        before, after, ref = os.fsdecode(line.rstrip(b"\n")).split(" ", 2)
        updates.append(RefUpdate(ref, before, after))
    refused = {update.ref: _refusals(rules, update) for update in updates}
    for text in dict.fromkeys(each.message for refusals in refused.values() for each in refusals if each.message):
        print(text, file=sys.stderr)
    for update in updates:
        name = os.fsencode(update.ref)
        if refusals := refused[update.ref]:
            reason = " ".join(refusals[0].reason.split())  # a line: a file's name may have others in it
            _send(b"ng %s %s" % (name, reason.encode()))
        elif b"atomic" in features and any(refused.values()):
            _send(b"ng %s atomic push failure" % name)
        else:
            _send(b"ok %s" % name)
            _send(b"option fall-through")  # Git does with it what it does without a hook
    _flush()
    return 0


def _packets() -> Iterator[bytes]:
    """The pkt-lines on standard input until a flush packet: https://git-scm.com/docs/protocol-common."""
    while length := int(sys.stdin.buffer.read(4), 16):
        yield sys.stdin.buffer.read(length - 4)


def _send(line: bytes) -> None:
    sys.stdout.buffer.write(b"%04x%s" % (len(line) + 4, line))


def _flush() -> None:
    sys.stdout.buffer.write(b"0000")
    sys.stdout.buffer.flush()


def _refusals(rules: PushRules, update: RefUpdate) -> list[_Refusal]:
    found = [_Refusal(_about(update, rule.message), rule.reason) for rule in rules.broken(update, _kind(update))]
    paths = _path_refusal(rules, update)
    return [*found, paths] if paths else found


def _kind(update: RefUpdate) -> str:
    if update.after == NOTHING:
        return DELETE
    if update.before == NOTHING:
        return CREATE
    # A branch moves forward when what it held is an ancestor of what it will hold; a tag that moves never does.
    command = ["git", "merge-base", "--is-ancestor", update.before, update.after]
    ancestor = update.ref.startswith("refs/heads/") and subprocess.run(command, capture_output=True).returncode == 0
    return FAST_FORWARD if ancestor else FORCE


def _path_refusal(rules: PushRules, update: RefUpdate) -> _Refusal | None:
    if update.after == NOTHING:
        return None
    for rule in rules.paths:
        path = f":(literal){rule.prefix.rstrip('/')}"
        # What the repository has was let in before.
        found = _git("rev-list", "--full-history", "--max-count=1", update.after, "--not", "--all", "--", path)
        if found:
            files = _git("diff-tree", "-z", "--root", "--no-commit-id", "-r", "-m", "--name-only", found, "--", path)
            path = files.split("\0")[0]
            return _Refusal(_filled(rule.message, ref=update.ref, path=path), _filled(rule.reason, path=path))
    return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, check=True)
    return done.stdout.decode(errors="replace").strip("\n")


def _about(update: RefUpdate, message: str) -> str:
    return _filled(message, ref=update.ref, branch=update.ref.removeprefix("refs/heads/"))


def _filled(message: str, **values: str) -> str:
    """Not str.format: a client's text is no format, and a message may have other braces."""
    for name, value in values.items():
        message = message.replace(f"{{{name}}}", value)
    return message


if __name__ == "__main__":
    sys.exit(main())
