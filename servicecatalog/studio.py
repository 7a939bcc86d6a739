"""SageMaker Studio's list of S3 project templates: a domain's tag, the bucket's CORS, the objects' tags.

https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-projects-templates-custom.html
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from servicecatalog.account import Account
from servicecatalog.errors import InstallError

LOCATION_TAG = "sagemaker:projectS3TemplatesLocation"
VISIBILITY_TAG = "sagemaker:studio-visibility"
HIDDEN = {VISIBILITY_TAG: "false"}  # until the portfolio stands on the version: creating from it would fail
PREFIX = "projects/"
OURS = f"{PREFIX}modelyard-"  # the templates of ours; the bucket may be one that others use as well
CORS = Path(__file__).resolve().parent / "studio-cors.json"


def check(account: Account, domain: str, bucket: str) -> str:
    """The domain's ARN.

    Args:
        bucket: whose templates the domain's Studio is to list.

    Raises:
        InstallError: there is no such domain, or its Studio lists the templates of another place, of which it has one.
    """
    arn = _arn(account, domain)
    if others := [location for location in _locations(account, arn) if location != _location(bucket)]:
        raise InstallError(
            f"the domain {domain} lists the S3 project templates of {others[0]} (its tag {LOCATION_TAG}), and a domain "
            "lists those of one place. Take the tag away if they are not needed, or copy them to "
            f"{_location(bucket)} and then take it away; or leave --studio-domain out: the Service Catalog product is "
            "listed without it"
        )
    return arn


def _arn(account: Account, domain: str) -> str:
    sagemaker = account.client("sagemaker")
    try:
        return str(sagemaker.describe_domain(DomainId=domain)["DomainArn"])
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("ResourceNotFound", "ValidationException"):
            raise
        known = [one["DomainId"] for page in _pages(account) for one in page["Domains"]]
        raise InstallError(
            f"there is no SageMaker domain {domain} in {account.region}; there is: {', '.join(known) or 'none'}"
        ) from error


def connect(account: Account, domain: str, bucket: str) -> bool:
    """Let a domain's Studio list and read the bucket's templates. False: it did already.

    Raises:
        InstallError: as check().
    """
    arn, location = check(account, domain, bucket), _location(bucket)
    tagged = location in _locations(account, arn)
    if not tagged:
        account.client("sagemaker").add_tags(ResourceArn=arn, Tags=[{"Key": LOCATION_TAG, "Value": location}])
    return let_read(account, bucket) or not tagged


def let_read(account: Account, bucket: str) -> bool:
    """Let Studio's pages read the bucket; what others have asked for stays. False: they might already."""
    wanted = json.loads(CORS.read_text())["CORSRules"]
    s3, ours = account.client("s3"), {"Bucket": bucket, "ExpectedBucketOwner": account.number}
    try:
        found = s3.get_bucket_cors(**ours)["CORSRules"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchCORSConfiguration":
            raise
        found = []
    missing = [rule for rule in wanted if rule not in found]
    if missing:
        s3.put_bucket_cors(**ours, CORSConfiguration={"CORSRules": [*found, *missing]})
    return bool(missing)


def disconnect(account: Account, bucket: str) -> list[str]:
    """Take the tag from whichever domain has it for this bucket; the ids of these domains."""
    sagemaker, location, done = account.client("sagemaker"), _location(bucket), []
    for domain in (domain for page in _pages(account) for domain in page["Domains"]):
        if location in _locations(account, domain["DomainArn"]):
            sagemaker.delete_tags(ResourceArn=domain["DomainArn"], TagKeys=[LOCATION_TAG])
            done.append(str(domain["DomainId"]))
    return done


def show_only(account: Account, bucket: str, key: str) -> bool:
    """Let Studio list one of our templates in the bucket; earlier ones stay for the projects made from them.

    Returns:
        False when it was so already.
    """
    s3, changed = account.client("s3"), False
    owner = {"Bucket": bucket, "ExpectedBucketOwner": account.number}
    for page in s3.get_paginator("list_objects_v2").paginate(**owner, Prefix=OURS):
        for found in (entry["Key"] for entry in page.get("Contents", [])):
            wanted = "true" if found == key else "false"
            tags = {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(**owner, Key=found)["TagSet"]}
            if tags.get(VISIBILITY_TAG) != wanted:
                tag_set = [{"Key": name, "Value": value} for name, value in (tags | {VISIBILITY_TAG: wanted}).items()]
                s3.put_object_tagging(**owner, Key=found, Tagging={"TagSet": tag_set})
                changed = True
    return changed


def _location(bucket: str) -> str:
    return f"s3://{bucket}/{PREFIX}"


def _locations(account: Account, domain_arn: str) -> list[str]:
    tags = account.client("sagemaker").list_tags(ResourceArn=domain_arn)["Tags"]
    return [tag["Value"] for tag in tags if tag["Key"] == LOCATION_TAG]


def _pages(account: Account) -> Any:
    return account.client("sagemaker").get_paginator("list_domains").paginate()
