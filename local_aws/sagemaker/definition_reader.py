"""A pipeline's definition read from its JSON, and everything that is wrong with it.

Pure: text in, a `Definition` or a `DefinitionError` out. The form is the one that the SageMaker Python SDK 3.27 writes
(AWS's published JSON schema lags behind it); a step's Arguments are checked against botocore's model of the request
that the step makes.
"""

from __future__ import annotations

import functools
import graphlib
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from botocore.model import Shape

from local_aws.calls import ServiceError
from local_aws.request_checks import check_shape, service_model
from local_aws.sagemaker.cache import KEY_ATTRIBUTES, parse_duration
from local_aws.sagemaker.definition import STEP_TYPES, Definition, Parameter, PropertyFile, RetryPolicy, Step
from local_aws.sagemaker.expressions import (
    EXECUTION_VARIABLES,
    GET,
    JOIN,
    ExpressionError,
    Reference,
    condition_faults,
    is_expression,
    parse_path,
    parse_reference,
    path_text,
    read_json,
    references,
)

VERSION = "2020-12-01"
MOST_STEPS = 50
MOST_PARAMETERS = 200
EXCEPTION_TYPES = (
    "Step.SERVICE_FAULT",
    "Step.THROTTLING",
    "SageMaker.JOB_INTERNAL_ERROR",
    "SageMaker.CAPACITY_ERROR",
    "SageMaker.RESOURCE_LIMIT",
)
_TOP_LEVEL = ("Version", "Metadata", "Parameters", "PipelineExperimentConfig", "MlflowConfig", "Steps")
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "String": (str,),
    "Integer": (int,),
    "Float": (int, float),
    "Boolean": (bool,),
}
# Execution variables that only the arguments of a step of one type can have.
_JOB_NAMES = {"TrainingJobName": "Training", "ProcessingJobName": "Processing"}
# Which places of a request take a value of which type: an Integer may stand where a Float is wanted, not the reverse.
_FITS = {
    "string": {"string"},
    "integer": {"integer", "long", "float", "double"},
    "long": {"integer", "long", "float", "double"},
    "float": {"float", "double"},
    "double": {"float", "double"},
    "boolean": {"boolean"},
}


