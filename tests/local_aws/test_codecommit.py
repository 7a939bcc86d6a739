"""CodeCommit's API and its repositories over HTTP, as clients meet them."""

from __future__ import annotations

import base64
import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS
from local_aws.events import Events
from local_aws.git.codecommit_state import State
from local_aws.git.push_rules import NOTHING
from local_aws.git.repositories import Repositories
from local_aws.store import Scope, Store
from tests.local_aws.clients import refused
from tests.local_aws.git_clients import PUSH, Git, begun_push
from tests.local_aws.lambda_requests import Parts
from tests.local_aws.people import Person, allow

ARN = "arn:aws:codecommit:us-east-1:123456789012:"


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as server:
        yield server


@pytest.fixture(scope="module")
def parts(aws: LocalAWS) -> Parts:
    return Parts(aws)


@pytest.fixture(scope="module")
def codecommit(aws: LocalAWS) -> Any:
    return aws.client("codecommit")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of the test's own."""
    return re.sub(r"[^\w.-]+", "-", request.node.name)[-90:]


@pytest.fixture
def made(codecommit: Any, name: str) -> dict[str, Any]:
    """An empty repository's metadata."""
    return codecommit.create_repository(repositoryName=name)["repositoryMetadata"]


def commit(codecommit: Any, name: str, branch: str = "prod", parent: str | None = None, **files: bytes) -> str:
    """A commit of some files (readme.md without any); its id."""
    request: dict[str, Any] = {"repositoryName": name, "branchName": branch}
    request["putFiles"] = [
        {"filePath": path, "fileContent": content} for path, content in (files or {"readme.md": b"one"}).items()
    ]
    return codecommit.create_commit(**request, **({"parentCommitId": parent} if parent else {}))["commitId"]


# --- repositories


def test_a_repository_is_described_by_what_it_was_made_with(codecommit, aws, name):
    made = codecommit.create_repository(
        repositoryName=name, repositoryDescription="Churn", tags={"modelyard:project": "churn"}, kmsKeyId="alias/mine"
    )["repositoryMetadata"]
    assert made["accountId"] == "123456789012"
    assert made["Arn"] == ARN + name
    assert made["cloneUrlHttp"] == f"{aws.endpoint}/v1/repos/{name}"
    assert made["cloneUrlSsh"] == f"ssh://git-codecommit.us-east-1.amazonaws.com/v1/repos/{name}"
    assert (made["repositoryDescription"], made["kmsKeyId"]) == ("Churn", "alias/mine")
    assert made["creationDate"] == made["lastModifiedDate"]
    assert "defaultBranch" not in made
    assert codecommit.get_repository(repositoryName=name)["repositoryMetadata"] == made
    assert codecommit.list_tags_for_resource(resourceArn=made["Arn"])["tags"] == {"modelyard:project": "churn"}


def test_a_name_is_taken_once(codecommit, made, name):
    code, message = refused(lambda: codecommit.create_repository(repositoryName=name))
    assert (code, message) == ("RepositoryNameExistsException", f"Repository named {name} already exists")


@pytest.mark.parametrize("name", ["../x", "a/b", "%2e%2e", "a\0b", "a" * 101, "a b", "x.git", "..", ".", "é", ""])
def test_what_is_no_name_is_refused_by_name(aws, name):
    codes = {"InvalidRepositoryNameException", "RepositoryNameRequiredException"}
    assert raw(aws, "CreateRepository", {"repositoryName": name})[0] in codes
    assert raw(aws, "DeleteRepository", {"repositoryName": "a/b"})[0] in codes


