"""The pages for a newcomer, read as what they ask a person to do: commands to type, files to change, output to see.

In a page under docs/ that a test runs,

- a block `bash` is typed;
- a block `text` is what the commands before it print: its lines are found there in this order, `...` stands for
  anything, and a line that begins with a word of FAILURES says that the last of them fails;
- a block `diff` changes a file: each part begins with `@@ FILE @@`, and its old lines are there exactly once;
- any other block begins with the comment `# FILE` and is that file's new content.

A paragraph that begins with one of MARKS says that the block under it cannot be run here, and why: the reader sees it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
TUTORIAL = DOCS / "tutorial.md"
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
FAILURES = ("error:", "execution Failed")
MARKS = ("**Only in AWS:**", "**Needs a network:**")
_FENCED = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"# (?P<name>[\w./-]+\.\w+)\n")
_PART = re.compile(r"@@ (?P<name>\S+) @@")
# What ends a command on its line, besides the line: `a && b`, `a | b`, `$(a)`, a remark.
_DATA = re.compile(r"\s*(?:- |[\w.-]+:(?:\s|$)|import |from |[{\[|])")  # YAML, JSON, Python
_OPTIONAL = re.compile(r"\[[^\]`]*\]")  # as in usage: go-back ENDPOINT [--until 12h]
_ENDS = re.compile(r"\s(?:&&|\|\|?|;|>)\s|;\s|\s+#\s|\)(?=[\s\"']|$)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        line: its first line in the page, from 1.
        kind: the word behind the fence.
        mark: the one of MARKS under which it stands, "" for a block that is run.
    """

    page: Path
    line: int
    kind: str
    text: str
    mark: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file whose content the block is."""
        named = _NAMED.match(self.text)
        return named["name"] if named and self.kind not in ("bash", "text", "diff") else None


class PageError(AssertionError):
    """The page and what is there do not fit; the message names page, line and fault."""


def blocks(page: Path) -> Iterator[Block]:
    """Of one page, in its order."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCED.finditer(text):
        paragraph = text[: found.start()].rstrip("\n").rpartition("\n\n")[2]
        mark = next((mark for mark in MARKS if paragraph.startswith(mark)), "")
        yield Block(page, text.count("\n", 0, found.start()) + 2, found["kind"], found["text"], mark)


def apply(block: Block, folder: Path) -> None:
    """Does to the files in `folder` what a block of the kind diff, or with a file's name, says. Raises PageError."""
    if block.file:
        path = folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        return
    if block.kind != "diff":
        raise PageError(f"{block.place}: a block {block.kind!r} without the name of its file: begin it with # FILE")
    for name, old, new in _parts(block):
        path = folder / name
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        found = list(re.finditer(f"^{re.escape(old)}", text, re.MULTILINE))
        if len(found) != 1:
            raise PageError(f"{block.place}: these lines are {len(found)} times in {name}, not once:\n{old}")
        path.write_text(text[: found[0].start()] + new + text[found[0].end() :], encoding="utf-8")


def _parts(block: Block) -> Iterator[tuple[str, str, str]]:
    """The file's name, the lines that are there, and those that are to be there instead, for each part of a diff."""
    name, old, new = "", "", ""
    for line in [*block.text.splitlines(), "@@ end @@"]:
        if part := _PART.fullmatch(line):
            if name:
                yield name, old, new
            name, old, new = part["name"], "", ""
            continue
        sign, rest = line[:1] or " ", line[1:]
        if not name or sign not in " +-":
            raise PageError(f"{block.place}: {line!r} belongs to no part of a diff: begin with @@ FILE @@")
        old += f"{rest}\n" if sign != "+" else ""
        new += f"{rest}\n" if sign != "-" else ""


def check_output(block: Block, printed: str) -> None:
    """Raises PageError unless the lines of a block `text` are found in what was printed, in this order."""
    lines = [_spaced(line) for line in printed.splitlines()]
    position = 0
    for wanted in filter(None, map(_spaced, block.text.splitlines())):
        if wanted == "...":
            continue
        pattern = re.compile(".*".join(map(re.escape, wanted.split("..."))))
        found = [number for number, line in enumerate(lines[position:], position) if pattern.fullmatch(line)]
        if not found:
            raise PageError(f"{block.place}: {wanted!r} was not printed after line {position} of:\n{printed}")
        position = found[0] + 1


def tells_of_a_failure(text: str) -> bool:
    return any(line.startswith(FAILURES) for line in text.splitlines())


def _spaced(line: str) -> str:
    return " ".join(line.split())


def typed_lines(text: str) -> Iterator[str]:
    """What a reader pastes into a shell: the lines of the blocks of `text` (Markdown), but data and programs."""
    fence, inside, data = "", False, False
    for line in text.splitlines():
        indented = line.startswith("    ") and bool(line.strip())
        if found := re.match(r"\s*```(\w*)", line):
            fence = "" if fence else found[1] or "bash"
        elif fence == "bash":
            yield line
        elif indented and not fence:
            data = data if inside else bool(_DATA.match(line))  # the first line says what a block is
            if not data:
                yield line.strip()
        inside = indented


def commands(text: str, program: str) -> Iterator[list[str]]:
    """The words of every command of `text` (Markdown) that begins with the program, in its blocks and in its lines."""
    joined = text.replace("\\\n", " ")
    for found in re.finditer(rf"(?:^\s*|\$\(|`|&& ){re.escape(program)}(?= |`|$)([^`\n]*)", joined, re.MULTILINE):
        within = re.sub(r"(?<![.\s])[.:,]$", "", _ENDS.split(_OPTIONAL.sub("", found[1]))[0].rstrip())
        yield [*shlex.split(program), *shlex.split(within)]
