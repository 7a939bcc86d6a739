"""The project in AWS: made by the platform's product, as SageMaker Studio makes one, for this repository.

The product (Modelyard's servicecatalog/product.yaml) is CloudFormation: repository, roles, policies, model package
groups. SageMaker runs it as a project (https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-projects.html).
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipeline import InputError, remote
from pipeline.aws import is_missing
from pipeline.settings import ROOT, Settings

# What a clone calls the template of the project that it makes, with a text at random that it keeps in its own
# configuration: the name within the project is free, and tells whose project it is. 32 characters are its most.
MARK, MARK_KEY = "modelyard-clone-", "modelyard.clone"
# Written by the platform's installation; where they are not, no platform is.
TEMPLATE_URL, LAUNCH_ROLE = "/modelyard/product/template-url", "/modelyard/launch-role"
BUCKET, GIT_HOST = "/modelyard/artifact-bucket", "/modelyard/git/host"
# SageMaker writes some names in ARNs in lower case, and IAM compares them letter by letter.
NAME = re.compile(r"[a-z](-*[a-z0-9]){0,31}")
CI_FILES = {"codecommit": "buildspec.yml", "github": ".github/workflows/ci.yml"}
# The platform makes no repository there.
GITLAB_FILE = ".gitlab-ci.yml"
FAILED = ("CreateFailed", "UpdateFailed", "DeleteFailed")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0  # seconds between two looks
VISIBLE = 30.0  # seconds after which SageMaker shows what was asked for just now, at the latest
INITIAL_CONTENT = "InitialContent"
# The product's other parameters that whoever creates a project may answer. Of these an update may change:
CHANGEABLE = ("Description", "Scenario", "OnDelete", "DataBuckets", "KmsKeyArns")
FIXED = ("ProblemType", "GitHost", "GitOwner", "Repository", "ArtifactBucket")
# What project and repository are to agree on; its stage files say how many models there are.
ASKED_BY = ("settings.yaml", "deployment")


@dataclass(frozen=True)
class Platform:
    """What the account's platform makes projects with.

    Args:
        template_url: of the product's template, in S3.
        launch_role: ARN of the role that makes projects.
        bucket: the platform's own, for projects that name no other.
        git_host: where it makes repositories: codecommit or github.
    """

    template_url: str
    launch_role: str
    bucket: str
    git_host: str


@dataclass(frozen=True)
class Project:
    """A project as SageMaker describes it.

    Args:
        stack: ARN of its stack; None for one that Service Catalog made.
        why: what its stack says of itself, such as why it failed.
        template: what its template is called within it.
        by: who made it.
        provisioned: the parameters with which Service Catalog made it.
    """

    name: str
    id: str
    status: str
    stack: str | None
    why: str
    template: str = ""
    by: str = "somebody"
    provisioned: Mapping[str, str] = field(default_factory=dict)


def find_platform(aws: boto3.Session) -> Platform:
    """Raises InputError where no platform is installed."""
    answer = aws.client("ssm").get_parameters(Names=[TEMPLATE_URL, LAUNCH_ROLE, BUCKET, GIT_HOST])
    found = {parameter["Name"]: parameter["Value"] for parameter in answer["Parameters"]}
    if missing := answer.get("InvalidParameters"):
        account = aws.client("sts").get_caller_identity()["Account"]
        raise InputError(
            f"Modelyard's platform is not installed in account {account}, Region {aws.region_name} (there are no SSM "
            f"parameters {', '.join(missing)}). Where it is elsewhere, correct aws.region in settings.yaml, or sign in "
            "to its account. Else have an administrator run `make install-platform`, or make the model package groups "
            "alone with register-project --groups-only"
        )
    return Platform(found[TEMPLATE_URL], found[LAUNCH_ROLE], found[BUCKET], found[GIT_HOST])


def check_host(host: str, platform: Platform) -> None:
    """Raises InputError when the platform makes its repositories elsewhere."""
    if host != platform.git_host:
        raise InputError(
            f"this repository is for {host}, and the platform of this account makes repositories on "
            f"{platform.git_host}: generate it again with git_host={platform.git_host}, whose CI file it then has"
        )


def check_bucket(aws: boto3.Session, settings: Settings, platform: Platform, report: Callable[[str], None]) -> None:
    """Raises InputError when there is no such bucket, or it is in another Region.

    One that may not be looked at is reported, and passes: it may be for the project's roles alone, and the platform
    refuses those that it does not know. Raises botocore's ClientError when S3 cannot say.
    """
    bucket, fault = settings.aws.bucket, ""
    account = aws.client("sts").get_caller_identity()["Account"]
    try:
        answer = aws.client("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=account)
        region = answer.get("BucketRegion", aws.region_name)
    except ClientError as error:
        told = error.response.get("ResponseMetadata", {})
        status = told.get("HTTPStatusCode")
        # S3 says where a bucket is to whoever asks
        region = told.get("HTTPHeaders", {}).get("x-amz-bucket-region", aws.region_name)
        if status == 404:
            fault = f"there is no bucket {bucket!r}"
        elif status in (301, 400) and region != aws.region_name:
            pass
        elif status != 403:
            raise
        elif bucket != platform.bucket:
            report(
                f"settings.yaml: aws.bucket: {bucket} is another account's than {account}, or you may not look at it: "
                "it passes where the platform was installed with it"
            )
    if not fault and region != aws.region_name:
        fault = f"{bucket} is in {region}, and the project in {aws.region_name}"
    if fault:
        raise InputError(
            f"settings.yaml: aws.bucket: {fault}. The platform's is {platform.bucket}: write that (in data.uri too), "
            f"or one that the platform was installed with, and commit it on both branches:\n{COMMIT}\n{TAKE_OVER}"
        )


# What to type: on dev, and then, while nothing was pushed, for prod.
COMMIT = "  git checkout dev && git add settings.yaml deployment && git commit -m 'Settings of the project'"
TAKE_OVER = "  git checkout dev && git fetch . dev:prod"


def check_committed(first: bool, root: Path = ROOT) -> None:
    """Raises InputError where what the project is asked for is not what is pushed.

    Args:
        first: prod is pushed too; later it may be behind dev.
    """
    changed = _git(root, "diff", "--name-only", "refs/heads/dev", "--", *ASKED_BY).splitlines()
    changed += _git(root, "ls-files", "--others", "--exclude-standard", "--", *ASKED_BY).splitlines()
    if changed:
        raise InputError(
            f"{', '.join(changed)}: not as the branch dev has it in its last commit, which is what is pushed. Commit "
            f"it on dev, or check out dev as it is:\n{COMMIT}"
        )
    if first and _git(root, "diff", "--name-only", "refs/heads/prod", "refs/heads/dev", "--", "settings.yaml"):
        raise InputError(
            "settings.yaml: the branch prod, which is pushed too, has another one than dev: let it have dev's "
            f"commits (git branch --force prod dev, where git refuses since those of prod were replaced on dev):"
            f"\n{TAKE_OVER}"
        )


def git_host(root: Path = ROOT) -> str:
    """codecommit or github: whose CI file is here. Raises InputError when that does not say, or says GitLab."""
    if (root / GITLAB_FILE).is_file():
        raise InputError(
            f"{GITLAB_FILE} is here, and on GitLab the platform makes neither repository nor roles: push to a project "
            "that you made there, run register-project --groups-only, and have an administrator of the account make "
            "what README.md says under CI, GitLab"
        )
    found = [host for host, name in CI_FILES.items() if (root / name).is_file()]
    if len(found) != 1:
        there = " and ".join(CI_FILES[host] for host in found) or "neither of them"
        raise InputError(
            f"it is not clear where the repository is to be ({' or '.join(CI_FILES.values())} would say so, {there} is "
            "here): name it with --git-host"
        )
    return found[0]


def product_parameters(
    settings: Settings, stages: Iterable[str], host: str, chosen: Mapping[str, str]
) -> dict[str, str]:
    """The product's parameters for what this repository says of itself; those that it does not say keep their defaults.

    Args:
        stages: of deployment/, which say which scenario this is.
        host: codecommit or github.
        chosen: what else was asked for on the command line, by the parameters' names.

    Raises:
        InputError: the product makes no project of that name, or roles of other names than settings.yaml asks for.
    """
    if not NAME.fullmatch(settings.project):
        raise InputError(
            f"settings.yaml: project: the platform makes projects in lower case alone, and this one is "
            f"{settings.project!r}: generate it again with another name"
        )
    role = f"{settings.project}-pipeline-{{stage}}"
    if settings.aws.role != role:
        raise InputError(
            f"settings.yaml: aws.role: the platform makes the roles {role} ({{stage}}: feature, dev), and this is "
            f"{settings.aws.role!r}: write {role!r} and commit it"
        )
    found = {
        "Description": settings.description,
        "ProblemType": settings.problem_type,
        "Scenario": "advanced" if "champion" in stages else "baseline",
        "GitHost": host,
        "ArtifactBucket": settings.aws.bucket,
    }
    return {**found, **chosen}


def describe(aws: boto3.Session, name: str) -> Project | None:
    """None when there is no such project, or was one."""
    try:
        answer = aws.client("sagemaker").describe_project(ProjectName=name)
    except ClientError as error:
        if not is_missing(error):
            raise
        return None
    if answer["ProjectStatus"] == "DeleteCompleted":
        return None
    providers = answer.get("TemplateProviderDetails") or [{}]
    detail = providers[0].get("CfnTemplateProviderDetail", {})
    stack, catalog = detail.get("StackDetail", {}), answer.get("ServiceCatalogProvisioningDetails", {})
    why = stack.get("StatusMessage") or answer.get("ServiceCatalogProvisionedProductDetails", {}).get(
        "ProvisionedProductStatusMessage", ""
    )
    creator = answer.get("CreatedBy", {})
    return Project(
        name=answer["ProjectName"],
        id=answer["ProjectId"],
        status=answer["ProjectStatus"],
        stack=stack.get("Id"),
        why=why,
        template=detail.get("TemplateName", ""),
        by=creator.get("UserProfileName") or creator.get("IamIdentity", {}).get("Arn") or "somebody",
        provisioned={each["Key"]: each.get("Value", "") for each in catalog.get("ProvisioningParameters", [])},
    )


def create(
    aws: boto3.Session, settings: Settings, platform: Platform, parameters: dict[str, str], root: Path = ROOT
) -> str:
    """Asks SageMaker for the project, with an empty repository, as this clone's; its id. `wait` until it is there."""
    template = _template(platform, make_mark(root), parameters, "empty")
    answer = aws.client("sagemaker").create_project(
        ProjectName=settings.project,
        ProjectDescription=settings.description,
        TemplateProviders=[{"CfnTemplateProvider": {**template, "RoleARN": platform.launch_role}}],
    )
    return str(answer["ProjectId"])


