"""The template's pipeline package, of which some modules can be imported where they lie."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

PROJECT = Path(__file__).resolve().parents[2] / "{{cookiecutter.project}}"


def pipeline_metrics() -> ModuleType:
    """pipeline/metrics.py, without the package around it."""
    name = "template_pipeline_metrics"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, PROJECT / "pipeline" / "metrics.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def metrics_table() -> Any:
    """By problem type and name: the metric's direction and range."""
    return pipeline_metrics().METRICS
