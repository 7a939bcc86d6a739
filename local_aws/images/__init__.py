"""Images are environments: what a container image holds, as a Python environment with the image's own pins.

A known image is a folder beside this file, named `<repository>-<tag>`, with the image's pins in `requirements.txt`. Its
environment has the same name in `.envs/images/`, or in the folder that `LOCAL_AWS_IMAGES` names.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from local_aws.calls import validation_error

HERE = Path(__file__).resolve().parent
# Every Region has a registry account and a domain of its own; what an image holds is said by repository and tag alone.
IMAGE_URI = re.compile(r"\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.[a-z0-9.-]+/(?P<repository>[^:@]+):(?P<tag>[\w.-]+)")


@dataclass(frozen=True)
class Image:
    """One known image and its environment."""

    name: str
    environment: Path

    @property
    def programs(self) -> Path:
        """The folder that comes first in a job's PATH, so that `python3` is the image's own."""
        return self.environment / "bin"

    @property
    def packages(self) -> list[str]:
        """The folders in which the environment's packages lie."""
        return [str(folder) for folder in self.environment.glob("lib/python*/site-packages")]


class Images:
    """The images that jobs can run in.

    Args:
        environments: the folder of their environments; by default `LOCAL_AWS_IMAGES`, else `.envs/images` here.
        known: the folder with a folder for each known image.
    """

    def __init__(self, environments: Path | None = None, known: Path = HERE) -> None:
        default = os.environ.get("LOCAL_AWS_IMAGES") or HERE.parent.parent / ".envs" / "images"
        self._environments = Path(environments or default).absolute()
        self._known = known

    @property
    def names(self) -> list[str]:
        """Every known image, as "<repository>:<tag>" is called here: "<repository>-<tag>"."""
        return sorted(path.parent.name for path in self._known.glob("*/requirements.txt"))

    def find(self, uri: str) -> Image:
        """The image that a registry address names.

        Raises:
            ServiceError: ValidationException when no image is known by it, or when its environment is not there.
        """
        match = IMAGE_URI.fullmatch(uri)
        name = f"{match['repository'].replace('/', '-')}-{match['tag']}" if match else None
        if name not in self.names:
            raise validation_error(
                f"Image {uri!r} is not known to local_aws, which runs jobs in environments instead of containers."
                f" It knows {', '.join(self.names)}. To add one, write its pins into local_aws/images/"
                f"{name or '<repository>-<tag>'}/requirements.txt and make its environment; docs/local-aws.md says how."
            )
        image = Image(name, self._environments / name)
        if not (image.programs / "python3").exists():
            raise validation_error(
                f"Image {uri!r} has no environment at {image.environment}. Run `make install`, or set LOCAL_AWS_IMAGES"
                " to the folder of the images' environments before starting local_aws."
            )
        return image
