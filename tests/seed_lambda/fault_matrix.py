"""Creating, updating and deleting a project, and every call of it failed in every way that a call fails.

A scenario is run once undisturbed, which tells its calls and how it ends; then once more for each call and each kind
of fault. CloudFormation and Lambda do around it what they do: they call again what was killed, take back what failed,
and somebody deletes again what could not be deleted; a creation is given up while the function is still at it; in the
end every event comes once more. However it was disturbed: everything is there as in the undisturbed run, or nothing of
it is; what is somebody else's is as it was; nothing secret was said.

A fault of the Git host may last, too: then a roll-back may fail, and somebody deletes again when the host is well.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.faulty_calls import Call, Fault
from tests.seed_lambda.account import GIVEN_UP, KINDS, LASTING, Account
from tests.seed_lambda.requests import VERSION
from tests.seed_lambda.small_template import ARCHIVE, LARGE_ARCHIVE

# All that an update may change.
CHANGES = {
    "Description": "Who leaves within a year",
    "Scenario": "advanced",
    "ModelRole": "another-model",
    "CiVariables": {"AWS_REGION": "eu-west-1", "NEW": "1"},
}


def created(account: Account) -> None:
    account.begin()
    account.create()


def created_empty(account: Account) -> None:
    account.begin()
    account.create(InitialContent="empty", Scenario="advanced")


def updated(account: Account) -> None:
    assert account.create()
    account.begin()
    account.update({}, CHANGES)


def updated_taken_back(account: Account) -> None:
    """The function had done its part when another resource failed."""
    assert account.create()
    before, after = account.project(), account.project(**CHANGES)
    assert account.request("Update", "UPDATE_IN_PROGRESS", after, OldResourceProperties=before)
    account.begin()
    account.take_back(before, after)
    if account.silent:  # what could not be taken back the next update finishes
        account.silent = ""
        assert account.request("Update", "UPDATE_IN_PROGRESS", after, OldResourceProperties=before)
        account.take_back(before, after)


def pushed(account: Account) -> None:
    """The person has pushed into the empty repository; then the stack says so."""
    assert account.create(InitialContent="empty")
    push(account, "prod", "dev")
    account.begin()
    account.update({"InitialContent": "empty"}, {"InitialContent": "pushed"})


def created_in_parts(account: Account) -> None:
    """Of more files than CodeCommit takes in one commit."""
    account.put_template(VERSION, LARGE_ARCHIVE)
    account.begin()
    account.create()


def published(account: Account) -> None:
    account.put_template("1.0", ARCHIVE)
    account.begin()
    account.publish("Create", "1.0")


def published_anew(account: Account) -> None:
    account.put_template("1.0", ARCHIVE)
    account.put_template("2.0", LARGE_ARCHIVE)
    assert account.publish("Create", "1.0")
    account.begin()
    account.publish("Update", "2.0", "1.0")


def deleted(account: Account) -> None:
    assert account.create()
    account.add_life()
    account.begin()
    account.delete()


def deleted_with_its_repository(account: Account) -> None:
    assert account.create()
    account.add_life()
    account.begin()
    account.delete(OnDelete="delete")


def deleted_twice(account: Account) -> None:
    assert account.create()
    assert account.delete(OnDelete="delete")
    account.begin()
    account.delete(OnDelete="delete")


def deleted_before_its_stack_was_complete(account: Account) -> None:
    """The function had done its part when somebody deleted the stack."""
    assert account.create()
    account.aws.stack_events = ("CREATE_IN_PROGRESS", "DELETE_IN_PROGRESS")
    account.begin()
    account.delete()


SCENARIOS: dict[str, Callable[[Account], None]] = {
    scenario.__name__: scenario
    for scenario in (
        created,
        created_empty,
        created_in_parts,
        published,
        published_anew,
        updated,
        updated_taken_back,
        pushed,
        deleted,
        deleted_with_its_repository,
        deleted_twice,
        deleted_before_its_stack_was_complete,
    )
}
HOSTS = ("codecommit", "github")


def push(account: Account, *branches: str) -> None:
    """What a person does with git."""
    if account.host == "codecommit":
        content = [{"filePath": "README.md", "fileContent": b"mine", "fileMode": "NORMAL"}]
        commit = account.aws.create_commit("churn", branches[0], content, "ada", "ada@example.com", "x")["commitId"]
        for branch in branches[1:]:
            account.aws.create_branch("churn", branch, commit)
        return
    from seed_lambda.hosts import File
    from seed_lambda.hosts.git_push import commit_of

    made = commit_of({"README.md": File(b"mine")}, "x", 0)
    stored = account.github.repositories["churn"].git
    for one in made.objects:
        stored.object_store.add_object(one)
    for branch in branches:
        stored.refs[f"refs/heads/{branch}".encode()] = made.commit.encode()


@dataclass(frozen=True)
class Undisturbed:
    """How a scenario goes by itself: its calls, what was before it began to count, and how it ends."""

    calls: tuple[Call, ...]
    before: dict[str, Any]
    end: dict[str, Any]


def run(scenario: str, host: str, fault: Fault | None) -> tuple[Account, dict[str, Any]]:
    """The account afterwards, and the state when the scenario began to count.

    Raises AssertionError when a roll-back or a second deletion fails, or an event that comes again changes something.
    """
    account = Account(host, fault)
    before: dict[str, Any] = {}
    begin = account.begin

    def noted() -> None:
        before.update(account.state())
        begin()

    account.begin = noted  # type: ignore[method-assign]
    with account.running():
        SCENARIOS[scenario](account)
        assert not (changed := account.hear_again()), changed
    return account, before


@cache
def undisturbed(scenario: str, host: str) -> Undisturbed:
    account, before = run(scenario, host, None)
    assert all(account.outcomes), account.answers
    assert not account.faults(), account.faults()
    return Undisturbed(tuple(account.made), before, account.state())


def cases(scenario: str, host: str) -> Iterator[Fault]:
    for call in undisturbed(scenario, host).calls:
        given_up = GIVEN_UP if scenario.startswith("created") else ()
        lasting = LASTING if call.service == host and not scenario.startswith("deleted") else ()
        for kind in (*KINDS, *given_up, *lasting):
            yield Fault(call, kind)


def faults_of(scenario: str, host: str, fault: Fault) -> list[str]:
    """What is not as it should be, after this fault."""
    expected = undisturbed(scenario, host)
    try:
        account, _ = run(scenario, host, fault)
    except AssertionError as error:
        return [f"{type(error).__name__}: {error}"]
    found = account.faults()
    if not account.hit:
        found.append("the call was not made")
    if scenario.startswith("deleted") and fault.kind in ("error", "throttled") and not all(account.outcomes):
        found.append(f"somebody had to delete again what passes by itself: {account.answers}")
    end = account.state()
    whole = scenario.startswith(("deleted", "published")) or scenario == "updated_taken_back"
    ends = [expected.end] if whole else [expected.end, expected.before]
    if scenario == "pushed":
        ends.append(_with_default_branch(expected.before, host))
    if end not in ends:
        found += [
            f"{what}: {end[what]} instead of {[one[what] for one in ends]}"
            for what in end
            if all(end[what] != one[what] for one in ends)
        ] or ["neither all of it nor nothing"]
    elif not whole and fault.kind not in LASTING:
        # what came after it was a roll-back; of an update, a creation came before it
        heard = account.outcomes[0 if scenario.startswith("created") else 1]
        if heard != (end == expected.end):
            found.append(f"CloudFormation heard {account.outcomes}, and it is otherwise")
    elif not scenario.startswith("created") and end != expected.end:
        found.append(f"{fault.kind}: not all of it when the host was well again: {account.outcomes}")
    return found


def _with_default_branch(state: dict[str, Any], host: str) -> dict[str, Any]:
    """What the person pushed is theirs: a default branch that was set already is not taken back."""
    changed = copy.deepcopy(state)
    if host == "github":
        changed["github"]["churn"]["default"] = "dev"
    else:
        changed["codecommit"]["churn"]["metadata"]["defaultBranch"] = "dev"
    return changed