def update(aws: boto3.Session, project: Project, platform: Platform, parameters: dict[str, str], content: str) -> None:
    """Gives the project these parameters, all of them: it is not documented that what is left out stays.

    Args:
        content: pushed tells it that the repository holds what was pushed: the Git host then protects its branches.
    """
    aws.client("sagemaker").update_project(
        ProjectName=project.name,
        ProjectDescription=parameters["Description"],
        TemplateProvidersToUpdate=[{"CfnTemplateProvider": _template(platform, project.template, parameters, content)}],
    )


def make_mark(root: Path = ROOT) -> str:
    """What this clone calls the template of a project that it makes; kept before anything is made."""
    there = mark(root)
    if there is None:
        there = MARK + secrets.token_hex(8)
        _git(root, "config", "--local", MARK_KEY, there)
    return there


def mark(root: Path = ROOT) -> str | None:
    """The same; None where this clone never made one."""
    return _git(root, "config", "--local", "--get", MARK_KEY, ok=1) or None


def is_of_this_repository(project: Project, clone_url: str | None, root: Path = ROOT) -> bool:
    """Whether this clone made the project, or is a clone of what was pushed to it.

    Args:
        clone_url: of the project's repository, None where there is none.
    """
    if project.template == mark(root):
        return True
    if clone_url is None or not remote.leads_to(clone_url, root):
        return False
    # the address alone is no proof: another repository may have been made there since
    pushed = remote.head(remote.BRANCHES[0], root=root)
    return pushed is not None and bool(_git(root, "branch", "--list", "dev", "--contains", pushed, ok=129))


