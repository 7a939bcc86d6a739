"""What each of CodeCommit's operations asks IAM, and what `git fetch` (GitPull) and `git push` (GitPush) ask."""

from __future__ import annotations

from local_aws.permissions.questions import (
    Ask,
    Context,
    Known,
    Question,
    Request,
    nothing_in_particular,
    resource_tags,
    tags_in_request,
)


def on_repository(action: str, request: Request, known: Known) -> list[Question]:
    """An operation on the repository that repositoryName names."""
    return [_about(action, request.get("repositoryName", "*"), known)]


def on_repositories(action: str, request: Request, known: Known) -> list[Question]:
    return [_about(action, name, known) for name in request["repositoryNames"]]


def on_branch(action: str, request: Request, known: Known) -> list[Question]:
    """An operation that changes a branch, which policies name by codecommit:References.

    https://docs.aws.amazon.com/codecommit/latest/userguide/how-to-conditional-branch.html
    """
    references: Context = {"codecommit:References": f"refs/heads/{request['branchName']}"}
    return [_about(action, request["repositoryName"], known, references)]


def on_pull_request(action: str, request: Request, known: Known) -> list[Question]:
    """An operation on a pull request, which is its repository's."""
    return [_about(action, known.pull_request(request["pullRequestId"]).get("repository", "*"), known)]


def on_targets(action: str, request: Request, known: Known) -> list[Question]:
    """CreatePullRequest names its repository in its targets."""
    return [_about(action, target["repositoryName"], known) for target in request["targets"]]


def merge_pull_request(action: str, request: Request, known: Known) -> list[Question]:
    """What is changed is the branch that the pull request is to be merged into."""
    destination = known.pull_request(request["pullRequestId"]).get("destination", "")
    references: Context = {"codecommit:References": destination} if destination else {}
    return [_about(action, request["repositoryName"], known, references)]


def merge_branches(action: str, request: Request, known: Known) -> list[Question]:
    branch = request.get("targetBranch") or request["destinationCommitSpecifier"]
    references: Context = {"codecommit:References": f"refs/heads/{branch.removeprefix('refs/heads/')}"}
    return [_about(action, request["repositoryName"], known, references)]


def create(action: str, request: Request, known: Known) -> list[Question]:
    """Tags given at creation ask the tag action as well."""
    arn, tags = known.arn("codecommit", request["repositoryName"]), tags_in_request(request.get("tags"))
    questions = [Question(action, arn, tags)]
    if tags:
        questions.append(Question("codecommit:TagResource", arn, tags, action))
    return questions


def tag(action: str, request: Request, known: Known) -> list[Question]:
    arn = request["resourceArn"]
    return [Question(action, arn, resource_tags(known.tags(arn)) | tags_in_request(request.get("tags")))]


def untag(action: str, request: Request, known: Known) -> list[Question]:
    arn = request["resourceArn"]
    keys: Context = {"aws:TagKeys": list(request["tagKeys"])} if request["tagKeys"] else {}
    return [Question(action, arn, resource_tags(known.tags(arn)) | keys)]


def list_tags(action: str, request: Request, known: Known) -> list[Question]:
    arn = request["resourceArn"]
    return [Question(action, arn, resource_tags(known.tags(arn)))]


def push(action: str, request: Request, known: Known) -> list[Question]:
    """One question for each ref that a push is to change; before it has named them one without.

    That is why a statement that denies pushes to branches needs "Null": {"codecommit:References": "false"} beside its
    StringEqualsIfExists: https://docs.aws.amazon.com/codecommit/latest/userguide/how-to-conditional-branch.html.

    Args:
        request: repositoryName, and references (full names).
    """
    contexts: list[Context] = [{"codecommit:References": reference} for reference in request["references"]]
    return [_about(action, request["repositoryName"], known, context) for context in contexts or [{}]]


def _about(action: str, name: str, known: Known, context: Context | None = None) -> Question:
    arn = known.arn("codecommit", name)
    return Question(action, arn, resource_tags(known.tags(arn)) | (context or {}))


TABLE: dict[str, Ask] = {
    "CreateRepository": create,
    "GetRepository": on_repository,
    "BatchGetRepositories": on_repositories,
    "ListRepositories": nothing_in_particular,
    "DeleteRepository": on_repository,
    "UpdateRepositoryDescription": on_repository,
    "UpdateDefaultBranch": on_repository,
    "CreateBranch": on_branch,
    "DeleteBranch": on_branch,
    "GetBranch": on_repository,
    "ListBranches": on_repository,
    "CreateCommit": on_branch,
    "GetCommit": on_repository,
    "GetFolder": on_repository,
    "GetFile": on_repository,
    "TagResource": tag,
    "UntagResource": untag,
    "ListTagsForResource": list_tags,
    "CreatePullRequest": on_targets,
    "GetPullRequest": on_pull_request,
    "ListPullRequests": on_repository,
    "UpdatePullRequestTitle": on_pull_request,
    "UpdatePullRequestDescription": on_pull_request,
    "UpdatePullRequestStatus": on_pull_request,
    "MergePullRequestByFastForward": merge_pull_request,
    "MergePullRequestBySquash": merge_pull_request,
    "MergePullRequestByThreeWay": merge_pull_request,
    "MergeBranchesByFastForward": merge_branches,
    "MergeBranchesBySquash": merge_branches,
    "MergeBranchesByThreeWay": merge_branches,
    "GetMergeConflicts": on_repository,
    "GetMergeOptions": on_repository,
    "GetDifferences": on_repository,
    "PostCommentForComparedCommit": on_repository,
    "GetCommentsForComparedCommit": on_repository,
    # No operations of its API: what git clients do.
    "GitPull": on_repository,
    "GitPush": push,
}
