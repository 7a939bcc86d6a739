"""YAML files as pydantic models, with messages for whoever wrote them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.errors import InputError


def load_yaml(path: Path, model: type[Any]) -> Any:
    """A YAML file as a `model` (pydantic). Raises InputError with one line per fault: file, field, fault, remedy."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise InputError(f"{path.name} is missing: restore it (git checkout -- {path.name})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not readable YAML: {' '.join(str(error).split())}: correct it") from None
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must hold fields (name: value), but is {type(content).__name__}: restore it")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InputError("\n".join(_fault(path, model, fault) for fault in error.errors())) from None


class _UniqueKeys(yaml.SafeLoader):
    """YAML as it is specified: a field that occurs twice is an error. PyYAML would silently take the later one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"{repeated[0]!r} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


def fault_text(model: type[BaseModel], fault: Any) -> str:
    """One of pydantic's errors as: the fault, and what to do."""
    if fault["type"] == "extra_forbidden":
        known = ", ".join(_fields(model, fault["loc"][:-1]))
        return f"there is no such field: remove it, or correct its name (known here: {known})"
    if fault["type"] == "missing":
        return "the field is missing: add it"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    message = re.sub(r"^(Input|String|Value) should", "must", fault["msg"])
    return f"{fault['input']!r} is not allowed: it {message}"


def _fault(path: Path, model: type[BaseModel], fault: Any) -> str:
    place = ".".join(map(str, fault["loc"]))
    return f"{path.name}: {place}: {fault_text(model, fault)}" if place else f"{path.name}: {fault_text(model, fault)}"


def _fields(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The fields of the section at `place`: through lists and mappings, whose items are sections."""
    annotation: Any = model
    for part in place:
        fields = section.model_fields if (section := _section(annotation)) else {}
        annotation = fields[str(part)].annotation if part in fields else annotation
    section = _section(annotation)
    return list(section.model_fields) if section else []


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section in an annotation such as Section, Section | None, list[Section] or dict[str, Section]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section(inner))), None)