def delete(aws: boto3.Session, name: str) -> None:
    aws.client("sagemaker").delete_project(ProjectName=name)


def wait(
    aws: boto3.Session,
    name: str,
    report: Callable[[str], None],
    pause: Callable[[float], None] = time.sleep,
    made: str | None = None,
) -> Project | None:
    """Reports each status until nothing is under way any more; None when the project is gone.

    Args:
        made: the id of one that was asked for just now, which SageMaker may not show at once.
    """
    seconds, reported, waited = FIRST_PAUSE, "", 0.0
    while True:
        found = describe(aws, name)
        if made is not None and (found is None or found.id != made) and waited < VISIBLE:
            pause(seconds)
            waited += seconds
            continue
        made = None
        status = "gone" if found is None else found.status
        if status != reported:
            report(f"project {name}: {status}")
            reported = status
        if found is None or not (status == "Pending" or status.endswith("InProgress")):
            return found
        pause(seconds)
        seconds = min(seconds * 1.3, LONGEST_PAUSE)


def stack_of(aws: boto3.Session, project: Project, asked: Mapping[str, str]) -> dict[str, Any]:
    """Its stack, as CloudFormation describes it. Raises InputError when it came from the Service Catalog.

    Args:
        asked: what this repository says of itself.
    """
    if project.stack is None:
        # the product's default; what has none there is told by Studio's form, which sends everything
        there = {"Description": asked["Description"], "Scenario": "baseline", **project.provisioned}
        changed = {name: asked[name] for name in ("Description", "Scenario") if asked[name] != there[name]}
        raise InputError(
            f"the project {project.name} is there already, made in the Service Catalog by {project.by}, and not by "
            f"register-project. Where this is a clone of its repository, {_catalog_advice(project.name, changed)}. "
            "Else clone it, or choose another name"
        )
    return dict(aws.client("cloudformation").describe_stacks(StackName=project.stack)["Stacks"][0])


