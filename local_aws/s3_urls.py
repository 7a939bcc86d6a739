"""Objects of S3 by their https:// addresses, as CloudFormation, Service Catalog and SageMaker are given templates.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlparse

_S3_HOST = re.compile(
    r"(?:(?P<bucket>[a-z0-9][a-z0-9.-]+)\.)?s3(?:[.-](?:dualstack\.)?[a-z]{2}(?:-[a-z]+)+-\d)?\.amazonaws\.com"
)


class ObjectAddress(NamedTuple):
    bucket: str
    key: str

    def url(self, region: str) -> str:
        """Path style, which every S3 understands, this server's too."""
        return f"https://s3.{region}.amazonaws.com/{self.bucket}/{self.key}"


def object_address(url: str) -> ObjectAddress:
    """Bucket and key of an object's address: virtual-hosted style, path style, or path style on this machine.

    Raises:
        ValueError: it is no address of an object.
    """
    parts = urlparse(url)
    host, path = parts.hostname or "", unquote(parts.path.removeprefix("/"))
    on_s3 = _S3_HOST.fullmatch(host)
    if on_s3 and on_s3["bucket"]:
        bucket, key = on_s3["bucket"], path
    elif on_s3 or host in ("127.0.0.1", "localhost"):
        bucket, _, key = path.partition("/")
    else:
        bucket = key = ""
    if parts.scheme not in ("https", "http") or not bucket or not key:
        raise ValueError(f"{url!r} is no S3 object's address: write https://BUCKET.s3.REGION.amazonaws.com/KEY")
    return ObjectAddress(bucket, key)
