"""What a pipeline may declare.

https://docs.aws.amazon.com/codepipeline/latest/userguide/pipeline-requirements.html. Messages are AWS's where they are
known. What AWS allows and nothing here does is refused by name, so that no pipeline passes here for another one.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from local_aws.calls import ServiceError
from local_aws.codepipeline.variables import PIPELINE, SERVICE, VariableError, references

Declaration = dict[str, Any]

SOURCE, BUILD, APPROVAL = "Source", "Build", "Approval"
CLONE_REF = "CODEBUILD_CLONE_REF"
SUPERSEDED = "SUPERSEDED"
_MOST_ACTIONS, _MOST_STAGES = 500, 50
_VARIABLE_TYPES = ("PLAINTEXT", "PARAMETER_STORE", "SECRETS_MANAGER")


@dataclass(frozen=True)
class ActionType:
    """A provider of actions.

    Args:
        required, optional: members of its configuration.
        inputs, outputs: how many artifacts it takes and makes at least and at most.
        variables: that it sets by itself.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    variables: tuple[str, ...] = ()


_CODE_BUILD = ActionType(
    ("ProjectName",), ("PrimarySource", "EnvironmentVariables", "BatchEnabled", "CombineArtifacts"), (1, 5), (0, 5)
)
# By category, owner, provider and version: https://docs.aws.amazon.com/codepipeline/latest/userguide/integrations-action-type.html
ACTION_TYPES: Mapping[tuple[str, str, str, str], ActionType] = {
    (SOURCE, "AWS", "CodeCommit", "1"): ActionType(
        ("RepositoryName", "BranchName"),
        ("PollForSourceChanges", "OutputArtifactFormat"),
        (0, 0),
        (1, 1),
        ("CommitId", "CommitMessage", "RepositoryName", "BranchName", "AuthorDate", "CommitterDate"),
    ),
    (BUILD, "AWS", "CodeBuild", "1"): _CODE_BUILD,
    ("Test", "AWS", "CodeBuild", "1"): _CODE_BUILD,
    (APPROVAL, "AWS", "Manual", "1"): ActionType(
        (), ("NotificationArn", "CustomData", "ExternalEntityLink"), (0, 0), (0, 0)
    ),
}


def action_type(action: Declaration) -> tuple[str, str, str, str]:
    """Category, owner, provider and version."""
    given = action["actionTypeId"]
    return given["category"], given["owner"], given["provider"], given["version"]


def completed(pipeline: Declaration, version: int) -> Declaration:
    """A declaration with what CodePipeline adds to it.

    Args:
        pipeline: as a request has it, checked.
    """
    declaration = {"executionMode": SUPERSEDED, "pipelineType": "V1", **copy.deepcopy(pipeline), "version": version}
    for stage in declaration["stages"]:
        for action in stage["actions"]:
            for name, default in (("runOrder", 1), ("configuration", {}), ("inputArtifacts", [])):
                action.setdefault(name, default)
            action.setdefault("outputArtifacts", [])
    return declaration


def check(pipeline: Declaration, region: str) -> None:
    """Refuse a declaration that AWS refuses, or that is not built here.

    Args:
        pipeline: as a request has it; the service's model allows it.
        region: the pipeline's.

    Raises:
        ServiceError: InvalidStructureException, InvalidStageDeclarationException, InvalidActionDeclarationException,
            InvalidBlockerDeclarationException.
    """
    _check_type(pipeline)
    _check_store(pipeline, region)
    _check_stages(pipeline["stages"])
    for stage in pipeline["stages"]:
        for action in stage["actions"]:
            _check_action(action, pipeline, region)
    _check_artifacts(pipeline["stages"])
    _check_references(pipeline)


def _check_type(pipeline: Declaration) -> None:
    mode = pipeline.get("executionMode", SUPERSEDED)
    if mode != SUPERSEDED:
        raise _structure(f"executionMode {mode} is not built by local_aws. Use {SUPERSEDED}.")
    if pipeline.get("triggers"):
        raise _structure("triggers are not built by local_aws: they are for connections. Leave them out.")
    if pipeline.get("pipelineType", "V1") == "V1" and pipeline.get("variables"):
        raise _structure("Pipeline variables need pipelineType V2.")
    names = [each["name"] for each in pipeline.get("variables", [])]
    if twice := _repeated(names):
        raise _structure(f"Pipeline variable names must be unique; {twice} is there twice.")


def _check_store(pipeline: Declaration, region: str) -> None:
    stores = pipeline.get("artifactStores")
    if ("artifactStore" in pipeline) == (stores is not None):
        raise _structure("Give artifactStore or artifactStores, and not both.")
    if stores is not None and set(stores) != {region}:
        raise _structure(
            f"artifactStores has {', '.join(stores) or 'no Region'}: local_aws builds pipelines of one Region. Give the"
            f" store of {region} alone."
        )


