"""Preprocess run on data that a test makes up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import preprocess
import pyarrow as pa
import pyarrow.parquet as pq
from transform import Transform

OUTPUTS = ("train", "validation", "test", "transform", "summary", "baseline")


def step_settings(problem_type: str = "regression", target: str = "y", **changes: Any) -> dict[str, Any]:
    """The settings as preprocess gets them. changes: of the sections data, csv and split, and shards, by field."""
    csv = {"delimiter": "auto", "encoding": "auto", "quote": '"', "decimal": "."}
    data: dict[str, Any] = {
        "format": "auto",
        "target": target,
        "ignore": [],
        "key": None,
        "time": None,
        "missing": [],
        "columns": {},
    }
    split = {"validation": 0.2, "test": 0.2, "seed": 0, "column": None, "files": None}
    settings = {"problem_type": problem_type, "data": data | {"csv": csv}, "split": split, "shards": 1}
    for name, value in changes.items():
        sections = [section for section in (csv, data, split, settings) if name in section]
        # `columns` and the like are the data section's; "column" is the split's
        sections[0][name] = value
    settings["data"] = data | {"csv": csv}
    return settings


@dataclass(frozen=True)
class Done:
    """What preprocess left."""

    folder: Path
    summary: dict[str, Any]

    @property
    def transform(self) -> Transform:
        return Transform.load(self.folder / "transform" / "transform.json")

    @property
    def kinds(self) -> dict[str, str]:
        return {name: column["kind"] for name, column in self.summary["columns"].items()}

    def read(self, part: str) -> pa.Table:
        return pq.read_table(sorted((self.folder / part).glob("part-*.parquet")))

    def frame(self, part: str) -> pd.DataFrame:
        return self.read(part).to_pandas()


def run(folder: Path, files: dict[str, Any], settings: dict[str, Any] | None = None) -> Done:
    """Writes the files (bytes, text, a DataFrame or an Arrow table, by name) and preprocesses them."""
    for name, content in files.items():
        write(folder / "data" / name, content)
    outputs = {name: folder / name for name in OUTPUTS}
    for path in outputs.values():
        path.mkdir(parents=True)
    return Done(folder, preprocess.preprocess(settings or step_settings(), folder / "data", outputs))


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_bytes(content.encode())
    elif isinstance(content, pa.Table):
        pq.write_table(content, path)
    elif path.suffix == ".parquet":
        content.to_parquet(path, index=False)
    else:
        content.to_csv(path, index=False)
