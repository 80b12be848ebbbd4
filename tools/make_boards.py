#!/usr/bin/env python3
"""Writes the Grafana boards of deploy/grafana/dashboards.

    python tools/make_boards.py           # writes them
    python tools/make_boards.py --check   # ends with 1 if one of them is stale

An expression that reads a metric or a label that server/metrics/metrics.def does not have is
refused. Expressions are written here without the filters by instance and model, which every
series gets that has the label. A panel's description ends with what its metrics are, in the
server's own words.

Needs grafana-foundation-sdk (tests/requirements.txt; ./run setup makes a virtual environment).
"""

import argparse
import json
import pathlib
import re
import sys

from grafana_foundation_sdk.builders import (bargauge, common, dashboard, gauge, heatmap,
                                             prometheus, stat, statetimeline, table, timeseries)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models import dashboard as boards
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

import metric_table

FOLDER = metric_table.ROOT / "deploy/grafana/dashboards"
METRICS = metric_table.read_metrics()
SOURCE = boards.DataSourceRef(type_val="prometheus", uid="${datasource}")
MATCHERS = {"instance": 'instance=~"$instance"', "model": 'model=~"$model"'}

BYTES, SECONDS, SHARE = "bytes", "s", "percentunit"
PER_SECOND, CALLS_PER_SECOND, COUNT = "cps", "reqps", "short"
GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"

# What serves, joined to figures that have a series for every method that was measured.
SERVES = "* on (job, instance, model, method) ounce_model_info"
# All calls but health checks and reflection; and those that the SLO of the rules counts.
CALLS = 'rpc!~"grpc[.].*|other"'
SLO_CALLS = 'rpc=~"ounce[.]v1[.]Inference/.*|inference[.]GRPCInferenceService/.*"'
# Codes that are the server's doing, be it by a limit.
FAILED = 'code=~"UNAVAILABLE|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|INTERNAL|UNKNOWN|DATA_LOSS"'


def steps(*pairs):
    """Thresholds: (color), then (from, color)."""
    first, *others = pairs
    return (dashboard.ThresholdsConfig().mode(boards.ThresholdsMode.ABSOLUTE).steps(
        [boards.Threshold(value=None, color=first)] +
        [boards.Threshold(value=value, color=color) for value, color in others]))


FULL = steps(GREEN, (0.8, ORANGE), (0.9, RED))


def percentiles(histogram, by, *shares):
    """(expression, legend) of each."""
    groups = ", ".join(("le", *by))
    labels = " ".join("{{%s}}" % label for label in by)
    return [(f"histogram_quantile({share}, sum by ({groups}) "
             f"(rate({histogram}_bucket[$__rate_interval])))",
             f"p{100 * share:g} {labels}".strip()) for share in shares]


def mean(histogram, by):
    return (f"sum by ({by}) (rate({histogram}_sum[$__rate_interval])) / "
            f"sum by ({by}) (rate({histogram}_count[$__rate_interval]))")