def _check_stages(stages: list[Declaration]) -> None:
    if len(stages) < 2:
        raise _structure(
            f"Pipeline has only {len(stages)} stage(s). There should be a minimum of 2 stages in a pipeline"
        )
    if len(stages) > _MOST_STAGES:
        raise ServiceError("LimitExceededException", f"Pipeline has {len(stages)} stages; at most {_MOST_STAGES}.")
    if twice := _repeated([stage["name"] for stage in stages]):
        raise _stage(f"Stage name {twice} is there twice. Stage names must be unique within a pipeline")
    for stage in stages:
        if not stage["actions"]:
            raise _stage(f"Stage {stage['name']} has no actions. A stage has at least one action")
        if stage.get("blockers"):
            raise ServiceError("InvalidBlockerDeclarationException", "blockers are reserved for future use by AWS.")
        for condition in ("onFailure", "onSuccess", "beforeEntry"):
            if condition in stage:
                raise _stage(f"{condition} of stage {stage['name']} is not built by local_aws. Leave it out.")
        if twice := _repeated([action["name"] for action in stage["actions"]]):
            raise _stage(f"Action name {twice} is there twice. Action names must be unique within a stage")
    if sum(len(stage["actions"]) for stage in stages) > _MOST_ACTIONS:
        raise ServiceError("LimitExceededException", f"Pipeline has more than {_MOST_ACTIONS} actions.")
    sources = [{action_type(action)[0] == SOURCE for action in stage["actions"]} for stage in stages]
    if sources[0] != {True}:
        raise _structure("Pipeline should start with a stage that only contains source actions")
    if any(True in kinds for kinds in sources[1:]):
        raise _structure("Source actions can only be in the first stage of a pipeline")


def _check_action(action: Declaration, pipeline: Declaration, region: str) -> None:
    name = action["name"]
    category, owner, provider, version = action_type(action)
    kind = ACTION_TYPES.get((category, owner, provider, version))
    if kind is None:
        raise _action(
            f"ActionType (Category: '{category}', Provider: '{provider}', Owner: '{owner}', Version: '{version}') in"
            f" action '{name}' is not available in region {region}: local_aws builds"
            f" {'; '.join(' '.join(each) for each in ACTION_TYPES)}"
        )
    if action.get("region", region) != region:
        raise _action(f"Action '{name}' is of region {action['region']}: local_aws builds actions of one Region.")
    for member in ("roleArn", "commands", "outputVariables", "environmentVariables"):
        if member in action:
            raise _action(f"{member} of action '{name}' is not built by local_aws. Leave it out.")
    if "timeoutInMinutes" in action and category != APPROVAL:
        raise _action(f"timeoutInMinutes of action '{name}': only manual approvals can have it.")
    if any("files" in artifact for artifact in action.get("outputArtifacts", [])):
        raise _action(f"files of an output artifact of action '{name}': only Commands actions have them.")
    for what, counts in (("inputArtifacts", kind.inputs), ("outputArtifacts", kind.outputs)):
        count = len(action.get(what, []))
        if not counts[0] <= count <= counts[1]:
            raise _action(f"Action '{name}' has {count} {what}; {provider} has {counts[0]} to {counts[1]}")
    _check_configuration(action, kind, pipeline.get("pipelineType", "V1"))


def _check_configuration(action: Declaration, kind: ActionType, pipeline_type: str) -> None:
    name, given = action["name"], action.get("configuration", {})
    for member in kind.required:
        if not given.get(member):
            raise _action(f"Action configuration for action '{name}' is missing required configuration '{member}'")
    for member in given:
        if member not in (*kind.required, *kind.optional):
            raise _action(f"Action configuration for action '{name}' contains unknown configuration '{member}'")
    provider = action["actionTypeId"]["provider"]
    if provider == "CodeCommit":
        _check_source(name, given)
    elif provider == "CodeBuild":
        _check_build(action, given)
    if pipeline_type == "V1" and any(place.namespace == PIPELINE for place in _references(action)):
        raise _action(f"Action '{name}' uses a pipeline variable, which needs pipelineType V2.")


def _check_source(name: str, given: Mapping[str, str]) -> None:
    form = given.get("OutputArtifactFormat", "CODE_ZIP")
    if form not in ("CODE_ZIP", CLONE_REF):
        raise _action(f"OutputArtifactFormat of action '{name}' is {form!r}; it is CODE_ZIP or {CLONE_REF}")
    if form != CLONE_REF:
        raise _action(f"OutputArtifactFormat CODE_ZIP of action '{name}' is not built by local_aws. Use {CLONE_REF}.")
    if given.get("PollForSourceChanges", "true").lower() != "false":
        raise _action(
            f"PollForSourceChanges of action '{name}' is true, or left out, which is the same: local_aws does not poll."
            " Say 'false', and let an EventBridge rule start the pipeline."
        )


