#!/usr/bin/env python3
"""Draws what `ounce compare` measured.

Of a folder with results.json, into the same folder (or --out):

  quantization_comparison.png   memory, perplexity and speed of every spec
  bitsandbytes_comparison.png   float, int8, FP4, NF4 and double quantization
  size_perplexity.png           stored bytes against perplexity, and the front
  error_per_layer.png           weight error of each matrix, by layer

Of a detector: objects found again in place of perplexity, time per picture in
place of tokens per second. What was not measured is left out, pictures of which
nothing is left too.

Needs matplotlib (pip install matplotlib).
"""

import argparse
import json
import math
import pathlib
import re
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

INK, GRID = "#333333", "#dddddd"
BLUE, ORANGE, GREEN, GREY = "#3b75af", "#e1812c", "#3a923a", "#9aa5b1"
FLOATS = ("keep", "float32", "float16", "bfloat16")
# Label, and what a spec looks like that it is of.
BITSANDBYTES = [("float", re.compile(r"keep|float32|float16|bfloat16")),
                ("int8", re.compile(r"bnb-int8")),
                ("FP4", re.compile(r"bnb-fp4")),
                ("FP4, double", re.compile(r"bnb-fp4:double_quant=true")),
                ("NF4", re.compile(r"bnb-nf4")),
                ("NF4, double", re.compile(r"bnb-nf4:double_quant=true"))]
# A perplexity above so many times the floats' is off the scale of bars, and of the front.
FAR, TOO_FAR_FOR_FRONT = 3, 1.3
# More of them are drawn without the range of errors within a layer.
MOST_RANGES = 8


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="with results.json")
    parser.add_argument("--out", type=pathlib.Path, help="where pictures go (default: the same)")
    return parser.parse_args()


def read(folder):
    path = folder / "results.json"
    try:
        comparison = json.loads(path.read_text())
        results = [r for r in comparison["results"] if "error" not in r]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"plot_comparison: {path} is no comparison: {error}")
    if not results:
        sys.exit(f"plot_comparison: {path} has no results")
    return comparison, results


def style(axes, title):
    axes.set_title(title, loc="left", fontsize=11, color=INK, pad=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    axes.set_axisbelow(True)


def save(figure, path):
    figure.savefig(path, dpi=130, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    print(path)


def color_of(spec):
    return GREY if spec in FLOATS else BLUE


def bars(axes, labels, values, colors, title, text, limit=None):
    """Horizontal ones, each with its value; what was not measured stays empty."""
    shown = [min(v, limit) if limit and v is not None else v for v in values]
    places = range(len(labels))
    axes.barh(places, [v or 0 for v in shown], color=colors, height=0.72)
    widest = max((v for v in shown if v), default=1)
    for place, value, width in zip(places, values, shown):
        if value is None:
            continue
        beyond = limit and value > limit
        axes.text(width + widest * 0.015, place, text(value) + (" ▸" if beyond else ""),
                  va="center", fontsize=8.5, color=INK)
    axes.set_yticks(places, labels)
    axes.set_xlim(0, widest * 1.22)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    style(axes, title)


def megabytes(value):
    return f"{value / 1e6:,.1f}" if value < 1e8 else f"{value / 1e6:,.0f}"


def number(value):
    if value >= 10000:
        return f"{value:.2g}"
    return f"{value:.3f}" if value < 100 else f"{value:,.0f}"


def rate(value):
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def perplexity_limit(results):
    floats = [r["float_perplexity"] for r in results if "float_perplexity" in r]
    return FAR * floats[0] if floats else None


def figures_of(results):
    """(key, title, text of a value, limit) of what these results have."""
    known = [("resident_bytes", "Weights in memory, MB", megabytes, None),
             ("perplexity", "Perplexity (less is better)", number, perplexity_limit(results)),
             ("matched", "Objects of the floats found again", lambda v: f"{v:.0f}", None),
             ("tokens_per_second", "Tokens a second, one stream", rate, None),
             ("tokens_per_second_of_8", "Tokens a second, eight streams", rate, None),
             ("seconds_per_picture", "Time of a picture, ms", lambda v: f"{1e3 * v:.1f}", None)]
    return [figure for figure in known if any(figure[0] in r for r in results)]


def draw_bars(comparison, rows, title, path):
    """`rows`: (label, result)."""
    results = [result for _, result in rows]
    figures = figures_of(results)
    height = 1.3 + 0.27 * len(rows)
    figure, all_axes = plt.subplots(1, len(figures), figsize=(1.6 + 3.3 * len(figures), height),
                                    sharey=True, squeeze=False)
    for axes, (key, name, text, limit) in zip(all_axes[0], figures):
        bars(axes, [label for label, _ in rows], [r.get(key) for r in results],
             [color_of(r["spec"]) for r in results], name, text, limit)
    all_axes[0][0].invert_yaxis()  # all share it
    for axes in all_axes[0][1:]:
        axes.tick_params(axis="y", length=0)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, color=INK)
    note = measured_with(comparison)
    if any(r.get("perplexity", 0) > (perplexity_limit(results) or math.inf) for r in results):
        note += f"; ▸ more than {FAR} times the floats' perplexity"
    figure.text(0.01, 0.005, note, fontsize=8, color="#666666")
    figure.tight_layout(rect=(0, 0.03, 1, 0.98))
    save(figure, path)


def measured_with(comparison):
    settings = comparison["settings"]
    parts = [f"{settings['architecture']}, {settings['parameters'] / 1e6:,.1f} M parameters",
             f"{settings['threads']} threads, {settings['instruction_set']}"]
    if "text" in settings:
        parts.append(f"{settings['text']}, windows of {settings['window']}, "
                     f"one every {settings['stride']}")
    if "pictures" in settings:
        parts.append(f"{len(settings['pictures'])} pictures")
    return "; ".join(parts)


def draw_all(comparison, results, folder):
    rows = [(result["spec"], result) for result in results]
    draw_bars(comparison, rows, f"{comparison['model']} by its methods",
              folder / "quantization_comparison.png")


def draw_bitsandbytes(comparison, results, folder):
    rows = []
    for label, spec in BITSANDBYTES:
        # Of floats the smallest that are the checkpoint's.
        found = min((r for r in results if spec.fullmatch(r["spec"])),
                    key=lambda r: (label == "float" and r.get("weight_error", 0) > 0,
                                   r["stored_bytes"]), default=None)
        if found:
            rows.append((label, found))
    if not any(row[1]["spec"].startswith("bnb-") for row in rows):
        return
    draw_bars(comparison, rows, f"{comparison['model']} by bitsandbytes' methods",
              folder / "bitsandbytes_comparison.png")


def front_of(points):
    """Of (x, y, ...) those that no other beats in both."""
    front, best = [], math.inf
    for point in sorted(points, key=lambda p: (p[0], p[1])):
        if point[1] < best:
            best = point[1]
            front.append(point)
    return front


def draw_front(comparison, results, folder):
    measured = [r for r in results if "perplexity" in r]
    if len(measured) < 2:
        return
    floats = measured[0]["float_perplexity"]
    points = [(r["stored_bytes"] / 1e6, r["perplexity"], r["spec"]) for r in measured
              if r["perplexity"] <= TOO_FAR_FOR_FRONT * floats]
    front = front_of(points)
    figure, axes = plt.subplots(figsize=(10.5, 6.4))
    axes.axhline(floats, color=GREY, linewidth=1, linestyle="--", zorder=0,
                 label="the checkpoint's floats")
    axes.plot([p[0] for p in front], [p[1] for p in front], color=ORANGE, linewidth=1.4,
              zorder=1, label="front: nothing is smaller and better")
    on_front = {p[2] for p in front}
    for x, y, spec in points:
        axes.scatter(x, y, s=34, zorder=2,
                     color=ORANGE if spec in on_front else color_of(spec))
    number_points(axes, points, front)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}")
    axes.tick_params(which="minor", labelsize=8, colors=INK)
    axes.set_xlabel("stored, MB", color=INK)
    axes.set_ylabel("perplexity", color=INK)
    axes.grid(color=GRID, linewidth=0.7)
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    style(axes, f"{comparison['model']}: size against perplexity")
    note = measured_with(comparison)
    if len(points) < len(measured):
        note += (f"; {len(measured) - len(points)} above {TOO_FAR_FOR_FRONT} times the floats' "
                 "are left out")
    figure.text(0.01, -0.01, note, fontsize=8, color="#666666")
    save(figure, folder / "size_perplexity.png")