class Board:
    def __init__(self, name, title, description,
                 instances="label_values(ounce_build_info, instance)"):
        self.name = name
        self.panels = 0
        self.annotated = []
        self.builder = (
            dashboard.Dashboard(title).uid(f"ounce-{name}").description(description)
            .tags(["ounce"]).readonly().tooltip(boards.DashboardCursorSync.CROSSHAIR)
            .refresh("30s").time("now-1h", "now").timezone("browser")
            .link(dashboard.DashboardLink("Ounce").type(boards.DashboardLinkType.DASHBOARDS)
                  .tags(["ounce"]).include_vars(True).keep_time(True))
            .with_variable(dashboard.DatasourceVariable("datasource").label("Data source")
                           .type("prometheus")))
        self.variable("instance", "Instance", instances)

    def variable(self, name, label, query, all_value=None):
        """One to choose values of a label from; all by default."""
        metric_table.check(query, METRICS)
        variable = (dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(query)
                    .refresh(boards.VariableRefresh.ON_TIME_RANGE_CHANGED)
                    .sort(boards.VariableSort.ALPHABETICAL_ASC).multi(True).include_all(True)
                    .current(boards.VariableOption(selected=True, text="All", value="$__all")))
        if all_value is not None:
            variable.all_value(all_value)
        self.builder.with_variable(variable)

    def models(self, info):
        # Also the empty model, of requests that name none that is served.
        self.variable("model", "Model",
                      f'label_values({info}{{instance=~"$instance"}}, model)', ".*")

    def choice(self, name, label, values, chosen):
        """A variable with the bounds of a histogram's buckets as values."""
        self.builder.with_variable(
            dashboard.CustomVariable(name).label(label).values(",".join(values))
            .current(boards.VariableOption(selected=True, text=chosen, value=chosen))
            .options([boards.VariableOption(selected=v == chosen, text=v, value=v)
                      for v in values]))

    def annotation(self, name, expression, title, text, color):
        expression = self.checked(expression, title + text)
        self.builder.annotation(
            dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True)
            .icon_color(color).expr(expression))
        self.annotated.append({"step": "60s", "titleFormat": title, "textFormat": text})

    def row(self, title):
        self.panels += 1
        self.builder.with_row(dashboard.Row(title).id(self.panels))

    def checked(self, expression, legend=""):
        """With its filters; the legend may name labels of the expression's result only."""
        used = metric_table.check(expression, METRICS)
        known = metric_table.SCRAPE_LABELS.union({"le"}, *(m.labels for m in used))
        wrong = set(re.findall(r"{{(\w+)}}", legend)) - known
        if used and wrong:
            raise ValueError(f"{legend}: nothing has {', '.join(wrong)}: {expression}")
        return metric_table.select(expression, METRICS, MATCHERS)

    def add(self, panel, title, description, queries, size, unit=None, thresholds=None,
            instant=False, as_table=False, as_heatmap=False):
        """`queries`: (expression, legend); `size`: columns (of 24), rows."""
        helps = {}
        for index, (expression, legend) in enumerate(queries):
            for metric in metric_table.check(expression, METRICS):
                helps[metric.name] = metric.help
            query = (prometheus.Dataquery().expr(self.checked(expression, legend))
                     .legend_format(legend or "__auto").ref_id(chr(ord("A") + index))
                     .datasource(SOURCE))
            query.instant() if instant else query.range()
            if as_table:
                query.format(prometheus_models.PromQueryFormat.TABLE)
            if as_heatmap:
                query.format(prometheus_models.PromQueryFormat.HEATMAP)
            panel.with_target(query)
        text = "\n".join(f"- `{name}`: {help}" for name, help in helps.items())
        self.panels += 1
        panel.id(self.panels).title(title).datasource(SOURCE).span(size[0]).height(size[1])
        panel.description("\n\n".join(filter(None, [description, text])))
        if unit is not None:
            panel.unit(unit)
        if thresholds is not None:
            panel.thresholds(thresholds)
        self.builder.with_panel(panel)

    def number(self, title, description, expression, unit, thresholds=None, decimals=None):
        """The last value, large, and its course behind it."""
        panel = (stat.Panel()
                 .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
                 .color_mode(models.BigValueColorMode.VALUE)
                 .graph_mode(models.BigValueGraphMode.AREA))
        if decimals is not None:
            panel.decimals(decimals)
        self.add(panel, title, description, [(expression, "")], (4, 4), unit,
                 thresholds or steps(BLUE))

    def dial(self, title, description, expression, unit, thresholds):
        panel = (gauge.Panel().min(0).max(1)
                 .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])))
        self.add(panel, title, description, [(expression, "")], (4, 4), unit, thresholds)

    def lines(self, title, description, queries, unit, width=12, rows=9, stacked=False,
              limits=None):
        """`limits` (steps) are drawn as dashed lines."""
        panel = (timeseries.Panel().line_width(2).fill_opacity(30 if stacked else 5).min(0)
                 .show_points(models.VisibilityMode.AUTO)
                 .legend(common.VizLegendOptions().display_mode(models.LegendDisplayMode.TABLE)
                         .placement(models.LegendPlacement.BOTTOM).show_legend(True)
                         .calcs(["mean", "max", "lastNotNull"]))
                 .tooltip(common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI)
                          .sort(models.SortOrder.DESCENDING)))
        if stacked:
            panel.stacking(common.StackingConfig().mode(models.StackingMode.NORMAL).group("A"))
        if limits is not None:
            panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(
                models.GraphThresholdsStyleMode.DASHED))
        # A limit among the series: dashed, and no area below it.
        for pattern in ("limit.*", "SLO.*"):
            panel.override_by_regexp(pattern, [
                boards.DynamicConfigValue(id_val="color",
                                          value={"mode": "fixed", "fixedColor": RED}),
                boards.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
                boards.DynamicConfigValue(id_val="custom.stacking",
                                          value={"mode": "none", "group": "A"}),
                boards.DynamicConfigValue(id_val="custom.lineStyle",
                                          value={"fill": "dash", "dash": [10, 10]})])
        self.add(panel, title, description, queries, (width, rows), unit, limits)

    def bars(self, title, description, queries, unit, width=12):
        panel = (bargauge.Panel().orientation(models.VizOrientation.HORIZONTAL)
                 .display_mode(models.BarGaugeDisplayMode.BASIC).min(0)
                 .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])))
        self.add(panel, title, description, queries, (width, 9), unit, steps(BLUE), instant=True)

    def states(self, title, description, queries, width=12, rows=6):
        panel = statetimeline.Panel().merge_values(True).mappings([boards.ValueMap(
            options={"0": boards.ValueMappingResult(text="no", color=GREY),
                     "1": boards.ValueMappingResult(text="yes", color=BLUE)})])
        self.add(panel, title, description, queries, (width, rows))

    def heat(self, title, description, histogram, unit, width=12):
        panel = (heatmap.Panel().calculate(False)
                 .y_axis(heatmap.YAxisConfig().unit(unit))
                 .cell_gap(1).color(heatmap.HeatmapColorOptions()
                                    .mode(heatmap_models.HeatmapColorMode.SCHEME)
                                    .scheme("Blues").steps(64)))
        self.add(panel, title, description,
                 [(f"sum by (le) (increase({histogram}_bucket[$__rate_interval]))", "{{le}}")],
                 (width, 9), as_heatmap=True)

    def table(self, title, description, keys, columns, width=24):
        """A row for each value of the labels `keys`; `columns`: (title, expression, unit), of
        which each expression has just these labels."""
        panel = table.Panel().show_header(True)
        for index, (name, _, unit) in enumerate(columns):
            panel.override_by_name(f"Value #{chr(ord('A') + index)}", [
                boards.DynamicConfigValue(id_val="displayName", value=name),
                boards.DynamicConfigValue(id_val="unit", value=unit)])
        panel.with_transformation(boards.DataTransformerConfig(id_val="merge", options={}))
        panel.with_transformation(boards.DataTransformerConfig(
            id_val="organize", options={"excludeByName": {"Time": True}, "renameByName": {},
                                        "indexByName": {key: i for i, key in enumerate(keys)}}))
        self.add(panel, title, description, [(expression, "") for _, expression, _ in columns],
                 (width, 6), instant=True, as_table=True)

    def json(self):
        board = json.loads(JSONEncoder().encode(self.builder.build()))
        for annotation, fields in zip(board["annotations"]["list"] if self.annotated else (),
                                      self.annotated):
            annotation.update(fields)  # Prometheus' own, which the builder does not know
        return json.dumps(board, sort_keys=True, indent=2) + "\n"


