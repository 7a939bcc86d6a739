"""YAML files as pydantic models, with messages for whoever wrote them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pipeline import InputError
from pipeline.yaml_text import YamlError, fields


def load_yaml(path: Path, model: type[Any]) -> Any:
    """A YAML file as a `model` (pydantic). Raises InputError with one line per fault: file, field, fault, remedy."""
    content = parse_yaml(path.name, read_bytes(path))
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InputError("\n".join(_fault(path, model, fault) for fault in error.errors())) from None


def read_bytes(path: Path) -> bytes:
    """Raises InputError when the file is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path.name} is missing: restore it (git checkout -- {path.name})") from None


def parse_yaml(name: str, content: bytes) -> dict[Any, Any]:
    """The fields in a YAML file's content; `name` is for the message. Raises InputError."""
    try:
        return fields(content)
    except YamlError as error:
        raise InputError(f"{name} {error}") from None


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
