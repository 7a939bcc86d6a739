"""docs/reference/: what settings, stage files, commands, events, tags and roles there are, written from the code.

`python -m tests.docs.reference` writes the pages; a test says so when one is stale.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import jinja2

from tests.docs.pages import CHECKOUT, DOCS
from tests.docs.parsers import PROGRAMS, TEMPLATE, parser_of, subcommands, template_module, wide
from tests.servicecatalog import template

FOLDER = DOCS / "reference"
WRITE = "python -m tests.docs.reference"
_WRITTEN = "<!-- Written by `python -m tests.docs.reference` from {source}: change that, and run it again. -->\n"
_EXAMPLE = {"SageMakerProjectName": "PROJECT", "SageMakerProjectId": "p-PROJECTID"}
# What the templates are resolved with, as a reader sees it.
_SHOWN = {
    "p-PROJECTID": "<project id>",
    "PROJECT": "<project>",
    "111122223333": "<account>",
    "eu-west-1": "<region>",
    "<account>:churn": "<account>:<repository>",  # as tests/servicecatalog/template.py lets the seed answer
}

# Every tag that Modelyard sets or reads: who sets it on what, and what it decides.
TAGS = {
    "sagemaker:project-name": "the project's name, on everything of a project; SageMaker Studio groups by it",
    "sagemaker:project-id": "the id that SageMaker gave the project, beside its name",
    "sagemaker:studio-visibility": "on the templates in S3: Studio lists those where it is `true`",
    "modelyard:project": "the project, on everything of it; policies let its roles act on what carries it alone. "
    "Activate it as a cost allocation tag in the Billing console to see costs by project",
    "modelyard:stage": "the stage (feature, dev, prod, champion, challenger), on everything of one; the platform finds "
    "what it looks after by it",
    "modelyard:model-role": "on a model package group, set by the seed: the role that serves its versions; without it "
    "the platform's default one",
    "modelyard:approval": "on a model package group, set by an administrator: `automatic` lets a stage file with "
    "`approval: automatic` deploy without a person",
    "modelyard:content": "on a repository, set by the seed: `empty` until `register-project` has pushed "
    "to it, then `filled`",
    "modelyard:repository": "on a model package group, set by the seed: the project's repository, where results of "
    "executions are reported",
    "modelyard:stack": "on a repository and groups, set by the seed: the stack that they belong to; it alone changes "
    "and deletes them",
    "modelyard:deployment": "on what a deployment makes (model, endpoint config, alarms): its number",
    "modelyard:part": "`platform`, on the platform's own stacks, buckets and key: an administrator's policies reach "
    "what carries it",
}


# ---- settings.yaml and the stage file: from their schemas


def settings() -> str:
    schema = template_module("pipeline.settings").Settings.model_json_schema()
    remarks = comments(_settings_file())
    parts = [
        "# settings.yaml\n",
        _WRITTEN.format(source="pipeline/settings.py and the remarks in settings.yaml"),
        "What a data scientist changes. `python -m pipeline check` names what is wrong. A field that is not known is "
        "refused: a misspelt one would do nothing. The remarks are those of a project of the problem type "
        "`binary_classification`.\n",
    ]
    sections = [
        (name, field) for name, field in schema["properties"].items() if _fields(field, schema["$defs"]) is not None
    ]
    plain = {name: field for name, field in schema["properties"].items() if name not in dict(sections)}
    parts.append(_field_table(_rows(plain, schema.get("required", []), schema["$defs"], remarks, "")))
    for name, field in sections:
        rows = _rows({name: field}, schema.get("required", []), schema["$defs"], remarks, "")
        parts.append(f"## {name}\n\n{_sentence(remarks.get(name, ''))}{_field_table(rows)}")
    return "\n".join(parts)


def stage_file() -> str:
    schema = template_module("pipeline.stage_schema").json_schema()
    parts = [
        "# Stage files\n",
        _WRITTEN.format(source="pipeline/stage_schema.py"),
        "`deployment/<stage>.yaml` says how the version that was approved for a stage is served. "
        "`python -m pipeline check` names what is wrong, `python -m pipeline plan` prints what it would do. "
        "`deployment/README.md` in a repository explains with examples.\n",
    ]
    for kind in schema["oneOf"]:
        definition = _resolved(kind, schema["$defs"])
        needed = definition.get("required", [])
        fields = dict(sorted(definition["properties"].items(), key=lambda field: field[0] not in needed))
        rows = _rows(fields, needed, schema["$defs"], {}, "")
        name = definition["properties"]["kind"]["const"]
        parts.append(f"## kind: {name}\n\n{_sentence(definition['description'])}{_field_table(rows)}")
    return "\n".join(parts)


def _settings_file() -> str:
    text = (TEMPLATE / "settings.yaml").read_text(encoding="utf-8")
    questions = json.loads((CHECKOUT / "cookiecutter.json").read_text(encoding="utf-8"))
    answers = {
        name: value[0] if isinstance(value, list) else value
        for name, value in questions.items()
        if not name.startswith("_")
    }
    rendered: str = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text).render(cookiecutter=answers)
    return rendered


def comments(text: str) -> dict[str, str]:
    """The remarks of a YAML file by dotted field: above the field, behind it and, before a blank line, below it."""
    found: dict[str, list[str]] = {}
    above: list[str] = []
    path: list[tuple[int, str]] = []
    for line in [*text.splitlines(), ""]:
        if remark := re.fullmatch(r"\s*# ?(.*)", line):
            above.append(remark[1])
        elif field := re.match(r"( *)([\w-]+):", line):
            indent = len(field[1])
            path = [*(part for part in path if part[0] < indent), (indent, field[2])]
            behind = re.search(r"\s# (.*)$", line)
            found[".".join(name for _, name in path)] = above + ([behind[1]] if behind else [])
            above = []
        elif not line.strip():
            if path and above:
                found[".".join(name for _, name in path)] += above
            above = []
    return {name: " ".join(lines) for name, lines in found.items() if lines}


Row = tuple[str, str, str, str]


def _rows(
    properties: dict[str, Any], required: list[str], definitions: dict[str, Any], remarks: dict[str, str], below: str
) -> Iterator[Row]:
    """Name, what it takes, its default and what it is for, of every field and those below it."""
    for name, field in properties.items():
        path = f"{below}{name}"
        about = remarks.get(path) or field.get("description") or ""
        default = "must be there" if name in required else f"`{json.dumps(field['default'])}`" if _simple(field) else ""
        inner = list(_inner(field, definitions))
        if below or not inner or "$ref" not in field:
            yield path, takes(field, definitions), default, about
        for suffix, definition in inner:
            inside, needed = definition.get("properties", {}), definition.get("required", [])
            yield from _rows(inside, needed, definitions, remarks, f"{path}{suffix}.")


def _simple(field: dict[str, Any]) -> bool:
    """Whether the default is worth a cell: a section's is all of its fields' own."""
    return "default" in field and not (isinstance(field["default"], dict) and field["default"])


def _inner(field: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What has fields of its own within a field, and how these are written: `.x`, `(TYPE).x` where a field `type`
    chooses, `.NAME.x` of a map, `[].x` of a list."""
    for one in _alternatives(field):
        if "$ref" in one:
            definition = _resolved(one, definitions)
            which = definition.get("properties", {}).get("type", {}).get("const")
            yield f"({which})" if which else "", definition
        elif "$ref" in one.get("items", {}):
            yield "[]", _resolved(one["items"], definitions)
        elif isinstance(one.get("additionalProperties"), dict) and "$ref" in one["additionalProperties"]:
            yield ".NAME", _resolved(one["additionalProperties"], definitions)