def _catalog_advice(name: str, changed: Mapping[str, str]) -> str:
    if not changed:
        return "nothing is left to register: python -m pipeline upload-data is next"
    details = {"ProvisioningParameters": [{"Key": key, "Value": value} for key, value in changed.items()]}
    return (
        f"this makes it what the repository says by now:\n  aws sagemaker update-project --project-name {name} "
        f"--service-catalog-provisioning-update-details {shlex.quote(json.dumps(details))}\n"
    )


def values(stack: dict[str, Any]) -> dict[str, str]:
    """A stack's parameters."""
    return {each["ParameterKey"]: each.get("ParameterValue", "") for each in stack.get("Parameters", [])}


def outputs(stack: dict[str, Any]) -> dict[str, str]:
    return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}


def differences(stack: dict[str, Any], asked: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What the project has otherwise than asked, by parameter: as it is there, and as asked."""
    there, made = values(stack), outputs(stack)
    # as the product takes what was left out
    there |= {name: made[output] for name, output in _RESOLVED.items() if output in made}
    return {
        name: (there.get(name, ""), value)
        for name, value in asked.items()
        if _comparable(name, there.get(name, "")) != _comparable(name, value)
    }


_RESOLVED = {"ArtifactBucket": "ArtifactBucket", "Repository": "RepositoryName"}


def _comparable(name: str, value: str) -> str:
    """Lists may have blanks after their commas."""
    return value.replace(" ", "") if name in ("DataBuckets", "KmsKeyArns") else value


def check_changeable(project: Project, differing: Mapping[str, tuple[str, str]], empty: bool) -> None:
    """Raises InputError when the project cannot become what is asked.

    Args:
        empty: nothing was pushed to it yet.
    """
    faults = [
        f"{name} is {there!r} there, and {asked!r} here"
        for name, (there, asked) in differing.items()
        if name in FIXED or (name, there) == ("Scenario", "advanced")
    ]
    if faults:
        remedy = f"  aws sagemaker delete-project --project-name {project.name}"
        raise InputError(
            f"the project {project.name} is there, and differs in what cannot change: {'; '.join(faults)}. Say here "
            "what it is there, "
            + (
                f"or delete it, with its repository, which is empty yet, and run register-project again:\n{remedy}"
                if empty
                else "or make another project"
            )
        )


def kept(stack: dict[str, Any]) -> dict[str, str]:
    """The parameters with which the project was made, that an update is to keep."""
    known = (*CHANGEABLE, *FIXED, "TemplateVersion")
    return {name: value for name, value in values(stack).items() if name in known}


def reason(aws: boto3.Session, project: Project) -> str:
    """Why it failed, in the words of the resources that did."""
    if project.stack is None:
        return project.why
    events = aws.client("cloudformation").describe_stack_events(StackName=project.stack)["StackEvents"]
    said = [
        f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
        for event in reversed(events)
        if event["ResourceStatus"].endswith("_FAILED")
        and event.get("ResourceStatusReason")
        and event["ResourceType"] != "AWS::CloudFormation::Stack"
        and "cancelled" not in event["ResourceStatusReason"].lower()
    ]
    return "\n  ".join(said) or project.why


def _template(platform: Platform, name: str, parameters: dict[str, str], content: str) -> dict[str, Any]:
    listed = {**parameters, INITIAL_CONTENT: content}
    return {
        "TemplateName": name,
        "TemplateURL": platform.template_url,
        "Parameters": [{"Key": key, "Value": value} for key, value in listed.items()],
    }


def _git(root: Path, *arguments: str, ok: int = 0) -> str:
    """What git says. ok: a code with which it may end besides 0; it then says nothing."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise InputError("git is not installed: install it") from None
    if done.returncode not in (0, ok):
        raise InputError(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout.strip()