def memory_saved():
    board = Board("memory", "Ounce: memory saved",
                  "What quantization saved, what memory is used, and what quality it cost")
    board.models("ounce_model_info")
    # A version that was not there a minute ago, of a model that was.
    board.annotation(
        "Swaps",
        "(ounce_model_info unless on (job, instance, model, version) ounce_model_info offset 1m)"
        " and on (job, instance, model) (ounce_model_info offset 1m)",
        "{{model}} is {{method}} now", "version {{version}}, {{instance}}", BLUE)

    board.row("Now")
    board.number("Saved", "Of all models that are shown, together.",
                 "sum(ounce_model_saved_bytes)", BYTES, steps(RED, (0, GREY), (1, GREEN)))
    board.number("Saved, of the checkpoints", "",
                 "sum(ounce_model_saved_bytes) / sum(ounce_model_checkpoint_bytes)", SHARE,
                 steps(RED, (0, GREY), (0.1, GREEN)), decimals=1)
    board.number("In checkpoints", "", "sum(ounce_model_checkpoint_bytes)", BYTES)
    board.number("Stored", "", "sum(ounce_model_stored_bytes)", BYTES)
    board.number("Resident", "", "sum(ounce_model_weight_bytes)", BYTES)
    board.dial("Memory, of its limit", "Loads and quantizations that do not fit are refused.",
               "max(sum by (job, instance) (ounce_memory_bytes{share!=\"kept\"})"
               " / on (job, instance) ounce_memory_limit_bytes)", SHARE, FULL)

    board.row("By model and method")
    labels = "instance, model, method"
    with_method = "* on (job, instance, model) group_left (method) ounce_model_info"
    board.table("Bytes", "", labels.split(", "), [
        ("In the checkpoint",
         f"sum by ({labels}) (ounce_model_checkpoint_bytes {with_method})", BYTES),
        ("Stored", f"sum by ({labels}) (ounce_model_stored_bytes)", BYTES),
        ("Resident", f"sum by ({labels}) (ounce_model_weight_bytes)", BYTES),
        ("Saved", f"sum by ({labels}) (ounce_model_saved_bytes {with_method})", BYTES),
        ("Saved, of the checkpoint",
         f"sum by ({labels}) (ounce_model_saved_ratio {with_method})", SHARE)])
    board.bars("Checkpoint, stored, resident", "The mean of the instances.", [
        ("avg by (model) (ounce_model_checkpoint_bytes)", "{{model}}: checkpoint"),
        ("avg by (model, method) (ounce_model_stored_bytes)", "{{model}}: stored, {{method}}"),
        ("avg by (model, method) (sum by (job, instance, model, method)"
         " (ounce_model_weight_bytes))", "{{model}}: resident, {{method}}")], BYTES)
    board.lines("Resident weights by dtype", "",
                [("sum by (model, dtype) (ounce_model_weight_bytes)", "{{model}} {{dtype}}")],
                BYTES, stacked=True)

    board.row("Over time")
    board.lines("Saved", "", [("sum by (model) (ounce_model_saved_bytes)", "{{model}}")], BYTES)
    board.lines("Checkpoint, stored, resident", "All models that are shown, together.",
                [("sum(ounce_model_checkpoint_bytes)", "checkpoint"),
                 ("sum(ounce_model_stored_bytes)", "stored"),
                 ("sum(ounce_model_weight_bytes)", "resident")], BYTES)
    # Not increase(): a method's counters may begin between two scrapes, with its first run.
    runs = "sum by (outcome) (ounce_quantizations_total{})"
    board.lines("Quantizations", "How they ended.",
                [(f"clamp_min({runs.format('')} - {runs.format(' offset $__rate_interval')}, 0)",
                  "{{outcome}}")], COUNT, width=8)
    board.lines("Duration of a quantization", "The mean of those so far.",
                [("sum by (model, method) (ounce_quantization_seconds_sum)"
                  " / sum by (model, method) (ounce_quantization_seconds_count)",
                  "{{model}} {{method}}")], SECONDS, width=8)
    board.states("Stage of the quantization that runs", "Empty when none runs.",
                 [("max by (model, stage) (ounce_quantization_stage)", "{{model}} {{stage}}")],
                 width=8, rows=9)

    board.row("The process")
    board.lines("Memory by share", "What the server keeps accounts of, against its limit.",
                [("sum by (share) (ounce_memory_bytes)", "{{share}}"),
                 ("sum(ounce_memory_limit_bytes)", "limit")], BYTES, stacked=True)
    board.lines("Resident memory", "What the system sees, beside the accounts.",
                [("sum by (instance) (ounce_process_resident_bytes)", "{{instance}} resident"),
                 ("sum by (instance) (ounce_process_peak_resident_bytes)", "{{instance}} peak"),
                 ("sum by (instance) (ounce_memory_bytes)", "{{instance}} accounts")], BYTES)
    board.lines("Keys and values", "",
                [("sum by (model) (ounce_kv_cache_used_bytes)", "{{model}} used"),
                 ("sum by (model) (ounce_prefix_cache_bytes)", "{{model}} kept"),
                 ("sum by (model) (ounce_kv_cache_capacity_bytes)", "{{model}} capacity")],
                BYTES, width=8)
    board.lines("Versions in memory", "At most three of one model.",
                [("sum by (instance, model) (ounce_model_versions_alive)",
                  "{{model}} {{instance}}")], COUNT, width=8)
    board.lines("Held by versions that no longer serve", "",
                [("sum by (instance) (ounce_memory_ending_bytes)", "{{instance}}")], BYTES,
                width=8)

    board.row("Quality beside bytes")
    keys = ("model", "method")
    by = "max by (model, method)"
    board.table("Methods that were measured or served in this time", "Measured by `ounce "
                "evaluate`, or by a quantization with samples. Perplexities compare where they "
                "are of the same text.", keys, [
                    ("Stored", f"{by} (max_over_time(ounce_model_stored_bytes[$__range]))",
                     BYTES),
                    ("Perplexity", f"{by} (ounce_model_perplexity)", "none"),
                    ("Bits per byte", f"{by} (ounce_model_bits_per_byte)", "none"),
                    ("KL divergence, nats", f"{by} (ounce_model_kl_divergence_nats)", "none"),
                    ("Top-1 agreement", f"{by} (ounce_model_top1_agreement_ratio)", SHARE),
                    ("Objects found again", f"{by} (ounce_model_objects_matched_ratio)", SHARE),
                    ("Box drift", f"{by} (ounce_model_box_drift_pixels)", "suffix: px"),
                    ("COCO AP", f"{by} (ounce_model_coco_ap_ratio)", SHARE)])
    board.lines("KL divergence of what serves", "From the checkpoint's floats.",
                [(f"ounce_model_kl_divergence_nats {SERVES}", "{{model}} {{method}}")], "none",
                width=8, limits=steps(GREEN, (0.1, RED)))
    board.lines("Perplexity of what serves", "",
                [(f"ounce_model_perplexity {SERVES}", "{{model}} {{method}}")], "none", width=8)
    board.lines("Objects of the floats found again by what serves", "",
                [(f"ounce_model_objects_matched_ratio {SERVES}", "{{model}} {{method}}")],
                SHARE, width=8, limits=steps(RED, (0.9, GREEN)))
    return board


