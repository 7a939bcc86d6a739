"""CodeCommit's pull requests, merges and comments, as clients meet them; IAM is enforced."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.clients import refused
from tests.local_aws.git_clients import Git
from tests.local_aws.lambda_requests import Parts
from tests.local_aws.people import Person, allow

ARN = "arn:aws:codecommit:us-east-1:123456789012:"
ROOT = "arn:aws:iam::123456789012:root"
LINES = "".join(f"line {number}\n" for number in range(20)).encode()
SLOW = pytest.mark.slow
# One way to merge is tried quickly, the others are alike.
MERGES = ("squash", *(pytest.param(each, marks=SLOW) for each in ("fast_forward", "three_way")))


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as server:
        yield server


@pytest.fixture(scope="module")
def codecommit(aws: LocalAWS) -> Any:
    return aws.client("codecommit")


class Repository:
    """A repository with a branch prod, which has a file readme.md, and a branch dev at the same commit."""

    def __init__(self, codecommit: Any, name: str) -> None:
        self.codecommit, self.name = codecommit, name
        self.url = codecommit.create_repository(repositoryName=name)["repositoryMetadata"]["cloneUrlHttp"]
        self.first = self.commit("prod", readme_md=LINES)
        codecommit.create_branch(repositoryName=name, branchName="dev", commitId=self.first)

    def commit(self, branch: str, **files: bytes | None) -> str:
        """A commit of files (in names "_" stands for a dot), None deletes one; its id."""
        named = {path.replace("_", "."): content for path, content in files.items()}
        puts = [{"filePath": path, "fileContent": content} for path, content in named.items() if content is not None]
        deletes = [{"filePath": path} for path, content in named.items() if content is None]
        parent = {"parentCommitId": self.tip(branch)} if branch in self.branches() else {}
        request = {"repositoryName": self.name, "branchName": branch, "putFiles": puts, "deleteFiles": deletes}
        return self.codecommit.create_commit(**request, **parent)["commitId"]

    def branches(self) -> list[str]:
        return self.codecommit.list_branches(repositoryName=self.name)["branches"]

    def tip(self, branch: str) -> str:
        return self.codecommit.get_branch(repositoryName=self.name, branchName=branch)["branch"]["commitId"]

    def about(self, commit: str) -> dict[str, Any]:
        return self.codecommit.get_commit(repositoryName=self.name, commitId=commit)["commit"]

    def content(self, branch: str, path: str) -> bytes:
        found = self.codecommit.get_file(repositoryName=self.name, commitSpecifier=branch, filePath=path)
        return found["fileContent"]

    def pull_request(self, source: str = "dev", destination: str = "prod", **more: str) -> dict[str, Any]:
        target = {"repositoryName": self.name, "sourceReference": source, "destinationReference": destination}
        return self.codecommit.create_pull_request(**{"title": "Release", "targets": [target], **more})["pullRequest"]

    def merge(self, number: str, how: str, **more: Any) -> dict[str, Any]:
        call = getattr(self.codecommit, f"merge_pull_request_by_{how}")
        return call(pullRequestId=number, repositoryName=self.name, **more)["pullRequest"]


@pytest.fixture
def repository(codecommit: Any, request: pytest.FixtureRequest) -> Repository:
    return Repository(codecommit, re.sub(r"[^\w.-]+", "-", request.node.name)[-90:])


# --- pull requests


def test_a_pull_request_says_what_would_be_merged_where(codecommit, repository):
    tip = repository.commit("dev", more_md=b"more")
    made = repository.pull_request(description="Two files", clientRequestToken="once")
    assert (made["pullRequestStatus"], made["authorArn"], made["title"]) == ("OPEN", ROOT, "Release")
    assert made["pullRequestTargets"] == [
        {
            "repositoryName": repository.name,
            "sourceReference": "refs/heads/dev",
            "destinationReference": "refs/heads/prod",
            "sourceCommit": tip,
            "destinationCommit": repository.first,
            "mergeBase": repository.first,
            "mergeMetadata": {"isMerged": False},
        }
    ]
    assert codecommit.get_pull_request(pullRequestId=made["pullRequestId"])["pullRequest"] == made
    assert repository.pull_request(description="Two files", clientRequestToken="once") == made
    code, _ = refused(lambda: repository.pull_request(description="Others", clientRequestToken="once"))
    assert code == "IdempotencyParameterMismatchException"


@pytest.mark.slow
def test_without_a_destination_it_is_the_default_branch(codecommit, repository):
    target = {"repositoryName": repository.name, "sourceReference": "refs/heads/dev"}
    made = codecommit.create_pull_request(title="Release", targets=[target])["pullRequest"]
    assert made["pullRequestTargets"][0]["destinationReference"] == "refs/heads/prod"


def test_what_no_pull_request_can_be_between_is_refused(aws, repository, tmp_path):
    work = Git(tmp_path, aws.environment | aws.git_environment).clone(repository.url, tmp_path / "work")
    work("push", "origin", "HEAD:refs/tags/v1")
    wrong = {
        ("dev", "dev"): "SourceAndDestinationAreSameException",
        ("gone", "prod"): "ReferenceDoesNotExistException",
        ("dev", "refs/heads/gone"): "ReferenceDoesNotExistException",
        ("v1", "prod"): "ReferenceTypeNotSupportedException",
    }
    found = {sides: refused(partial(repository.pull_request, *sides))[0] for sides in wrong}
    assert found == wrong


def test_what_is_given_wrongly_has_the_names_of_the_reference(codecommit, repository):
    targets = [{"repositoryName": repository.name, "sourceReference": "dev"}] * 2
    calls = {
        "InvalidTargetsException": lambda: codecommit.create_pull_request(title="Two", targets=targets),
        "InvalidTitleException": lambda: repository.pull_request(title="x" * 151),
        "InvalidDescriptionException": lambda: repository.pull_request(description="x" * 10241),
        "PullRequestDoesNotExistException": lambda: codecommit.get_pull_request(pullRequestId="next"),
        "RepositoryDoesNotExistException": lambda: codecommit.list_pull_requests(repositoryName="nowhere"),
        "InvalidContinuationTokenException": lambda: codecommit.list_pull_requests(
            repositoryName=repository.name, nextToken="?"
        ),
    }
    assert {name: refused(call)[0] for name, call in calls.items()} == {name: name for name in calls}


def test_pull_requests_are_listed_by_status_and_author_the_newest_first(codecommit, repository):
    numbers = [repository.pull_request()["pullRequestId"] for _ in range(3)]
    codecommit.update_pull_request_status(pullRequestId=numbers[1], pullRequestStatus="CLOSED")

    def listed(**how: Any) -> list[str]:
        return codecommit.list_pull_requests(repositoryName=repository.name, **how)["pullRequestIds"]

    assert listed() == numbers[::-1]
    assert listed(pullRequestStatus="OPEN") == [numbers[2], numbers[0]]
    assert listed(pullRequestStatus="CLOSED", authorArn=ROOT) == [numbers[1]]
    assert listed(authorArn="arn:aws:iam::123456789012:user/nobody") == []
    pages = codecommit.get_paginator("list_pull_requests").paginate(
        repositoryName=repository.name, PaginationConfig={"PageSize": 2}
    )
    assert [page["pullRequestIds"] for page in pages] == [[numbers[2], numbers[1]], [numbers[0]]]


def test_an_open_one_can_be_changed_and_a_closed_one_stays_as_it_was(codecommit, repository):
    number = repository.pull_request()["pullRequestId"]
    codecommit.update_pull_request_title(pullRequestId=number, title="Another")
    changed = codecommit.update_pull_request_description(pullRequestId=number, description="Why")["pullRequest"]
    assert (changed["title"], changed["description"]) == ("Another", "Why")
    reopening = {"pullRequestId": number, "pullRequestStatus": "OPEN"}
    invalid = "InvalidPullRequestStatusUpdateException"
    assert refused(lambda: codecommit.update_pull_request_status(**reopening))[0] == invalid
    closed = codecommit.update_pull_request_status(pullRequestId=number, pullRequestStatus="CLOSED")["pullRequest"]
    repository.commit("dev", more_md=b"more")
    assert codecommit.get_pull_request(pullRequestId=number)["pullRequest"] == closed
    assert refused(lambda: codecommit.update_pull_request_status(**reopening))[0] == invalid
    for call in (
        lambda: codecommit.update_pull_request_title(pullRequestId=number, title="Late"),
        lambda: repository.merge(number, "squash"),
    ):
        assert refused(call)[0] == "PullRequestAlreadyClosedException"


def test_a_push_to_the_source_moves_an_open_one(codecommit, repository):
    made = repository.pull_request()
    tip = repository.commit("dev", more_md=b"more")
    moved = codecommit.get_pull_request(pullRequestId=made["pullRequestId"])["pullRequest"]
    assert moved["pullRequestTargets"][0]["sourceCommit"] == tip
    assert moved["revisionId"] != made["revisionId"]


def test_a_deleted_repository_takes_its_pull_requests_along(codecommit, repository):
    number = repository.pull_request()["pullRequestId"]
    codecommit.delete_repository(repositoryName=repository.name)
    assert refused(lambda: codecommit.get_pull_request(pullRequestId=number))[0] == "PullRequestDoesNotExistException"
    again = Repository(codecommit, repository.name)
    assert codecommit.list_pull_requests(repositoryName=again.name)["pullRequestIds"] == []
    assert again.pull_request()["pullRequestId"] != number


# --- merges


def test_a_fast_forward_moves_the_branch_to_the_source(repository):
    tip = repository.commit("dev", more_md=b"more")
    merged = repository.merge(repository.pull_request()["pullRequestId"], "fast_forward", sourceCommitId=tip)
    assert merged["pullRequestStatus"] == "CLOSED"
    assert repository.tip("prod") == tip
    assert merged["pullRequestTargets"][0]["mergeMetadata"] == {
        "isMerged": True,
        "mergedBy": ROOT,
        "mergeCommitId": tip,
        "mergeOption": "FAST_FORWARD_MERGE",
    }


@pytest.mark.parametrize("how", ["three_way", pytest.param("squash", marks=SLOW)])
def test_a_merge_has_both_sides_files_and_the_author_and_message_that_are_given(repository, how):
    ours, theirs = repository.commit("prod", ours_md=b"ours"), repository.commit("dev", theirs_md=b"theirs")
    number, message = repository.pull_request()["pullRequestId"], 'Ship "it" & $HOME; `rm`\n\nAll of it.'
    merged = repository.merge(number, how, authorName="Ada Lovelace", email="ada@example.com", commitMessage=message)
    target = merged["pullRequestTargets"][0]
    assert (target["sourceCommit"], target["destinationCommit"]) == (theirs, ours)
    tip = repository.about(repository.tip("prod"))
    assert tip["commitId"] == target["mergeMetadata"]["mergeCommitId"]
    assert tip["parents"] == ([ours] if how == "squash" else [ours, theirs])
    assert tip["message"].rstrip("\n") == message
    assert (tip["author"]["name"], tip["author"]["email"]) == ("Ada Lovelace", "ada@example.com")
    assert tip["committer"] == tip["author"]
    assert [repository.content("prod", path) for path in ("ours.md", "theirs.md")] == [b"ours", b"theirs"]


@pytest.mark.slow
def test_a_squash_of_a_branch_that_is_ahead_has_the_tree_that_the_branch_has(repository):
    repository.commit("dev", more_md=b"more")
    tip = repository.commit("dev", readme_md=b"another")
    repository.merge(repository.pull_request()["pullRequestId"], "squash")
    assert repository.about(repository.tip("prod"))["treeId"] == repository.about(tip)["treeId"]
    assert repository.tip("prod") != tip


@pytest.mark.parametrize("how", MERGES)
def test_what_is_in_conflict_is_left_to_people(repository, how):
    ours = repository.commit("prod", readme_md=b"ours")
    repository.commit("dev", readme_md=b"theirs")
    number = repository.pull_request()["pullRequestId"]
    more = {} if how == "fast_forward" else {"conflictDetailLevel": "LINE_LEVEL"}
    code, message = refused(lambda: repository.merge(number, how, **more))
    assert code == "ManualMergeRequiredException"
    assert "resolve any conflicts" in message
    assert repository.tip("prod") == ours


def test_one_file_changed_by_both_is_a_conflict_unless_lines_are_looked_at(codecommit, repository):
    repository.commit("prod", readme_md=LINES.replace(b"line 1\n", b"ours\n"))
    repository.commit("dev", readme_md=LINES.replace(b"line 18\n", b"theirs\n"))
    number = repository.pull_request()["pullRequestId"]
    asked = {
        "repositoryName": repository.name,
        "sourceCommitSpecifier": "dev",
        "destinationCommitSpecifier": "prod",
        "mergeOption": "THREE_WAY_MERGE",
    }
    files = codecommit.get_merge_conflicts(**asked)
    assert files["mergeable"] is False
    (conflict,) = files["conflictMetadataList"]
    assert conflict["filePath"] == "readme.md"
    assert conflict["mergeOperations"] == {"source": "M", "destination": "M"}
    assert conflict["fileSizes"]["base"] == len(LINES)
    assert refused(lambda: repository.merge(number, "three_way"))[0] == "ManualMergeRequiredException"
    lines = codecommit.get_merge_conflicts(**asked, conflictDetailLevel="LINE_LEVEL")
    assert (lines["mergeable"], lines["conflictMetadataList"]) == (True, [])
    repository.merge(number, "three_way", conflictDetailLevel="LINE_LEVEL")
    assert repository.content("prod", "readme.md").split(b"\n")[1::17] == [b"ours", b"theirs"]


@pytest.mark.slow
def test_a_file_deleted_here_and_changed_there_is_a_conflict(codecommit, repository):
    repository.commit("prod", readme_md=None, other_md=b"other")
    repository.commit("dev", readme_md=b"changed")
    found = codecommit.get_merge_conflicts(
        repositoryName=repository.name,
        sourceCommitSpecifier="dev",
        destinationCommitSpecifier="prod",
        mergeOption="SQUASH_MERGE",
        conflictDetailLevel="LINE_LEVEL",
    )
    (conflict,) = found["conflictMetadataList"]
    assert conflict["mergeOperations"] == {"source": "M", "destination": "D"}


def test_the_ways_to_merge_are_those_that_would_succeed(codecommit, repository):
    def ways() -> list[str]:
        sides = {"sourceCommitSpecifier": "dev", "destinationCommitSpecifier": "prod"}
        return codecommit.get_merge_options(repositoryName=repository.name, **sides)["mergeOptions"]

    repository.commit("dev", more_md=b"more")
    assert ways() == ["FAST_FORWARD_MERGE", "SQUASH_MERGE", "THREE_WAY_MERGE"]
    repository.commit("prod", ours_md=b"ours")
    assert ways() == ["SQUASH_MERGE", "THREE_WAY_MERGE"]
    repository.commit("prod", more_md=b"another")
    assert ways() == []


@pytest.mark.slow
def test_a_merge_can_insist_on_the_commit_that_was_looked_at(repository):
    repository.commit("dev", more_md=b"more")
    number = repository.pull_request()["pullRequestId"]
    code, _ = refused(lambda: repository.merge(number, "squash", sourceCommitId=repository.first))
    assert code == "TipOfSourceReferenceIsDifferentException"


def test_a_pull_request_is_merged_in_its_repository_while_its_branches_are_there(codecommit, repository):
    repository.commit("dev", more_md=b"more")
    number = repository.pull_request()["pullRequestId"]
    codecommit.create_repository(repositoryName="another")
    another = {"pullRequestId": number, "repositoryName": "another"}
    code, _ = refused(lambda: codecommit.merge_pull_request_by_squash(**another))
    assert code == "RepositoryNotAssociatedWithPullRequestException"
    codecommit.delete_branch(repositoryName=repository.name, branchName="dev")
    assert refused(lambda: repository.merge(number, "squash"))[0] == "ReferenceDoesNotExistException"


@pytest.mark.parametrize("strategy", ["ACCEPT_SOURCE", pytest.param("ACCEPT_DESTINATION", marks=SLOW)])
def test_ways_to_resolve_conflicts_that_are_not_built_say_so(repository, strategy):
    number = repository.pull_request()["pullRequestId"]
    code, message = refused(lambda: repository.merge(number, "squash", conflictResolutionStrategy=strategy))
    assert code == "NotImplementedException"
    assert strategy in message


@pytest.mark.parametrize("how", MERGES)
def test_branches_are_merged_without_a_pull_request(codecommit, repository, how):
    tip = repository.commit("dev", more_md=b"more")
    sides = {"sourceCommitSpecifier": "dev", "destinationCommitSpecifier": "prod", "targetBranch": "prod"}
    merged = getattr(codecommit, f"merge_branches_by_{how}")(repositoryName=repository.name, **sides)
    assert repository.tip("prod") == merged["commitId"]
    assert merged["treeId"] == repository.about(tip)["treeId"]
    sides |= {"destinationCommitSpecifier": repository.first}
    again = getattr(codecommit, f"merge_branches_by_{how}")
    assert refused(lambda: again(repositoryName=repository.name, **sides))[0] == "ConcurrentReferenceUpdateException"


def test_differences_are_by_file(codecommit, repository):
    tip = repository.commit("dev", readme_md=None, more_md=b"more", other_md=b"other")

    def changes(**which: str) -> dict[str, str]:
        found = codecommit.get_differences(repositoryName=repository.name, afterCommitSpecifier=tip, **which)
        return {
            (each.get("afterBlob") or each["beforeBlob"])["path"]: each["changeType"] for each in found["differences"]
        }

    assert changes(beforeCommitSpecifier="prod") == {"more.md": "A", "other.md": "A", "readme.md": "D"}
    assert changes() == {"more.md": "A", "other.md": "A"}
    assert changes(afterPath="other.md") == {"other.md": "A"}
    assert refused(lambda: changes(afterPath="gone"))[0] == "PathDoesNotExistException"


# --- comments


def test_a_comment_on_a_commit_is_made_once_for_one_token(codecommit, repository):
    tip = repository.commit("dev", more_md=b"more")
    compared = {"repositoryName": repository.name, "beforeCommitId": repository.first, "afterCommitId": tip}
    made = codecommit.post_comment_for_compared_commit(**compared, content="It *works*.", clientRequestToken="t1")
    again = codecommit.post_comment_for_compared_commit(**compared, content="It *works*.", clientRequestToken="t1")
    assert again["comment"] == made["comment"]
    code, _ = refused(
        lambda: codecommit.post_comment_for_compared_commit(**compared, content="No.", clientRequestToken="t1")
    )
    assert code == "IdempotencyParameterMismatchException"
    second = codecommit.post_comment_for_compared_commit(**compared, content="Again.")["comment"]
    (found,) = codecommit.get_comments_for_compared_commit(**compared)["commentsForComparedCommitData"]
    assert [each["content"] for each in found["comments"]] == ["It *works*.", "Again."]
    assert found["comments"] == [made["comment"], second]
    assert (found["beforeCommitId"], found["afterCommitId"]) == (repository.first, tip)
    other = {"repositoryName": repository.name, "afterCommitId": repository.first}
    assert codecommit.get_comments_for_compared_commit(**other)["commentsForComparedCommitData"] == []


def test_comments_that_cannot_be_made_are_refused(codecommit, repository):
    def posting(after: str, content: str = "x", **more: Any) -> str:
        request = {"repositoryName": repository.name, "afterCommitId": after, "content": content, **more}
        return refused(lambda: codecommit.post_comment_for_compared_commit(**request))[0]

    first = repository.first
    assert posting("1" * 40) == "CommitDoesNotExistException"
    assert posting("prod") == "InvalidCommitIdException"
    assert posting(first, beforeCommitId=first) == "BeforeCommitIdAndAfterCommitIdAreSameException"
    assert posting(first, " ") == "CommentContentRequiredException"
    assert posting(first, "x" * 10241) == "CommentContentSizeLimitExceededException"
    assert posting(first, clientRequestToken="x" * 65) == "InvalidClientRequestTokenException"
    assert posting(first, location={"filePath": "readme.md"}) == "NotImplementedException"


# --- events


def test_events_tell_of_a_pull_request_from_its_making_to_its_merge(aws, codecommit, repository):
    parts = Parts(aws)
    sending = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = {"Version": "2012-10-17", "Statement": [sending | {"Resource": "*"}]}
    url, queue = parts.queue("pull-requests", Policy=json.dumps(policy))
    pattern = {"source": ["aws.codecommit"], "resources": [ARN + repository.name]}
    parts.rule("pull-requests", pattern, queue)
    made = repository.pull_request(description="Why")
    source = repository.commit("dev", more_md=b"more")
    repository.merge(made["pullRequestId"], "squash")
    codecommit.post_comment_for_compared_commit(
        repositoryName=repository.name, afterCommitId=repository.first, content="Good."
    )
    events = parts.received(url, 6)
    assert [(each["detail-type"], each["detail"]["event"]) for each in events] == [
        ("CodeCommit Pull Request State Change", "pullRequestCreated"),
        ("CodeCommit Repository State Change", "referenceUpdated"),
        ("CodeCommit Pull Request State Change", "pullRequestSourceBranchUpdated"),
        ("CodeCommit Repository State Change", "referenceUpdated"),
        ("CodeCommit Pull Request State Change", "pullRequestMergeStatusUpdated"),
        ("CodeCommit Comment on Commit", "commentOnCommitCreated"),
    ]
    assert (
        events[0]["detail"].items()
        >= {
            "pullRequestId": made["pullRequestId"],
            "repositoryNames": [repository.name],
            "sourceReference": "refs/heads/dev",
            "destinationReference": "refs/heads/prod",
            "pullRequestStatus": "Open",
            "isMerged": "False",
            "title": "Release",
            "description": "Why",
        }.items()
    )
    assert (
        events[3]["detail"].items()
        >= {
            "referenceName": "prod",
            "oldCommitId": repository.first,
            "commitId": repository.tip("prod"),
            "mergeOption": "SQUASH_MERGE",
            "baseCommitId": repository.first,
            "sourceCommitId": source,
            "destinationCommitId": repository.first,
        }.items()
    )
    last = events[4]["detail"]
    assert (last["pullRequestStatus"], last["isMerged"], last["mergeOption"]) == ("Closed", "True", "SQUASH_MERGE")


# --- rights


@pytest.mark.parametrize("how", MERGES)
def test_who_may_not_merge_into_a_branch_merges_into_others(aws, repository, how):
    on = ARN + repository.name
    actions = [f"codecommit:MergePullRequestBy{each}" for each in ("FastForward", "Squash", "ThreeWay")]
    ada = Person(
        aws,
        allow("codecommit:CreatePullRequest", "codecommit:GetPullRequest", "codecommit:ListPullRequests", on=on),
        allow(*actions, on=on, StringEquals={"codecommit:References": "refs/heads/dev"}),
    ).client("codecommit")
    repository.codecommit.create_branch(
        repositoryName=repository.name, branchName="feature-x", commitId=repository.first
    )
    repository.commit("feature-x", more_md=b"more")
    refusals = {}
    for branch in ("prod", "dev"):
        target = {"repositoryName": repository.name, "sourceReference": "feature-x", "destinationReference": branch}
        number = ada.create_pull_request(title="Mine", targets=[target])["pullRequest"]["pullRequestId"]
        merge = getattr(ada, f"merge_pull_request_by_{how}")
        asked = {"pullRequestId": number, "repositoryName": repository.name}
        if branch == "prod":
            refusals[branch] = refused(partial(merge, **asked))[0]
        else:
            assert merge(**asked)["pullRequest"]["pullRequestStatus"] == "CLOSED"
        assert ada.get_pull_request(pullRequestId=number)["pullRequest"]["pullRequestId"] == number
    assert refusals == {"prod": "AccessDeniedException"}
    assert repository.tip("prod") == repository.first


@pytest.mark.slow
def test_whoever_may_only_merge_by_pull_request_does_not_push(aws, repository, tmp_path):
    """The developers of a project: a merge to prod moves the branch to which they may not push."""
    on = ARN + repository.name
    ada = Person(
        aws,
        allow("codecommit:*", on=on),
        {
            "Effect": "Deny",
            "Action": ["codecommit:GitPush", "codecommit:CreateBranch", "codecommit:DeleteBranch"],
            "Resource": on,
            "Condition": {"ForAnyValue:StringEquals": {"codecommit:References": "refs/heads/prod"}},
        },
    )
    work = Git(tmp_path, aws.environment | aws.git_environment | ada.credentials).clone(
        repository.url, tmp_path / "work"
    )
    work.commit(more_md="more")
    assert "You don't have permission to push" in work.fails("push", "origin", "HEAD:prod")
    work("push", "origin", "HEAD:dev")
    target = {"repositoryName": repository.name, "sourceReference": "dev"}
    client = ada.client("codecommit")
    number = client.create_pull_request(title="Release", targets=[target])["pullRequest"]["pullRequestId"]
    client.merge_pull_request_by_fast_forward(pullRequestId=number, repositoryName=repository.name)
    assert repository.tip("prod") == work("rev-parse", "HEAD")


def test_nothing_is_told_to_whom_nothing_is_allowed(aws, repository):
    nobody = Person(aws).client("codecommit")
    number = repository.pull_request()["pullRequestId"]
    for asked in (number, "999999"):
        code, _ = refused(partial(nobody.get_pull_request, pullRequestId=asked))
        assert code == "AccessDeniedException"


@pytest.mark.slow
def test_histories_that_have_nothing_in_common_are_not_merged(aws, repository, tmp_path):
    work = Git(tmp_path, aws.environment | aws.git_environment).clone(repository.url, tmp_path / "work")
    work("checkout", "--orphan", "other")
    work.commit(other_md="other")
    work("push", "origin", "HEAD:other")
    number = repository.pull_request("other")["pullRequestId"]
    assert refused(lambda: repository.merge(number, "squash"))[0] == "ManualMergeRequiredException"
    sides = {"sourceCommitSpecifier": "other", "destinationCommitSpecifier": "prod"}
    code, _ = refused(lambda: repository.codecommit.get_merge_options(repositoryName=repository.name, **sides))
    assert code == "TipsDivergenceExceededException"