def number_points(axes, points, front):
    """A number beside each point, and whose it is beside the picture; the front in colour."""
    on_front = {p[2] for p in front}
    listed = sorted(points)
    step = min(0.045, 1 / max(1, len(listed)))
    for index, (x, y, spec) in enumerate(listed):
        color = ORANGE if spec in on_front else INK
        axes.annotate(str(index + 1), (x, y), xytext=(4, 4), textcoords="offset points",
                      fontsize=7, color=color, zorder=3)
        axes.text(1.02, 1 - step * (index + 0.5), f"{index + 1}  {spec}", fontsize=8,
                  color=color, va="center", transform=axes.transAxes)


def layer_of(name):
    """(layer, kind) of a tensor; nothing for those outside of layers."""
    match = re.search(r"\.(\d+)\.(.+?)(?:\.weight)?$", name)
    return (int(match[1]), match[2]) if match else None


def draw_errors(comparison, results, folder):
    lines = {}
    for result in results:
        by_layer = {}
        for tensor in result.get("tensors", []):
            place = layer_of(tensor["name"])
            if place and tensor.get("chosen") and "weight_error" in tensor:
                by_layer.setdefault(place[0], []).append(tensor["weight_error"])
        if by_layer:
            lines[result["spec"]] = by_layer
    if not lines:
        return
    figure, axes = plt.subplots(figsize=(10.5, 6.4))
    colors = plt.get_cmap("turbo")
    order = sorted(lines, key=lambda spec: -max(map(max, lines[spec].values())))
    for index, spec in enumerate(order):
        layers = sorted(lines[spec])
        means = [sum(lines[spec][i]) / len(lines[spec][i]) for i in layers]
        color = colors(0.05 + 0.9 * index / max(1, len(order) - 1))
        if len(order) <= MOST_RANGES:
            axes.fill_between(layers, [min(lines[spec][i]) for i in layers],
                              [max(lines[spec][i]) for i in layers], color=color, alpha=0.10,
                              linewidth=0)
        axes.plot(layers, means, color=color, linewidth=1.5, marker="o", markersize=3, label=spec)
    axes.set_yscale("log")
    axes.set_xlabel("layer", color=INK)
    axes.set_ylabel("relative L2 error of weights", color=INK)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(color=GRID, linewidth=0.7)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5),
                ncols=1 + len(order) // 26)
    ranges = ", least to largest" if len(order) <= MOST_RANGES else ""
    style(axes, f"{comparison['model']}: error of each layer's matrices (mean{ranges})")
    save(figure, folder / "error_per_layer.png")


def main():
    arguments = parse_arguments()
    comparison, results = read(arguments.folder)
    out = arguments.out or arguments.folder
    out.mkdir(parents=True, exist_ok=True)
    draw_all(comparison, results, out)
    draw_bitsandbytes(comparison, results, out)
    draw_front(comparison, results, out)
    draw_errors(comparison, results, out)


if __name__ == "__main__":
    main()
