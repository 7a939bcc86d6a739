"""What a CloudFormation template asks of whoever makes a stack from it: its parameters, as a form shows them.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/parameters-section-structure.html
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-cloudformation-interface.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

STORED = "AWS::SSM::Parameter::"  # types whose value names, or is read from, a parameter of Systems Manager


@dataclass(frozen=True)
class Parameter:
    """One parameter of a template.

    Args:
        default: None: a value must be given.
        label: what a form calls it.
        allowed_values: empty: any.
        minimum, maximum: of a number's value.
        shortest, longest: of a string's length.
        rule: ConstraintDescription: what AWS says of a value that is not allowed.
    """

    name: str
    type: str = "String"
    default: str | None = None
    label: str = ""
    description: str = ""
    allowed_values: tuple[str, ...] = ()
    allowed_pattern: str | None = None
    minimum: str | None = None
    maximum: str | None = None
    shortest: str | None = None
    longest: str | None = None
    rule: str | None = None
    no_echo: bool = False

    @property
    def from_store(self) -> bool:
        """Whether its value is read from Systems Manager: what is given is a parameter's name there."""
        return self.type.startswith(STORED)

    def fault(self, value: str) -> str | None:
        """What is wrong with a value, in CloudFormation's words; None when nothing is.

        A value that is read from Systems Manager is only known to CloudFormation.
        """
        if self.from_store:
            return None
        if self.allowed_values and value not in self.allowed_values:
            return f"Parameter '{self.name}' must be one of AllowedValues: {', '.join(self.allowed_values)}"
        wanted = self._broken_constraint(value)
        return f"Parameter '{self.name}' {self.rule or wanted}" if wanted else None

    def _broken_constraint(self, value: str) -> str | None:
        if self.allowed_pattern is not None and not re.fullmatch(self.allowed_pattern, value):
            return f"must match pattern {self.allowed_pattern}"
        if self.type == "Number":
            return self._number_fault(value)
        if self.shortest is not None and len(value) < int(self.shortest):
            return f"must contain at least {self.shortest} characters"
        if self.longest is not None and len(value) > int(self.longest):
            return f"must contain at most {self.longest} characters"
        return None

    def _number_fault(self, value: str) -> str | None:
        try:
            number = float(value)
        except ValueError:
            return f"must be a number, not {value!r}"
        if self.minimum is not None and number < float(self.minimum):
            return f"must be a number not less than {self.minimum}"
        if self.maximum is not None and number > float(self.maximum):
            return f"must be a number not greater than {self.maximum}"
        return None


@dataclass(frozen=True)
class Group:
    """Parameters that a form shows together; the label is empty for those that no group names."""

    label: str
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True)
class TemplateForm:
    """
    Args:
        groups: every parameter once, in the order in which a form shows them.
        outputs: descriptions by name.
    """

    description: str = ""
    groups: tuple[Group, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Parameter]:
        return {one.name: one for group in self.groups for one in group.parameters}


def read_template(text: str) -> TemplateForm:
    """The form of a template in YAML or JSON.

    Raises:
        ValueError: it is no template; the message says why, as CloudFormation begins it.
    """
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"Template format error: YAML not well-formed. ({' '.join(str(error).split())})") from error
    except RecursionError as error:
        raise ValueError("Template format error: nested too deeply.") from error
    if not isinstance(document, dict):
        raise ValueError("Template format error: unsupported structure.")  # noqa: TRY004 (as for every fault)
    if not isinstance(document.get("Resources"), dict) or not document["Resources"]:
        raise ValueError("Template format error: At least one Resources member must be defined.")
    definitions = _mapping(document, "Parameters")
    interface = _mapping(_mapping(document, "Metadata"), "AWS::CloudFormation::Interface")
    labels = {name: str(each.get("default", "")) for name, each in _mappings(interface, "ParameterLabels").items()}
    parameters = {
        name: _parameter(str(name), definition, labels.get(name, ""))
        for name, definition in _mappings(document, "Parameters").items()
    }
    if odd := [str(name) for name in definitions if name not in parameters]:
        raise ValueError(f"Template format error: Every Parameters object must be a mapping: {', '.join(odd)}.")
    outputs = {name: str(each.get("Description", "")) for name, each in _mappings(document, "Outputs").items()}
    return TemplateForm(str(document.get("Description") or ""), _groups(interface, parameters), outputs)


def value_faults(form: TemplateForm, values: Mapping[str, str]) -> list[str]:
    """What CloudFormation would say of the values for a new stack; empty when it would take them."""
    parameters = form.parameters
    unknown = [name for name in values if name not in parameters]
    missing = [name for name, one in parameters.items() if one.default is None and name not in values]
    faults = []
    if unknown:
        faults.append(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    if missing:
        faults.append(f"Parameters: [{', '.join(missing)}] must have values")
    faults += [
        fault for name, value in values.items() if name in parameters and (fault := parameters[name].fault(value))
    ]
    return faults


class _Loader(yaml.SafeLoader):
    """Short forms (!Sub) are read as what they stand for; nothing here looks inside."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {suffix: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _short_form)


def _as_written(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """A date, such as a template's version, is text to CloudFormation."""
    return loader.construct_scalar(node)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_written)


def _mapping(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _mappings(document: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
    return {key: value for key, value in _mapping(document, name).items() if isinstance(value, dict)}


def _parameter(name: str, definition: Mapping[str, Any], label: str) -> Parameter:
    def text(member: str) -> str | None:
        value = definition.get(member)
        return None if value is None else _text(value)

    return Parameter(
        name,
        text("Type") or "String",
        text("Default"),
        label,
        text("Description") or "",
        tuple(_text(value) for value in definition.get("AllowedValues") or ()),
        text("AllowedPattern"),
        text("MinValue"),
        text("MaxValue"),
        text("MinLength"),
        text("MaxLength"),
        text("ConstraintDescription"),
        text("NoEcho") == "true",
    )


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _groups(interface: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> tuple[Group, ...]:
    left, groups = dict(parameters), []
    for group in interface.get("ParameterGroups") or []:
        label = _mapping(group, "Label").get("default", "") if isinstance(group, dict) else ""
        names = group.get("Parameters") or [] if isinstance(group, dict) else []
        members = tuple(left.pop(name) for name in names if name in left)
        if members:
            groups.append(Group(str(label), members))
    return (*groups, Group("", tuple(left.values()))) if left else tuple(groups)
