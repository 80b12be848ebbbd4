"""What the readings of `./run bench all` come to: figures, ratios, shares, targets.

A ratio says how many times as good Ounce is as another, whichever way the unit counts; a
share, what of the machine's limit is used.
"""

import statistics

from serving import print_machine

LESS_IS_BETTER = ("ms", "%")


def ratio_of(unit, value, other):
    """How many times as good as the other."""
    return other / value if unit in LESS_IS_BETTER else value / other


def limit_of(row, cost, limits, isa):
    """The best figure that the machine allows, in the row's unit; None where nothing says so.

    cost: bytes that a token reads (memory), operations of a token or picture (int8, bfloat16,
    float32); milliseconds to read the checkpoint's file (file). limits: as machine_limits has them.
    """
    if row.limit == "copy":
        return limits["dram_gb_per_s"]
    if not row.limit or not cost:
        return None
    if row.limit == "file":
        return cost
    if row.limit == "memory":
        per_second = limits["dram_gb_per_s"] * 1e9
    else:
        # Where the CPU multiplies no bfloat16, its floats are the bound.
        peak = {"int8": ("int8_tops",), "float32": ("float32_tflops",),
                "bfloat16": ("bfloat16_tflops", "float32_tflops")}[row.limit]
        per_second = next((limits[f"{isa}_{key}"] for key in peak if limits[f"{isa}_{key}"]), 0) * 1e12
    if not per_second:
        return None
    if row.unit == "ms":
        return 1e3 * cost / per_second
    return per_second / cost


def judge(row, isa, figures, cost, limits, others):
    """A row's line of the report.

    figures: readings by engine, "Ounce" and the peers' names; others: medians of Ounce by row.
    """
    medians = {engine: statistics.median(values) for engine, values in figures.items()}
    value = medians.pop("Ounce", None)
    line = {"name": row.name, "unit": row.unit, "value": value, "readings": figures, "peers": medians}
    line["best_peer"] = (min if row.unit in LESS_IS_BETTER else max)(
        medians, key=medians.get, default=None)
    line["limit"] = limit_of(row, cost, limits, isa)
    line["ratio"] = line["share"] = None
    if value and line["best_peer"]:
        line["ratio"] = ratio_of(row.unit, value, medians[line["best_peer"]])
    if value and line["limit"]:
        line["share"] = 1 / ratio_of(row.unit, line["limit"], value)
    line["targets"] = [{"target": target.text(), **_reached(target, row, line, others)}
                       for target in row.targets(isa)]
    return line


def _reached(target, row, line, others):
    if target.of == "itself":
        found = line["value"]
        return {"found": found, "met": None if found is None else found <= target.value}
    found = {"peers": line["ratio"], "limit": line["share"]}.get(target.of)
    if target.of in others and line["value"]:
        found = ratio_of(row.unit, line["value"], others[target.of])
    return {"found": found, "met": None if found is None else found >= target.value}


def figure(value):
    return "" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def verdict(target):
    met = {True: "met", False: "MISSED", None: "not measured"}[target["met"]]
    return f"{target['target']}: {met}" + (
        f" ({target['found']:.2f})" if target["met"] is not None and " x " in target["target"] else "")


def print_section(section, arguments):
    print(f"\n{section['isa']}" + (f", by OUNCE_MAX_ISA={section['isa']} and the peers' own caps"
                                   if section["capped"] else ", the best of this CPU"))
    limits = section["limits"]
    print_machine(limits | {key: limits[f"{section['isa']}_{key}"] for key in (
        "int8_tops", "bfloat16_tflops", "float32_tflops")}, arguments)
    width = max(len(line["name"]) for line in section["rows"])
    print(f"{'':{width}}  {'Ounce':>14}  {'best peer':>9}  {'ratio':>6}  {'of limit':>8}  targets")
    for line in section["rows"]:
        best = line["peers"].get(line["best_peer"])
        ratio = f"{line['ratio']:.2f} x" if line["ratio"] else ""
        share = f"{line['share']:.0%}" if line["share"] else ""
        print(f"{line['name']:{width}}  {figure(line['value']):>8} {line['unit']:5}  {figure(best):>9}  "
              f"{ratio:>6}  {share:>8}  " + "; ".join(map(verdict, line["targets"])))
        if line["peers"]:
            print("    " + ", ".join(
                f"{'~' if name in line['once'] else ''}{name} {figure(value)}"
                for name, value in line["peers"].items()))
        if "score_drift" in line:
            print(f"    whole call {line['call_ms']:.0f} ms; largest difference of a score from float32: "
                  + ", ".join(f"{name} {drift:.2g}" for name, drift in line["score_drift"].items()))
    targets = [target for line in section["rows"] for target in line["targets"]]
    print(f"{sum(target['met'] is True for target in targets)} of {len(targets)} targets met")
    for why in dict.fromkeys(section["not_run"].values()):
        kinds = ", ".join(kind for kind, reason in section["not_run"].items() if reason == why)
        print(f"not run: {kinds}: {why}")
