"""The story's chapters, in their order: from an account without Modelyard to a model in production, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.story.story import Story


@dataclass(frozen=True)
class Chapter:
    """
    Args:
        name: by which STEP=name stops after it.
        title: what happens in it, in one line.
    """

    name: str
    title: str
    tell: Callable[[Story], None]


def feature(story: Story) -> None:
    story.change_feature()
    story.push("HEAD")
    story.keep_report("feature")
    story.show_result()


def serve(story: Story) -> None:
    story.pipeline("plan", "1")
    story.approve(1, "feature", "good enough to look at")
    story.check_endpoint("feature")


def dev(story: Story) -> None:
    story.merge_to_dev()
    story.push("dev")
    story.approve(1, "dev", "as good as the branch's")
    story.check_endpoint("dev")
    story.keep_report("dev-1")
    story.tested(1, "dev")


def prod(story: Story) -> None:
    story.release_to_prod("Fewer columns")
    story.copied(1)
    story.approve(1, "prod", "as approved on dev")
    story.check_endpoint("prod")


def bad(story: Story) -> None:
    story.change_for_the_worse()
    story.push("dev")
    story.tested(1, "prod")
    story.approve(2, "dev", "all tests are well")
    story.keep_report("dev-2")
    story.tested(2, "dev")
    story.release_to_prod("Refuse what cannot be")
    story.approve_bad_under_load(2, "all tests are well")
    story.pipeline("versions", "--stage", "prod")


INSTALL = Chapter("install", "An administrator installs the platform", Story.install)
CREATE = Chapter("create", "A data scientist creates a project by the form that Studio shows", Story.create)
DATA = Chapter("data", "The data goes into the project's bucket", Story.send_data)
FEATURE = Chapter("feature", "A feature branch is pushed: CI checks it, and it is trained", feature)
SERVE = Chapter("serve", "A person approves it, and it answers", serve)
DEV = Chapter("dev", "It is merged to dev: trained, approved, and it answers there", dev)
PROD = Chapter("prod", "It is merged to prod: copied, approved, and it answers there", prod)
BAD = Chapter("bad", "A bad version comes through all tests; under load its canary is rolled back", bad)
DELETE = Chapter("delete", "The project is deleted, and nothing is left of it", Story.delete)

TRAINING = (INSTALL, CREATE, DATA, FEATURE)
SERVING = (SERVE, DEV, PROD, BAD)


def tell(story: Story, chapters: Sequence[Chapter], until: str | None = None, of: int | None = None) -> None:
    """Tell them one after another.

    Args:
        until: the name of the last one that is told.
        of: how many the whole story has, where it has more than these.

    Raises:
        ChapterFailed: at the first command that fails.
    """
    for chapter in chapters:
        place = f"{len(story.told) + 1}/{of or len(chapters)}"
        with story.chapter(chapter.name, chapter.title, place):
            chapter.tell(story)
        if chapter.name == until:
            return
