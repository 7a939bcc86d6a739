"""What to do when AWS refuses a command for want of a permission: which policies an administrator attaches."""

from __future__ import annotations

from botocore.exceptions import ClientError

CODES = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")

# Made for each project by Modelyard's servicecatalog/product.yaml; the others for each Region by its platform.
READER, DEVELOPER, APPROVER = (f"modelyard-{{project}}-{who}" for who in ("reader", "developer", "approver"))
PLANNER, CREATOR = "modelyard-planner-{region}", "modelyard-project-creator-{region}"
GROUPS = "register-project --groups-only"
CI, PROMOTE = "ci", "promote"
NEEDED = {
    "upload-data": (READER, DEVELOPER),
    "register-project": (CREATOR,),
    "upsert": (READER, DEVELOPER),
    "start": (READER, DEVELOPER),
    "plan": (READER, PLANNER),
    "approve": (READER, PLANNER, APPROVER),
    "reject": (READER, PLANNER, APPROVER),
    "swap": (READER, APPROVER),
    "promote-challenger": (READER, APPROVER),
}


def is_denied(error: Exception) -> bool:
    """Of boto3's errors: S3's transfers say in words alone why AWS refused."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "")) in CODES
    return "(AccessDenied)" in str(error) or "(403)" in str(error)


def advice(command: str, project: str, region: str, said: str) -> str:
    """What follows AWS's own message.

    Args:
        command: such as "start".
        said: AWS's message: what a policy forbids is not to be had by another one.
    """
    if "explicit deny" in said:
        return "A policy forbids it, whatever others allow: CI and pipelines never approve (README.md, Permissions)"
    if command == GROUPS:
        return (
            "This is for an administrator of the account: a group's tags say which role its models run with, and "
            "whether versions are deployed without a person (README.md, Permissions)"
        )
    if command == CI:
        return (
            "This job's role lacks it: an administrator of the account updates the project, which brings its roles up "
            "to date, or where they are not the platform's gives them what README.md says under Permissions"
        )
    if command == PROMOTE:
        return (
            "A push to prod promotes, with the role of CI: push there, or run its job again. An administrator of the "
            "account can promote by hand"
        )
    policies = [one.format(project=project.lower(), region=region) for one in NEEDED.get(command, (READER,))]
    named = ", ".join(policies[:-1]) + " and " + policies[-1] if policies[1:] else policies[0]
    return f"Ask an administrator of the account: `{command}` needs {named} (README.md, Permissions)"
