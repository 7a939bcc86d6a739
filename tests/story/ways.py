"""The three ways in which a project is created, gone by people who have no more than the policies that
docs/create-a-project.md names; and what is there afterwards.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from local_aws import LocalAWS
from local_aws.git.repositories import settings_in_environment
from local_aws.studio import Project, create_project, delete_project, find_template
from local_aws.studio.projects import PROFILE
from local_aws.studio.templates import Route
from tests.local_aws.git_clients import QUIET, Git
from tests.local_aws.github_clients import ORGANIZATION, TOKEN, GitHubClient
from tests.local_aws.people import role_session
from tests.local_aws.waiting import STACK_PAUSE, wait_for
from tests.story.leftovers import leftovers
from tests.story.people import DATA_SCIENTISTS, People, prepare
from tests.story.story import CHECKOUT

CLOCK_SPEED = 60.0  # Lambda's first retry then comes after a second
CATALOG: Route = "servicecatalog"
S3: Route = "s3"
PROGRAMS = Path(sys.executable).parent
SECRET = "modelyard/git-token"
_DOMAIN = {"AuthMode": "IAM", "DefaultUserSettings": {}, "VpcId": "vpc-1", "SubnetIds": ["subnet-1"]}
# Where a failed project is still written down until its person deletes it.
_RECORDS = ("sagemaker list_projects", "servicecatalog ", "cloudformation describe_stacks")
_LOOK = 0.05  # seconds between two looks at a project


@dataclass
class Installed:
    """An account with IAM enforced, in which an administrator has installed the platform for one Git host.

    Args:
        host: codecommit or github.
        domain: the id of Studio's domain, whose S3 templates people see; `install` makes one.
        people: by the project that they create.
    """

    aws: LocalAWS
    host: str
    domain: str = ""
    people: dict[str, People] = field(default_factory=dict)

    def install(self, checkout: Path = CHECKOUT) -> Installed:
        """As an administrator does, from a checkout of Modelyard; again from another one to bring it up to date."""
        if not self.domain:
            made = self.aws.client("sagemaker").create_domain(DomainName="studio", **_DOMAIN)
            self.domain = made["DomainId"]
        options = ["--principals", DATA_SCIENTISTS, "--studio-domain", self.domain]
        if self.host == "github":
            options += ["--git-host", "github", "--git-owner", ORGANIZATION, "--git-base-url", self.github_url]
            options += ["--git-token-secret-arn", self._secret()]
        command = [sys.executable, "-m", "servicecatalog", "install", *options, "--yes"]
        done = self.run(self.person("admin").administrator, checkout, *command)
        assert done.returncode == 0, done.stdout + done.stderr
        return self

    @property
    def github_url(self) -> str:
        return f"{self.aws.endpoint}/_github"

    def _secret(self) -> str:
        """The ARN of the secret with GitHub's token."""
        secrets = self.aws.client("secretsmanager")
        known = [one["ARN"] for one in secrets.list_secrets()["SecretList"] if one["Name"] == SECRET]
        if known:
            return str(known[0])
        self.heal()
        return str(secrets.create_secret(Name=SECRET, SecretString=TOKEN)["ARN"])

    def heal(self) -> None:
        """GitHub and the quotas as they were before a test's fault."""
        token = {"login": "robot", "expires": None}
        usual = {"organizations": {ORGANIZATION: {}}, "tokens": {TOKEN: token}, "outage": False, "rate_limit": None}
        self.aws.configure("github", usual)
        self.aws.configure("quotas", {"model_package_groups": 250})

    # --- people

    def person(self, project: str) -> People:
        """Somebody who may create projects, and nothing else yet."""
        if project not in self.people:
            self.people[project] = prepare(self.aws, project)
            if len(self.people) > 1:  # the first one installs the platform
                self.people[project].welcome()
        return self.people[project]

    def clients(self, project: str) -> Any:
        """boto3's clients by service, of the project's person."""
        credentials = self.person(project).data_scientist
        return lambda service: self.aws.client(service, credentials=credentials)

    def environment(self, project: str) -> dict[str, str]:
        """The variables with which the project's person calls AWS and signs in to the Git host."""
        found = self.person(project).data_scientist
        if self.host == "github":
            helper = f"!f() {{ echo username=x; echo password={TOKEN}; }}; f"
            found = found | settings_in_environment([(f"credential.{self.aws.endpoint}.helper", helper)])
        return found

    def run(self, environment: Mapping[str, str], folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in a folder, with nobody's Git configuration and this environment's programs."""
        variables = os.environ | QUIET | dict(environment)
        variables["PATH"] = f"{PROGRAMS}{os.pathsep}{variables['PATH']}"
        return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)

    # --- projects

    def create(self, project: str, route: Route = CATALOG, **parameters: str) -> Project:
        """From Studio's form. Raises ProjectError when it fails."""
        clients = self.clients(project)
        template = find_template(clients, "Modelyard project" if route == CATALOG else self.s3_template, route)
        given = {"GitHost": self.host} | parameters
        return create_project(clients, project, template, given, domain=self.domain, pause=_LOOK)

    @property
    def s3_template(self) -> str:
        """What Studio calls the newest of the S3 templates."""
        return self.parameter("/modelyard/product/template-url").rpartition("/")[2].removesuffix(".yaml")

    def generate(self, project: str, folder: Path, **answers: str) -> Path:
        """By cookiecutter, from the template that the platform has published; the repository's folder."""
        given = {"project": project, "git_host": self.host, "region": self.aws.client("s3").meta.region_name}
        given |= {"artifact_bucket": self.parameter("/modelyard/artifact-bucket")} | answers
        url = f"git+{self.parameter('/modelyard/template/url')}"
        words = [f"{name}={value}" for name, value in given.items()]
        home = self.environment(project) | {"HOME": str(folder)}
        done = self.run(home, folder, "cookiecutter", url, "--no-input", "--output-dir", str(folder), *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return folder / project

    def register(self, project: str, repository: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """The one command that does the rest."""
        command = ("python", "-m", "pipeline", "register-project", *options)
        return self.run(self.environment(project), repository, *command)

    def delete(self, project: str) -> None:
        """As its person does. Raises ProjectError when it fails."""
        delete_project(self.clients(project), project, pause=_LOOK)

    def left(self, project: str) -> list[str]:
        """What is left of a project."""
        found = leftovers(self.aws.client, project)
        if self.host == "github":
            there = self.aws.settings("github")["repositories"]
            found += [f"github: {name}" for name in there if name.lower().endswith(f"/{project}")]
        return found

    def remains(self, project: str) -> list[str]:
        """What is left of one that failed, the records of it aside."""
        return [one for one in self.left(project) if not one.startswith(_RECORDS)]

    def parameter(self, name: str) -> str:
        return str(self.aws.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])

    def update(self, project: str, **parameters: str) -> str:
        """Change parameters of one that came from the catalog; the project's status then."""
        sagemaker = self.clients(project)("sagemaker")
        pairs = [{"Key": key, "Value": value} for key, value in parameters.items()]
        details = {"ProvisioningParameters": pairs}
        sagemaker.update_project(ProjectName=project, ServiceCatalogProvisioningUpdateDetails=details)
        return str(wait_for(lambda: self._settled(project), 120, pause=STACK_PAUSE))

    def retag(self, project: str, **tags: str) -> str:
        """Change tags of a project; its status then."""
        given = [{"Key": key, "Value": value} for key, value in tags.items()]
        self.clients(project)("sagemaker").update_project(ProjectName=project, Tags=given)
        return str(wait_for(lambda: self._settled(project), 120, pause=STACK_PAUSE))

    def _settled(self, project: str) -> str | None:
        status = str(self.aws.client("sagemaker").describe_project(ProjectName=project)["ProjectStatus"])
        return None if status.endswith("InProgress") else status

    def reasons(self, project: str) -> list[str]:
        """Why the project's resources failed, the newest first."""
        cloudformation = self.aws.client("cloudformation")
        events = cloudformation.describe_stack_events(StackName=self.stack(project)["StackId"])["StackEvents"]
        return [one.get("ResourceStatusReason", "") for one in events if one["ResourceStatus"].endswith("_FAILED")]

    # --- its CI

    def ci(self, project: str, name: str) -> dict[str, str]:
        """What a job of the CI calls AWS with.

        Args:
            name: of the class of branches: feature, dev or prod.
        """
        arn = f"arn:aws:iam::{self.aws.server.account}:role/modelyard/ci/{project}-ci-{name}"
        if self.host == "codecommit":
            return {**self.aws.environment, **role_session(self.aws, arn)}
        branch = "feature-x" if name == "feature" else name
        return {**self.aws.environment, **self.take(arn, self.job_token(project, f"refs/heads/{branch}"))}

    def job_token(self, repository: str, ref: str) -> str:
        """The OIDC token of a job of GitHub Actions."""
        asked = {"repository": f"{ORGANIZATION}/{repository}", "ref": ref, "audience": "sts.amazonaws.com"}
        return str(self.aws.configure("github", {"issue_oidc_token": asked})["oidc_token"])

    def take(self, role: str, token: str) -> dict[str, str]:
        """The variables of a session of a role, by a job's token. Raises ClientError where it is not trusted."""
        sts = boto3.client(
            "sts", endpoint_url=self.aws.endpoint, region_name="us-east-1", config=Config(signature_version=UNSIGNED)
        )
        given = sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="job", WebIdentityToken=token)
        return {
            "AWS_ACCESS_KEY_ID": given["Credentials"]["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": given["Credentials"]["SecretAccessKey"],
            "AWS_SESSION_TOKEN": given["Credentials"]["SessionToken"],
        }

    # --- what is there

    def clone(self, project: str, folder: Path, name: str | None = None) -> Git:
        """A clone of its repository, on dev, by somebody who may read it."""
        url = self.clone_url(name or project)
        environment = self.environment(project)
        if self.host == "codecommit":
            environment = self.aws.environment | self.aws.git_environment
        Git(folder.parent, environment)("clone", "--quiet", url, str(folder))
        return Git(folder, environment)

    def clone_url(self, name: str) -> str:
        if self.host == "github":
            return f"{self.github_url}/{ORGANIZATION}/{name}.git"
        return f"{self.aws.endpoint}/v1/repos/{name}"

    def stack(self, project: str) -> dict[str, Any]:
        """The project's stack, as CloudFormation describes it."""
        pages = self.aws.client("cloudformation").get_paginator("describe_stacks").paginate()
        (found,) = [stack for page in pages for stack in page["Stacks"] if _tags(stack).get(_NAME_TAG) == project]
        return dict(found)

    def holdings(self, project: str) -> dict[str, Any]:
        """All that a project consists of, without what names the way it came: ids, and tags that AWS sets itself."""
        stack = self.stack(project)
        resources = self._resources(stack)
        found = {
            "resources": resources,
            "outputs": {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]} | {"Commit": ""},
            "groups": self.groups(project),
            "roles": {name: self._role(one["id"]) for name, one in resources.items() if one["type"].endswith("::Role")},
            "policies": {
                name: self._policy(one["id"]) for name, one in resources.items() if "ManagedPolicy" in one["type"]
            },
            "repository": self._repository(project),
            "builds": self._builds(project),
        }
        text = json.dumps(found, default=str, sort_keys=True)
        for unique, instead in (
            (stack["StackId"], "STACK"),
            (stack["StackName"], "STACK-NAME"),
            (_tags(stack)["sagemaker:project-id"], "PROJECT-ID"),
        ):
            text = text.replace(unique, instead)
        text = re.sub(rf"repo:{ORGANIZATION}@\d+/{project}@\d+", "SUBJECT", text)
        return dict(json.loads(text))

    def groups(self, project: str) -> dict[str, dict[str, str]]:
        """Tags of its model package groups."""
        sagemaker = self.aws.client("sagemaker")
        pages = sagemaker.get_paginator("list_model_package_groups").paginate(NameContains=f"{project}-")
        found = [group for page in pages for group in page["ModelPackageGroupSummaryList"]]
        return {
            group["ModelPackageGroupName"]: _tags(sagemaker.list_tags(ResourceArn=group["ModelPackageGroupArn"]))
            for group in found
        }

    def _resources(self, stack: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        pages = self.aws.client("cloudformation").get_paginator("list_stack_resources")
        listed = [one for page in pages.paginate(StackName=stack["StackId"]) for one in page["StackResourceSummaries"]]
        return {
            one["LogicalResourceId"]: {"type": one["ResourceType"], "id": one["PhysicalResourceId"]} for one in listed
        }

    def _role(self, name: str) -> dict[str, Any]:
        iam = self.aws.client("iam")
        role = iam.get_role(RoleName=name)["Role"]
        inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
        return {
            "path": role["Path"],
            "trust": role["AssumeRolePolicyDocument"],
            "boundary": role["PermissionsBoundary"]["PermissionsBoundaryArn"],
            "tags": {key: value for key, value in _tags(role).items() if not _is_handed_on(key)},
            "attached": iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"],
            "inline": {each: iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"] for each in inline},
        }

    def _policy(self, arn: str) -> Any:
        iam = self.aws.client("iam")
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        return iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]

    def _repository(self, name: str) -> dict[str, Any]:
        """Of the repository all that is not in it."""
        if self.host == "codecommit":
            codecommit = self.aws.client("codecommit")
            found = codecommit.get_repository(repositoryName=name)["repositoryMetadata"]
            return {
                "description": found["repositoryDescription"],
                "default": found["defaultBranch"],
                "tags": codecommit.list_tags_for_resource(resourceArn=found["Arn"])["tags"],
            }
        github, path = GitHubClient(self.aws.endpoint), f"/repos/{ORGANIZATION}/{name}"
        found = github("GET", path).content
        variables = github("GET", f"{path}/actions/variables").content["variables"]
        rulesets = github("GET", f"{path}/rulesets").content
        return {
            **{key: found[key] for key in ("description", "default_branch", "private", "homepage")},
            "variables": {one["name"]: one["value"] for one in variables},
            "rulesets": sorted(one["name"] for one in rulesets),
        }

    def _builds(self, project: str) -> list[dict[str, Any]]:
        """What CodeBuild does for it, and with which variables."""
        names = [f"modelyard-{project}-{name}" for name in ("feature", "dev", "prod", "template")]
        found = self.aws.client("codebuild").batch_get_projects(names=names)["projects"]
        return [{key: one[key] for key in ("name", "environment", "serviceRole", "source")} for one in found]


_NAME_TAG = "sagemaker:project-name"


def _tags(described: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in described.get("Tags", [])}


def _is_handed_on(key: str) -> bool:
    """Service Catalog gives the stacks that are made from a product its own tags, Studio a tag of who asked, and stacks
    their resources.
    """
    return key.startswith("aws:") or key in ("modelyard:part", "sagemaker:studio-visibility", PROFILE)


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two holdings differ, and in what."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        return [text for key in keys for text in differences(one.get(key), other.get(key), f"{path}/{key}")]
    return [] if one == other else [f"{path}: {one} / {other}"]


def tree(git: Git, branch: str) -> dict[str, str]:
    """Git's ids of a branch's files by path, with their modes; .cruft.json aside, which names where the template is."""
    listed = git("ls-tree", "-r", f"origin/{branch}").splitlines()
    found = {line.split("\t")[1]: line.split("\t")[0] for line in listed}
    del found[".cruft.json"]
    return found
