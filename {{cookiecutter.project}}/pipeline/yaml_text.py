"""YAML text as fields, by one rule for who writes a file and for the platform that deploys it."""

from __future__ import annotations

from typing import Any

import yaml

# Such files have a few hundred bytes; YAML can be written that takes hours to read.
LARGEST = 100_000  # bytes
DEEPEST = 50  # sections within sections


class YamlError(Exception):
    """No YAML, or no fields; the message goes on where the file's name ends."""


def fields(content: bytes) -> dict[Any, Any]:
    """The fields in YAML of UTF-8. Raises YamlError with the line and the fault."""
    if len(content) > LARGEST:
        raise YamlError(f"has {len(content):,} bytes, and at most {LARGEST:,} are read: shorten it")
    try:
        found = _UniqueKeys(content.decode("utf-8")).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f"line {mark.line + 1}: "
        fault = ", ".join(part for part in (error.context, error.problem) if part)
        raise YamlError(f"is not readable YAML: {place}{fault}: correct it") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, no such date, a number of thousands of digits
        raise YamlError(f"is not readable YAML: {' '.join(str(error).split())}: correct it") from None
    if found is None:
        raise YamlError("holds no fields (name: value): restore it")
    if not isinstance(found, dict):
        raise YamlError(f"must hold fields (name: value), but is {type(found).__name__}: restore it")
    return found


class _UniqueKeys(yaml.SafeLoader):
    """YAML as it is specified: a field that occurs twice is an error. PyYAML would silently take the later one."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.depth > DEEPEST:
            fault = f"sections are nested more than {DEEPEST} deep"
            raise yaml.composer.ComposerError(None, None, fault, self.peek_event().start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        known: list[Any] = []
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in known:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} occurs twice", key.start_mark)
            known.append(name)
        return super().construct_mapping(node, deep)
