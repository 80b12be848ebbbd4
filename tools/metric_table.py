"""The server's own table of metrics (server/metrics/metrics.def), for tools that
write PromQL over it: a name or a label that is not in the table is refused."""

import pathlib
import re
import typing

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "server/metrics/metrics.def"

# What Prometheus adds to a scraped series.
SCRAPE_LABELS = {"job", "instance"}
HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")

_ROW = re.compile(r"^(GAUGE|COUNTER|HISTOGRAM)\((.*?)\)\n(?=\S|\n|\Z)", re.S | re.M)
_SERIES = re.compile(r"(?<![:\w$])((?:ounce|process|exposer)_[a-z0-9_]+|up)(?![:\w])(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")


class Metric(typing.NamedTuple):
    name: str
    type: str  # gauge, counter or histogram
    unit: str
    labels: tuple
    help: str


def read_metrics():
    """name -> Metric, and `up`, which is Prometheus' own."""
    metrics = {"up": Metric("up", "gauge", "", (), "1 where the last scrape succeeded")}
    for kind, row in _ROW.findall(TABLE.read_text()):
        labels = re.search(r"LABELS\((.*?)\)", row, re.S)
        name, unit = re.findall(r'"([^"]*)"', row[:labels.start()])
        _, *text = re.findall(r'"([^"]*)"', row[labels.end():])
        metrics[name] = Metric(name, kind.lower(), unit,
                               tuple(re.findall(r'"([^"]*)"', labels.group(1))), "".join(text))
    if len(metrics) < 2:
        raise SystemExit(f"{TABLE} has no row of a form that metric_table.py knows")
    return metrics


def metric_of(series, metrics):
    """The metric that a series' name belongs to."""
    if series in metrics and metrics[series].type != "histogram":
        return metrics[series]
    for suffix in HISTOGRAM_SUFFIXES:
        base = metrics.get(series.removesuffix(suffix))
        if series.endswith(suffix) and base is not None and base.type == "histogram":
            return base
    raise ValueError(f"no series '{series}' in {TABLE.relative_to(ROOT)}")


def check(expression, metrics):
    """The metrics that a PromQL expression reads, in order. ValueError for a series, or for a
    label of a selector or a grouping, that there is not."""
    used, known = [], set(SCRAPE_LABELS)
    for series, selector in _SERIES.findall(expression):
        metric = metric_of(series, metrics)
        labels = SCRAPE_LABELS | set(metric.labels)
        if series.endswith("_bucket"):
            labels.add("le")
        wrong = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) - labels
        if wrong:
            raise ValueError(f"{series} has no label {', '.join(sorted(wrong))}: {expression}")
        known |= labels
        if metric not in used:
            used.append(metric)
    for group in _GROUPED.findall(expression):
        wrong = set(filter(None, map(str.strip, group.split(",")))) - known
        if used and wrong:
            raise ValueError(f"nothing here has a label {', '.join(sorted(wrong))}: {expression}")
    return used


def select(expression, metrics, matchers):
    """The expression with `matchers` (label -> PromQL matcher) added to every series that has
    the label."""
    def selected(match):
        labels = SCRAPE_LABELS | set(metric_of(match.group(1), metrics).labels)
        added = [matcher for label, matcher in matchers.items() if label in labels]
        return match.group(1) + "{" + ", ".join(filter(None, [match.group(2), *added])) + "}"

    return _SERIES.sub(selected, expression)
