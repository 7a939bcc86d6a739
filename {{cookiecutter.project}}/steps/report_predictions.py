"""The report's section on the predictions, in detail: what there is to draw for each of the three problem types."""

from __future__ import annotations

from typing import Any

import plots
from page import Html, Number, absent, figure, figures, folded, interval, join, note, number, paragraph, percent, table
from plots import SERVING, THIS, Axis, Estimate, Plot, axis, legend, share_axis

Findings = dict[str, Any]


def predictions(findings: Findings) -> Html:
    for part, draw in (("binary", _binary), ("multiclass", _multiclass), ("regression", _regression)):
        if findings.get(part) is not None:
            return join([note(findings["notes"], part), draw(findings, findings[part])])
    kind = {"binary_classification": "binary", "multiclass_classification": "multiclass"}
    return absent(
        findings["notes"],
        kind.get(findings["problem_type"], "regression"),
        "Nothing could be drawn from these test rows.",
    )


def _binary(findings: Findings, binary: dict[str, Any]) -> Html:
    positive = findings["classes"][1]
    drawn = [
        _curve(findings, binary, "roc", "false_positive_rate", "true_positive_rate"),
        _curve(findings, binary, "precision_recall", "recall", "precision"),
        _calibration(binary, f"predicted probability of {positive}", f"observed share of {positive}"),
        _scores(binary["scores"], positive),
        _confusion(binary["confusion"], "Confusion matrix at 0.5"),
        _thresholds(binary["thresholds"], positive),
    ]
    costs = binary["costs"]
    if costs is not None:
        drawn.append(_cost_curve(binary["thresholds"], costs))
    return join(
        [
            figures(*drawn),
            _cost_text(costs, positive),
            _calibration_table(binary),
            _threshold_table(binary["thresholds"]),
        ]
    )


def _curve(findings: Findings, binary: dict[str, Any], part: str, x: str, y: str) -> Html:
    """ROC or precision-recall, of this version and of the one now serving."""
    title = {"roc": "ROC curve", "precision_recall": "Precision and recall"}[part]
    if binary[part] is None:
        reason = paragraph("Undefined: the test rows hold one class only.", kind="none")
        return Html(f"<figure><h3>{title}</h3>{reason}</figure>")
    plot = Plot(share_axis(x.replace("_", " ")), share_axis(y.replace("_", " ")), height=340)
    if part == "roc":
        plot.line([0, 1], [0, 1], "rule")
        caption = "Towards the upper left is better; the dotted diagonal is guessing. The dot is the threshold 0.5."
    else:
        plot.rule(y=binary[part]["positive_share"])
        caption = "Towards the upper right is better; the dotted line is guessing. The dot is the threshold 0.5."
    entries = [("s0", THIS)]
    if other := binary.get(f"serving_{part}"):
        plot.line(other[x], other[y], "s1")
        entries.append(("s1", SERVING))
    plot.line(binary[part][x], binary[part][y], "s0")
    known = [index for index, threshold in enumerate(binary[part]["threshold"]) if threshold is not None]
    if known:
        half = min(known, key=lambda index: abs(binary[part]["threshold"][index] - 0.5))
        if binary[part][y][half] is not None:
            threshold = f"threshold {number(binary[part]['threshold'][half])}"
            plot.dot(binary[part][x][half], binary[part][y][half], 0, threshold)
    return figure(title, plot.svg(f"{title} of {' and '.join(name for _, name in entries)}"), caption, legend(*entries))


def _calibration(quality: dict[str, Any], x: str, y: str) -> Html:
    """Predicted against observed, with the rows of each bin below."""
    bins = quality["calibration"]
    plot = Plot(share_axis(x), share_axis(y), height=340)
    plot.line([0, 1], [0, 1], "rule")
    most = max((each["rows"] for each in bins), default=1)
    for each in bins:
        title = f"{number(each['rows'])} rows predicted {number(each['lower'])} to {number(each['upper'])}"
        plot.bar(each["lower"], each["upper"], 0, 0.16 * each["rows"] / most, "light", title)
    plot.line([each["predicted"] for each in bins], [each["observed"] for each in bins])
    for each in bins:
        plot.upright(each["predicted"], each["observed_lower"], each["observed_upper"])
        plot.dot(
            each["predicted"],
            each["observed"],
            0,
            f"predicted {number(each['predicted'])}, observed {number(each['observed'])}",
        )
    caption = "On the dotted line the probabilities are as they say; the bars below show where the rows are."
    if quality["calibration_error"] is not None:
        caption += f" Expected calibration error {number(quality['calibration_error'], 3)}."
    return figure("Calibration", plot.svg("Calibration: predicted probability against observed share"), caption)


