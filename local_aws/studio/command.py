"""python -m local_aws studio: the form in a terminal, and the same without questions."""

from __future__ import annotations

import argparse
import functools
import re
import sys
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.markup import escape
from rich.prompt import IntPrompt, Prompt
from rich.table import Table

from local_aws.studio.projects import PAUSE, Project, ProjectError, create_project, delete_project, launch_role
from local_aws.studio.templates import FILLED_BY_SAGEMAKER, Clients, Template, find_template, find_templates, with_form
from local_aws.template_forms import Parameter

PIPED_WIDTH = 200  # of tables that no terminal shows
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,31}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked, as whoever the AWS_* variables say.

    Returns:
        The exit code: 1 when it failed, which was then said.
    """
    console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    errors = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)  # emoji: an ARN has :secret: in it
    try:
        clients = _clients()
        run_command = {"list": _list, "create": _create, "delete": _delete, None: _form}[arguments.studio]
        run_command(clients, arguments, console)
    except (ProjectError, LookupError) as error:
        errors.print(escape(str(error.args[0])))
        return 1
    except (ClientError, BotoCoreError) as error:
        errors.print(escape(f"AWS refused: {error}"))
        return 1
    except (KeyboardInterrupt, EOFError):
        errors.print("Stopped. What has begun goes on: python -m local_aws studio list shows it.")
        return 1
    return 0


def _clients() -> Clients:
    """One for each service, as every AWS client is configured: AWS_ENDPOINT_URL, AWS_PROFILE and the like."""
    import boto3

    return functools.cache(boto3.Session().client)


def _list(clients: Clients, arguments: argparse.Namespace, console: Console) -> None:
    templates = find_templates(clients, arguments.domain)
    if templates:
        _show_templates(templates, console)
    else:
        console.print(
            "You see no project templates: you are no principal of a portfolio that has one, and no domain that you may"
            " list has a folder with any."
        )
    projects = clients("sagemaker").list_projects(MaxResults=100, SortBy="CreationTime", SortOrder="Descending")
    shown = [one for one in projects["ProjectSummaryList"] if one["ProjectStatus"] != "DeleteCompleted"]
    if shown:
        table = Table("Project", "Status", "Description")
        for one in shown:
            table.add_row(one["ProjectName"], one["ProjectStatus"], one.get("ProjectDescription", ""))
        console.print(table)


def _create(clients: Clients, arguments: argparse.Namespace, console: Console) -> None:
    values = _values(arguments.parameter)
    template = find_template(clients, arguments.template, arguments.route, arguments.domain)
    project = create_project(
        clients,
        arguments.name,
        template,
        values,
        description=arguments.description,
        role=arguments.role,
        domain=arguments.domain,
        tell=_teller(console),
        pause=PAUSE,
    )
    _show(project, console)


def _delete(clients: Clients, arguments: argparse.Namespace, console: Console) -> None:
    with console.status(f"Deleting project {arguments.name}"):
        delete_project(clients, arguments.name, tell=_teller(console), pause=PAUSE)
    console.print(f"Project {arguments.name} is deleted.")


def _form(clients: Clients, arguments: argparse.Namespace, console: Console) -> None:
    if not sys.stdin.isatty():
        raise ProjectError("The form needs a terminal. Without one: python -m local_aws studio create --help")
    identity = clients("sts").get_caller_identity()
    console.print(f"You are {identity['Arn']}.")
    templates = find_templates(clients, arguments.domain)
    if not templates:
        raise ProjectError("You see no project templates. python -m local_aws studio list says why.")
    template = with_form(clients, _choose(templates, console))
    name = _ask_name(template)
    description = Prompt.ask("Description", default="", show_default=False)
    role = arguments.role
    if template.route == "s3" and role is None:
        role = _ask_role(clients, console)
    values: dict[str, str] = {}
    for group in template.asked:
        if group.label:
            console.print(f"\n[bold]{escape(group.label)}[/bold]")
        values |= {one.name: _ask(one, console) for one in group.parameters}
    with console.status(f"Making project {name}"):
        project = create_project(
            clients,
            name,
            template,
            values,
            description=description,
            role=role,
            domain=arguments.domain,
            tell=_teller(console),
            pause=PAUSE,
        )
    _show(project, console)


def _choose(templates: list[Template], console: Console) -> Template:
    _show_templates(templates, console)
    numbers = [str(number) for number in range(1, len(templates) + 1)]
    return templates[IntPrompt.ask("Template", choices=numbers, default=1) - 1]


def _ask_name(template: Template) -> str:
    """Ask until the name is one that SageMaker takes, and the template."""
    own = template.form.parameters.get(FILLED_BY_SAGEMAKER[0])
    while True:
        name = Prompt.ask("Name of the project").strip()
        fault = None if own is None else own.fault(name)
        if not _NAME.fullmatch(name):
            fault = "1 to 32 letters, digits and hyphens; it begins and ends with a letter or digit."
        if fault is None:
            return name
        print(fault)


def _ask_role(clients: Clients, console: Console) -> str:
    """Studio asks the same of who takes a template in S3, and knows no default."""
    try:
        kept = launch_role(clients)
    except ProjectError:
        kept = None
    console.print("[dim]The role that CloudFormation makes the project as; not your own execution role.[/dim]")
    while True:
        role = str(Prompt.ask("Role ARN", console=console, default=kept if kept is not None else ...)).strip()
        if _ROLE.fullmatch(role):
            return role
        console.print("A role's ARN is such as arn:aws:iam::123456789012:role/modelyard/modelyard-launch-us-east-1.")


def _ask(parameter: Parameter, console: Console) -> str:
    """Ask until the value is one that the template takes."""
    if parameter.description:
        console.print(f"[dim]{escape(parameter.description)}[/dim]")
    while True:
        value = Prompt.ask(
            escape(parameter.label or parameter.name),
            console=console,
            choices=list(parameter.allowed_values) or None,
            default=parameter.default if parameter.default is not None else ...,
            password=parameter.no_echo,
        )
        fault = parameter.fault(str(value))
        if fault is None:
            return str(value)
        console.print(escape(fault))


def _values(given: list[str]) -> dict[str, str]:
    values = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise ProjectError(f"--parameter {one}: write NAME=VALUE, such as --parameter Scenario=baseline.")
        values[name] = value
    return values


def _show_templates(templates: list[Template], console: Console) -> None:
    table = Table("", "Template", "Route", "Description")
    for number, one in enumerate(templates, 1):
        table.add_row(str(number), one.name, one.route, one.description or one.url)
    console.print(table)


def _teller(console: Console) -> Any:
    return lambda line: console.print(escape(line), soft_wrap=True)


def _show(project: Project, console: Console) -> None:
    console.print(f"\nProject {project.name} ({project.id}) is there: {project.arn}", soft_wrap=True)
    for name, value in project.outputs.items():
        console.print(f"  {name}: {escape(value)}", soft_wrap=True)  # to be copied in one piece
