"""The template's steps as modules: their Python never passes Jinja, so they can be imported where they lie."""

from __future__ import annotations

import sys
from pathlib import Path

STEPS = Path(__file__).resolve().parents[2] / "{{cookiecutter.project}}" / "steps"
sys.path.insert(0, str(STEPS))
