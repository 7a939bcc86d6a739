"""The argument parsers of every program that the pages name."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any
from unittest import mock

from tests.docs.pages import CHECKOUT

TEMPLATE = CHECKOUT / "{{cookiecutter.project}}"
PROGRAMS = {
    "python -m pipeline": "pipeline.cli",
    "python -m local_aws": "local_aws.__main__",
    "python -m servicecatalog": "servicecatalog.__main__",
    "python -m lifecycle_lambdas": "lifecycle_lambdas.command_line",
}


class _Built(Exception):
    """Carries a parser out of the program that has just built it."""


def template_module(name: str) -> ModuleType:
    """A module of the generated repository, read where the template lies; no byte code is left there."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(TEMPLATE))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(TEMPLATE))
        sys.dont_write_bytecode = before


@cache
def parser_of(program: str) -> argparse.ArgumentParser:
    """The parser that `main` of one of PROGRAMS builds before it does anything else."""
    module = template_module(PROGRAMS[program])

    def stop(parser: argparse.ArgumentParser, *_: Any) -> None:
        raise _Built(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            module.main()
        except _Built as built:
            parser = built.args[0]
            assert isinstance(parser, argparse.ArgumentParser)
            return parser
    raise AssertionError(f"{program} parses no arguments")


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """By name, in the order in which the program lists them."""
    # argparse has no public way to ask for them
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


@contextmanager
def wide() -> Iterator[None]:
    """Help texts are as wide as a page, whatever the terminal."""
    with mock.patch.dict("os.environ", {"COLUMNS": "112"}):
        yield


def fault(program: str, arguments: Sequence[str]) -> str | None:
    """What the program would say against these arguments; None when it takes them, or would print its help."""

    def fail(parser: argparse.ArgumentParser, message: str) -> None:
        raise _Built(f"{parser.prog}: {message}")

    with mock.patch.object(argparse.ArgumentParser, "error", fail):
        try:
            parser_of(program).parse_args(list(arguments))
        except _Built as said:
            return str(said)
        except SystemExit as ended:
            return None if ended.code == 0 else str(ended)
    return None