def attained(histogram, slo, by=""):
    """The share of requests within the SLO: a bound of the histogram's buckets, which newer
    Prometheus write with a fraction."""
    return (f"sum {by}(rate({histogram}_bucket{{le=~\"{slo}([.]0)?\"}}[$__rate_interval])) / "
            f"sum {by}(rate({histogram}_count[$__rate_interval]))")


def serving():
    board = Board("serving", "Ounce: serving", "Requests, queue, latency and tokens")
    board.models("ounce_model_info")
    board.choice("ttft_slo", "SLO, first token (s)",
                 ["0.1", "0.25", "0.5", "1", "2.5", "5", "10", "20"], "2.5")
    board.choice("token_slo", "SLO, per token (s)",
                 ["0.025", "0.05", "0.1", "0.15", "0.2", "0.3", "0.5", "1"], "0.2")
    failed = (f"sum(rate(ounce_rpc_requests_total{{{SLO_CALLS}, {FAILED}}}[$__rate_interval]))"
              " or vector(0)")
    calls = f"sum(rate(ounce_rpc_requests_total{{{SLO_CALLS}}}[$__rate_interval]))"

    board.row("Now")
    board.number("Requests", "Generate.",
                 "sum(rate(ounce_requests_total[$__rate_interval]))", CALLS_PER_SECOND)
    board.number("Failed calls", "Of those that generate and detect; with a code that is the "
                 "server's doing: UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, INTERNAL, "
                 "UNKNOWN, DATA_LOSS.", f"({failed}) / {calls}", SHARE,
                 steps(GREEN, (0.005, ORANGE), (0.05, RED)), decimals=2)
    board.number("Tokens", "Generated.",
                 "sum(rate(ounce_generated_tokens_total[$__rate_interval]))", PER_SECOND)
    board.dial("Queue, of its limit", "The fullest.",
               "max(ounce_requests_queued / on (job, instance) group_left ()"
               " ounce_requests_queued_limit)", SHARE, FULL)
    board.number("First token within SLO", "", attained("ounce_time_to_first_token_seconds",
                                                        "$ttft_slo"),
                 SHARE, steps(RED, (0.9, ORANGE), (0.95, GREEN)), decimals=1)
    board.number("Tokens within SLO", "Requests whose tokens came in time, in the mean.",
                 attained("ounce_time_per_output_token_seconds", "$token_slo"), SHARE,
                 steps(RED, (0.9, ORANGE), (0.95, GREEN)), decimals=1)

    board.row("Requests")
    board.lines("Requests by outcome", "",
                [("sum by (outcome) (rate(ounce_requests_total[$__rate_interval])) > 0",
                  "{{outcome}}")], CALLS_PER_SECOND, stacked=True)
    board.lines("Calls by method", "Of both gRPC servers; those of admins too.",
                [(f"sum by (rpc) (rate(ounce_rpc_requests_total{{{CALLS}}}[$__rate_interval]))"
                  " > 0", "{{rpc}}")], CALLS_PER_SECOND)
    board.lines("Calls that did not end with OK, by code", "Whoever caused them.",
                [(f'sum by (code) (rate(ounce_rpc_requests_total{{{CALLS}, code!="OK"}}'
                  "[$__rate_interval])) > 0", "{{code}}")], CALLS_PER_SECOND, width=8)
    board.lines("Failed calls, of all", "The calls and the codes that the SLO counts.",
                [(f"({failed}) / {calls}", "failed"), ("vector(0.005)", "SLO")], SHARE, width=8)
    board.lines("Refused when they came, by reason", "Text and pictures; docs/errors.md says "
                "what each reason means.",
                [("sum by (reason) (rate(ounce_refused_requests_total[$__rate_interval])) > 0",
                  "{{reason}}")], CALLS_PER_SECOND, width=8)

    board.row("Queue")
    board.lines("Waiting", "", [("sum by (model) (ounce_requests_queued)", "{{model}}"),
                                ("sum(ounce_requests_queued_limit)", "limit of a model")],
                COUNT, width=8)
    board.lines("Running", "As many sequences as a step may have.",
                [("sum by (model) (ounce_requests_running)", "{{model}}")], COUNT, width=8)
    board.lines("Time in the queue", "Of finished requests.",
                percentiles("ounce_queue_seconds", ["model"], 0.5, 0.95), SECONDS, width=8)

    board.row("Latency")
    board.lines("Time to first token", "",
                [*percentiles("ounce_time_to_first_token_seconds", ["model"], 0.5, 0.95, 0.99),
                 ("vector($ttft_slo)", "SLO")], SECONDS)
    board.lines("Time per token after the first", "",
                [*percentiles("ounce_time_per_output_token_seconds", ["model"], 0.5, 0.95, 0.99),
                 ("vector($token_slo)", "SLO")], SECONDS)
    board.lines("Within SLO", "",
                [(attained("ounce_time_to_first_token_seconds", "$ttft_slo", "by (model) "),
                  "{{model}} first token"),
                 (attained("ounce_time_per_output_token_seconds", "$token_slo", "by (model) "),
                  "{{model}} per token")], SHARE, width=8, limits=steps(RED, (0.95, GREEN)))
    board.lines("Whole requests", "",
                percentiles("ounce_request_duration_seconds", ["model"], 0.5, 0.95, 0.99),
                SECONDS, width=8)
    board.heat("First tokens", "", "ounce_time_to_first_token_seconds", SECONDS, width=8)

    board.row("Tokens and batches")
    board.lines("Tokens", "", [
        ("sum by (model) (rate(ounce_generated_tokens_total[$__rate_interval]))",
         "{{model}} generated"),
        ("sum by (model) (rate(ounce_prompt_tokens_total[$__rate_interval]))",
         "{{model}} of prompts")], PER_SECOND, width=8)
    board.lines("Tokens of a step", "The size of batches.", [
        (mean("ounce_step_tokens", "model"), "mean {{model}}"),
        *percentiles("ounce_step_tokens", ["model"], 0.95)], COUNT, width=8)
    board.lines("Steps", "",
                [("sum by (model) (rate(ounce_step_tokens_count[$__rate_interval]))",
                  "{{model}}")], PER_SECOND, width=8)

    board.row("Cache of keys and values")
    board.lines("Used, of its capacity", "",
                [("sum by (instance, model) (ounce_kv_cache_used_bytes)"
                  " / sum by (instance, model) (ounce_kv_cache_capacity_bytes)",
                  "{{model}} {{instance}}")], SHARE, limits=steps(GREEN, (0.9, RED)))
    board.lines("Requests that lost their place in it", "If there are some all the time, the "
                "cache is too small for the load: --kv_cache_bytes.",
                [("sum by (model) (rate(ounce_preemptions_total[$__rate_interval]))",
                  "{{model}}")], PER_SECOND)
    board.lines("Prompts found in it", "Tokens of prompts that began like earlier ones and were "
                "not computed, of all.",
                [("sum by (model) (rate(ounce_prefix_cache_hit_tokens_total[$__rate_interval]))"
                  " / sum by (model) (rate(ounce_prefix_cache_queried_tokens_total"
                  "[$__rate_interval]))", "{{model}}")], SHARE, width=8)
    board.lines("Kept for prompts to come", "Up to --prefix_cache_bytes, until anything else "
                "needs the memory.",
                [("sum by (model) (ounce_prefix_cache_bytes)", "{{model}}")], BYTES, width=8)
    board.lines("Blocks that gave way", "If there are many all the time, prompts come back too "
                "late to be found: --prefix_cache_bytes.",
                [("sum by (model) (rate(ounce_prefix_cache_evicted_blocks_total"
                  "[$__rate_interval]))", "{{model}}")], PER_SECOND, width=8)
    return board


