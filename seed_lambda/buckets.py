"""Which buckets a project may name: one of the platform's for its artifacts, and the platform's data buckets to read.

What product.yaml grants is as far as what these parameters name. No boundary bounds people, and that of roles is the
same for all projects: within it lies every project's data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from seed_lambda.properties import ProjectProperties
from seed_lambda.settings import Settings

# As much as product.yaml's policies take of both in 6,144 characters, every other name being as long as it can be:
# tests/servicecatalog/test_product.py tries it.
DATA_BUCKETS_LENGTH, FOR_EACH, KEYS = 250, 14, 3


def artifact_fault(name: str, known: Sequence[str]) -> str | None:
    """What is wrong with a project's artifact bucket; None when nothing is.

    The policies for the project's people let them read and write below <project>/ in it: in a bucket of somebody
    else's, or the one with the projects' templates, that would be more than a project.

    Args:
        known: names of the platform's; * stands for any characters.
    """
    if _among(name, known):
        return None
    return (
        f"ArtifactBucket {name!r}: this platform keeps projects' artifacts in {', '.join(known)} alone: leave it "
        "empty, or an administrator names that bucket with make install-platform (--artifact-buckets)"
    )


def data_faults(new: ProjectProperties, old: ProjectProperties | None, settings: Settings) -> list[str]:
    """What is wrong with the further buckets and keys that a project is to read.

    Args:
        old: what there was; what the project has already is refused only where it reads what is others'. None in a
            creation.
    """
    if new.data_buckets is None:  # of a version of the product that did not tell
        return []
    others = [name for name in new.data_buckets if _is_others(name, new, settings)]
    faults = [_others_fault(name) for name in others]
    before, keys_before = (old.data_buckets, old.kms_keys) if old else ((), ())
    if before is None:  # nor what the project has already
        return faults
    added = [name for name in new.data_buckets if name not in before]
    unknown = [name for name in added if name not in others and not _among(name, settings.data_buckets)]
    faults += [_unknown_fault(name, settings.data_buckets) for name in unknown]
    length = sum(len(name) + FOR_EACH for name in new.data_buckets)
    if added and length > DATA_BUCKETS_LENGTH:
        faults.append(
            f"DataBuckets: IAM's policies have room for {DATA_BUCKETS_LENGTH} characters of names, each counted with "
            f"{FOR_EACH} more, and these {len(new.data_buckets)} have {length}: name fewer buckets"
        )
    if set(new.kms_keys) - set(keys_before) and len(new.kms_keys) > KEYS:
        faults.append(
            f"KmsKeyArns: IAM's policies have room for {KEYS} keys, and these are {len(new.kms_keys)}: name fewer"
        )
    return faults


def _is_others(name: str, properties: ProjectProperties, settings: Settings) -> bool:
    artifacts = (properties.artifact_bucket, *settings.artifact_buckets)
    return _among(name, (*artifacts, *settings.platform_buckets, settings.code_bucket))


def _others_fault(name: str) -> str:
    return (
        f"DataBuckets {name!r}: other projects' data and models, or the platform's own files, lie there, and this "
        "project would read them all: take it out of DataBuckets. Data that several projects read lies in a bucket of "
        "its own, which an administrator names with make install-platform (--data-buckets)"
    )


def _unknown_fault(name: str, known: Sequence[str]) -> str:
    which = f"data from {', '.join(known)} alone" if known else "no further buckets"
    return (
        f"DataBuckets {name!r}: projects of this platform read {which}: take it out, or an administrator names that "
        "bucket with make install-platform (--data-buckets)"
    )


def _among(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
