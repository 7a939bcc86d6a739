"""The evaluation report: everything that Evaluate found, as one HTML page that needs nothing else.

`render` takes what findings.py puts together: plain data, binned or sampled, None where something is
undefined; `notes` then says why, and so does the page. It works without scripts, printed, on a phone and in dark mode.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import plots
from page import (
    NOTHING,
    Html,
    Number,
    absent,
    apart,
    bullets,
    code,
    document,
    escape,
    figure,
    figures,
    folded,
    interval,
    join,
    note,
    number,
    pairs,
    paragraph,
    percent,
    show,
    table,
    tile,
)
from plots import SERVING, THIS, Estimate, Plot, axis, legend, share_axis
from report_predictions import predictions

Findings = dict[str, Any]

MEANINGS = {
    "auc": "chance that a positive row is scored above a negative one",
    "au_prc": "area under the precision-recall curve",
    "accuracy": "share of rows predicted right",
    "balanced_accuracy": "share of each class found, mean over the classes",
    "precision": "share of the predicted positives that are positive",
    "recall": "share of the positives that are found",
    "true_negative_rate": "share of the negatives that are left alone",
    "f1": "harmonic mean of precision and recall",
    "f0_5": "as f1, precision counting more",
    "f2": "as f1, recall counting more",
    "logloss": "mean surprise at the true class, in nats",
    "brier": "mean squared error of the probabilities",
    "weighted_precision": "precision of each class, weighted by its rows",
    "weighted_recall": "recall of each class, weighted by its rows",
    "weighted_f1": "f1 of each class, weighted by its rows",
    "weighted_f0_5": "as weighted_f1, precision counting more",
    "weighted_f2": "as weighted_f1, recall counting more",
    "macro_f1": "f1 of each class, every class counting the same",
    "rmse": "typical error, great ones counting more; in the target's unit",
    "mse": "mean squared error",
    "mae": "mean absolute error, in the target's unit",
    "median_absolute_error": "half of the rows are off by less; in the target's unit",
    "r2": "share of the target's variance explained; 0 is no better than its mean",
}
FEW = 12  # more rows of a table, or warnings, are folded away
OPERATION = {
    "model.size_mb": "size of the model archive, MB",
    "latency.one_row_ms": "median time to answer one CSV row, ms",
    "latency.thousand_rows_ms": "median time to answer 1,000 CSV rows, ms",
}


def render(findings: Findings) -> str:
    """The page as text. findings: as documented in findings.py."""
    sections = [
        ("decision", "Decision", _decision(findings)),
        ("comparison", "Against the version now serving", _comparison(findings)),
        ("metrics", "Metrics", _metrics(findings)),
        ("predictions", "Predictions in detail", predictions(findings)),
        ("explanations", "What the predictions rest on", _explanations(findings)),
        ("slices", "Slices", _slices(findings)),
        ("fairness", "Fairness", _fairness(findings)),
        ("operation", "Size, speed and answers", _operation(findings)),
        ("training", "Training", _training(findings)),
        ("data", "Data", _data(findings)),
        ("settings", "Settings", pairs(findings["settings"], "Settings")),
        ("lineage", "Lineage", _lineage(findings)),
    ]
    passed = "passed" if findings["gate"]["passed"] else "failed"
    footer = paragraph(
        "Intervals hold 95 %. The same numbers, for programs, lie beside this page: evaluation.json, gate.json, "
        "model_card.json."
    )
    return document(f"{findings['project']}: evaluation, {passed}", _header(findings), sections, footer)


def _header(findings: Findings) -> Html:
    lineage = findings["lineage"]
    created = datetime.fromisoformat(findings["created"])
    kind = findings["problem_type"].replace("_", " ")
    facts = [
        join([escape(f"{kind} of "), code(findings["target"])]),
        f"{number(findings['rows'])} test rows",
        f"{created.day} {created:%B %Y, %H:%M} UTC",
    ]
    if lineage.get("commit"):
        facts.append(
            join(["commit ", code(lineage["commit"][:10]), escape(f" on {lineage.get('branch') or 'no branch'}")])
        )
    lead = paragraph(findings["description"], kind="lead") if findings["description"] else ""
    return join(
        [f"<h1>{escape(findings['project'])}</h1>", lead, paragraph(join(map(show, facts), " · "), kind="facts")]
    )


def _word(good: bool, yes: str, no: str) -> Html:
    return Html(f'<span class="{"pass" if good else "fail"}-word">{"✓" if good else "✗"} {yes if good else no}</span>')


# Decision and comparison


def _decision(findings: Findings) -> Html:
    gate, main, values = findings["gate"], _main(findings), findings["values"]
    passed = gate["passed"]
    verdict = (
        f'<div class="verdict {"pass" if passed else "fail"}"><strong>'
        f"{'✓ Passed: this version may be registered' if passed else '✗ Failed: this version is not registered'}"
        f"</strong>{paragraph(gate['decision'][:1].upper() + gate['decision'][1:])}</div>"
    )
    tiles = []
    if main:
        tiles.append(tile(main["name"], _with_interval(main)))
    if difference := _difference(findings, main):
        word = {True: "better", False: "worse", None: "undecided"}[difference["better"]]
        change = interval(difference["value"], None, None, sign=True)
        tiles.append(tile(f"against {findings['serving']['stage']}", change, word))
    tiles.append(tile("test rows", findings["rows"]))
    tiles += [
        tile(label, f"{number(values[name], 3)} {unit}", note)
        for name, label, unit, note in (
            ("latency.one_row_ms", "one row takes", "ms", "median"),
            ("model.size_mb", "model", "MB", "archive"),
        )
        if values.get(name) is not None
    ]
    checks = table(
        ["check", "verdict", "measured", "must be", ""],
        [_check(check) for check in gate["checks"]],
        "What the gate checked",
    )
    return join([verdict, f'<dl class="tiles">{join(tiles)}</dl>', checks])


def _check(check: dict[str, Any]) -> list[Any]:
    about = {"threshold": "threshold", "comparison": "against the version now serving", "condition": "condition"}
    name = join([code(check["name"]), f' <small class="soft">{escape(about[check["kind"]])}</small>'])
    verdict = _word(check["passed"], "met", "not met")
    if check["name"] == "comparable":
        return [name, verdict, Number("yes" if check["value"] else "no"), "", Number("yes")]
    if check["value"] is None:
        return [name, verdict, Number("undefined"), check["relation"], Number(number(check["bound"]))]
    value, bound = apart(check["value"], check["bound"])
    return [name, verdict, value, check["relation"], bound]


def _main(findings: Findings) -> dict[str, Any] | None:
    return next((metric for metric in findings["metrics"] if metric["main"]), None)


def _difference(findings: Findings, metric: dict[str, Any] | None) -> dict[str, Any] | None:
    differences = (findings["serving"] or {}).get("differences") or []
    return next((each for each in differences if metric and each["name"] == metric["name"]), None)


def _comparison(findings: Findings) -> Html:
    serving = findings["serving"]
    if serving is None:
        return absent(findings["notes"], "serving", "No version serves yet: there is nothing to compare with.")
    found = paragraph(
        escape(f"In {serving['stage']} ({serving['found']}): "), code(serving["version"]), " scored the same test rows."
    )
    notes = join(
        [note(findings["notes"], "serving"), paragraph(serving["note"], kind="warn") if serving["note"] else ""]
    )
    if not serving["comparable"]:
        reason = paragraph(f"It cannot be compared: {serving['reason'] or 'no reason was given'}", kind="none")
        return join([found.replace(" scored the same test rows", ""), notes, reason])
    theirs = {metric["name"]: metric for metric in serving["metrics"]}
    rows = []
    for ours in findings["metrics"]:
        difference = _difference(findings, ours)
        other = theirs.get(ours["name"], {"value": None, "lower": None, "upper": None})
        if difference is None:
            rows.append(
                [code(ours["name"]), _with_interval(ours), _with_interval(other), Number(NOTHING), Html(""), ""]
            )
            continue
        sketch = plots.against_zero(
            difference["lower"], difference["value"], difference["upper"], ours["higher_is_better"]
        )
        change = interval(difference["value"], difference["lower"], difference["upper"], sign=True)
        verdict = {True: _word(True, "better", ""), False: _word(False, "", "worse"), None: "undecided"}
        rows.append(
            [
                code(ours["name"]),
                verdict[difference["better"]],
                _with_interval(ours),
                _with_interval(other),
                change,
                sketch,
            ]
        )
    headers = ["metric", "this is", THIS, SERVING, "difference", "worse  ·  better"]
    caption = paragraph(
        "Difference: this version less the one now serving, on the same rows, with its paired 95 % interval. "
        "The sketch draws it, each metric on its own scale: right of the dotted line this version is better; "
        "an interval that reaches the line leaves it undecided.",
        kind="soft",
    )
    return join([found, notes, table(headers, rows, "Both versions' metrics"), caption])


def _with_interval(metric: dict[str, Any]) -> Number:
    return interval(metric["value"], metric["lower"], metric["upper"])


# Metrics


def _metrics(findings: Findings) -> Html:
    metrics = findings["metrics"]
    if not metrics:
        return absent(findings["notes"], "metrics", "No metric could be computed.")
    rows = [
        [
            join([code(metric["name"]), ' <small class="soft">decides</small>' if metric["main"] else ""]),
            _with_interval(metric),
            Number(number(metric["standard_deviation"], 2)),
            "greater" if metric["higher_is_better"] else "smaller",
            MEANINGS.get(metric["name"], ""),
        ]
        for metric in metrics
    ]
    headers = ["metric", "value (95 % interval)", "standard deviation", "better is", "what it is"]
    parts = [note(findings["notes"], "metrics"), table(headers, rows, "Metrics with their intervals")]
    shares = [metric for metric in metrics if metric["higher_is_better"] and metric["name"] != "r2"]
    if shares:
        serving = {metric["name"]: metric for metric in (findings["serving"] or {}).get("metrics", [])}
        series = [[_estimate(metric) for metric in shares]]
        if serving:
            series.append([_estimate(serving.get(metric["name"])) for metric in shares])
        plot = plots.estimates(
            [metric["name"] for metric in shares],
            series,
            axis("", [bound for each in series for estimate in each for bound in estimate.bounds], ticks=5),
            "Metrics between 0 and 1 with their intervals",
        )
        key = legend(("f0", THIS), ("o1", SERVING)) if serving else None
        parts.append(
            figures(
                figure("Metrics between 0 and 1", plot, "Further right is better; the line is the 95 % interval.", key)
            )
        )
    return join(parts)


def _estimate(metric: dict[str, Any] | None) -> Estimate:
    return Estimate(metric["value"], metric["lower"], metric["upper"]) if metric else Estimate(None)


# Explanations, slices, fairness


def _explanations(findings: Findings) -> Html:
    found = findings["explanations"]
    if found is None or not found["columns"]:
        return absent(findings["notes"], "explanations", "The model gives no explanations.")
    columns, unit = found["columns"], found["unit"]
    top = columns[:20]
    bars = plots.bars(
        [each["name"] for each in top],
        [each["mean_absolute"] for each in top],
        "mean of |SHAP value|",
        "Mean absolute SHAP value of each column",
    )
    more = f" The {len(top)} strongest of {number(len(columns))} columns." if len(columns) > len(top) else ""
    drawn = [figure("Strength of each column", bars, f"How far a column moves the prediction, on average.{more}")]
    directions: dict[str, str] = {}
    if found["points"]:
        drawn.append(_swarm(found["points"]))
        directions = {each["name"]: _direction(each) for each in found["points"]}
    total = sum(each["mean_absolute"] for each in columns) or 1
    rows = [
        [
            each["name"],
            each["mean_absolute"],
            percent(each["mean_absolute"] / total),
            percent(each["gain"]),
            directions.get(each["name"], ""),
        ]
        for each in columns
    ]
    headers = ["column", "mean |SHAP value|", "share", "share of the trees' gain", "greater values"]
    about = paragraph(
        f"SHAP values (XGBoost's pred_contribs) of {number(found['rows'])} test rows, summed over each column's "
        f"features, in {unit}: what moved each prediction away from the mean. They explain the model, not the world."
    )
    full = folded(f"All {number(len(columns))} columns in numbers", table(headers, rows, "Strength of each column"))
    return join([about, note(findings["notes"], "explanations"), figures(*drawn), full])


def _swarm(points: list[dict[str, Any]]) -> Html:
    everything = [value for each in points for value in each["contributions"]]
    x = axis("SHAP value", [0, *everything], ticks=5)
    plot = Plot(x, plots.name_axis([each["name"] for each in points]), height=64 + 24 * len(points), grid=False)
    plot.rule(x=0)
    for row, each in enumerate(points):
        if each["contributions"]:
            plot.swarm(each["contributions"], row, each["values"], reach=10)
    key = legend(("q0", "low value"), ("q2", "middle"), ("q4", "high value"), ("q5", "missing or a category"))
    caption = (
        "One dot for a row: right of 0 its value raised the prediction. The table says which way great values push."
    )
    return figure("SHAP values row by row", plot.svg("SHAP values of single rows by column"), caption, key)


def _direction(points: dict[str, Any]) -> str:
    """Which way a column's great values push: by the correlation of the values' ranks with the SHAP values."""
    both = [
        (value, contribution)
        for value, contribution in zip(points["values"], points["contributions"], strict=True)
        if value is not None
    ]
    if len(both) < 10:
        return ""
    means = [sum(each) / len(both) for each in zip(*both, strict=True)]
    covariance = sum((value - means[0]) * (contribution - means[1]) for value, contribution in both)
    spreads = [
        math.sqrt(sum((each - mean) ** 2 for each in side))
        for side, mean in zip(zip(*both, strict=True), means, strict=True)
    ]
    correlation = covariance / (spreads[0] * spreads[1]) if all(spreads) else 0
    return "raise it" if correlation > 0.3 else "lower it" if correlation < -0.3 else "push both ways"


def _slices(findings: Findings) -> Html:
    if not findings["slices"]:
        return absent(findings["notes"], "slices", "No columns are set: name some in settings.yaml, evaluate.slices.")
    main = _main(findings)
    drawn, tables = [], []
    for each in findings["slices"]:
        column, values = each["column"], each["values"]
        names = list(dict.fromkeys(name for value in values for name in value["metrics"]))
        if not values or not names:
            tables.append(paragraph(f"{column}: no rows.", kind="none"))
            continue
        name = main["name"] if main and main["name"] in names else names[0]
        estimates = [_estimate(value["metrics"].get(name)) for value in values]
        known = [bound for estimate in estimates for bound in estimate.bounds]
        overall = main["value"] if main and main["name"] == name else None
        plot = plots.estimates(
            [value["value"] for value in values],
            [estimates],
            axis(name, [*known, overall], ticks=5),
            f"{name} for each value of {column}",
            overall,
            [value["rows"] for value in values],
        )
        caption = f"{name} for each value of {column} with its 95 % interval; right: its rows; dotted: all."
        drawn.append(figure(f"{column}", plot, caption))
        rows = [
            [
                value["value"],
                value["rows"],
                *(Number(number((value["metrics"].get(each) or {}).get("value"))) for each in names),
            ]
            for value in values
        ]
        tables.append(folded(f"{column} in numbers", table([column, "rows", *names], rows, f"Metrics by {column}")))
    return join([note(findings["notes"], "slices"), figures(*drawn), *tables])


def _fairness(findings: Findings) -> Html:
    fairness = findings["fairness"]
    if fairness is None:
        return absent(findings["notes"], "fairness", "No protected column is set (settings.yaml, evaluate.fairness).")
    column = fairness["column"]
    about = paragraph(
        f"The groups of {column}. The selection rate is the share of a group that is "
        "predicted to be of the class; the true positive rate the share of those truly of the class that are (equal "
        "opportunity). A ratio of selection rates below 0.8 is commonly looked into (the four-fifths rule). "
        "Groups of few rows, and rows without a value, are shown but are not in the ratio."
    )
    parts = [about, note(findings["notes"], "fairness")]
    for each in fairness["classes"]:
        groups = each["groups"]
        names = [group["value"] for group in groups]
        drawn = [
            figure(
                f"{title}, {each['class']}",
                plots.estimates(
                    names,
                    [[Estimate(group[key], group[f"{key}_lower"], group[f"{key}_upper"]) for group in groups]],
                    share_axis(title.lower()),
                    f"{title} of each group of {column}",
                    rows=[group["rows"] for group in groups],
                ),
                caption,
            )
            for key, title, caption in (
                ("selection_rate", "Selection rate", "The more alike, the fairer; right: the rows of each."),
                ("true_positive_rate", "True positive rate", "Equal opportunity: the more alike, the fairer."),
            )
        ]
        rows = [
            [
                group["value"] if group["counted"] else f"{group['value']} (not in the ratio)",
                group["rows"],
                interval(group["selection_rate"], group["selection_rate_lower"], group["selection_rate_upper"]),
                group["ratio"],
                group["positives"],
                interval(
                    group["true_positive_rate"], group["true_positive_rate_lower"], group["true_positive_rate_upper"]
                ),
            ]
            for group in groups
        ]
        headers = [column, "rows", "selection rate", "ratio", "of the class", "true positive rate"]
        chosen = ", chosen most often" if fairness["reference_chosen"] and each["reference"] else ""
        result = paragraph(
            f"{each['class']}: compared with {each['reference'] or 'none, as no group has enough rows'}{chosen}, least "
            f"ratio of selection rates {number(each['selection_rate_ratio'])}, greatest difference of true positive "
            f"rates {number(each['equal_opportunity_difference'])}."
        )
        parts += [result, figures(*drawn), table(headers, rows, f"Fairness by {column}, {each['class']}")]
    return join(parts)


# The rest


def _operation(findings: Findings) -> Html:
    values = findings["values"]
    rows = [[what, values.get(name), code(name)] for name, what in OPERATION.items()]
    faults = findings["format_faults"]
    answers = (
        join([paragraph("The answers are not what they should be:", kind="warn"), bullets(faults)])
        if faults
        else paragraph("CSV and JSON answers agree with Parquet's, for every kind of request that was tried.")
    )
    # A number for every value of every slice would drown the others.
    named = [
        [code(name), value] for name, value in values.items() if not name.startswith("slice.") or ".worst." in name
    ]
    every = folded("Every number that gate.conditions can name", table(["name", "value"], named, "Numbers by name"))
    hint = paragraph("Also slice.<column>.<value>.<metric>, for each value that the slices above show.", kind="soft")
    return join(
        [
            table(["what", "measured", "name"], rows, "Size and speed"),
            answers,
            every,
            hint if findings["slices"] else "",
        ]
    )


def _training(findings: Findings) -> Html:
    training = findings["training"]
    if training is None:
        return absent(findings["notes"], "training", "The training job gave no curve.")
    curves = {name: training[name] for name in ("train", "validation") if training[name]}
    everything = [value for curve in curves.values() for value in curve]
    plot = Plot(axis("round", training["rounds"]), axis(training["metric"], everything))
    kinds = {"train": "s1", "validation": "s0"}
    for name, curve in curves.items():
        # train.py measures the training part in some of the rounds only, and repeats the value until the next
        seen = [each for each in range(len(curve)) if each in (0, len(curve) - 1) or curve[each] != curve[each - 1]]
        plot.line([training["rounds"][each] for each in seen], [curve[each] for each in seen], kinds[name])
    if training["best_round"] is not None:
        plot.rule(x=training["best_round"], text=f"best: {number(training['best_round'])}")
    caption = "Training stops when the validation part no longer improves; the two far apart means overfitting."
    key = legend(*((kinds[name], f"{name} part") for name in curves))
    return figures(figure("Learning curve", plot.svg(f"{training['metric']} by round"), caption, key))


def _data(findings: Findings) -> Html:
    """Preprocess's summary.json, for people; what it does not hold is left out."""
    summary = findings["summary"]
    if not summary:
        return absent(findings["notes"], "summary", "No summary of the data was given.")
    warnings, parts = summary.get("warnings", []), ("train", "validation", "test")
    tiles = [tile(name.replace("_", " "), rows) for name, rows in summary.get("rows", {}).items()]
    classes = [
        [each["label"], each["rows"], *(percent(each[f"{part}_share"]) for part in parts)]
        for each in summary.get("classes", [])
    ]
    headers = ["class", "rows", *(f"share of {part}" for part in parts)]
    columns = {findings["target"]: summary["target"]} if "target" in summary else {}
    columns |= summary.get("columns", {})
    statistics = table(
        ["column", "kind", "missing", "distinct", "least", "greatest", "mean", "most frequent"],
        [_column(name, each) for name, each in columns.items()],
        "Columns of the training part",
    )
    if len(columns) > FEW:
        statistics = folded(f"The target and {number(len(columns) - 1)} columns in numbers", statistics)
    return join(
        [
            f'<dl class="tiles">{join(tiles)}</dl>',
            f'<div class="warn">{bullets(warnings[:FEW])}</div>' if warnings else "",
            folded(f"{number(len(warnings) - FEW)} more warnings", bullets(warnings[FEW:])),
            table(headers, classes, "Classes and their shares") if len(classes) <= FEW else "",
            paragraph("Columns, the target first, as they are in the training part:", kind="soft") if columns else "",
            statistics,
            folded("How the rows were split", pairs(summary.get("split", {}), "How the rows were split")),
        ]
    )


def _column(name: str, found: dict[str, Any]) -> list[Any]:
    """A row about a column. Of an estimated number of distinct values the table says so."""
    frequent = ", ".join(f"{each['value']} ({number(each['rows'])})" for each in found.get("most_frequent", [])[:3])
    distinct = number(found.get("distinct"))
    return [
        name,
        found["kind"],
        found.get("missing"),
        Number(distinct if found.get("distinct_is_exact", True) else f"about {distinct}"),
        *(_bound(found.get(end)) for end in ("min", "max")),
        found.get("mean"),
        frequent,
    ]


def _bound(value: Any) -> Any:
    """A least or greatest value: a number, or the date of a time stamp."""
    return Number(escape(value[:10])) if isinstance(value, str) else value


def _lineage(findings: Findings) -> Html:
    known: list[list[Any]] = [
        [name.replace("_", " "), code(str(value)) if value else Html(NOTHING)]
        for name, value in findings["lineage"].items()
    ]
    files = findings["summary"].get("files", [])
    if files:
        more = f" and {number(len(files) - FEW)} more" if len(files) > FEW else ""
        known.append(["data files", ", ".join(files[:FEW]) + more])
    return table(["what", "value"], known, "Lineage")