def raw(aws: LocalAWS, operation: str, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """An error's code, and the answer, of a request that boto3 would not send."""
    headers = {
        "X-Amz-Target": f"CodeCommit_20150413.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": "AWS4-HMAC-SHA256 Credential=123456789012/20261121/us-east-1/codecommit/aws4_request,"
        " SignedHeaders=host, Signature=0",
    }
    sent = urllib.request.Request(aws.endpoint, json.dumps(request).encode(), headers)
    try:
        with urllib.request.urlopen(sent, timeout=30) as answer:
            return "", json.load(answer)
    except urllib.error.HTTPError as error:
        found = json.load(error)
        return found["__type"], found


def test_what_is_missing_has_aws_names(aws):
    assert raw(aws, "GetRepository", {})[0] == "RepositoryNameRequiredException"
    assert raw(aws, "GetBranch", {"repositoryName": "x"})[0] == "BranchNameRequiredException"
    assert raw(aws, "CreateRepository", {"repositoryName": "x", "tags": {"": "1"}})[0] == "ValidationException"
    assert raw(aws, "CreateApprovalRuleTemplate", {})[0] == "NotImplementedException"


def test_several_are_described_at_once(codecommit, made, name):
    found = codecommit.batch_get_repositories(repositoryNames=[name, "nowhere", name])
    assert found["repositories"] == [made]
    assert found["repositoriesNotFound"] == ["nowhere"]
    many = [f"r{number}" for number in range(101)]
    code, _ = refused(lambda: codecommit.batch_get_repositories(repositoryNames=many))
    assert code == "MaximumRepositoryNamesExceededException"


def test_repositories_are_listed_by_name_or_time_of_their_account_and_region(aws):
    codecommit = aws.client("codecommit", account="210987654321", region="eu-west-1")
    for name in ("b", "c", "a"):
        codecommit.create_repository(repositoryName=name)
    aws.client("codecommit", account="210987654321").create_repository(repositoryName="elsewhere")
    codecommit.update_repository_description(repositoryName="b", repositoryDescription="later")

    def names(**how: str) -> list[str]:
        return [each["repositoryName"] for each in codecommit.list_repositories(**how)["repositories"]]

    assert names() == ["a", "b", "c"]
    assert names(order="descending") == ["c", "b", "a"]
    assert names(sortBy="lastModifiedDate") == ["c", "a", "b"]
    code, _ = refused(lambda: codecommit.list_repositories(nextToken="x"))
    assert code == "InvalidContinuationTokenException"


def test_a_deleted_repository_is_gone_with_its_tags_and_its_name_is_free(codecommit, made, name, git, aws, tmp_path):
    commit(codecommit, name)
    assert codecommit.delete_repository(repositoryName=name)["repositoryId"] == made["repositoryId"]
    assert "repositoryId" not in codecommit.delete_repository(repositoryName=name)
    code, message = refused(lambda: codecommit.get_repository(repositoryName=name))
    assert (code, message) == ("RepositoryDoesNotExistException", f"{name} does not exist")
    assert "not found" in git.fails("clone", made["cloneUrlHttp"], "gone")
    again = codecommit.create_repository(repositoryName=name)["repositoryMetadata"]
    assert again["repositoryId"] != made["repositoryId"]
    assert codecommit.list_branches(repositoryName=name)["branches"] == []


def test_tags_are_set_replaced_and_removed(codecommit, made, name):
    codecommit.tag_resource(resourceArn=made["Arn"], tags={"a": "1", "b": "2"})
    codecommit.tag_resource(resourceArn=made["Arn"], tags={"a": "3"})
    codecommit.untag_resource(resourceArn=made["Arn"], tagKeys=["b", "never"])
    assert codecommit.list_tags_for_resource(resourceArn=made["Arn"])["tags"] == {"a": "3"}

    def tag(arn: str = made["Arn"], **tags: str) -> str:
        return refused(lambda: codecommit.tag_resource(resourceArn=arn, tags=tags))[0]

    assert tag(**{"aws:x": "1"}) == "InvalidSystemTagUsageException"
    assert tag(**{f"k{number}": "" for number in range(50)}) == "TooManyTagsException"
    assert tag(ARN + "nowhere", x="1") == "RepositoryDoesNotExistException"
    assert tag("arn:aws:codecommit:eu-west-1:123456789012:x", x="1") == "InvalidResourceArnException"


# --- commits and branches


def test_the_first_commit_makes_its_branch_and_the_default_one(codecommit, made, name):
    answer = codecommit.create_commit(
        repositoryName=name,
        branchName="prod",
        authorName="Ada",
        email="ada@example.com",
        commitMessage="First",
        putFiles=[
            {"filePath": "src/run.sh", "fileMode": "EXECUTABLE", "fileContent": b"#!/bin/sh\n"},
            {"filePath": "link", "fileMode": "SYMLINK", "fileContent": b"src/run.sh"},
        ],
    )
    described = codecommit.get_repository(repositoryName=name)["repositoryMetadata"]
    assert described["defaultBranch"] == "prod"
    assert described["lastModifiedDate"] > made["lastModifiedDate"]
    found = codecommit.get_commit(repositoryName=name, commitId=answer["commitId"])["commit"]
    assert (found["treeId"], found["parents"], found["message"]) == (answer["treeId"], [], "First")
    assert found["author"] == found["committer"]
    assert (found["author"]["name"], found["author"]["email"]) == ("Ada", "ada@example.com")
    assert re.fullmatch(r"\d+ \+0000", found["author"]["date"])
    assert [each["absolutePath"] for each in answer["filesAdded"]] == ["src/run.sh", "link"]


def test_a_later_commit_names_the_branchs_tip(codecommit, made, name):
    first = commit(codecommit, name)

    def code(**more: Any) -> str:
        return refused(lambda: codecommit.create_commit(**request, **more))[0]

    request: dict[str, Any] = {"repositoryName": name, "branchName": "prod"}
    request["putFiles"] = [{"filePath": "more", "fileContent": b"two"}]
    assert code() == "ParentCommitIdRequiredException"
    assert code(parentCommitId="main") == "InvalidParentCommitIdException"
    assert code(parentCommitId="1" * 40) == "ParentCommitDoesNotExistException"
    second = commit(codecommit, name, "prod", first, more=b"two")
    assert code(parentCommitId=first) == "ParentCommitIdOutdatedException"
    found = codecommit.get_commit(repositoryName=name, commitId=second)["commit"]
    assert found["parents"] == [first]
    request["branchName"] = "dev"
    assert code(parentCommitId=second) == "BranchDoesNotExistException"
    request["branchName"] = "a..b"
    assert code(parentCommitId=second) == "InvalidBranchNameException"


def test_of_two_commits_at_once_one_is_made(codecommit, made, name):
    first = commit(codecommit, name)
    codes: list[str] = []

    def add(number: int) -> None:
        try:
            commit(codecommit, name, "prod", first, **{f"file{number}": b"x"})
            codes.append("made")
        except codecommit.exceptions.ClientError as error:
            codes.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=add, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == ["ParentCommitIdOutdatedException"] * 5 + ["made"]


def test_branches_are_made_listed_and_deleted(codecommit, made, name):
    first = commit(codecommit, name)
    codecommit.create_branch(repositoryName=name, branchName="dev", commitId=first)
    assert codecommit.list_branches(repositoryName=name)["branches"] == ["dev", "prod"]
    assert codecommit.get_branch(repositoryName=name, branchName="dev")["branch"]["commitId"] == first

    def code(branch: str, commit: str = first) -> str:
        return refused(lambda: codecommit.create_branch(repositoryName=name, branchName=branch, commitId=commit))[0]

    assert code("dev") == "BranchNameExistsException"
    assert code("x", "1" * 40) == "CommitDoesNotExistException"
    assert code("x", "dev") == "InvalidCommitIdException"
    assert code("x y") == "InvalidBranchNameException"
    deleted = codecommit.delete_branch(repositoryName=name, branchName="dev")["deletedBranch"]
    assert deleted == {"branchName": "dev", "commitId": first}
    assert "deletedBranch" not in codecommit.delete_branch(repositoryName=name, branchName="dev")
    gone, _ = refused(lambda: codecommit.get_branch(repositoryName=name, branchName="dev"))
    assert gone == "BranchDoesNotExistException"


def test_the_default_branch_is_chosen_and_not_deleted(codecommit, made, name):
    codecommit.create_branch(repositoryName=name, branchName="dev", commitId=commit(codecommit, name))
    codecommit.update_default_branch(repositoryName=name, defaultBranchName="dev")
    assert codecommit.get_repository(repositoryName=name)["repositoryMetadata"]["defaultBranch"] == "dev"
    code, _ = refused(lambda: codecommit.delete_branch(repositoryName=name, branchName="dev"))
    assert code == "DefaultBranchCannotBeDeletedException"
    code, _ = refused(lambda: codecommit.update_default_branch(repositoryName=name, defaultBranchName="x"))
    assert code == "BranchDoesNotExistException"


def test_folders_and_files_of_a_commit_are_read(codecommit, made, name):
    files = {"readme.md": b"one", "src/a.py": b"a", "src/deep/b.py": b"\xff\0"}
    first = commit(codecommit, name, "prod", None, **files)
    second = commit(codecommit, name, "prod", first, **{"readme.md": b"two"})
    top = codecommit.get_folder(repositoryName=name, folderPath="/")
    assert top["commitId"] == second
    assert [each["absolutePath"] for each in top["files"]] == ["readme.md"]
    assert [each["absolutePath"] for each in top["subFolders"]] == ["src"]
    source = codecommit.get_folder(repositoryName=name, folderPath="src", commitSpecifier="prod")
    assert [(each["absolutePath"], each["relativePath"]) for each in source["files"]] == [("src/a.py", "a.py")]
    assert codecommit.get_file(repositoryName=name, filePath="readme.md")["fileContent"] == b"two"
    earlier = codecommit.get_file(repositoryName=name, filePath="readme.md", commitSpecifier=first)
    assert (earlier["fileContent"], earlier["fileSize"], earlier["fileMode"]) == (b"one", 3, "NORMAL")
    binary = codecommit.get_file(repositoryName=name, filePath="src/deep/b.py", commitSpecifier="refs/heads/prod")
    assert binary["fileContent"] == b"\xff\0"

    def code(operation: str, **more: str) -> str:
        return refused(lambda: getattr(codecommit, operation)(repositoryName=name, **more))[0]

    assert code("get_file", filePath="src") == "FileDoesNotExistException"
    assert code("get_file", filePath="*.md") == "FileDoesNotExistException"
    assert code("get_file", filePath="../x") == "InvalidPathException"
    assert code("get_file", filePath="readme.md", commitSpecifier="--all") == "CommitDoesNotExistException"
    assert code("get_folder", folderPath="readme.md") == "FolderDoesNotExistException"
    assert code("get_commit", commitId="1" * 40) == "CommitIdDoesNotExistException"
    assert code("get_commit", commitId="prod") == "InvalidCommitIdException"


# --- clones and pushes


@pytest.fixture
def git(aws: LocalAWS, tmp_path: Path) -> Git:
    """Git with the credentials of the account's root."""
    return Git(tmp_path, aws.environment | aws.git_environment)


def test_what_was_committed_is_cloned_and_what_is_pushed_is_read(codecommit, made, name, git, tmp_path):
    first = commit(codecommit, name)
    work = git.clone(made["cloneUrlHttp"], tmp_path / "work")
    assert (work.folder / "readme.md").read_text() == "one"
    assert work("rev-parse", "HEAD") == first
    pushed = work.commit(readme_md="two")
    work("push", "origin", "HEAD:dev")
    assert codecommit.get_branch(repositoryName=name, branchName="dev")["branch"]["commitId"] == pushed
    assert commit(codecommit, name, "dev", pushed, more=b"x") == work("ls-remote", "origin", "dev").split()[0]


def test_the_first_branch_that_is_pushed_is_the_default_one(codecommit, made, name, git, tmp_path):
    work = git.clone(made["cloneUrlHttp"], tmp_path / "work")
    work.commit(readme_md="one")
    work("push", "origin", "HEAD:dev")
    work("push", "origin", "HEAD:prod")
    assert codecommit.get_repository(repositoryName=name)["repositoryMetadata"]["defaultBranch"] == "dev"
    assert "refusing to delete the current branch" in work.fails("push", "origin", ":dev")


def test_a_push_names_so_many_references_and_no_more(made, aws):
    commands = [f"{NOTHING} {'1' * 40} refs/heads/b{number}" for number in range(4001)]
    body = "".join(f"{len(command) + 4:04x}{command}" for command in commands).encode() + b"0000"
    sent = urllib.request.Request(f"{made['cloneUrlHttp']}/git-receive-pack", body, {"Content-Type": PUSH})
    with pytest.raises(urllib.error.HTTPError, match="413"):
        urllib.request.urlopen(sent, timeout=30)


def test_anybody_clones_while_iam_is_not_enforced(codecommit, made, name, tmp_path):
    commit(codecommit, name)
    Git(tmp_path).clone(made["cloneUrlHttp"], tmp_path / "work")
    Git(tmp_path).clone(made["cloneUrlHttp"].replace("//", "//AKIA:x@"), tmp_path / "again")


def test_a_repository_of_another_region_is_found_where_it_alone_is(aws, git, tmp_path, name):
    for region in ("eu-west-1", "eu-west-2"):
        codecommit = aws.client("codecommit", region=region)
        url = codecommit.create_repository(repositoryName=name)["repositoryMetadata"]["cloneUrlHttp"]
        commit(codecommit, name)
        if region == "eu-west-1":
            git.clone(url, tmp_path / "work")
    assert "nothing says which one is meant" in git.tried("ls-remote", url).stderr


def test_what_a_server_was_killed_amid_making_is_no_hindrance(tmp_path):
    events, scope = Events(lambda scope, entry: None), Scope("123456789012", "us-east-1")
    state = State(Store(), Repositories(tmp_path), events)
    state.git.create(state.key(scope, "churn"))  # and then it was killed
    state.create(scope, "churn", None, None, {})
    assert state.default_branch(scope, "churn") is None
    events.stop()


# --- events


def test_every_change_of_a_ref_is_an_event(parts, codecommit, made, name, git, tmp_path):
    url, target = parts.queue(name[:80].replace(".", "-"))
    parts.rule(name[:64], {"source": ["aws.codecommit"], "resources": [made["Arn"]]}, target)
    first = commit(codecommit, name)
    codecommit.create_branch(repositoryName=name, branchName="dev", commitId=first)
    work = git.clone(made["cloneUrlHttp"], tmp_path / "work")
    second = work.commit(readme_md="two")
    work("push", "origin", "HEAD:dev")
    work("push", "origin", "HEAD:refs/tags/v1")
    work("push", "origin", "HEAD:refs/notes/x")  # neither a branch nor a tag
    work("push", "origin", ":dev")
    third = commit(codecommit, name, "prod", first, more=b"x")
    events = parts.received(url, 6)
    assert {event["detail-type"] for event in events} == {"CodeCommit Repository State Change"}
    assert {(event["account"], event["region"], *event["resources"]) for event in events} == {
        ("123456789012", "us-east-1", made["Arn"])
    }
    details = [event["detail"] for event in events]
    assert [
        (each["event"], each["referenceFullName"], each.get("oldCommitId"), each.get("commitId")) for each in details
    ] == [
        ("referenceCreated", "refs/heads/prod", None, first),
        ("referenceCreated", "refs/heads/dev", None, first),
        ("referenceUpdated", "refs/heads/dev", first, second),
        ("referenceCreated", "refs/tags/v1", None, second),
        ("referenceDeleted", "refs/heads/dev", second, None),
        ("referenceUpdated", "refs/heads/prod", first, third),
    ]
    assert (
        details[3].items()
        >= {
            "repositoryName": name,
            "repositoryId": made["repositoryId"],
            "referenceType": "tag",
            "referenceName": "v1",
            "callerUserArn": "arn:aws:iam::123456789012:root",
        }.items()
    )


def test_an_event_reaches_a_function(parts, codecommit, made, name):
    url, _ = parts.queue("heard-by-function")
    source = "import boto3, json\ndef handler(event, context):\n"
    source += f"    boto3.client('sqs').send_message(QueueUrl={url!r}, MessageBody=json.dumps(event))\n"
    function = parts.function("hears-codecommit", source)
    parts.rule("hears-codecommit", {"source": ["aws.codecommit"], "resources": [made["Arn"]]}, function)
    commit(codecommit, name)
    (heard,) = parts.received(url, 1, 30)
    assert heard["detail"]["referenceName"] == "prod"


# --- with IAM enforced, and over a restart


@pytest.fixture(scope="module")
def enforced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True, state=tmp_path_factory.mktemp("state")) as server:
        yield server


