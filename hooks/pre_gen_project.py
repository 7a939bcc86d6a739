"""Refuses answers that AWS, git or the generated files cannot take; says all faults at once. Standard library only.

Cookiecutter renders this file and runs it in the new, still empty project folder.
"""

import ipaddress
import json
import os
import re
import sys

# The answers, as JSON in a raw string: tojson writes ' as \u0027, so no answer can end the string.
ANSWERS = json.loads(r'''{{ cookiecutter | tojson }}''')

PROJECT = re.compile(r"[a-zA-Z](-*[a-zA-Z0-9])*")
REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")
# Pipelines of a project's feature branches are called <project>-feature-...: no project may be called like one.
FEATURE = re.compile(r"-feature(-|$)", re.IGNORECASE)
ROLE_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")
ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64}")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
BUCKET_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
BUCKET_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def faults(answers, folder):
    """What is wrong with the answers and the folder, one text each; nothing when all is well."""
    found = []
    project = answers["project"]
    # 32, as SageMaker Projects allows: every name made of it then keeps its own limit (63 for groups and endpoints)
    if len(project) > 32 or not PROJECT.fullmatch(project):
        found.append(
            "project %r: write at most 32 letters, digits and hyphens; begin with a letter, end with a letter or digit"
            % project
        )
    elif FEATURE.search(project):
        found.append(
            "project %r: `feature` must not be a later part of it, since pipelines of the project %r would be called "
            "so: choose another name" % (project, FEATURE.split(project)[0])
        )
    found += description_faults(answers["description"])
    region = answers["region"]
    if not REGION.fullmatch(region):
        found.append("region %r: write an AWS Region's code, for example eu-central-1" % region)
    found += bucket_faults(answers["artifact_bucket"])
    # the longest that {stage} becomes
    role = answers["pipeline_role"].replace("{stage}", "feature")
    if not (ROLE_NAME.fullmatch(role) or ROLE_ARN.fullmatch(role)):
        found.append(
            "pipeline_role %r: write a role's name (at most 64 letters, digits and _+=,.@-) "
            "or its ARN (arn:aws:iam::<12 digits>:role/<name>); {stage} in it becomes feature or dev"
            % answers["pipeline_role"]
        )
    if os.listdir(folder):
        found.append("the folder %s exists and is not empty: it is left as it is; choose another place" % folder)
    return found


def description_faults(description):
    # 1,024 characters: ModelPackageGroupDescription, the shortest of the AWS fields that carry it
    if not description.strip() or len(description) > 1024 or not description.isprintable():
        return ["description %r: write one line of 1 to 1024 printable characters" % description]
    if re.search("[{][%#{]", description):
        return [
            "description %r: an opening brace before another brace, %% or # would be taken for template code "
            "by updates: leave it out" % description
        ]
    return []


def bucket_faults(bucket):
    rule = None
    if not BUCKET.fullmatch(bucket):
        rule = "write 3 to 63 lower-case letters, digits, hyphens and dots; begin and end with a letter or digit"
    elif ".." in bucket:
        rule = "two dots must not follow each other"
    elif is_ip_address(bucket):
        rule = "it must not be formatted as an IP address"
    elif bucket.startswith(BUCKET_PREFIXES):
        rule = "it must not begin with %s" % ", ".join(BUCKET_PREFIXES)
    elif bucket.endswith(BUCKET_SUFFIXES):
        rule = "it must not end with %s" % ", ".join(BUCKET_SUFFIXES)
    return ["artifact_bucket %r: %s" % (bucket, rule)] if rule else []


def is_ip_address(text):
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    problems = faults(ANSWERS, os.getcwd())
    if problems:
        sys.exit("The project was not generated:\n" + "\n".join("- " + problem for problem in problems))