def _alternatives(field: dict[str, Any]) -> Iterator[dict[str, Any]]:
    nested = field.get("anyOf") or field.get("oneOf")
    if nested is None:
        yield field
    else:
        for one in nested:
            yield from _alternatives(one)


def _fields(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    return _resolved(field, definitions).get("properties") if "$ref" in field else None


def _resolved(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = definitions[field["$ref"].rpartition("/")[2]]
    return found


def takes(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a JSON Schema allows, in words."""
    return " or ".join(dict.fromkeys(_takes(one, definitions) for one in _alternatives(field)))


def _takes(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in field:
        return "the fields below"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{_yaml(value)}`" for value in field["enum"])
    kind = field.get("type")
    if kind == "array":
        items = field.get("items", {})
        size = field.get("minItems") if field.get("minItems") == field.get("maxItems") else None
        return f"{'a list:' if size is None else f'{size} times'} {takes(items, definitions)}"
    if kind == "object":
        values: Any = field.get("additionalProperties") or next(iter(field.get("patternProperties", {}).values()), {})
        return f"a map of names: {takes(values, definitions) if isinstance(values, dict) and values else 'values'}"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
    return " ".join(filter(None, [words.get(str(kind), f"`{kind}`"), _limits(field)]))


def _limits(field: dict[str, Any]) -> str:
    lowest, highest = field.get("minimum"), field.get("maximum")
    found = f"{_number(lowest)} to {_number(highest)}" if lowest is not None and highest is not None else ""
    if not found:
        words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
        found = ", ".join(f"{text} {_number(field[name])}" for name, text in words.items() if name in field)
    if "multipleOf" in field:
        found += f" in steps of {field['multipleOf']}"
    if "maxLength" in field:
        found += f"{', ' if found else ''}at most {field['maxLength']} character{'s' * (field['maxLength'] > 1)}"
    if "pattern" in field:
        found += f"{', ' if found else ''}as `{field['pattern']}`"
    return found


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _field_table(rows: Iterator[Row]) -> str:
    return _table(("field", "takes", "default", ""), [(f"`{name}`", *rest) for name, *rest in rows])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---" for _ in head], *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}.\n\n" if text else ""


# ---- commands: from argparse


def commands() -> str:
    parts = [
        "# Commands\n",
        _WRITTEN.format(source="the commands themselves"),
        "What `--help` prints. `python -m pipeline` is a project's own; the others run in a checkout of Modelyard.\n",
    ]
    with wide():
        for program in PROGRAMS:
            parser = parser_of(program)
            parts.append(f"## {program}\n\n```text\n{parser.format_help()}```\n")
            for name, command in subcommands(parser).items():
                parts.append(f"### {name}\n\n```text\n{command.format_help()}```\n")
                for inner, below in subcommands(command).items():
                    parts.append(f"#### {name} {inner}\n\n```text\n{below.format_help()}```\n")
    return "\n".join(parts)


# ---- events, tags, roles: from the CloudFormation templates


@cache
def _resources(name: str, **values: str) -> dict[str, Any]:
    loaded = template.load(CHECKOUT / "servicecatalog" / f"{name}.yaml")
    return template.resolved(loaded, _EXAMPLE | values if name == "product" else values)


def _of_type(name: str, *types: str, **values: str) -> dict[str, Any]:
    resources = _resources(name, **values)
    return {logical: one["Properties"] for logical, one in resources.items() if one["Type"] in types}


def events() -> str:
    parts = [
        "# Events\n",
        _WRITTEN.format(source="servicecatalog/platform.yaml and product.yaml"),
        'The EventBridge rules: at what they act, and who is told. Events only say "look again"; what is done '
        "with one is in [lifecycle.md](../lifecycle.md#events).\n",
    ]
    for name, title in (("platform", "The platform's"), ("product", "A project's, on CodeCommit")):
        rows = [
            (
                f"`{rule.get('Name', logical)}`",
                rule.get("Description", ""),
                _when(rule),
                ", ".join(sorted({_target(target) for target in rule["Targets"]})),
            )
            for logical, rule in _of_type(name, "AWS::Events::Rule").items()
        ]
        parts.append(f"## {title}\n\n{_table(('rule', 'for', 'when', 'told'), rows)}")
    return _shown("\n".join(parts))


def _when(rule: dict[str, Any]) -> str:
    if "ScheduleExpression" in rule:
        return f"`{rule['ScheduleExpression']}`"
    pattern = dict(rule["EventPattern"])
    kinds = "; ".join(pattern.pop("detail-type", ["any event"]))
    pattern.pop("source", None)  # the kind of event says it
    return f"{kinds}{f' where `{json.dumps(pattern)}`' if pattern else ''}"


def _target(target: dict[str, Any]) -> str:
    """arn:aws:codebuild:R:A:project/x as `codebuild project/x`; a Ref or GetAtt keeps its name."""
    arn = str(target["Arn"])
    parts = arn.split(":", 5)
    return f"`{parts[2]} {parts[5]}`" if len(parts) == 6 else f"`{arn}`"


def tags() -> str:
    rows = [(f"`{name}`", text) for name, text in TAGS.items()]
    return "\n".join(
        [
            "# Tags\n",
            _WRITTEN.format(source="tests/docs/reference.py"),
            "Every tag that Modelyard sets or reads. Two projects are told apart by them, so permissions to set "
            "them are few.\n",
            _table(("tag", "what it says"), rows),
        ]
    )


def roles() -> str:
    parts = [
        "# Roles and policies\n",
        _WRITTEN.format(source="servicecatalog/product.yaml and platform.yaml"),
        "What each may do, statement by statement. What that means for people is in "
        "[projects.md](../projects.md#who-may-do-what). Conditions are named, not written out; the templates have them "
        "whole.\n",
    ]
    for name, title, values in (
        ("product", "A project on CodeCommit", {}),
        ("product", "A project on GitHub: what is other there", {"GitHost": "github", "GitOwner": "OWNER"}),
        ("platform", "The platform", {}),
    ):
        parts.append(f"## {title}\n")
        known = _of_type("product", "AWS::IAM::Role") if values else {}
        attached = _of_type(name, "AWS::IAM::Policy", **values).values()
        for logical, role in _of_type(name, "AWS::IAM::Role", **values).items():
            if known.get(logical) != role:
                own = [policy["PolicyDocument"] for policy in role.get("Policies", [])]
                own += [policy["PolicyDocument"] for policy in attached if _is_of(policy, logical, role)]
                parts.append(_identity(role.get("RoleName", logical), role, own))
        known = _of_type("product", "AWS::IAM::ManagedPolicy") if values else {}
        for logical, policy in _of_type(name, "AWS::IAM::ManagedPolicy", **values).items():
            if known.get(logical) != policy:
                parts.append(_identity(policy["ManagedPolicyName"], policy, [policy["PolicyDocument"]]))
    return _shown("\n".join(parts))


def _is_of(policy: dict[str, Any], logical: str, role: dict[str, Any]) -> bool:
    return bool({logical, role.get("RoleName")} & set(map(str, policy.get("Roles", []))))


def _identity(name: str, properties: dict[str, Any], documents: list[dict[str, Any]]) -> str:
    lines = [f"### {name}\n", f"{properties.get('Description', '').rstrip('.')}."]
    trust = _document(properties.get("AssumeRolePolicyDocument", {"Statement": []}))["Statement"]
    who = sorted({str(one) for statement in trust for one in _list(next(iter(statement["Principal"].values())))})
    if who:
        lines.append(f"Taken by {', '.join(f'`{_name(one)}`' for one in who)}.")
    managed = [_name(arn) for arn in properties.get("ManagedPolicyArns", [])]
    if managed:
        lines.append(f"Has the policies {', '.join(f'`{one}`' for one in managed)} too.")
    rows = [_statement(statement) for document in documents for statement in _list(_document(document)["Statement"])]
    table = _table(("", "actions", "on", "if"), rows) if rows else ""
    return "\n".join([*lines[:1], " ".join(lines[1:]), "", table])


def _document(written: dict[str, Any] | str) -> dict[str, Any]:
    """A policy; one whose keys are put together (the OIDC host's) stands as text in the template."""
    found: dict[str, Any] = json.loads(written) if isinstance(written, str) else written
    return found


def _statement(statement: dict[str, Any]) -> tuple[str, str, str, str]:
    verb = {"Allow": "may", "Deny": "may not"}[statement["Effect"]]
    actions = statement.get("Action") or [f"all but {one}" for one in _list(statement["NotAction"])]
    resources = statement.get("Resource") or [f"all but {one}" for one in _list(statement["NotResource"])]
    keys = sorted({key for condition in statement.get("Condition", {}).values() for key in condition})
    return (
        verb,
        ", ".join(f"`{one}`" for one in _list(actions)),
        ", ".join(f"`{_name(str(one))}`" for one in _list(resources)),
        ", ".join(f"`{key}`" for key in keys),
    )


def _name(arn: str) -> str:
    """What an ARN names, without the account and the Region that all have."""
    parts = arn.split(":", 5)
    return f"{parts[2]}:{parts[5]}" if len(parts) == 6 and parts[0] == "arn" else arn


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _shown(text: str) -> str:
    """With names that say what they stand for instead of the values that the templates were resolved with."""
    for value, name in _SHOWN.items():
        text = text.replace(value, name)
    text = re.sub(r"^(#+ )(.*<.*)$", r"\1`\2`", text, flags=re.MULTILINE)
    # outside of code and of our remark, GitHub would take <project> for HTML
    pieces = re.split(r"(`[^`]*`|<!--.*?-->)", text)
    return "".join(piece if number % 2 else piece.replace("<", "\\<") for number, piece in enumerate(pieces))


PAGES = {
    "settings.md": settings,
    "stage-file.md": stage_file,
    "commands.md": commands,
    "events.md": events,
    "tags.md": tags,
    "roles.md": roles,
}


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    for name, text in PAGES.items():
        (FOLDER / name).write_text(text(), encoding="utf-8")
        print(f"{(FOLDER / name).relative_to(CHECKOUT)} is written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
