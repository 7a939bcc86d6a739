"""What each of CodePipeline's operations asks IAM.

Resources and condition keys: https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscodepipeline.html.
"""

from __future__ import annotations

from local_aws.permissions.questions import (
    Ask,
    Context,
    Known,
    Question,
    Request,
    nothing_in_particular,
    pass_role,
    resource_tags,
    tags_in_request,
)

SERVICE = "codepipeline.amazonaws.com"


def on(*members: str) -> Ask:
    """An operation on a pipeline, stage or action: ARNs are of their names with "/" between.

    Args:
        members: of the request, with the names.
    """

    def ask(action: str, request: Request, known: Known) -> list[Question]:
        name = request[members[0]]
        tags = known.tags(known.arn("codepipeline", name))
        arn = known.arn("codepipeline", "/".join(request[member] for member in members))
        return [Question(action, arn, resource_tags(tags))]

    return ask


def create(action: str, request: Request, known: Known) -> list[Question]:
    """Whoever says as which role a pipeline acts passes that role to CodePipeline."""
    pipeline = request["pipeline"]
    tags = tags_in_request({each["key"]: each["value"] for each in request.get("tags", [])})
    arn = known.arn("codepipeline", pipeline["name"])
    return [Question(action, arn, tags), pass_role(pipeline["roleArn"], SERVICE, action)]


def update(action: str, request: Request, known: Known) -> list[Question]:
    pipeline = request["pipeline"]
    arn = known.arn("codepipeline", pipeline["name"])
    return [Question(action, arn, resource_tags(known.tags(arn))), pass_role(pipeline["roleArn"], SERVICE, action)]


def on_tags(action: str, request: Request, known: Known) -> list[Question]:
    arn = request["resourceArn"]
    keys: Context = tags_in_request({each["key"]: each["value"] for each in request.get("tags", [])})
    if request.get("tagKeys"):
        keys = {"aws:TagKeys": list(request["tagKeys"])}
    return [Question(action, arn, resource_tags(known.tags(arn)) | keys)]


TABLE: dict[str, Ask] = {
    "CreatePipeline": create,
    "UpdatePipeline": update,
    "GetPipeline": on("name"),
    "DeletePipeline": on("name"),
    "ListPipelines": nothing_in_particular,
    "StartPipelineExecution": on("name"),
    "StopPipelineExecution": on("pipelineName"),
    "RetryStageExecution": on("pipelineName", "stageName"),
    "GetPipelineState": on("name"),
    "GetPipelineExecution": on("pipelineName"),
    "ListPipelineExecutions": on("pipelineName"),
    "ListActionExecutions": on("pipelineName"),
    "PutApprovalResult": on("pipelineName", "stageName", "actionName"),
    "TagResource": on_tags,
    "UntagResource": on_tags,
    "ListTagsForResource": on_tags,
}