def _calibration_table(quality: dict[str, Any]) -> Html:
    rows = [
        [
            f"{number(each['lower'])} to {number(each['upper'])}",
            each["rows"],
            Number(number(each["predicted"])),
            interval(each["observed"], each["observed_lower"], each["observed_upper"]),
        ]
        for each in quality["calibration"]
    ]
    return folded(
        "Calibration in numbers", table(["predicted", "rows", "mean predicted", "observed"], rows, "Calibration")
    )


def _scores(scores: dict[str, Any], positive: str) -> Html:
    names = list(scores["counts"])
    x = share_axis(f"predicted probability of {positive}")
    plot = plots.histogram(x, scores["edges"], scores["counts"], "Predicted probabilities by true class")
    key = legend(*((f"b{series}", f"truly {name}") for series, name in enumerate(names)))
    return figure(
        "Predicted probabilities by true class", plot, "The less the two overlap, the better they are told apart.", key
    )


def _confusion(confusion: dict[str, Any], title: str) -> Html:
    classes, counts = confusion["classes"], confusion["counts"]
    wide = len(classes) > 8
    plot = plots.matrix(
        plots.name_axis(classes, "true class"),
        plots.name_axis(classes, "predicted class"),
        counts,
        f"Confusion matrix of {number(len(classes))} classes",
        wide,
    )
    caption = (
        "Rows: true classes; columns: what was predicted; the stronger the colour, the greater the share of its row."
    )
    return figure(title, plot, caption, wide=wide)


def _thresholds(thresholds: list[dict[str, Any]], positive: str) -> Html:
    plot = Plot(share_axis("threshold"), share_axis(""), height=300)
    names = ("precision", "recall", "f1", "selected")
    at = [each["threshold"] for each in thresholds]
    for kind, name in zip(plots.LINES, names, strict=True):
        plot.line(at, [each[name] for each in thresholds], kind)
    plot.rule(x=0.5)
    caption = f"What a threshold other than 0.5 would give; selected: share of all rows predicted {positive}."
    return figure(
        "Choosing a threshold",
        plot.svg("Precision, recall, f1 and share selected by threshold"),
        caption,
        legend(*zip(plots.LINES, names, strict=True)),
    )


def _cost_curve(thresholds: list[dict[str, Any]], costs: dict[str, Any]) -> Html:
    each_cost = [each["cost_per_row"] for each in thresholds]
    plot = Plot(share_axis("threshold"), axis("cost per row", [0, *each_cost]), height=300)
    plot.rule(x=0.5)
    plot.line([each["threshold"] for each in thresholds], each_cost)
    cheapest = min(costs["best_threshold"], 1)
    plot.dot(cheapest, costs["best_per_row"], 0, f"cheapest at {number(cheapest)}")
    caption = "Lower is better; the dot is the cheapest threshold, the dotted line the one now used, 0.5."
    return figure("Cost of wrong answers", plot.svg("Cost per row by threshold"), caption)


def _cost_text(costs: dict[str, Any] | None, positive: str) -> Html:
    if costs is None:
        return paragraph("No costs are set (settings.yaml, evaluate.costs): all errors count the same.", kind="none")
    best = costs["best_threshold"]
    return paragraph(
        f"A false positive costs {number(costs['false_positive'])}, a false negative "
        f"{number(costs['false_negative'])}: {number(costs['per_row'])} per row at the threshold 0.5, at best "
        f"{number(costs['best_per_row'])} {f'at {number(best)}' if best <= 1 else f'by never predicting {positive}'}."
    )


def _threshold_table(thresholds: list[dict[str, Any]]) -> Html:
    names = [
        name
        for name in ("precision", "recall", "f1", "selected", "cost_per_row")
        if thresholds[0].get(name) is not None or name != "cost_per_row"
    ]
    rows = [[Number(number(each["threshold"])), *(each[name] for name in names)] for each in thresholds[::5]]
    headers = ["threshold", *(name.replace("_", " ") for name in names)]
    return folded("Thresholds in numbers", table(headers, rows, "What each threshold gives"))


