"""Scores the raw test rows through model archives: each by its own code, in a process of its own.

An archive is asked exactly as the endpoint would ask it: model_fn once, then transform_fn(model, body, content type,
accept), with the rows as Parquet (inference.py says what it answers). So an old version answers as it does while it
serves, whatever modules it is made of. Rows travel in batches: memory does not grow with their number, except for
a few numbers per row.
"""

from __future__ import annotations

import gzip
import inspect
import json
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import worker
from metrics import Scored
from transform import Transform, as_text

PARQUET, CSV, JSON = "application/x-parquet", "text/csv", "application/json"
VALUES_PER_BATCH, ROWS_PER_BATCH = 4_000_000, 100_000
SAMPLE_ROWS = 2_000
SECONDS_BETWEEN_WORDS = 10


class ScoringError(ValueError):
    """A model archive that cannot be used, or cannot answer."""


@dataclass(frozen=True)
class Described:
    """What an archive's transform.json says about the model; classes as text, the positive one last of two."""

    problem_type: str
    target: str
    classes: list[str]
    split: dict[str, Any]


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks model.tar.gz: its files, none of which can leave the folder. Raises ScoringError when it is none."""
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                target = (folder / member.name).resolve()
                if not target.is_relative_to(folder.resolve()):
                    raise ScoringError(f"{archive.name} holds {member.name!r}, which lies outside of it")
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content.read())
            stream.read()  # only at its end gzip's checksum tells whether the archive is whole
    except (tarfile.TarError, zlib.error, OSError, EOFError) as error:
        raise ScoringError(f"{archive.name} is not a model archive: {error}") from error


def describe(folder: Path) -> Described:
    """Reads an unpacked archive's transform.json, of whatever version. Raises ScoringError when that does not do."""
    path = folder / "code" / "transform.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        classes = [as_text(label) for label in stored["classes"]]
        return Described(stored["problem_type"], stored["target"], classes, stored.get("split", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScoringError(f"the model archive's code/transform.json cannot be used: {error!r}") from error


def load_transform(folder: Path) -> Transform:
    """The candidate's transformation, which this step's own code wrote. Raises ScoringError."""
    try:
        return Transform.load(folder / "code" / "transform.json")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScoringError(f"the model archive's code/transform.json cannot be used: {error!r}") from error


def training_record(folder: Path) -> dict[str, Any]:
    """What train.py noted beside the model, code/training.json; {} in the archive of a model that was made otherwise.

    hyperparameters: by name. metric: the one that decided when to stop; train, validation: its value after each round;
    best_round: from 0, the last one that the model keeps.
    """
    path = folder / "code" / "training.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


class Model:
    """An unpacked archive, loaded in a process that answers requests. Use it in a `with` statement."""

    def __init__(self, folder: Path) -> None:
        self.described = describe(folder)
        self._scratch = TemporaryDirectory()
        command = [sys.executable, "-c", inspect.getsource(worker), str(folder)]
        self._process = subprocess.Popen(
            command, cwd=self._scratch.name, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def __enter__(self) -> Model:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._scratch.cleanup()

    def wait_until_loaded(self) -> None:
        """Raises ScoringError when the archive's code does not load the model."""
        self._receive("the model cannot be loaded: ")

    def send(self, body: bytes, content_type: str, accept: str, repeat: int = 1) -> None:
        """Begins a request; `receive` waits for its answer."""
        path = Path(self._scratch.name) / "body"
        path.write_bytes(body)
        request = {"body": str(path), "content_type": content_type, "accept": accept, "repeat": repeat}
        self._send({**request, "answer": str(self._answer)})

    def receive(self) -> bytes:
        """The answer's body. Raises ScoringError with what the archive's code said."""
        self._receive()
        return self._answer.read_bytes()

    def ask(self, body: bytes, content_type: str, accept: str) -> bytes:
        self.send(body, content_type, accept)
        return self.receive()

    def seconds(self, body: bytes, content_type: str, accept: str, repeat: int) -> list[float]:
        """How long each of `repeat` equal requests took inside of transform_fn."""
        self.send(body, content_type, accept, repeat)
        return self._receive()["seconds"]

    def importance(self) -> dict[str, float]:
        """Each feature's share of the trees' total gain, by XGBoost's name of it."""
        self._send({"importance": True})
        return self._receive()["importance"]

    @property
    def _answer(self) -> Path:
        return Path(self._scratch.name) / "answer"

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the process has ended: _receive says so

    def _receive(self, begin: str = "") -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise ScoringError(f"{begin}its process ended with {code}; the log above may say why")
        said = json.loads(line)
        if "error" in said:
            raise ScoringError(f"{begin}{said['error']}")
        return said


@dataclass
class Answers:
    """The predictions of one model, collected batch by batch; `error` is why it answers no more."""

    model: Model
    classes: list[str]  # in the order of the labels' codes
    batches: list[dict[str, np.ndarray]] = field(default_factory=list)
    error: str | None = None

    def add(self, labels: np.ndarray, body: bytes) -> None:
        self.batches.append(predictions(self.model.described.problem_type, self.classes, labels, body))

    def scored(self) -> Scored:
        names = self.batches[0] if self.batches else {}
        columns = {name: np.concatenate([batch[name] for batch in self.batches]) for name in names}
        return Scored(self.model.described.problem_type, self.classes, columns)


@dataclass(frozen=True)
class Rows:
    """What is kept of the test rows: columns for the slices, and a sample. rows: their number."""

    rows: int
    kept: dict[str, pa.ChunkedArray]
    sample: pa.Table  # without the target


def score(files: list[Path], transform: Transform, keep: list[str], answers: list[Answers], seed: int = 0) -> Rows:
    """Sends all test rows to every model; the first one's failing raises ScoringError, another's ends its own part.

    files: Parquet files of raw rows. keep: columns to keep. Raises ScoringError also when there are no rows, or
    a column is not there.
    """
    # pre_buffer would read every column of all row groups ahead
    readers = [pq.ParquetFile(path, pre_buffer=False) for path in files]
    rows = sum(reader.metadata.num_rows for reader in readers)
    if not rows:
        raise ScoringError("the test part has no rows: provide more data, or raise split.test in settings.yaml")
    names = readers[0].schema_arrow.names
    for name in (transform.target, *keep):
        if name not in names:
            raise ScoringError(f"the test rows have no column {name!r}: there are {', '.join(names)}")
    sampled = np.sort(np.random.default_rng(seed).choice(rows, min(rows, SAMPLE_ROWS), replace=False))
    kept: dict[str, list[pa.Array]] = {name: [] for name in keep}
    sample, first, said = [], 0, time.monotonic()
    for batch in _batches(readers):
        labels = transform.labels(batch.column(transform.target))
        for name in keep:
            kept[name] += _as_dictionary(batch.column(name)).chunks
        table = batch.drop_columns([transform.target])
        sample.append(table.take(sampled[(sampled >= first) & (sampled < first + len(batch))] - first))
        body = as_parquet(table)
        asked = [answer for answer in answers if answer.error is None]
        for answer in asked:  # all at once: they are processes of their own
            answer.model.send(body, PARQUET, PARQUET)
        for answer in asked:
            try:
                answer.add(labels, answer.model.receive())
            except ScoringError as error:
                if answer is answers[0]:
                    raise ScoringError(f"the model cannot score the test rows: {error}") from error
                answer.error = str(error)
        first += len(batch)
        if time.monotonic() - said > SECONDS_BETWEEN_WORDS:
            print(f"scored {first:,} of {rows:,} test rows", flush=True)
            said = time.monotonic()
    columns = {name: pa.chunked_array(chunks).unify_dictionaries() for name, chunks in kept.items()}
    return Rows(rows, columns, pa.concat_tables(sample))


def predictions(problem_type: str, classes: list[str], labels: np.ndarray, body: bytes) -> dict[str, np.ndarray]:
    """The columns of metrics.Scored for one batch. body: the answer, Parquet.

    labels: of the rows, shape (rows,): positions in `classes`, or numbers. Raises ScoringError when the answer is not
    what inference.py promises.
    """
    try:
        answer = pq.read_table(pa.BufferReader(body))
        if len(answer) != len(labels):
            raise ScoringError(f"it answered {len(answer)} rows to {len(labels)}")
        if problem_type == "regression":
            return {"actual": labels, "predicted": _numbers(answer, "score")}
        if problem_type == "binary_classification":
            return {"actual": labels.astype(np.int8), "probability": _numbers(answer, "probability")}
        columns = [_numbers(answer, f"probability.{label}") for label in classes]
    except ScoringError:
        raise
    except (pa.ArrowException, KeyError, ValueError, TypeError, OSError) as error:
        raise ScoringError(f"its answer is not the promised Parquet: {error}") from error
    probabilities = np.stack(columns, axis=1)
    actual = labels.astype(np.int32)
    return {
        "actual": actual,
        "predicted": probabilities.argmax(axis=1).astype(np.int32),
        "probability": probabilities.max(axis=1),
        "probability_of_actual": np.take_along_axis(probabilities, actual[:, None], axis=1)[:, 0],
        "squares": np.square(probabilities, dtype=np.float32).sum(axis=1),
    }


def as_parquet(table: pa.Table) -> bytes:
    """The table as a request's body: quick to write and to read, since it only crosses to another process."""
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream, compression="none", use_dictionary=False, write_statistics=False)
    return stream.getvalue().to_pybytes()


def _numbers(answer: pa.Table, name: str) -> np.ndarray:
    found = answer.column(name).to_numpy().astype(np.float32)
    if not np.isfinite(found).all():
        raise ScoringError(f"its answers in {name!r} are not all finite numbers")
    return found


def _batches(readers: list[pq.ParquetFile]) -> Iterator[pa.Table]:
    for reader in readers:
        size = VALUES_PER_BATCH // reader.metadata.num_columns
        size = min(max(size, 1_000), ROWS_PER_BATCH)
        for batch in reader.iter_batches(batch_size=size):
            if len(batch):
                yield pa.Table.from_batches([batch])


def _as_dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
