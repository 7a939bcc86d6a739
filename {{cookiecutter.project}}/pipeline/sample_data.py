"""Real data to begin with, one set per problem type: what scikit-learn carries. It needs no network.

Sources: Breast Cancer Wisconsin (Diagnostic) and Wine, both UCI Machine Learning Repository, CC BY 4.0; Diabetes,
Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression", Annals of Statistics, 2004.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.settings import ROOT

if TYPE_CHECKING:
    import pandas as pd  # takes most of a second, in which every other command is done

SAMPLES = {
    "binary_classification": ("breast_cancer", "diagnosis"),
    "multiclass_classification": ("wine", "cultivar"),
    "regression": ("diabetes", "disease_progression"),
}


def sample_path(problem_type: str, folder: Path = ROOT / "data") -> Path:
    return folder / f"{SAMPLES[problem_type][0]}.csv"


def write_sample(problem_type: str, folder: Path = ROOT / "data") -> Path:
    """Writes the problem type's sample data as CSV and returns its path."""
    path = sample_path(problem_type, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    sample_table(problem_type).to_csv(path, index=False)
    return path


def sample_table(problem_type: str) -> pd.DataFrame:
    """The sample as a table: features with names of lower-case letters, digits and _; the target last."""
    from sklearn import datasets  # takes a second: only this command needs it

    name, target = SAMPLES[problem_type]
    options = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(as_frame=True, **options)
    table = bunch.data.rename(columns=lambda column: column.lower().replace(" ", "_").replace("/", "_"))
    labels = dict(enumerate(bunch.target_names)) if problem_type != "regression" else None
    return table.assign(**{target: bunch.target.map(labels) if labels else bunch.target})