def _multiclass(findings: Findings, multiclass: dict[str, Any]) -> Html:
    shown = multiclass["per_class"][:20]
    recall = plots.estimates(
        [each["class"] for each in shown],
        [[Estimate(each["recall"], each["recall_lower"], each["recall_upper"]) for each in shown]],
        share_axis("recall"),
        "Recall of each class with its interval",
    )
    most = f" The {number(len(shown))} classes with most rows." if len(findings["classes"]) > len(shown) else ""
    drawn = [
        _confusion(multiclass["confusion"], "Confusion matrix"),
        figure("Recall by class", recall, f"Share of each class that is found; the line is the 95 % interval.{most}"),
        _calibration(multiclass, "probability of the predicted class", "share predicted right"),
    ]
    rows = [
        [
            each["class"],
            each["rows"],
            each["predicted_rows"],
            each["precision"],
            interval(each["recall"], each["recall_lower"], each["recall_upper"]),
            each["f1"],
        ]
        for each in multiclass["per_class"]
    ]
    headers = ["class", "rows", "predicted", "precision", "recall", "f1"]
    classes, listed = len(findings["classes"]), len(rows)
    title = (
        f"All {number(classes)} classes in numbers"
        if classes <= listed
        else f"The {number(listed)} classes with most rows of {number(classes)}, in numbers"
    )
    per_class = table(headers, rows, "Precision and recall of each class")
    per_class = per_class if len(rows) <= 12 else folded(title, per_class)
    return join([figures(*drawn), per_class, _calibration_table(multiclass)])


def _regression(findings: Findings, regression: dict[str, Any]) -> Html:
    target = findings["target"]
    both, residuals = regression["predicted_actual"], regression["residuals"]
    drawn = []
    if both is not None:
        label = (f"predicted {target}", f"actual {target}")
        plot = plots.density(label, both["edges"], both["counts"], "Predicted against actual values")
        drawn.append(
            figure(
                "Predicted against actual",
                plot,
                "The closer to the dotted line, the better; the stronger the colour, the more rows.",
            )
        )
    if residuals is not None:
        x = axis("predicted less actual", residuals["edges"])
        plot = plots.histogram(x, residuals["edges"], {"residuals": residuals["counts"]}, "Histogram of the residuals")
        drawn.append(
            figure(
                "Residuals", plot, "Centred on 0 without a long tail is good; right of 0 the prediction is too high."
            )
        )
    if regression["by_prediction"]:
        drawn.append(_residuals_by_prediction(regression["by_prediction"], target))
    if regression["error_quantiles"]:
        drawn.append(_error_quantiles(regression["error_quantiles"]))
    names = list(regression["actual"])
    rows = [[part, *(regression[part][name] for name in names)] for part in ("actual", "predicted")]
    quantiles = [
        [percent(each["quantile"]), each["error"], each["absolute_error"]] for each in regression["error_quantiles"]
    ]
    spread = [
        [
            f"{number(each['lower'])} to {number(each['upper'])}",
            *(each[name] for name in ("rows", "mean", "p05", "p25", "p50", "p75", "p95")),
        ]
        for each in regression["by_prediction"]
    ]
    return join(
        [
            figures(*drawn),
            figures(
                table(["share of rows", "error is at most", "absolute error is at most"], quantiles, "Error quantiles"),
                table([findings["target"], *names], rows, "Actual and predicted values"),
            ),
            folded(
                "Residuals by prediction in numbers",
                table(["predicted", "rows", "mean", "5 %", "25 %", "50 %", "75 %", "95 %"], spread, "Residuals"),
            ),
        ]
    )


def _residuals_by_prediction(bins: list[dict[str, Any]], target: str) -> Html:
    count = len(bins)
    places = sorted({round(each * (count - 1) / min(4, max(count - 1, 1))) for each in range(min(5, count))})
    x = Axis(
        f"predicted {target}, from",
        -0.5,
        count - 0.5,
        tuple((place, number(bins[place]["lower"], 3)) for place in places),
    )
    plot = Plot(x, axis("predicted less actual", [0, *(each[name] for each in bins for name in ("p05", "p95"))]))
    for place, each in enumerate(bins):
        title = f"{number(each['rows'])} rows from {number(each['lower'])} to {number(each['upper'])}: "
        title += f"median {number(each['p50'])}, mean {number(each['mean'])}"
        plot.bar(place - 0.42, place + 0.42, each["p05"], each["p95"], "light", title)
        plot.bar(place - 0.42, place + 0.42, each["p25"], each["p75"], "mid", title)
        plot.line([place - 0.42, place + 0.42], [each["p50"], each["p50"]])
    plot.rule(y=0)
    caption = (
        "As many rows in each: the line is the median, the dark box holds half of them, the light one nine tenths."
    )
    return figure("Residuals by prediction", plot.svg("Residuals by predicted value"), caption)


def _error_quantiles(quantiles: list[dict[str, Any]]) -> Html:
    errors = [each["absolute_error"] for each in quantiles]
    shares = [each["quantile"] for each in quantiles]
    plot = Plot(axis("absolute error", [0, *errors]), share_axis("share of rows"))
    plot.line([0, *errors], [0, *shares])
    for share, error in zip(shares, errors, strict=True):
        plot.dot(error, share, 0, f"{number(100 * share)} % of the rows are off by at most {number(error)}")
    return figure(
        "Absolute error",
        plot.svg("Quantiles of the absolute error"),
        "Share of rows that are off by at most so much; steeper is better.",
    )
