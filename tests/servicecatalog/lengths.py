"""How long a policy is, as IAM counts it, wherever Modelyard may be installed."""

from __future__ import annotations

import json
from typing import Any

import botocore.session

# Of every partition the Region with the longest name: what a policy may be as long as.
_SESSION = botocore.session.get_session()
PLACES = {
    partition: max(regions, key=len)
    for partition in _SESSION.get_available_partitions()
    if (regions := _SESSION.get_available_regions("s3", partition))
}


def longest_anywhere(document: Any) -> int:
    """Characters of a policy, as IAM counts them, in the partition and Region where it is longest."""
    text = document if isinstance(document, str) else json.dumps(document, separators=(",", ":"))
    return max(
        len(text.replace("arn:aws:", f"arn:{partition}:").replace("eu-west-1", region))
        for partition, region in PLACES.items()
    )
