"""How long Evaluate takes from a million predictions to the report, and how large the page becomes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.bench.figures import Figure
from tests.steps.report_findings import explanations, summary

STEPS = Path(__file__).resolve().parents[2] / "{{cookiecutter.project}}" / "steps"
ROUNDS = 3
ROWS, COLUMNS = 1_000_000, 200


def report() -> list[Figure]:
    """A binary classifier of 200 columns, compared with a serving version, with costs, three slices and fairness.

    The models' own work is left out: their predictions and SHAP values are there at the start.
    """
    sys.path.insert(0, str(STEPS))
    try:
        seconds, sizes = zip(*(_report(seed) for seed in range(ROUNDS)), strict=True)
    finally:
        sys.path.remove(str(STEPS))
    return [
        Figure(f"the report of {ROWS:,} test rows and {COLUMNS} columns", seconds, "s", at_most=15),
        Figure("its size", sizes, "MB", at_most=5),
    ]


def _report(seed: int) -> tuple[float, float]:
    """Seconds, and megabytes of HTML."""
    import report as evaluation_report
    from comparison import Serving
    from findings import Run, Scores, assemble
    from metrics import Scored, measure
    from scoring import Rows
    from transform import Column, Transform

    random = np.random.default_rng(seed)
    names = [f"column_{place:03}" for place in range(COLUMNS)]
    actual = (random.random(ROWS) < 0.2).astype(np.int8)

    def predictions(spread: float) -> Any:
        margin = 2.0 * actual - 2 + random.normal(0, spread, ROWS)
        probability = (1 / (1 + np.exp(-margin))).astype(np.float32)
        return Scored("binary_classification", ["no", "yes"], {"actual": actual, "probability": probability})

    kept = {
        "country": pa.chunked_array([random.choice([f"country {place}" for place in range(40)], ROWS)]),
        "amount": pa.chunked_array([random.normal(100, 30, ROWS)]),
        "sex": pa.chunked_array([random.choice(["female", "male"], ROWS)]),
    }
    scores = Scores(
        candidate=predictions(1.5),
        rows=Rows(ROWS, kept, pa.table({})),
        values={"test.rows": ROWS, "model.size_mb": 1.2, "latency.one_row_ms": 0.7, "latency.thousand_rows_ms": 8.0},
        format_faults=[],
        explanations=explanations(names, signed=True),
        no_explanations=None,
        rival=predictions(1.7),
        rival_split={},
    )
    settings = {
        **{"project": "bench", "description": "", "problem_type": "binary_classification", "target": "target"},
        "split": {},
        "gate": {"metric": "auc", "higher_is_better": True, "incomparable": "fail", "conditions": []},
        "evaluate": {
            "slices": list(kept),
            "fairness": {"column": "sex", "reference": None},
            "costs": {"false_positive": 1, "false_negative": 5},
        },
        "model_card": {},
    }
    columns = [Column(name, "number") for name in names]
    transform = Transform("binary_classification", "target", ["no", "yes"], columns)
    serving = Serving("prod", "arn:aws:sagemaker:us-east-1:123456789012:model-package/bench-prod/1", "endpoint")
    described = summary(names, ["no", "yes"])
    started = time.monotonic()
    found, _ = assemble(settings, transform, {}, scores, measure(scores.candidate), described, Run(0.5), serving)
    page = evaluation_report.render(found)
    return time.monotonic() - started, len(page.encode()) / 1e6
