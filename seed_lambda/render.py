"""The project's first files: the template, rendered by cookiecutter itself, as on the command line.

The template's hooks belong to the rendering. pre_gen_project checks the answers and is run. post_gen_project makes the
Git repository, which is made here by other means, and writes .cruft.json, whose contents are the same here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seed_lambda.errors import InvalidProperties, SeedError
from seed_lambda.hosts import File, Tree
from seed_lambda.properties import ProjectProperties, template_code_fault
from seed_lambda.template import Published, files

_HOOK = Path("hooks") / "pre_gen_project.py"
_HOOK_SECONDS = 30
# What the template's rules see of the function's environment: none of its credentials, but where Lambda's Python finds
# its own shared libraries.
_FOR_THE_RULES = ("PATH", "LD_LIBRARY_PATH")
# What cookiecutter puts among the answers about where it ran; cruft keeps none of it.
_OF_THE_RUN = ("_output_dir", "_repo_dir", "_checkout")


def answers(properties: ProjectProperties, region: str) -> dict[str, str]:
    """The answers to the template's questions."""
    return {
        "project": properties.project,
        "description": properties.description,
        "problem_type": properties.problem_type,
        "scenario": properties.scenario,
        "git_host": properties.git_host,
        "region": region,
        "artifact_bucket": properties.artifact_bucket,
        "pipeline_role": properties.pipeline_role,
    }


def render(template: Path, answers: Mapping[str, str], published: Published) -> Tree:
    """The files of a new project's repository.

    Args:
        template: the folder with cookiecutter.json.
        answers: to its questions; what is not answered has its default.
        published: where the template is for updates, for .cruft.json.

    Raises:
        InvalidProperties: the template's rules refuse an answer.
        SeedError: the template has no such question, or cannot be rendered.
    """
    # before cookiecutter sees them: it renders answers too, and the code in them would run here
    if faults := [fault for name, value in answers.items() if (fault := template_code_fault(name, value))]:
        raise InvalidProperties(faults)
    work = Path(tempfile.mkdtemp(prefix="modelyard-rendering-"))
    try:
        context = _context(template, answers, published, work)
        _check_answers(template, context, work)
        generated = _generate(template, context, work)
        return dict(sorted({**files(generated), ".cruft.json": _cruft_state(context, published)}.items()))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _context(template: Path, answers: Mapping[str, str], published: Published, work: Path) -> dict[str, Any]:
    """What cookiecutter.main makes of the answers before it renders."""
    from cookiecutter.generate import generate_context
    from cookiecutter.prompt import prompt_for_config

    questions = json.loads((template / "cookiecutter.json").read_text(encoding="utf-8"))
    if unknown := sorted(set(answers) - set(questions)):
        raise SeedError(
            f"the template's version {published.version} does not ask {', '.join(unknown)}: it is another one than "
            "this platform's function expects. Take a newer version, or bring the platform up to date"
        )
    try:
        context = generate_context(str(template / "cookiecutter.json"), extra_context=dict(answers))
    except ValueError as error:  # an answer that is none of a question's choices
        raise SeedError(f"the template's version {published.version}: {error}") from error
    context["cookiecutter"].update(prompt_for_config(context, no_input=True))
    context["cookiecutter"] |= {
        "_template": published.url,
        "_output_dir": str(work),
        "_repo_dir": str(template),
        "_checkout": None,
    }
    return context


def _check_answers(template: Path, context: dict[str, Any], work: Path) -> None:
    """Runs the template's own rules: its hook, rendered and run as cookiecutter does it, but for what it prints."""
    from cookiecutter.utils import create_env_with_context

    hook = template / _HOOK
    if not hook.is_file():
        return
    text = create_env_with_context(context).from_string(hook.read_text(encoding="utf-8")).render(**context)
    script, empty = work / "pre_gen_project.py", work / "empty"
    script.write_text(text, encoding="utf-8")
    empty.mkdir()
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-X", "utf8", str(script)],
            cwd=empty,
            env={name: os.environ[name] for name in _FOR_THE_RULES if name in os.environ},
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_HOOK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SeedError(f"the template's rules ({_HOOK}) did not end within {_HOOK_SECONDS} s") from None
    if done.returncode:
        said = (done.stderr + done.stdout).strip()
        faults = [line[2:] for line in said.splitlines() if line.startswith("- ")]
        raise InvalidProperties(faults or [f"the template's rules refuse the answers: {said[-500:]}"])


def _generate(template: Path, context: dict[str, Any], work: Path) -> Path:
    from cookiecutter.exceptions import CookiecutterException
    from cookiecutter.generate import generate_files
    from jinja2 import TemplateError

    output = work / "output"
    output.mkdir()
    try:
        return Path(generate_files(str(template), context, str(output), accept_hooks=False))
    except (CookiecutterException, TemplateError) as error:
        raise SeedError(
            f"the template cannot be rendered: {type(error).__name__}: {error}; please report it, with the answers"
        ) from error


def _cruft_state(context: Mapping[str, Any], published: Published) -> File:
    """.cruft.json, byte for byte as the template's hook post_gen_project writes it."""
    # through JSON once, as the hook gets it
    kept = {key: value for key, value in context["cookiecutter"].items() if key not in _OF_THE_RUN}
    known = json.loads(json.dumps(kept))
    known |= {"_template": published.url, "_commit": published.commit}
    state = {
        "template": published.url,
        "commit": published.commit,
        "checkout": None,
        "context": {"cookiecutter": known},
        "directory": None,
    }
    return File((json.dumps(state, ensure_ascii=False, indent=2, separators=(",", ": ")) + "\n").encode())
