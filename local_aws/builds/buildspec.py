"""What a buildspec says, as data.

https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

PHASES = ("install", "pre_build", "build", "post_build")
SHELLS = {"sh": ("/bin/sh",), "bash": ("/bin/bash",), "/bin/sh": ("/bin/sh",), "/bin/bash": ("/bin/bash",)}
ABORT, CONTINUE = "ABORT", "CONTINUE"
# Members that are taken note of and change nothing here: what they ask for is there, or is of no use on one machine.
WITHOUT_EFFECT = ("cache",)


class BuildspecError(ValueError):
    """What is wrong with a buildspec, or what of it is not understood here."""


@dataclass(frozen=True)
class Phase:
    """Args:
    commands: run one after another; the first that fails ends them.
    finally_: run afterwards, whatever became of the commands.
    on_failure: "ABORT", "CONTINUE", or "" for what the phase does by default.
    runtimes: of "runtime-versions", such as {"python": "3.12"}.
    """

    commands: tuple[str, ...] = ()
    finally_: tuple[str, ...] = ()
    on_failure: str = ""
    runtimes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Buildspec:
    """Args:
    phases: by name, of PHASES; a phase that is not named is empty.
    variables: plain ones.
    parameters, secrets: names of variables to parameters of Systems Manager and to secrets.
    shell: the program that runs the commands.
    signs_in_to_git: whether git signs in to CodeCommit with the build's role.
    ignored: members that change nothing here.
    """

    phases: Mapping[str, Phase]
    variables: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    shell: tuple[str, ...] = ("/bin/sh",)
    signs_in_to_git: bool = False
    ignored: tuple[str, ...] = ()


def parse(text: str) -> Buildspec:
    """Read a buildspec.

    Raises:
        BuildspecError: it is none, or asks for something that local_aws does not do; the message names it.
    """
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:  # the latter: nested too deeply
        raise BuildspecError(f"The buildspec is not YAML: {error}") from error
    spec = _mapping("The buildspec", content)
    if str(spec.get("version")) not in ("0.2", "0.20"):
        raise BuildspecError(f"The buildspec's version is {spec.get('version')!r}: local_aws runs version 0.2.")
    _only("", spec, ("version", "env", "phases", *WITHOUT_EFFECT))
    env = _mapping("env", spec.get("env"))
    known = ("shell", "variables", "parameter-store", "secrets-manager", "git-credential-helper")
    _only("env", env, known)
    shell = str(env.get("shell", "sh"))
    if shell not in SHELLS:
        raise BuildspecError(f"env: the shell {shell!r} is none of {', '.join(SHELLS)}.")
    phases = _mapping("phases", spec.get("phases"))
    if not phases:
        raise BuildspecError("The buildspec has no phases: there is nothing to run.")
    _only("phases", phases, PHASES)
    return Buildspec(
        {name: _phase(name, phases.get(name)) for name in PHASES},
        _texts("env: variables", env.get("variables")),
        _texts("env: parameter-store", env.get("parameter-store")),
        _texts("env: secrets-manager", env.get("secrets-manager")),
        SHELLS[shell],
        _yes("env: git-credential-helper", env.get("git-credential-helper", False)),
        tuple(name for name in WITHOUT_EFFECT if name in spec),
    )


def _phase(name: str, given: Any) -> Phase:
    where = f"phases: {name}"
    phase = _mapping(where, given)
    _only(where, phase, ("commands", "finally", "on-failure", "runtime-versions"))
    on_failure = phase.get("on-failure", "")
    if on_failure not in ("", ABORT, CONTINUE):
        raise BuildspecError(f"{where}: on-failure is {on_failure!r}: give {ABORT} or {CONTINUE}.")
    if "runtime-versions" in phase and name != "install":
        raise BuildspecError(f"{where}: runtime-versions belong to the phase install.")
    runtimes = _texts(f"{where}: runtime-versions", phase.get("runtime-versions"))
    if others := sorted(runtimes.keys() - {"python"}):
        raise BuildspecError(f"{where}: local_aws has no runtime {', '.join(others)}; it has Python.")
    return Phase(_commands(where, phase.get("commands")), _commands(where, phase.get("finally")), on_failure, runtimes)


def _commands(where: str, given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise BuildspecError(f"{where}: the commands are a list of texts.")
    return tuple(given)


def _mapping(where: str, given: Any) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise BuildspecError(f"{where}: it has to be a mapping of names to values.")
    return given


def _texts(where: str, given: Any) -> dict[str, str]:
    found = _mapping(where, given)
    if any(isinstance(value, dict | list) or value is None for value in found.values()):
        raise BuildspecError(f"{where}: each value is a text.")
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in found.items()}


def _yes(where: str, given: Any) -> bool:
    if given in (True, False):
        return bool(given)
    if str(given).lower() in ("yes", "no"):
        return str(given).lower() == "yes"
    raise BuildspecError(f"{where} is {given!r}: give yes or no.")


def _only(where: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if unknown := sorted(given.keys() - set(known)):
        place = f"{where}: " if where else ""
        raise BuildspecError(f"{place}local_aws does not understand {', '.join(unknown)}; it knows {', '.join(known)}.")