PULL = allow("codecommit:GitPull", on=ARN + "shared")
PULL_AND_PUSH = allow("codecommit:GitPull", "codecommit:GitPush", on=ARN + "shared")
NOT_TO_PROD = {
    "Effect": "Deny",
    "Action": "codecommit:GitPush",
    "Resource": "*",
    "Condition": {
        "StringEqualsIfExists": {"codecommit:References": ["refs/heads/prod"]},
        "Null": {"codecommit:References": "false"},
    },
}


@pytest.fixture(scope="module")
def shared(enforced: LocalAWS) -> str:
    """The address of a repository with a first commit."""
    codecommit = enforced.client("codecommit")
    url = codecommit.create_repository(repositoryName="shared")["repositoryMetadata"]["cloneUrlHttp"]
    commit(codecommit, "shared")
    return url


def git_of(enforced: LocalAWS, folder: Path, person: Person | None, **more: str) -> Git:
    environment = enforced.environment | enforced.git_environment
    return Git(folder, environment | (person.credentials if person else {}) | more)


def test_a_reader_pulls_and_does_not_push(enforced, shared, tmp_path):
    reader = git_of(enforced, tmp_path, Person(enforced, PULL))
    work = reader.clone(shared, tmp_path / "work")
    work.commit(readme_md="two")
    refusal = work.fails("push", "origin", "HEAD:dev")
    assert f"not authorized to perform: codecommit:GitPush on resource: {ARN}shared" in refusal
    assert enforced.client("codecommit").list_branches(repositoryName="shared")["branches"] == ["prod"]