def detection():
    board = Board("detection", "Ounce: detection", "Objects in pictures")
    board.models("ounce_detect_requests_total")
    board.row("Now")
    board.number("Pictures", "Answered.",
                 'sum(rate(ounce_detect_requests_total{outcome="done"}[$__rate_interval]))',
                 PER_SECOND)
    board.number("Not answered", "Of all requests; also what the caller did wrong or gave up.",
                 'sum(rate(ounce_detect_requests_total{outcome!="done"}[$__rate_interval]))'
                 " / sum(rate(ounce_detect_requests_total[$__rate_interval]))", SHARE,
                 steps(GREEN, (0.005, ORANGE), (0.05, RED)), decimals=2)
    board.number("Duration, p95", "", percentiles("ounce_detect_request_duration_seconds", [],
                                                  0.95)[0][0], SECONDS)
    board.number("In the model, p95", "Of a batch.",
                 percentiles("ounce_detect_model_seconds", [], 0.95)[0][0], SECONDS)
    board.number("Pictures in a batch", "The mean.",
                 "sum(rate(ounce_detect_batch_pictures_sum[$__rate_interval]))"
                 " / sum(rate(ounce_detect_batch_pictures_count[$__rate_interval]))", COUNT,
                 decimals=1)
    board.dial("Picture memory, of its limit", "Further ones wait, or are refused.",
               "max(ounce_picture_memory_used_bytes / ounce_picture_memory_limit_bytes)", SHARE,
               FULL)

    board.row("Requests")
    board.lines("Requests by outcome", "",
                [("sum by (outcome) (rate(ounce_detect_requests_total[$__rate_interval])) > 0",
                  "{{outcome}}")], CALLS_PER_SECOND, stacked=True)
    board.lines("Duration", "",
                percentiles("ounce_detect_request_duration_seconds", ["model"], 0.5, 0.95, 0.99),
                SECONDS)
    board.lines("Where the time goes", "Means: of a picture in the queue and while it is "
                "decoded, of its batch in the model.", [
                    (mean("ounce_detect_queue_seconds", "model"), "{{model}} waiting"),
                    (mean("ounce_detect_decode_seconds", "model"), "{{model}} decoding"),
                    (mean("ounce_detect_model_seconds", "model"), "{{model}} in the model")],
                SECONDS, stacked=True)
    board.lines("Time of a batch in the model", "",
                percentiles("ounce_detect_model_seconds", ["model"], 0.5, 0.95, 0.99), SECONDS)

    board.row("Batches and memory")
    board.lines("Pictures in a batch", "", [
        (mean("ounce_detect_batch_pictures", "model"), "mean {{model}}"),
        *percentiles("ounce_detect_batch_pictures", ["model"], 0.95)], COUNT, width=8)
    board.lines("Pictures in flight", "",
                [("sum by (instance) (ounce_pictures_in_flight)", "{{instance}}")], COUNT,
                width=8)
    board.lines("Memory for pictures", "", [
        ("sum by (instance) (ounce_picture_memory_used_bytes)", "{{instance}}"),
        ("max(ounce_picture_memory_limit_bytes)", "limit of an instance")], BYTES, width=8)

    board.row("Quality of what serves")
    board.lines("Objects of the floats found again", "By the last Evaluate, or the Quantize "
                "that made it.",
                [(f"ounce_model_objects_matched_ratio {SERVES}", "{{model}} {{method}}")],
                SHARE, width=6, limits=steps(RED, (0.9, GREEN)))
    board.lines("Drift of scores", "",
                [(f"ounce_model_score_drift {SERVES}", "{{model}} {{method}}")], "none", width=6)
    board.lines("Drift of boxes", "",
                [(f"ounce_model_box_drift_pixels {SERVES}", "{{model}} {{method}}")],
                "suffix: px", width=6)
    board.lines("COCO's average precision", "",
                [(f"ounce_model_coco_ap_ratio {SERVES}", "{{model}} {{method}}")], SHARE,
                width=6)
    return board