def _check_build(action: Declaration, given: Mapping[str, str]) -> None:
    name, inputs = action["name"], [each["name"] for each in action.get("inputArtifacts", [])]
    for member in ("BatchEnabled", "CombineArtifacts"):
        if given.get(member, "false").lower() != "false":
            raise _action(f"{member} of action '{name}' is not built by local_aws. Leave it out.")
    if action.get("outputArtifacts"):
        raise _action(f"outputArtifacts of action '{name}' are not built by local_aws: its builds hand on no files.")
    primary = given.get("PrimarySource")
    if primary is None and len(inputs) > 1:
        raise _action(f"Action configuration for action '{name}' is missing required configuration 'PrimarySource'")
    if primary is not None and primary not in inputs:
        raise _action(f"PrimarySource '{primary}' of action '{name}' is none of its inputArtifacts")
    if len(inputs) > 1:
        raise _action(f"Action '{name}' has {len(inputs)} inputArtifacts; local_aws builds one source.")
    if "EnvironmentVariables" in given:
        try:
            environment_variables(given["EnvironmentVariables"])
        except ValueError as error:
            raise _action(f"EnvironmentVariables of action '{name}': {error}") from error


def environment_variables(text: str) -> list[dict[str, str]]:
    """Those of a CodeBuild action's configuration, as StartBuild takes them.

    Raises:
        ValueError: what is wrong with the text.
    """
    example = 'Give such as [{"name": "STAGE", "value": "dev", "type": "PLAINTEXT"}]'
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is no JSON ({error}). {example}") from error
    if fault := _variables_fault(found):
        raise ValueError(f"{fault}. {example}")
    return [{"type": "PLAINTEXT", **each} for each in found]


def _variables_fault(found: Any) -> str | None:
    if not isinstance(found, list):
        return "it is no list"
    for each in found:
        if not isinstance(each, dict) or not all(isinstance(value, str) for value in each.values()):
            return f"{each!r} is no variable"
        if not {"name", "value"} <= set(each) <= {"name", "value", "type"}:
            return f"{each!r} has other members than name, value and type"
        if each.get("type", "PLAINTEXT") not in _VARIABLE_TYPES:
            return f"the type of {each['name']} is {each['type']!r}; it is one of {', '.join(_VARIABLE_TYPES)}"
    twice = _repeated([each["name"] for each in found])
    return f"{twice} is there twice" if twice else None


def _check_artifacts(stages: list[Declaration]) -> None:
    """An input is the output of an action that has ended before."""
    made: dict[str, tuple[int, int]] = {}
    for number, action in _in_order(stages):
        place = (number, action.get("runOrder", 1))
        for artifact in action.get("inputArtifacts", []):
            if made.get(artifact["name"], place) >= place:
                raise _action(
                    f"Input artifact '{artifact['name']}' of action '{action['name']}' is no output artifact of an"
                    " action before it"
                )
        for artifact in action.get("outputArtifacts", []):
            if artifact["name"] in made:
                raise _action(
                    f"Output artifact '{artifact['name']}' of action '{action['name']}' is there twice. Names of output"
                    " artifacts must be unique within a pipeline"
                )
            made[artifact["name"]] = place


def _check_references(pipeline: Declaration) -> None:
    """A variable's namespace is that of an action that has ended before, the pipeline's, or CodePipeline's own."""
    known: dict[str, tuple[int, int]] = {}
    pipelines = {each["name"] for each in pipeline.get("variables", [])}
    for number, action in _in_order(pipeline["stages"]):
        place = (number, action.get("runOrder", 1))
        for reference in _references(action):
            said = f"Action '{action['name']}' refers to the variable {reference}"
            if reference.namespace == SERVICE:
                if reference.name != "PipelineExecutionId":
                    raise _action(f"{said}: {SERVICE} has PipelineExecutionId alone.")
            elif reference.namespace == PIPELINE:
                if reference.name not in pipelines:
                    raise _action(f"{said}, which the pipeline does not declare.")
            elif known.get(reference.namespace, place) >= place:
                raise _action(f"{said}, whose namespace is that of no action before it.")
        if namespace := action.get("namespace"):
            if namespace in known or namespace in (SERVICE, PIPELINE):
                raise _action(f"Namespace {namespace} of action '{action['name']}' is taken. Choose another.")
            known[namespace] = place


def _references(action: Declaration) -> Iterator[Any]:
    for member, text in action.get("configuration", {}).items():
        try:
            yield from references(text)
        except VariableError as error:
            raise _action(f"{member} of action '{action['name']}': {error}") from error


def _in_order(stages: list[Declaration]) -> Iterator[tuple[int, Declaration]]:
    for number, stage in enumerate(stages):
        for action in sorted(stage["actions"], key=lambda each: each.get("runOrder", 1)):
            yield number, action


def _repeated(names: list[str]) -> str | None:
    return next((name for name, group in itertools.groupby(sorted(names)) if len(list(group)) > 1), None)


def _structure(message: str) -> ServiceError:
    return ServiceError("InvalidStructureException", message)


def _stage(message: str) -> ServiceError:
    return ServiceError("InvalidStageDeclarationException", message)


def _action(message: str) -> ServiceError:
    return ServiceError("InvalidActionDeclarationException", message)