def test_who_may_not_push_to_a_branch_pushes_to_others(enforced, shared, tmp_path):
    work = git_of(enforced, tmp_path, Person(enforced, PULL_AND_PUSH, NOT_TO_PROD)).clone(shared, tmp_path / "work")
    work.commit(readme_md="two")
    for refs in (["HEAD:prod"], ["HEAD:feature-x", "HEAD:prod"]):
        refusal = work.fails("push", "origin", *refs)
        assert (
            "remote: You don't have permission to push changes to this branch. refs/heads/prod: User: arn:" in refusal
        )
        assert "with an explicit deny" in refusal
        assert "feature-x:" not in refusal
    assert "You don't have permission" in work.fails("push", "origin", ":prod")
    work("push", "origin", "HEAD:feature-y")
    assert enforced.client("codecommit").list_branches(repositoryName="shared")["branches"] == ["feature-y", "prod"]
    work("push", "origin", ":feature-y")


def test_nobody_is_let_in_without_a_signature_that_is_right(enforced, shared, tmp_path):
    person = Person(enforced, PULL)
    assert "could not read Username" in Git(tmp_path).fails("ls-remote", shared)
    for wrong in (
        {"AWS_SECRET_ACCESS_KEY": "wrong"},
        {"AWS_REGION": "eu-west-1"},
        {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN"},
        {"AWS_SESSION_TOKEN": "token"},
    ):
        assert "403" in git_of(enforced, tmp_path, person, **wrong).fails("ls-remote", shared)
    assert "403" in git_of(enforced, tmp_path, Person(enforced)).fails("ls-remote", shared)
    assert "prod" in git_of(enforced, tmp_path, person).tried("ls-remote", shared).stdout


def test_a_role_signs_with_its_sessions_token(enforced, shared, tmp_path):
    iam, account = enforced.client("iam"), "arn:aws:iam::123456789012:root"
    trust = {"Effect": "Allow", "Principal": {"AWS": account}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName="puller", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [PULL]})
    iam.put_role_policy(RoleName="puller", PolicyName="all", PolicyDocument=policy)
    session = enforced.client("sts").assume_role(RoleArn=role, RoleSessionName="ada")["Credentials"]
    given = {
        "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["SessionToken"],
    }
    assert "prod" in git_of(enforced, tmp_path, None, **given)("ls-remote", shared)


