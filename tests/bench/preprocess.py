"""Preprocess on ten million rows, against reading and writing the same file with pandas and with pyarrow's streams.

Each is a process of its own in the image's environment; the file lies in the page cache. pandas and pyarrow only read
and write; Preprocess splits, fits, transforms and computes the baseline.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure

CHECKOUT = Path(__file__).resolve().parents[2]
STEPS = CHECKOUT / "{{cookiecutter.project}}" / "steps"
PYTHON = CHECKOUT / ".envs" / "images" / "sagemaker-xgboost-3.2-0" / "bin" / "python"
MILLIONS = 10
ROUNDS = 3
# Starts the measured program from a small process: to Linux, a program's peak memory is at least that of the process
# that started it, and this one's is large after other benchmarks.
MEASURE = """
import json, os, subprocess, sys, time
started = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
print(json.dumps([time.monotonic() - started, usage.ru_maxrss]))
sys.exit(process.returncode)
"""
OUTPUTS = ("train", "validation", "test", "transform", "summary", "baseline")


def preprocess() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as temporary:
        folder = Path(temporary)
        with _table(folder / "ten", MILLIONS) as file:
            pandas, _ = _run(folder, [str(PYTHON), "-m", __name__, "pandas", str(file), str(folder / "out.csv")])
            streams = [
                _run(folder, [str(PYTHON), "-m", __name__, "pyarrow", str(file), str(folder / "out.csv")])[0]
                for _ in range(ROUNDS)
            ]
            ours = [_preprocess(folder, file.parent) for _ in range(ROUNDS)]
        with _table(folder / "one", 1) as file:
            million = [_preprocess(folder, file.parent)[0] for _ in range(ROUNDS)]
    seconds = [run[0] for run in ours]
    rows = f"{MILLIONS} million rows of 22 columns"
    return [
        Figure(f"pandas reads and writes {rows} in chunks", [pandas], "s"),
        Figure("pyarrow's streams read and write them", streams, "s"),
        Figure("Preprocess of them", seconds, "s"),
        Figure("Preprocess against pandas", [one / pandas for one in seconds], "x", at_most=0.35),
        Figure("Preprocess against pyarrow's streams", [a / b for a, b in zip(seconds, streams, strict=True)], "x"),
        Figure("Preprocess's peak memory", [run[1] for run in ours], "MiB", at_most=1024),
        Figure("Preprocess of a million rows of 22 columns", million, "s", at_most=5),
    ]


@contextmanager
def _table(folder: Path, millions: int) -> Iterator[Path]:
    """18 columns of floats with 6 decimals, the last of them the target, 2 of integers, 2 of text: 200 MB a million."""
    folder.mkdir()
    try:
        subprocess.run(
            [str(PYTHON), "-m", __name__, "table", str(folder / "table.csv"), str(millions)], cwd=CHECKOUT, check=True
        )
        yield folder / "table.csv"
    finally:
        shutil.rmtree(folder)


def _preprocess(folder: Path, data: Path) -> tuple[float, float]:
    job = Path(tempfile.mkdtemp(dir=folder))
    for module in STEPS.glob("*.py"):
        shutil.copy(module, job)
    (job / "__main__.py").write_text("from preprocess import main\n\nraise SystemExit(main())\n")
    csv = {"delimiter": "auto", "encoding": "auto", "quote": '"', "decimal": "."}
    data_settings: dict[str, Any] = {
        "format": "auto",
        "csv": csv,
        "target": "y",
        "ignore": [],
        "key": None,
        "time": None,
    }
    settings = {
        "problem_type": "regression",
        "data": data_settings | {"missing": [], "columns": {}},
        "split": {"validation": 0.2, "test": 0.2, "seed": 0, "column": None, "files": None},
        "shards": 1,
    }
    (job / "settings.json").write_text(json.dumps(settings))
    arguments = ["--data", str(data), "--data-fingerprint", "bench", "--message", str(job / "message")]
    for output in OUTPUTS:
        (job / output).mkdir()
        arguments += [f"--{output}", str(job / output)]
    measured = _run(folder, [str(PYTHON), str(job), *arguments])
    shutil.rmtree(job)
    return measured


def _run(folder: Path, command: list[str]) -> tuple[float, float]:
    """Seconds, and the process's peak memory in MiB."""
    with (folder / "log").open("w") as log:
        measured = subprocess.run(
            [sys.executable, "-S", "-c", MEASURE, *command],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=log,
            check=False,
        )
    if measured.returncode:
        raise AssertionError(f"{command} failed:\n{(folder / 'log').read_text()}")
    seconds, kib = json.loads(measured.stdout)
    return seconds, kib / 1024


def _with_pandas(source: str, target: str) -> None:
    import pandas as pd

    for number, chunk in enumerate(pd.read_csv(source, chunksize=200_000)):
        chunk.to_csv(target, mode="w" if number == 0 else "a", header=number == 0, index=False)


def _with_pyarrow(source: str, target: str) -> None:
    import pyarrow.csv

    reader = pyarrow.csv.open_csv(source, pyarrow.csv.ReadOptions(block_size=8 << 20))
    with reader, pyarrow.csv.CSVWriter(target, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def _make_table(target: str, millions: str) -> None:
    import numpy as np
    import pyarrow
    import pyarrow.csv

    rows = 250_000
    random = np.random.default_rng(0)
    words = np.array(["alpha", "beta", "gamma", "delta"])
    writer: Any = None
    for _ in range(4 * int(millions)):
        numbers = random.normal(size=(17, rows)).round(6)
        columns: dict[str, Any] = {f"f{number}": values for number, values in enumerate(numbers)}
        columns |= {"count": random.integers(0, 1000, rows), "amount": random.integers(0, 10**6, rows)}
        columns |= {"word": words[random.integers(0, 4, rows)]}
        columns |= {"user": np.char.add("user", random.integers(0, 5000, rows).astype(str))}
        columns["y"] = (numbers[0] + numbers[1] + random.normal(size=rows) / 2).round(6)
        table = pyarrow.table(columns)
        writer = writer or pyarrow.csv.CSVWriter(target, table.schema)
        writer.write_table(table)
    writer.close()


PROGRAMS: dict[str, Callable[[str, str], None]] = {
    "pandas": _with_pandas,
    "pyarrow": _with_pyarrow,
    "table": _make_table,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:4])
