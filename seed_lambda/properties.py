"""The properties of the two custom resources: read, and checked before anything is made.

Every fault is found at once. A name that is derived from a property is checked too, since AWS would refuse it only
when half of the project is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from seed_lambda.errors import InvalidProperties
from seed_lambda.settings import NOTHING, listed, something

Scenario = Literal["baseline", "advanced"]
InitialContent = Literal["template", "empty", "pushed"]
OnDelete = Literal["keep", "delete"]

# The stages of a scenario; each has a model package group <project>-<stage>.
STAGES: Mapping[str, tuple[str, ...]] = {
    "baseline": ("feature", "dev", "prod"),
    "advanced": ("feature", "dev", "champion", "challenger"),
}
ALL_STAGES = ("feature", "dev", "prod", "champion", "challenger")
LATEST = "latest"
PROJECT_RESOURCE = "Custom::ModelyardProject"
TEMPLATE_RESOURCE = "Custom::ModelyardTemplate"
PROTECTED_BRANCH = "prod"
DEFAULT_BRANCH = "dev"
BRANCHES = (PROTECTED_BRANCH, DEFAULT_BRANCH)

# product.yaml has the same pattern. "-feature" within a name would make another project's names of it.
_PROJECT = re.compile(r"(?!.*-feature(-|$))[a-z](-*[a-z0-9])*")
_PROJECT_LENGTH = 32  # SageMaker's CreateProject, ProjectName
# What CodeCommit and GitHub both take.
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]{1,100}")
# https://docs.github.com/en/enterprise-cloud@latest/admin/managing-iam/iam-configuration-reference/username-considerations-for-external-authentication
_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,38})")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]+")  # as in product.yaml; no *, which would be as many as one likes
_ROLE = re.compile(r"[A-Za-z0-9_+=.@-]{1,64}")  # no comma: it becomes a tag, which takes none
# https://docs.github.com/en/actions/reference/workflows-and-actions/variables#naming-conventions-for-configuration-variables
_VARIABLE = re.compile(r"(?!GITHUB_)[A-Z_][A-Z0-9_]*")
_VARIABLE_LENGTH = 1000  # characters of a value: more belongs into the repository
_DESCRIPTION_LENGTH = 1024  # characters: ModelPackageGroupDescription
# What cookiecutter would take for code in an answer, and run here with the function's rights.
_TEMPLATE_CODE = re.compile("[{][%#{]")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_OF_CLOUDFORMATION = ("ServiceToken", "ServiceTimeout")

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "ProblemType": ("binary_classification", "multiclass_classification", "regression"),
    "Scenario": tuple(STAGES),
    "GitHost": ("codecommit", "github"),
    "InitialContent": ("template", "empty", "pushed"),
    "OnDelete": ("keep", "delete"),
}
_DEFAULTS: Mapping[str, Any] = {
    "GitOwner": NOTHING,
    "Repository": "",
    "InitialContent": "template",
    "TemplateVersion": LATEST,
    "OnDelete": "keep",
    "CiVariables": {},
    "DataBuckets": "",
    "KmsKeyArns": "",
}
_REQUIRED = (
    "Project",
    "ProjectId",
    "Description",
    "ProblemType",
    "Scenario",
    "ArtifactBucket",
    "PipelineRole",
    "ModelRole",
    "GitHost",
)
_RENDERED = ("Description", "ArtifactBucket", "PipelineRole")  # free text that becomes an answer of the template


@dataclass(frozen=True)
class ProjectProperties:
    """One project, as product.yaml describes it.

    Args:
        project: the project's name, at most 32 characters.
        project_id: SageMaker's id of it, for tags, such as p-abcdefghijkl.
        description: one line, for people.
        problem_type: binary_classification, multiclass_classification or regression.
        scenario: which stages there are.
        artifact_bucket: S3 bucket of the project's data, code and models.
        pipeline_role: the template's answer: a role's name or ARN, `{stage}` in it standing for the branch class.
        model_role: name of the models' execution role.
        git_host: codecommit or github.
        git_owner: GitHub organization or user; "": the platform's.
        repository: the repository's name.
        initial_content: template: rendered and pushed here; empty: somebody pushes later; pushed: somebody has.
        template_version: latest, or the version of an archive in the code bucket.
        on_delete: what becomes of the repository with the project.
        ci_variables: name to value, for the host's CI.
        data_buckets: names of further buckets that it reads; None from a product that does not tell.
        kms_keys: ARNs of their keys.
    """

    project: str
    project_id: str
    description: str
    problem_type: str
    scenario: Scenario
    artifact_bucket: str
    pipeline_role: str
    model_role: str
    git_host: str
    git_owner: str
    repository: str
    initial_content: InitialContent
    template_version: str
    on_delete: OnDelete
    ci_variables: Mapping[str, str] = field(default_factory=dict)
    data_buckets: tuple[str, ...] | None = None
    kms_keys: tuple[str, ...] = ()

    @property
    def stages(self) -> tuple[str, ...]:
        return STAGES[self.scenario]

    @property
    def groups(self) -> dict[str, str]:
        """Name of the model package group to its stage."""
        return {group_name(self.project, stage): stage for stage in self.stages}

    def tags(self, mark: str, stage: str | None = None) -> dict[str, str]:
        """What everything of the project carries, and what a stage's group carries besides.

        Args:
            mark: the stack's ARN.
            stage: of a group; None for what has none.
        """
        tags = {
            "sagemaker:project-name": self.project,
            "sagemaker:project-id": self.project_id,
            "modelyard:project": self.project,
            "modelyard:stack": mark,
        }
        if stage is not None:
            tags |= {"modelyard:stage": stage, "modelyard:model-role": self.model_role}
        return tags

    def repository_tags(self, mark: str) -> dict[str, str]:
        """What the repository carries. modelyard:content is "empty" until what somebody brings is pushed: whoever may
        create projects may push to it until then (CreatorPolicy in servicecatalog/portfolio.yaml).
        """
        return self.tags(mark) | {"modelyard:content": "empty" if self.initial_content == "empty" else "filled"}

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> ProjectProperties:
        """The properties of a Create or an Update.

        Raises:
            InvalidProperties: with every fault.
        """
        faults = _unknown(values, (*_REQUIRED, *_DEFAULTS))
        faults += [
            f"{name} is missing: give it in the template" for name in _REQUIRED if not _text(values, name).strip()
        ]
        faults += [fault for name, check in _CHECKS.items() if (fault := check(name, _given(values, name)))]
        faults += _variable_faults(_given(values, "CiVariables"))
        faults += [fault for name in _RENDERED if (fault := template_code_fault(name, _given(values, name)))]
        faults += _tag_faults(values)
        if faults:
            raise InvalidProperties(faults)
        return cls._of(values)

    @classmethod
    def parse_for_deletion(cls, values: Mapping[str, Any]) -> ProjectProperties | None:
        """The properties of a Delete; None when nothing can have been made with them.

        What names the project's things must be as a Create takes it; the rest is taken as it is, so that a stack whose
        creation was refused, or whose properties a newer version would refuse, can be deleted.
        """
        naming = ("Project", "GitHost", "GitOwner", "Repository")
        if not _text(values, "GitHost") or any(_CHECKS[name](name, _given(values, name)) for name in naming):
            return None
        return cls._of(values)

    @classmethod
    def _of(cls, values: Mapping[str, Any]) -> ProjectProperties:
        variables = _given(values, "CiVariables")
        return cls(
            project=_text(values, "Project"),
            project_id=_text(values, "ProjectId"),
            description=_text(values, "Description"),
            problem_type=_text(values, "ProblemType"),
            scenario=cast(Scenario, _text(values, "Scenario")),
            artifact_bucket=_text(values, "ArtifactBucket"),
            pipeline_role=_text(values, "PipelineRole"),
            model_role=_text(values, "ModelRole"),
            git_host=_text(values, "GitHost"),
            git_owner=something(_text(values, "GitOwner")),
            repository=_text(values, "Repository") or _text(values, "Project"),
            initial_content=cast(InitialContent, _text(values, "InitialContent")),
            template_version=_text(values, "TemplateVersion"),
            on_delete=cast(OnDelete, _text(values, "OnDelete")),
            ci_variables=dict(variables) if isinstance(variables, Mapping) else {},
            data_buckets=listed(_text(values, "DataBuckets")) if "DataBuckets" in values else None,
            kms_keys=listed(_text(values, "KmsKeyArns")),
        )


@dataclass(frozen=True)
class TemplateProperties:
    """The published template, as portfolio.yaml describes it.

    Args:
        template_version: the version of an archive in the code bucket.
        repository: the repository that it is published in.
    """

    template_version: str
    repository: str

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> TemplateProperties:
        """Raises InvalidProperties with every fault."""
        # PublishedOn is told by the settings; as a property it lets CloudFormation call the function when it changes.
        faults = _unknown(values, ("TemplateVersion", "Repository", "PublishedOn"))
        version, repository = _text(values, "TemplateVersion"), _text(values, "Repository")
        if version == LATEST or not _VERSION.fullmatch(version):
            faults.append(f"TemplateVersion {version!r}: name the version of an archive, as make install-platform does")
        if fault := _repository_fault("Repository", repository or "."):
            faults.append(fault)
        if faults:
            raise InvalidProperties(faults)
        return cls(version, repository)


def group_name(project: str, stage: str) -> str:
    """Name of the model package group of a stage."""
    return f"{project}-{stage}"


def physical_id(resource_type: str, values: Mapping[str, Any]) -> str:
    """The resource's PhysicalResourceId: the same for Create, Update and Delete, and for success and failure; but see
    NOTHING_MADE.

    Args:
        values: the properties as they arrived, usable or not.
    """
    if resource_type == TEMPLATE_RESOURCE:
        return f"modelyard-template/{_text(values, 'Repository')}"[:_PHYSICAL_ID_LENGTH]
    return f"modelyard-project/{_text(values, 'Project')}"[:_PHYSICAL_ID_LENGTH]


# What follows the id of a creation that failed before it made anything. The Delete of that id touches nothing: it needs
# no host, which may be why the creation failed; and should the resource have been made meanwhile, that has another id.
NOTHING_MADE = "/nothing-made"

_PHYSICAL_ID_LENGTH = 255  # AWS takes 1,024 bytes; a name that is no good may be of any length


def _given(values: Mapping[str, Any], name: str) -> Any:
    return values.get(name, _DEFAULTS.get(name, ""))


def _text(values: Mapping[str, Any], name: str) -> str:
    value = _given(values, name)
    return value if isinstance(value, str) else ""


def _unknown(values: Mapping[str, Any], known: tuple[str, ...]) -> list[str]:
    unknown = sorted(set(values) - set(known) - set(_OF_CLOUDFORMATION))
    return [f"{name} is no property of this resource: take it out; there are {', '.join(known)}" for name in unknown]


def _project_fault(name: str, value: Any) -> str | None:
    if isinstance(value, str) and len(value) <= _PROJECT_LENGTH and _PROJECT.fullmatch(value):
        return None
    return (
        f"{name} {_shown(value)}: write at most {_PROJECT_LENGTH} lower-case letters, digits and hyphens; begin with a "
        'letter, end with a letter or digit, and leave "-feature" out, since branches named feature-* get names of '
        "their own from it"
    )


def _description_fault(name: str, value: Any) -> str | None:
    if isinstance(value, str) and len(value) <= _DESCRIPTION_LENGTH and value.isprintable():
        return None
    return f"{name} {_shown(value)}: write one line of 1 to {_DESCRIPTION_LENGTH} printable characters"


def template_code_fault(name: str, value: Any) -> str | None:
    """What is wrong with an answer that cookiecutter would render; None when nothing is."""
    if not isinstance(value, str) or not _TEMPLATE_CODE.search(value):
        return None
    return (
        f"{name} {_shown(value)}: an opening brace before another brace, % or # would be taken for template code: "
        "leave it out"
    )


def _choice_fault(name: str, value: Any) -> str | None:
    if value in _CHOICES[name] or value == "":  # what is missing was said already
        return None
    return f"{name} {_shown(value)}: choose one of {', '.join(_CHOICES[name])}"


def _repository_fault(name: str, value: Any) -> str | None:
    if value == "":  # the project's name, then
        return None
    if isinstance(value, str) and _REPOSITORY.fullmatch(value) and value.strip(".") and not value.endswith(".git"):
        return None
    return (
        f"{name} {_shown(value)}: write at most 100 letters, digits and characters of _.- that are not dots alone and "
        "do not end with .git"
    )


def _owner_fault(name: str, value: Any) -> str | None:
    if value == "" or (isinstance(value, str) and _OWNER.fullmatch(value)):
        return None
    return f"{name} {_shown(value)}: write the name of a GitHub organization or user, or {NOTHING!r}"


def _role_fault(name: str, value: Any) -> str | None:
    if value == "" or (isinstance(value, str) and _ROLE.fullmatch(value)):
        return None
    return f"{name} {_shown(value)}: write an IAM role's name: at most 64 letters, digits and characters of _+=.@-"


def _buckets_fault(name: str, value: Any) -> str | None:
    if isinstance(value, str) and all(_BUCKET.fullmatch(each) for each in listed(value)):
        return None
    return f"{name} {_shown(value)}: write the names of S3 buckets, with commas between"


def _version_fault(name: str, value: Any) -> str | None:
    if isinstance(value, str) and _VERSION.fullmatch(value):
        return None
    return f"{name} {_shown(value)}: write {LATEST!r}, or a version of the template as its product has it"


_CHECKS = {
    "Project": _project_fault,
    "Description": _description_fault,
    "ProblemType": _choice_fault,
    "Scenario": _choice_fault,
    "GitHost": _choice_fault,
    "InitialContent": _choice_fault,
    "OnDelete": _choice_fault,
    "GitOwner": _owner_fault,
    "Repository": _repository_fault,
    "ModelRole": _role_fault,
    "TemplateVersion": _version_fault,
    "DataBuckets": _buckets_fault,
}


def _variable_faults(variables: Any) -> list[str]:
    if not isinstance(variables, Mapping):
        return ["CiVariables: write a map of names to values"]
    faults = []
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            faults.append(
                f"CiVariables, {_shown(name)}: write capitals, digits and underscores; begin with neither a digit nor "
                "GITHUB_"
            )
        if not isinstance(value, str) or not value or len(value) > _VARIABLE_LENGTH:
            faults.append(f"CiVariables, {_shown(name)}: its value must be text of 1 to {_VARIABLE_LENGTH} characters")
    return faults


def _tag_faults(values: Mapping[str, Any]) -> list[str]:
    """Tag values that AWS would refuse when the first group is made already.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Tag.html
    """
    project_id = _text(values, "ProjectId")
    if re.fullmatch(r"[A-Za-z0-9_.:/=+@-]{0,256}", project_id):
        return []
    return [f"ProjectId {_shown(project_id)}: write at most 256 letters, digits and characters of _.:/=+@-"]


def _shown(value: Any) -> str:
    """The value for a message: not longer than it helps."""
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= 60 else text[:60] + "...")
