"""product.yaml with the defaults of one installation, as Studio and Service Catalog show it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from servicecatalog.errors import InstallError

TEMPLATE = Path(__file__).resolve().parent / "product.yaml"
LONGEST = 51_200  # bytes of a template that is given as such and not by its address; by its address 1 MB
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html


def filled(template: str, defaults: Mapping[str, str]) -> str:
    """The template with other defaults of some parameters.

    Raises:
        InstallError: a parameter has no Default line of its own, or is not found exactly once.
    """
    for parameter, value in defaults.items():
        template = with_default(template, parameter, value)
    return template


def with_default(template: str, parameter: str, value: str) -> str:
    """The template with another `Default:` of one parameter; every other byte stays.

    Args:
        template: CloudFormation in YAML, a parameter's properties on lines of their own.
        parameter: its name.
        value: letters, digits and what stands in names and addresses; written in quotes.

    Raises:
        InstallError: as in filled(), or the value cannot be written on such a line.
    """
    if not re.fullmatch(r"[\w./:@+-]*", value):
        raise InstallError(
            f"{value!r} cannot be the default of {parameter} in {TEMPLATE.name}: it has strange characters"
        )
    start, end = _parameters(template)
    block = rf"^  {re.escape(parameter)}:[ ]*\n((?:    .*\n|[ ]*\n|[ ]*#.*\n)*)"
    found = list(re.finditer(block, template[start:end], re.MULTILINE))
    lines = [each for one in found for each in re.finditer(r"^    Default:.*$", one[1], re.MULTILINE)]
    if len(found) != 1 or len(lines) != 1:
        raise InstallError(
            f"{TEMPLATE.name}: parameter {parameter} must be there once, with one line `Default:`; it is there "
            f"{len(found)} times, with {len(lines)} such lines"
        )
    at = start + found[0].start(1)
    return f'{template[: at + lines[0].start()]}    Default: "{value}"{template[at + lines[0].end() :]}'


def _parameters(template: str) -> tuple[int, int]:
    """Where the section Parameters begins and ends."""
    found = re.search(r"^Parameters:[ ]*\n", template, re.MULTILINE)
    if found is None:
        raise InstallError(f"{TEMPLATE.name} has no section Parameters")
    following = re.search(r"^\S", template[found.end() :], re.MULTILINE)
    return found.end(), len(template) if following is None else found.end() + following.start()
