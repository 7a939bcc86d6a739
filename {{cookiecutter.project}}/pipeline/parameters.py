"""The pipeline's parameters: what `start --parameter` can change for one execution, and where its default stands."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from pipeline import InputError
from pipeline.settings import Settings
from pipeline.yaml_file import fault_text

FINGERPRINT = "DataFingerprint"
TOLERANCE = "Tolerance"


def threshold_name(settings: Settings) -> str:
    """The threshold's name, which says what it is: MinimumAuc, MaximumRmse."""
    side = "Minimum" if settings.metric.higher_is_better else "Maximum"
    return side + "".join(part.capitalize() for part in settings.gate.metric.split("_"))


def fixed_hyperparameters(settings: Settings) -> dict[str, Any]:
    """The hyperparameters that are set, and not searched for (train.tune), by name."""
    tuned = settings.train.tune.ranges if settings.train.tune else {}
    given = settings.train.hyperparameters.model_dump(exclude_none=True)
    return {name: value for name, value in given.items() if name not in tuned}


def places(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Where in settings.yaml the default of each parameter stands, by the parameter's name."""
    return {
        "DataUri": ("data", "uri"),
        "PreprocessInstanceType": ("preprocess", "instance_type"),
        "TrainInstanceType": ("train", "instance_type"),
        "EvaluateInstanceType": ("evaluate", "instance_type"),
        threshold_name(settings): ("gate", "threshold"),
        TOLERANCE: ("gate", "tolerance"),
        **{name: ("train", "hyperparameters", name) for name in fixed_hyperparameters(settings)},
    }


def parse(settings: Settings, texts: list[str]) -> dict[str, str]:
    """["eta=0.3", ...] as {"eta": "0.3"}, each value checked as if it stood in settings.yaml. Raises InputError."""
    known = places(settings)
    values = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value:
            raise InputError(f"--parameter {text!r}: write Name=Value")
        if name == FINGERPRINT:
            raise InputError(f"--parameter {name}: it is computed from the data; leave it out")
        if name not in known:
            raise InputError(f"--parameter {name}: there is no such parameter (there are {', '.join(known)})")
        values[name] = str(_checked(settings, known[name], name, value))
    return values


def _checked(settings: Settings, place: tuple[str, ...], name: str, value: str) -> Any:
    content = settings.model_dump()
    section = content
    for part in place[:-1]:
        section = section[part]
    section[place[-1]] = value
    try:
        found: Any = Settings.model_validate(content)
    except ValidationError as error:
        raise InputError(f"--parameter {name}: {fault_text(Settings, error.errors()[0])}") from None
    for part in place:
        found = getattr(found, part)
    return found
