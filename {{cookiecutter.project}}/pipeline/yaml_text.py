"""YAML text as fields, by one rule for who writes a file and for the platform that deploys it."""

from __future__ import annotations

from typing import Any

import yaml


class YamlError(Exception):
    """No YAML, or no fields; the message goes on where the file's name ends."""


def fields(content: bytes) -> dict[Any, Any]:
    """The fields in YAML of UTF-8. Raises YamlError with the line and the fault."""
    try:
        found = _UniqueKeys(content.decode("utf-8")).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f"line {mark.line + 1}: "
        fault = ", ".join(part for part in (error.context, error.problem) if part)
        raise YamlError(f"is not readable YAML: {place}{fault}: correct it") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise YamlError(f"is not readable YAML: {' '.join(str(error).split())}: correct it") from None
    if found is None:
        raise YamlError("holds no fields (name: value): restore it")
    if not isinstance(found, dict):
        raise YamlError(f"must hold fields (name: value), but is {type(found).__name__}: restore it")
    return found


class _UniqueKeys(yaml.SafeLoader):
    """YAML as it is specified: a field that occurs twice is an error. PyYAML would silently take the later one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        known: list[Any] = []
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in known:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} occurs twice", key.start_mark)
            known.append(name)
        return super().construct_mapping(node, deep)
