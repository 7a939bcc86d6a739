"""Parameters of CloudFormation templates: those that stand for values in Parameter Store, and constraints.

Touches: `_resolve_parameters` and `_constraint_error` in the modules of `cloudformation`, and DescribeStacks' answer.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from local_aws.ministack_host.app import before_first_request

IN_PARAMETER_STORE = "AWS::SSM::Parameter::Value<"
_NAMESPACE = "http://cloudformation.amazonaws.com/doc/2010-05-15/"
_TAG = f"{{{_NAMESPACE}}}"


def resolve_stored_parameters() -> None:
    """Say what templates' parameters stand for, and what is wrong with them, as AWS does.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-supplied-parameter-types.html
    """
    before_first_request("cloudformation", _prepare)


def _prepare() -> None:
    from ministack.services import cloudformation, ssm
    from ministack.services.cloudformation import changesets, engine, handlers

    resolve = engine._resolve_parameters
    ElementTree.register_namespace("", _NAMESPACE)

    def resolve_all(
        template: dict[str, Any], provided: list[dict[str, Any]], previous: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            resolved: dict[str, Any] = resolve(template, provided, previous)
        except ValueError as error:
            names = _stored_names(template, provided, previous or {})
            if "failed to resolve: SSM parameter" not in str(error):
                raise
            missing = [name for name in names if ssm.resolve_parameter_value(name) is None]
            raise ValueError(
                f"Unable to fetch parameters [{','.join(missing)}] from parameter store for this account."
            ) from error
        secret = [name for name in _stored_names(template, provided, previous or {}) if _is_secret(ssm, name)]
        if secret:
            raise ValueError(
                f"Parameters [{','.join(secret)}] referenced by template have types not supported by CloudFormation."
            )
        return resolved

    def constraint_error(name: str, definition: dict[str, Any], reason: str) -> ValueError:
        if description := definition.get("ConstraintDescription"):
            return ValueError(f"Parameter {name} failed to satisfy constraint: {description}")
        return ValueError(f"Parameter '{name}' {reason}")

    def describe_resolved(params: dict[str, Any]) -> Any:
        status, headers, body = describe(params)
        stored = {
            stack["StackId"]: values
            for stack in cloudformation._stacks.values()
            if (values := _stored_values(stack.get("_resolved_params") or {}))
        }
        return status, headers, _with_resolved(body, stored) if status == 200 and stored else body

    for module in (changesets, engine, handlers):
        module._resolve_parameters = resolve_all
    engine._constraint_error = constraint_error
    describe = cloudformation._ACTION_HANDLERS["DescribeStacks"]
    cloudformation._ACTION_HANDLERS["DescribeStacks"] = describe_resolved


def _stored_names(template: dict[str, Any], provided: list[dict[str, Any]], previous: dict[str, Any]) -> list[str]:
    """The names in Parameter Store that an operation's parameters stand for."""
    given = {each.get("Key"): each for each in provided}
    names = []
    for parameter, definition in template.get("Parameters", {}).items():
        if not str(definition.get("Type")).startswith(IN_PARAMETER_STORE):
            continue
        entry = given.get(parameter) or {}
        kept = (previous.get(parameter) or {}).get("SsmName") if entry.get("UsePreviousValue") else None
        names.append(str(kept or entry.get("Value") or definition.get("Default")))
    return names


def _is_secret(ssm: Any, name: str) -> bool:
    return bool((ssm._select_parameter(name)[0] or {}).get("Type") == "SecureString")


def _stored_values(resolved: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Name in Parameter Store and value of each parameter that has one."""
    return {key: (each["SsmName"], each["Value"]) for key, each in resolved.items() if "SsmName" in each}


def _with_resolved(body: bytes, stored: dict[str, dict[str, tuple[str, str]]]) -> bytes:
    """DescribeStacks' answer with names in Parameter Store as parameters' values and, beside them, what they stand for.

    Args:
        stored: by the stack's id.
    """
    answer = ElementTree.fromstring(body)  # noqa: S314  # MiniStack has just written it
    for stack in answer.iterfind(f".//{_TAG}Stacks/{_TAG}member"):
        values = stored.get(stack.findtext(f"{_TAG}StackId", ""), {})
        for parameter in stack.iterfind(f"{_TAG}Parameters/{_TAG}member"):
            if found := values.get(parameter.findtext(f"{_TAG}ParameterKey", "")):
                shown = parameter.find(f"{_TAG}ParameterValue")
                assert shown is not None  # DescribeStacks always gives one
                shown.text = found[0]
                ElementTree.SubElement(parameter, f"{_TAG}ResolvedValue").text = found[1]
    return bytes(ElementTree.tostring(answer, encoding="utf-8"))