class DefinitionError(ValueError):
    """A definition that AWS would refuse; the message has every fault found, each with its step."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("Unable to parse pipeline definition. " + "; ".join(faults))
        self.faults = faults


@functools.lru_cache(maxsize=64)
def parse_definition(text: str) -> Definition:
    """Read and check a definition.

    Args:
        text: the JSON document, at most 1 MiB.

    Raises:
        DefinitionError: with everything that is wrong.
    """
    try:
        document = read_json(text)
    except ValueError as error:
        raise DefinitionError([f"It is not JSON: {error}"]) from error
    return _Reader(document).read()


class _Reader:
    """Collects faults, so that the user sees them all at once."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self.faults: list[str] = []
        self.parameters: dict[str, Parameter] = {}
        self.steps: dict[str, Step] = {}
        self.unreadable: set[str] = set()  # steps left out, so that others may still depend on them

    def read(self) -> Definition:
        if not isinstance(self.document, dict):
            raise DefinitionError(["It must be a JSON object with Version and Steps"])
        self._only("The definition", self.document, _TOP_LEVEL)
        if self.document.get("Version") != VERSION:
            self.faults.append(f"Version must be '{VERSION}', not {self.document.get('Version')!r}")
        if self.document.get("MlflowConfig"):
            self.faults.append("MlflowConfig is not supported by local_aws: leave it out")
        self._read_parameters(self._list("The definition", self.document, "Parameters"))
        steps = self._list("The definition", self.document, "Steps")
        if not steps:
            self.faults.append("Steps must be a list with at least one step")
        self._read_steps(steps, None)
        if len(self.steps) > MOST_STEPS:
            self.faults.append(f"Steps: there are {len(self.steps)}; at most {MOST_STEPS} are allowed")
        for step in self.steps.values():
            self._check_step(step)
        experiment = self.document.get("PipelineExperimentConfig")
        if experiment:
            self._check_experiment(experiment)
        if not self.faults:
            self._check_order()
        if self.faults:
            raise DefinitionError(self.faults)
        return Definition(self.parameters, self.steps, experiment or None)

    # Reading: the form of each part.

    def _only(self, where: str, mapping: dict[str, Any], known: tuple[str, ...]) -> None:
        for unknown in sorted(set(mapping) - set(known)):
            self.faults.append(f"{where}: unknown property '{unknown}'; the known ones are {', '.join(known)}")

    def _list(self, where: str, mapping: dict[str, Any], member: str) -> list[Any]:
        """A member that is a list; empty when it is absent, or null as the SDK writes it."""
        value = mapping.get(member)
        if value is None or isinstance(value, list):
            return value or []
        self.faults.append(f"{where}: {member} must be a list")
        return []

    def _read_parameters(self, items: list[Any]) -> None:
        if len(items) > MOST_PARAMETERS:
            self.faults.append(f"Parameters: there are {len(items)}; at most {MOST_PARAMETERS} are allowed")
        for item in items:
            if not isinstance(item, dict) or not isinstance(item.get("Name"), str):
                self.faults.append(f"Parameters: {item!r} has no Name")
                continue
            self._read_parameter(item["Name"], item)

    def _read_parameter(self, name: str, item: dict[str, Any]) -> None:
        where = f"Parameter '{name}'"
        self._only(where, item, ("Name", "Type", "DefaultValue", "EnumValues"))
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", name):
            self.faults.append(f"{where}: a name has 1 to 256 letters, digits, - and _")
        if name in self.parameters:
            self.faults.append(f"{where}: the name is used twice")
        kind, default, enum = item.get("Type"), item.get("DefaultValue"), item.get("EnumValues")
        if not isinstance(kind, str) or kind not in _PYTHON_TYPES:
            self.faults.append(f"{where}: Type must be one of {', '.join(_PYTHON_TYPES)}, not {kind!r}")
            kind = "String"
        elif default is not None and not _is_of_type(default, kind):
            self.faults.append(f"{where}: the DefaultValue {default!r} is not of the parameter's type {kind}")
        if enum is not None:
            if not isinstance(enum, list) or not enum or not all(_is_of_type(value, kind) for value in enum):
                self.faults.append(f"{where}: EnumValues must be a list of values of type {kind}")
                enum = None
            elif default is not None and default not in enum:
                self.faults.append(f"{where}: the DefaultValue {default!r} is not one of the EnumValues {enum}")
        self.parameters[name] = Parameter(name, kind, default, tuple(enum) if enum is not None else None)

    def _read_steps(self, items: list[Any], branch: tuple[str, str] | None) -> None:
        where = f"Step '{branch[0]}': {'IfSteps' if branch[1] == 'True' else 'ElseSteps'}" if branch else "Steps"
        for item in items:
            if not isinstance(item, dict) or not isinstance(item.get("Name"), str):
                self.faults.append(f"{where}: {_short(item)} has no Name")
            elif not isinstance(item.get("Type"), str) or item["Type"] not in STEP_TYPES:
                self.faults.append(
                    f"Step '{item['Name']}': local_aws does not run steps of type {item.get('Type')!r};"
                    f" it runs {', '.join(STEP_TYPES)}"
                )
            else:
                self._read_step(item["Name"], item, branch)

    def _read_step(self, name: str, item: dict[str, Any], branch: tuple[str, str] | None) -> None:
        where, kind = f"Step '{name}'", item["Type"]
        known = ["Name", "Type", "DisplayName", "Description", "DependsOn", "Arguments"]
        known += ["CacheConfig"] if kind in KEY_ATTRIBUTES else []
        known += ["RetryPolicies"] if STEP_TYPES[kind].operation else []
        known += ["PropertyFiles"] if kind == "Processing" else []
        self._only(where, item, tuple(known))
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            self.faults.append(f"{where}: a name has 1 to 64 letters, digits, - and _")
        if name in self.steps:
            self.faults.append(f"{where}: the name is used twice; step names are unique over all branches")
        arguments = item.get("Arguments", {})
        if not isinstance(arguments, dict):
            self.faults.append(f"{where}: Arguments must be an object")
            arguments = {}
        own = {key: value for key, value in arguments.items() if key not in ("IfSteps", "ElseSteps")}
        own = own if kind == "Condition" else arguments
        try:
            referred = {reference.name for reference in references(own) if reference.kind == "Steps"}
        except ExpressionError as error:
            self.faults.append(f"{where}: {error}")
            self.unreadable.add(name)
            return
        self.steps[name] = Step(
            name=name,
            type=kind,
            arguments=own,
            needs=frozenset(referred | self._depends_on(where, self._list(where, item, "DependsOn"))),
            branch=branch,
            display_name=self._text(where, item, "DisplayName"),
            description=self._text(where, item, "Description"),
            expire_after=self._expire_after(where, item.get("CacheConfig")),
            retry_policies=tuple(self._retry_policies(where, self._list(where, item, "RetryPolicies"))),
            property_files=self._property_files(where, self._list(where, item, "PropertyFiles"), arguments),
        )
        if kind == "Condition":
            self._read_steps(self._list(where, arguments, "IfSteps"), (name, "True"))
            self._read_steps(self._list(where, arguments, "ElseSteps"), (name, "False"))

    def _text(self, where: str, item: dict[str, Any], member: str) -> str | None:
        value = item.get(member)
        if value is not None and not isinstance(value, str):
            self.faults.append(f"{where}: {member} must be a string")
            return None
        return value

    def _depends_on(self, where: str, items: list[Any]) -> set[str]:
        needs: set[str] = set()
        for item in items:
            name, trigger = item, "Completed"
            if isinstance(item, dict) and set(item) == {"Step", "Trigger"}:
                name, trigger = item["Step"], item["Trigger"]
            if not isinstance(name, str):
                self.faults.append(f"{where}: DependsOn: {_short(item)} is not the name of a step")
            elif trigger != "Completed":
                self.faults.append(
                    f"{where}: DependsOn with Trigger {trigger!r} is not supported by local_aws: it runs a step only"
                    " after the steps it depends on succeeded"
                )
            else:
                needs.add(name)
        return needs

    def _expire_after(self, where: str, config: Any) -> timedelta | None:
        if config is None:
            return None
        if not isinstance(config, dict) or not isinstance(config.get("Enabled"), bool):
            self.faults.append(f"{where}: CacheConfig needs Enabled, true or false")
            return None
        self._only(f"{where}: CacheConfig", config, ("Enabled", "ExpireAfter"))
        expire_after = timedelta.max
        if config.get("ExpireAfter") is not None:
            try:
                expire_after = parse_duration(str(config["ExpireAfter"]))
            except ValueError as error:
                self.faults.append(f"{where}: CacheConfig: ExpireAfter: {error}")
        return expire_after if config["Enabled"] else None

    def _retry_policies(self, where: str, items: list[Any]) -> Iterator[RetryPolicy]:
        for number, item in enumerate(items):
            at = f"{where}: RetryPolicies[{number}]"
            if not isinstance(item, dict):
                self.faults.append(f"{at} must be an object")
                continue
            self._only(at, item, ("ExceptionType", "IntervalSeconds", "BackoffRate", "MaxAttempts", "ExpireAfterMin"))
            kinds = item.get("ExceptionType")
            if not isinstance(kinds, list) or not kinds or not set(map(str, kinds)) <= set(EXCEPTION_TYPES):
                self.faults.append(f"{at}: ExceptionType must be a list of {', '.join(EXCEPTION_TYPES)}; not {kinds!r}")
                continue
            limits = {"IntervalSeconds": 43200, "BackoffRate": float("inf"), "MaxAttempts": 20, "ExpireAfterMin": 14400}
            given = {name: item[name] for name in limits if item.get(name) is not None}
            for name, value in given.items():
                whole = name in ("MaxAttempts", "ExpireAfterMin")
                if not _is_of_type(value, "Integer" if whole else "Float") or not 0 <= value <= limits[name]:
                    kind = "a whole number" if whole else "a number"
                    self.faults.append(f"{at}: {name} must be {kind} from 0 to {limits[name]}, not {value!r}")
            if "MaxAttempts" in given and "ExpireAfterMin" in given:
                self.faults.append(f"{at}: give either MaxAttempts or ExpireAfterMin, not both")
            if not any(fault.startswith(at) for fault in self.faults):
                expire = given.get("ExpireAfterMin")
                yield RetryPolicy(
                    exceptions=frozenset(kinds),
                    interval=given.get("IntervalSeconds", 1),
                    backoff=given.get("BackoffRate", 2.0),
                    attempts=given.get("MaxAttempts", 5) if expire is None else None,
                    expire_minutes=expire,
                )

    def _property_files(self, where: str, items: list[Any], arguments: dict[str, Any]) -> dict[str, PropertyFile]:
        files: dict[str, PropertyFile] = {}
        members = ("PropertyFileName", "OutputName", "FilePath")
        outputs = _output_names(arguments)
        for item in items:
            if not isinstance(item, dict) or not all(isinstance(item.get(member), str) for member in members):
                self.faults.append(f"{where}: PropertyFiles must be a list of objects with {', '.join(members)}")
                continue
            name, output, path = (item[member] for member in members)
            self._only(f"{where}: PropertyFile '{name}'", item, members)
            if name in files:
                self.faults.append(f"{where}: PropertyFile '{name}': the name is used twice")
            if output not in outputs:
                self.faults.append(
                    f"{where}: PropertyFile '{name}': the step has no output '{output}'; its outputs are"
                    f" {', '.join(outputs) or 'none'}"
                )
            files[name] = PropertyFile(name, output, path)
        return files

    # Checking: what the parts say about each other. All steps are known by now.

    def _check_step(self, step: Step) -> None:
        where = f"Step '{step.name}'"
        for unknown in sorted(step.needs - set(self.steps) - self.unreadable):
            self.faults.append(f"{where}: depends on step '{unknown}', which is not in the definition")
        if step.needs <= set(self.steps):
            for reference in references(step.arguments):
                self.faults += [f"{where}: {fault}" for fault in self._reference_faults(reference, step)]
        if step.type == "Condition":
            self._check_conditions(where, step.arguments)
        elif step.type == "Fail":
            self._only(f"{where}: Arguments", step.arguments, ("ErrorMessage",))
            message = step.arguments.get("ErrorMessage", "")
            if not isinstance(message, str) and not is_expression(message):
                self.faults.append(f"{where}: ErrorMessage must be a string or an expression")
        else:
            self._check_arguments(where, step)

    def _check_experiment(self, config: Any) -> None:
        where = "PipelineExperimentConfig"
        try:
            for reference in references(config):
                known = self.parameters if reference.kind == "Parameters" else EXECUTION_VARIABLES
                if reference.kind == "Steps" or reference.name in _JOB_NAMES or reference.name not in known:
                    self.faults.append(f"{where}: '{reference.text}' has no value when an execution starts")
        except ExpressionError as error:
            self.faults.append(f"{where}: {error}")
            return
        self._check_shape(where, where, config)

    def _check_conditions(self, where: str, arguments: dict[str, Any]) -> None:
        self._only(f"{where}: Arguments", arguments, ("Conditions",))
        conditions = arguments.get("Conditions")
        if not isinstance(conditions, list) or not conditions:
            self.faults.append(f"{where}: Conditions must be a list with at least one condition")
            return
        for condition in conditions:
            self.faults += [f"{where}: {fault}" for fault in condition_faults(condition)]

    def _check_arguments(self, where: str, step: Step) -> None:
        step_type = STEP_TYPES[step.type]
        arguments = step.arguments
        if step_type.job_name in arguments:
            self.faults.append(
                f"{where}: {step_type.job_name}: the execution names its jobs itself"
                " (custom job prefixes are not supported by local_aws); leave it out"
            )
        elif step_type.job_name:
            arguments = arguments | {step_type.job_name: "name"}
        assert step_type.operation is not None
        shape = service_model("sagemaker").operation_model(step_type.operation).input_shape
        self._check_shape(where, shape.name, arguments)

    def _check_shape(self, where: str, shape_name: str, value: Any) -> None:
        try:
            faults = check_shape("sagemaker", shape_name, value, self._placeholder)
        except ServiceError as error:
            faults = [error.message]
        self.faults += [f"{where}: {fault}" for fault in faults]

    def _placeholder(self, shape: Shape, value: Any, path: str) -> list[str] | None:
        """What is wrong with an expression where a request wants `shape`; None when the value is no expression."""
        if not is_expression(value):
            return None
        kind = self._type(value)
        if kind is None or shape.type_name in _FITS.get(kind, {kind}):
            return []
        wanted = {"string": "String", "long": "Integer", "double": "Float"}.get(
            shape.type_name, shape.type_name.title()
        )
        remedy = " (use .to_string(), or Std:Join)" if wanted == "String" and kind in _FITS else ""
        source = value.get(GET) or next(iter(value))
        return [f"Cannot assign property reference [{source}] to argument of type [{wanted}] at '{path}'{remedy}"]

    def _type(self, expression: dict[str, Any]) -> str | None:
        """The type of an expression's value, as botocore calls it; None when only the execution can tell."""
        if JOIN in expression:
            return "string"
        if GET not in expression:
            return None
        reference = parse_reference(expression[GET])
        if reference.kind == "Execution":
            return "string"
        if reference.kind == "Parameters":
            parameter = self.parameters.get(reference.name)
            return parameter.type.lower() if parameter else None
        shape = self._property_shape(reference) if reference.name in self.steps else None
        return shape.type_name if isinstance(shape, Shape) else None

    def _reference_faults(self, reference: Reference, user: Step) -> Iterator[str]:
        if reference.kind == "Parameters":
            if reference.name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                yield f"'{reference.text}': there is no such parameter; the definition's parameters are: {known}"
        elif reference.kind == "Execution":
            of_step = _JOB_NAMES.get(reference.name, user.type)
            if reference.name not in EXECUTION_VARIABLES:
                yield f"'{reference.text}': there is no such variable; there are {', '.join(EXECUTION_VARIABLES)}"
            elif user.type != of_step:
                yield f"'{reference.text}' has a value in the arguments of a {of_step} step only"
        elif reference.property_file is not None:
            files = self.steps[reference.name].property_files
            if reference.property_file not in files:
                known = ", ".join(files) or "none"
                yield f"'{reference.text}': step '{reference.name}' has no such PropertyFile; it has: {known}"
        elif isinstance(shape := self._property_shape(reference), str):
            yield f"'{reference.text}': {shape}"

    def _property_shape(self, reference: Reference) -> Shape | str | None:
        """The shape of a step's property; what is wrong with the path; or None for a Condition's Outcome."""
        step = self.steps[reference.name]
        describe = STEP_TYPES[step.type].describe
        if describe is None:
            known = "the property Outcome only" if step.type == "Condition" else "no properties"
            if step.type == "Condition" and reference.path == "Outcome":
                return None
            return f"a {step.type} step has {known}"
        try:
            tokens = parse_path(reference.path)
        except ExpressionError as error:
            return str(error)
        shape = service_model("sagemaker").operation_model(describe).output_shape
        lists = STEP_TYPES[step.type].lists
        if lists is not None and tokens[0] not in shape.members:
            shape = service_model("sagemaker").operation_model(lists).output_shape
        for number, token in enumerate(tokens):
            at = path_text(tokens[: number + 1])
            if shape.type_name == "structure" and token in shape.members:
                shape = shape.members[token]
            elif shape.type_name == "list":
                if shape.name == "ProcessingOutputs" and isinstance(token, str):
                    outputs = _output_names(step.arguments)
                    if token not in outputs:
                        known = ", ".join(outputs) or "none"
                        return f"step '{step.name}' has no output '{token}'; its outputs are {known}"
                shape = shape.member
            elif shape.type_name == "map" and isinstance(token, str):
                shape = shape.value
            else:
                return f"{describe}'s response has nothing at {at!r}"
        return shape

    def _check_order(self) -> None:
        graph = {name: {*step.needs, *(step.branch or ())[:1]} for name, step in self.steps.items()}
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            self.faults.append(f"Steps depend on each other in a circle: {' -> '.join(reversed(error.args[1]))}")


def _is_of_type(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "Boolean"
    return isinstance(value, _PYTHON_TYPES[kind])


def _output_names(arguments: dict[str, Any]) -> list[str]:
    """The names of a Processing step's outputs."""
    config = arguments.get("ProcessingOutputConfig")
    outputs = config.get("Outputs") if isinstance(config, dict) else None
    items = outputs if isinstance(outputs, list) else []
    names = [output.get("OutputName") for output in items if isinstance(output, dict)]
    return [name for name in names if isinstance(name, str)]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:80] + "..."