def test_the_signature_says_which_region_is_meant(enforced, tmp_path):
    person, ids = Person(enforced, allow("codecommit:GitPull", "codecommit:GitPush")), {}
    for region in ("us-east-1", "eu-west-1"):
        codecommit = enforced.client("codecommit", region=region)
        url = codecommit.create_repository(repositoryName="twice")["repositoryMetadata"]["cloneUrlHttp"]
        ids[region] = commit(codecommit, "twice", more=region.encode())
    for region, expected in ids.items():
        git = git_of(enforced, tmp_path, person, AWS_REGION=region)
        assert git("ls-remote", url, "refs/heads/prod").split()[0] == expected


def test_the_api_asks_iam_about_branches_and_tags(enforced, shared):
    person = Person(
        enforced,
        allow(
            "codecommit:CreateBranch", on=ARN + "shared", StringLike={"codecommit:References": "refs/heads/feature-*"}
        ),
        allow(
            "codecommit:CreateRepository",
            "codecommit:TagResource",
            StringEquals={"aws:RequestTag/modelyard:project": "churn"},
        ),
        allow("codecommit:DeleteRepository", StringEquals={"aws:ResourceTag/modelyard:project": "churn"}),
    ).client("codecommit")
    tip = enforced.client("codecommit").get_branch(repositoryName="shared", branchName="prod")["branch"]["commitId"]
    person.create_branch(repositoryName="shared", branchName="feature-api", commitId=tip)
    denied = "AccessDeniedException"
    for call in (
        lambda: person.create_branch(repositoryName="shared", branchName="dev", commitId=tip),
        lambda: person.get_branch(repositoryName="shared", branchName="prod"),
        lambda: person.create_repository(repositoryName="untagged"),
        lambda: person.delete_repository(repositoryName="shared"),
    ):
        assert refused(call)[0] == denied
    person.create_repository(repositoryName="mine", tags={"modelyard:project": "churn"})
    person.delete_repository(repositoryName="mine")


def test_a_killed_server_comes_back_with_everything(enforced, shared, tmp_path):
    codecommit, arn = enforced.client("codecommit"), ARN + "kept"
    url = codecommit.create_repository(repositoryName="kept", tags={"a": "b"})["repositoryMetadata"]["cloneUrlHttp"]
    work = git_of(enforced, tmp_path, None).clone(url, tmp_path / "work")
    pushed = work.commit(readme_md="one")
    work("push", "origin", "HEAD:dev", "HEAD:refs/tags/v1")
    before = codecommit.get_repository(repositoryName="kept")["repositoryMetadata"]
    root = base64.b64encode(b"123456789012:").decode()
    with begun_push(url, Authorization=f"Basic {root}"):
        enforced.restart(kill=True)
    assert codecommit.get_repository(repositoryName="kept")["repositoryMetadata"] == before
    assert before["defaultBranch"] == "dev"
    assert codecommit.list_tags_for_resource(resourceArn=arn)["tags"] == {"a": "b"}
    assert set(work("ls-remote", "origin").split()) >= {pushed, "HEAD", "refs/heads/dev", "refs/tags/v1"}
    work.commit(readme_md="two")
    work("push", "origin", "HEAD:dev")
