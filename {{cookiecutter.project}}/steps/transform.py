"""The transformation from raw columns to what XGBoost takes, and of the target: plain data, stored as JSON.

Preprocess fits it on the training part, train.py puts it into model.tar.gz, inference.py applies it to every request.

| kind     | raw values                       | what XGBoost gets                                                  |
|----------|----------------------------------|--------------------------------------------------------------------|
| number   | numbers, or text that is numbers | the number; missing stays missing (NaN)                            |
| boolean  | true, false                      | 1, 0; missing is NaN                                               |
| category | text                             | its position in `categories`; missing, or unseen in training: NaN  |

Missing is what is empty, or a word of MISSING. XGBoost learns in every split which way missing values go, so NaN needs
no imputation.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# XGBoost splits by sets of categories; a column with more distinct values is usually an identifier.
MAX_CATEGORIES = 255
BOOLEANS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
# The words that pandas.read_csv takes for a missing value by default, in data files and in requests alike.
MISSING = frozenset(
    [
        *("", "NA", "N/A", "n/a", "#NA", "#N/A", "#N/A N/A", "<NA>", "NULL", "null", "None"),
        *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    ]
)
XGBOOST_TYPES = {"number": "q", "boolean": "i", "category": "c"}


class ColumnError(ValueError):
    """A column or a value that the transformation cannot take: the text names the column."""


@dataclass(frozen=True)
class Column:
    """One feature: its raw column's name, its kind (number, boolean, category), its categories when it has them."""

    name: str
    kind: str
    categories: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Transform:
    """classes: the labels in the order of the model's outputs; empty for regression."""

    problem_type: str
    target: str
    classes: list[Any]
    columns: list[Column]

    def features(self, table: pd.DataFrame) -> np.ndarray:
        """The columns of `table` as XGBoost takes them: shape (rows, features), float32, missing as NaN.

        Further columns of `table` are left alone. Raises ColumnError naming the column that is missing or wrong.
        """
        missing = [column.name for column in self.columns if column.name not in table.columns]
        if missing:
            raise ColumnError(f"columns are missing: {', '.join(missing)}")
        encoded = np.empty((len(table), len(self.columns)), dtype=np.float32)
        for position, column in enumerate(self.columns):
            encoded[:, position] = _to_float32(_ENCODERS[column.kind](table[column.name], column), column.name)
        return encoded

    def labels(self, target: pd.Series) -> np.ndarray:
        """The target as XGBoost takes it: shape (rows,), float32; for classification the positions in `classes`.

        Raises ColumnError when a label is not among the classes, or a number is beyond float32.
        """
        if not self.classes:
            return _to_float32(_numbers(target), target.name)
        positions = target.map(as_text).map({as_text(label): index for index, label in enumerate(self.classes)})
        if positions.isna().any():
            raise ColumnError(
                f"the target {target.name!r} holds {target[positions.isna()].iloc[0]!r}, which is none of the classes "
                f"{', '.join(map(str, self.classes))}"
            )
        return positions.to_numpy(np.float32)

    @property
    def feature_names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def feature_types(self) -> list[str]:
        """What each feature is to XGBoost: "q" a quantity, "i" an indicator, "c" a category."""
        return [XGBOOST_TYPES[column.kind] for column in self.columns]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Transform:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**stored, "columns": [Column(**column) for column in stored["columns"]]})


def kind_of(values: pd.Series) -> str:
    """Whether a raw column holds numbers, booleans or categories.

    Raises ColumnError for what is none of these: dates, nested values.
    """
    if pd.api.types.is_bool_dtype(values.dtype):
        return "boolean"
    if pd.api.types.is_numeric_dtype(values.dtype):
        return "number"
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    if not (pd.api.types.is_object_dtype(values.dtype) or pd.api.types.is_string_dtype(values.dtype)):
        raise ColumnError(
            f"the column {values.name!r} is of type {values.dtype}, which is neither number, boolean nor text: "
            "turn it into numbers, or list it under data.ignore (or name it as data.time) in settings.yaml"
        )
    present = values.dropna()
    if present.map(lambda value: isinstance(value, (list, dict, tuple, set, bytes, np.ndarray))).any():
        raise ColumnError(f"the column {values.name!r} holds nested values: flatten it, or list it under data.ignore")
    known = texts(present).dropna()
    if known.isin(("true", "false")).all():
        # a column without any value lands here too; to the model it is as good as a column of missing numbers
        return "boolean" if len(known) else "number"
    return "number" if pd.to_numeric(known, errors="coerce").notna().all() else "category"


def fit_column(name: str, kind: str, training: pd.Series) -> Column:
    """The column's transformation from its values in the training part: the most frequent categories, sorted."""
    if kind != "category":
        return Column(name, kind)
    counts = texts(training).value_counts()
    return Column(name, kind, sorted(sorted(counts.index, key=lambda text: (-counts[text], text))[:MAX_CATEGORIES]))


def as_text(value: object) -> str:
    """One way to write a value: true and True, 5 and 5.0 are the same label or category."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    text = str(value).strip()
    return text.lower() if text in ("True", "False", "TRUE", "FALSE") else text


def texts(values: pd.Series) -> pd.Series:
    """Every value as text; missing ones, whatever says so (MISSING), as missing."""
    written = values.astype(object).map(as_text, na_action="ignore")
    return written.mask(written.isin(MISSING))


def _numbers(values: pd.Series) -> np.ndarray:
    if pd.api.types.is_numeric_dtype(values.dtype):
        return values.to_numpy(np.float64, na_value=np.nan)
    written = texts(values)
    numbers = pd.to_numeric(written, errors="coerce")
    wrong = values[numbers.isna() & written.notna()]
    if len(wrong):
        raise ColumnError(f"the column {values.name!r} must be numbers, but holds {wrong.iloc[0]!r:.80}")
    return numbers.to_numpy(np.float64)


def _to_float32(numbers: np.ndarray, name: str) -> np.ndarray:
    """XGBoost computes with float32, where what is beyond 3.4e38 would be infinite. Raises ColumnError for that."""
    beyond = np.abs(numbers) > np.finfo(np.float32).max
    if beyond.any():
        raise ColumnError(f"the column {name!r} holds {numbers[beyond][0]:g}: numbers must lie within 3.4e38")
    return numbers.astype(np.float32)


def _encode_number(values: pd.Series, column: Column) -> np.ndarray:
    return _numbers(values)


def _encode_boolean(values: pd.Series, column: Column) -> np.ndarray:
    written = texts(values)
    encoded = written.map(BOOLEANS)
    wrong = values[encoded.isna() & written.notna()]
    if len(wrong):
        raise ColumnError(f"the column {column.name!r} must be true or false, but holds {wrong.iloc[0]!r:.80}")
    return encoded.to_numpy(np.float64)


def _encode_category(values: pd.Series, column: Column) -> np.ndarray:
    codes = {category: float(code) for code, category in enumerate(column.categories)}
    return texts(values).map(codes).to_numpy(np.float64)


_ENCODERS = {"number": _encode_number, "boolean": _encode_boolean, "category": _encode_category}