def fleet():
    board = Board("fleet", "Ounce: fleet", "All instances side by side",
                  'label_values(up{job="ounce"}, instance)')  # those that never answered too
    board.models("ounce_model_info")
    ours = "and on (job, instance) ounce_build_info"
    board.row("Now")
    board.number("Instances that answer", "", 'sum(up{job="ounce"})', COUNT)
    board.number("Instances that do not", "Prometheus could not read their metrics.",
                 'sum(up{job="ounce"} == bool 0)', COUNT, steps(GREEN, (1, RED)))
    board.number("Models", "Different names that serve.",
                 "count(count by (model) (ounce_model_info))", COUNT)
    board.number("Saved", "All instances together.", "sum(ounce_model_saved_bytes)", BYTES)
    board.number("Tokens", "", "sum(rate(ounce_generated_tokens_total[$__rate_interval]))",
                 PER_SECOND)
    board.number("Alerts", "That fire now; the list is below.",
                 'count(ALERTS{alertname=~"Ounce.*", alertstate="firing"}) or vector(0)', COUNT,
                 steps(GREEN, (1, RED)))

    board.row("Instances")
    one = "sum by (instance)"
    board.table("Instances", "", ["instance"], [
        ("Up for", f"max by (instance) (time() - process_start_time_seconds {ours})", SECONDS),
        ("Models", "count by (instance) (ounce_model_info)", COUNT),
        ("Memory, of its limit",
         f"{one} (ounce_memory_bytes) / {one} (ounce_memory_limit_bytes)", SHARE),
        ("Resident memory", f"{one} (ounce_process_resident_bytes)", BYTES),
        ("Saved", f"{one} (ounce_model_saved_bytes)", BYTES),
        ("Waiting", f"{one} (ounce_requests_queued)", COUNT),
        ("Running", f"{one} (ounce_requests_running)", COUNT),
        ("Connections", f"{one} (ounce_connections)", COUNT)])
    board.table("Versions of the server", "", ["version", "isa", "compiler"], [
        ("Instances", "count by (version, isa, compiler) (ounce_build_info)", COUNT)], width=8)
    board.table("What serves", "", ["model", "method", "architecture", "compute"], [
        ("Instances", "count by (model, method, architecture, compute) (ounce_model_info)",
         COUNT)], width=8)
    board.lines("Alerts that fire", "deploy/prometheus/rules.yaml; docs/operations.md says what "
                "to do.",
                [('count by (alertname, severity) (ALERTS{alertname=~"Ounce.*", '
                  'alertstate="firing"})', "{{alertname}} {{severity}}")], COUNT, width=8,
                rows=6)
    board.states("Answers", "", [('max by (instance) (up{job="ounce"})', "{{instance}}")],
                 width=12)
    board.states("Models that serve", "", [
        ('max by (instance, model) (ounce_model_state{state=~"ready|quantizing"})',
         "{{instance}} {{model}}")], width=12)

    board.row("Load")
    board.lines("Waiting and running", "", [
        (f"{one} (ounce_requests_queued)", "{{instance}} waiting"),
        (f"{one} (ounce_requests_running)", "{{instance}} running")], COUNT, width=8)
    board.lines("Requests", "Text and pictures.", [
        (f"{one} (rate(ounce_requests_total[$__rate_interval]))", "{{instance}} text"),
        (f"{one} (rate(ounce_detect_requests_total[$__rate_interval]))",
         "{{instance}} pictures")], CALLS_PER_SECOND, width=8)
    board.lines("Tokens", "",
                [(f"{one} (rate(ounce_generated_tokens_total[$__rate_interval]))",
                  "{{instance}}")], PER_SECOND, width=8)
    board.lines("Calls that did not end with OK", "",
                [(f'{one} (rate(ounce_rpc_requests_total{{{CALLS}, code!="OK"}}'
                  "[$__rate_interval]))", "{{instance}}")], CALLS_PER_SECOND, width=8)
    board.lines("First token, p95", "",
                percentiles("ounce_time_to_first_token_seconds", ["instance"], 0.95), SECONDS,
                width=8)
    board.lines("Cache of keys and values, of its capacity", "",
                [(f"{one} (ounce_kv_cache_used_bytes) / {one} (ounce_kv_cache_capacity_bytes)",
                  "{{instance}}")], SHARE, width=8, limits=steps(GREEN, (0.9, RED)))

    board.row("Processes")
    board.lines("Memory, of its limit", "",
                [(f"{one} (ounce_memory_bytes) / {one} (ounce_memory_limit_bytes)",
                  "{{instance}}")], SHARE, width=8, limits=FULL)
    board.lines("Resident memory", "", [(f"{one} (ounce_process_resident_bytes)",
                                         "{{instance}}")], BYTES, width=8)
    board.lines("CPUs in use", "",
                [(f"{one} (rate(process_cpu_seconds_total[$__rate_interval]) {ours})",
                  "{{instance}}")], COUNT, width=8)
    board.lines("Connections", "",
                [("sum by (instance, listener) (ounce_connections)",
                  "{{instance}} {{listener}}")], COUNT, width=8)
    board.lines("Connections that were cut", "docs/security.md has the reasons.",
                [("sum by (listener, reason) (rate(ounce_connections_cut_total"
                  "[$__rate_interval])) > 0", "{{listener}} {{reason}}")], PER_SECOND, width=8)
    board.lines("Until the certificate ends", "Of tls_cert; nothing without TLS.",
                [("min by (instance) (ounce_tls_certificate_expiry_timestamp_seconds) - time()",
                  "{{instance}}")], SECONDS, width=8,
                limits=steps(RED, (2 * 86400, ORANGE), (14 * 86400, GREEN)))
    board.lines("Open files, of what may be open", "",
                [(f"{one} (process_open_fds {ours}) / {one} (process_max_fds {ours})",
                  "{{instance}}")], SHARE, width=8, limits=FULL)
    board.lines("Starts", "Of the process, in the hour before.",
                [(f"{one} (changes(process_start_time_seconds[1h]) {ours})", "{{instance}}")],
                COUNT, width=8)
    board.lines("Spans of traces", "Nothing without --otlp_endpoint.",
                [(f"{one} (rate(ounce_spans_sent_total[$__rate_interval]))", "{{instance}} sent"),
                 ("sum by (instance, reason) (rate(ounce_spans_dropped_total[$__rate_interval]))",
                  "{{instance}} lost: {{reason}}")], PER_SECOND, width=8)
    return board


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if one is stale")
    arguments = parser.parse_args()
    stale = []
    wanted = {f"{board.name}.json": board.json()
              for board in (memory_saved(), serving(), detection(), fleet())}
    for path in sorted(FOLDER.glob("*.json")):
        if path.name not in wanted:
            stale.append(f"{path.name} (nothing makes it)")
    for name, text in wanted.items():
        path = FOLDER / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not arguments.check:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(path)
    if arguments.check and stale:
        sys.exit(f"stale in {FOLDER.relative_to(metric_table.ROOT)}: {', '.join(stale)}; "
                 f"tools/{pathlib.Path(__file__).name} writes them")


if __name__ == "__main__":
    main()
