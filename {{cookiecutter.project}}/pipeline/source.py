"""The steps' code as archives that are named after their contents. Pure but for reading steps/.

Each archive holds the modules that its step imports, no others, and the settings that the step reads, no others. So
a change anywhere else leaves the archive's address as it is, and SageMaker's step cache finds the earlier result.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.settings import ROOT, Settings

STEPS = ROOT / "steps"


@dataclass(frozen=True)
class Archive:
    """An archive and the S3 key under which it lies; the key holds the sha256 of the archive's contents."""

    key: str
    content: bytes


@dataclass(frozen=True)
class Archives:
    preprocess: Archive
    train: Archive
    evaluate: Archive

    def __iter__(self) -> Any:
        return iter((self.preprocess, self.train, self.evaluate))


def build_archives(settings: Settings, home: str, folder: Path = STEPS) -> Archives:
    """The three steps' archives. home: the S3 key below which they lie, without a slash at the end."""
    whole = settings.model_dump(mode="json")
    train = whole["train"]
    preprocess = {
        "problem_type": settings.problem_type,
        "data": {name: value for name, value in whole["data"].items() if name != "uri"},
        "split": whole["split"],
        "shards": settings.train.instance_count,
    }
    training = {name: train[name] for name in ("class_weights", "monotone", "interactions", "external_memory")}
    evaluate = {
        "project": settings.project,
        "description": settings.description,
        "problem_type": settings.problem_type,
        "target": settings.data.target,
        "split": whole["split"],
        # threshold and tolerance are parameters of the pipeline
        "gate": {
            **{name: whole["gate"][name] for name in ("metric", "incomparable", "conditions")},
            "higher_is_better": settings.metric.higher_is_better,
        },
        "evaluate": {name: whole["evaluate"][name] for name in ("slices", "fairness", "costs")},
        "model_card": whole["model_card"],
    }
    return Archives(
        preprocess=_zip_step("preprocess", preprocess, home, folder),
        train=_tar_step("train", training, home, folder),
        evaluate=_zip_step("evaluate", evaluate, home, folder),
    )


def local_modules(entry: str, folder: Path = STEPS) -> list[str]:
    """The names of the modules in `folder` that `entry` needs, itself included, sorted: found from their imports."""
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        imported = _imported((folder / f"{name}.py").read_text(encoding="utf-8"))
        waiting += [module for module in imported if (folder / f"{module}.py").is_file()]
    return sorted(found)


@cache
def _imported(code: str) -> frozenset[str]:
    """The names of the modules that a module's code imports. Kept, as the three steps share most of theirs."""
    nodes = list(ast.walk(ast.parse(code)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return frozenset(plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module})


def zip_archive(files: dict[str, bytes]) -> bytes:
    """A zip with the same bytes for the same files, always and everywhere: sorted, undated, not compressed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, on whatever system this runs
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return stream.getvalue()


def tar_gz_archive(files: dict[str, bytes]) -> bytes:
    """A tar.gz with the same bytes for the same files: sorted, undated, owned by nobody, stored."""
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    zipped = io.BytesIO()
    # compresslevel=0: compressed bytes differ from one zlib to the next
    with gzip.GzipFile(filename="", fileobj=zipped, mode="wb", compresslevel=0, mtime=0) as stream:
        stream.write(tarred.getvalue())
    return zipped.getvalue()


def _zip_step(step: str, settings: dict[str, Any], home: str, folder: Path) -> Archive:
    """A zip that `python3 <step>.zip` runs."""
    files = _files(step, settings, folder)
    files["__main__.py"] = f"from {step} import main\n\nraise SystemExit(main())\n".encode()
    return Archive(_key(home, f"{step}.zip", files), zip_archive(files))


def _tar_step(step: str, settings: dict[str, Any], home: str, folder: Path) -> Archive:
    """A sourcedir.tar.gz, as script mode takes it."""
    files = _files(step, settings, folder)
    return Archive(_key(home, "sourcedir.tar.gz", files), tar_gz_archive(files))


def _files(step: str, settings: dict[str, Any], folder: Path) -> dict[str, bytes]:
    files = {f"{name}.py": (folder / f"{name}.py").read_bytes() for name in local_modules(step, folder)}
    files["settings.json"] = json.dumps(settings, indent=1, sort_keys=True).encode()
    return files


def _key(home: str, file_name: str, files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return f"{home}/code/{digest.hexdigest()}/{file_name}"
