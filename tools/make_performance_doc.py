#!/usr/bin/env python3
"""Writes docs/performance.md and the pictures in docs/performance.

Of what these left in build/performance, each on a machine that did nothing else:

  ./run bench all --json build/performance/all.json
  ./run bench curves --json build/performance/curves.json
  ./run bench methods --out build/performance/methods.json

Run it by `./run docs performance`.
"""

import argparse
import itertools
import json
import pathlib
import sys

from plot_comparison import GRID, INK, plt, save, style

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOC = ROOT / "docs/performance.md"
PICTURES = DOC.parent / "performance"
OUNCE_COLORS = ("#3b75af", "#3a923a", "#845b97")
PEER_COLORS = ("#e1812c", "#9aa5b1", "#b8860b", "#c44e52", "#7f7f7f")


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "build/performance",
                        help="folder with all.json, curves.json and methods.json")
    return parser.parse_args()


def read(folder, name):
    path = folder / f"{name}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        option = "--out" if name == "methods" else "--json"
        sys.exit(f"make_performance_doc: {error}; make it by ./run bench {name} {option} {path}")


def axes_of(title, x_label, y_label, size=(8, 4.5)):
    figure, axes = plt.subplots(figsize=size)
    style(axes, title)
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=INK)
    axes.grid(color=GRID, linewidth=0.6)
    return figure, axes


def draw_curve(curve, title, x_label, y_label, name, from_zero=False):
    figure, axes = axes_of(title, x_label, y_label)
    ounce, peers = itertools.cycle(OUNCE_COLORS), itertools.cycle(PEER_COLORS)
    for engine, values in sorted(curve.items(), key=lambda item: not item[0].startswith("Ounce")):
        is_ounce = engine.startswith("Ounce")
        points = sorted((int(point), value) for point, value in values.items())
        axes.plot(*zip(*points), label=engine, color=next(ounce if is_ounce else peers),
                  linewidth=2.2 if is_ounce else 1.4, marker="o", markersize=4,
                  linestyle="-" if is_ounce else "--")
    ticks = sorted({int(point) for values in curve.values() for point in values})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    if from_zero:
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(frameon=False, fontsize=8.5, loc="best")
    save(figure, PICTURES / name)


def draw_shares(methods):
    rows = sorted((row for row in methods["results"] if "error" not in row),
                  key=lambda row: row["bytes_per_token"])
    figure, axes = axes_of(
        "Decoding, 1 stream: the share of DRAM's speed that each method reads at",
        "MB read per token", "", (8, 0.22 * len(rows) + 1))
    names = [row["spec"] for row in rows]
    axes.barh(names, [row["bytes_per_token"] / 1e6 for row in rows], color="#c8d4e3")
    for i, row in enumerate(rows):
        axes.text(row["bytes_per_token"] / 1e6, i,
                  f" {row['share_of_dram']:.0%}, {row['tokens_per_second']:.0f} tok/s",
                  va="center", fontsize=8, color=INK)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.16)
    save(figure, PICTURES / "methods.png")


def figure_text(value):
    return "" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def machine_text(cpu, threads, rounds, limits):
    return (f"{cpu}, {threads} threads, medians of {rounds} rounds. The machine in this run: DRAM "
            f"{limits['dram_gb_per_s']:.1f} GB/s, int8 {limits['int8_tops']:.2f} TOPS, bfloat16 "
            f"{limits['bfloat16_tflops']:.2f} and float32 {limits['float32_tflops']:.2f} TFLOPS.")


def section_text(section, report):
    lines = [f"### {section['isa']}" + (", capped" if section["capped"] else ""), "",
             machine_text(report["cpu"], report["threads"], report["rounds"], section["limits"]), "",
             "| Work | Ounce | Best peer | Ratio | Of the limit | Target |",
             "|---|---:|---|---:|---:|---|"]
    for row in section["rows"]:
        best = row["best_peer"]
        peer = f"{best}: {figure_text(row['peers'][best])}" if best else ""
        ratio = f"{row['ratio']:.2f} x" if row["ratio"] else ""
        share = f"{row['share']:.0%}" if row["share"] else ""
        targets = "; ".join(
            f"{target['target']}: " + {True: "met", False: "**missed**", None: "not measured"}[target["met"]]
            for target in row["targets"])
        lines.append(f"| {row['name']} | {figure_text(row['value'])} {row['unit']} | {peer} | {ratio} "
                     f"| {share} | {targets} |")
    drifts = [f"{row['name']}: " + ", ".join(f"{name} {drift:.2g}"
                                             for name, drift in row["score_drift"].items())
              for row in section["rows"] if "score_drift" in row]
    if drifts:
        lines += ["", "Largest difference of a detection's score from transformers' in float32: "
                  + "; ".join(drifts) + "."]
    for why in dict.fromkeys(section["not_run"].values()):
        kinds = ", ".join(kind for kind, reason in section["not_run"].items() if reason == why)
        lines += ["", f"Not run: {kinds}: {why}."]
    return "\n".join(lines)


PAGE = """# Performance

How fast Ounce is beside other engines on the same CPU, what of the machine it uses, and what
it takes. `./run docs performance` writes this page from three measurements, which
`tools/make_performance_doc.py` names; on your machine and model the ratios will be others, and
`./run bench all` tells.

Checkpoints have the size and the shape of the real ones, and random weights; prompts, threads
and precision are the same for all, Ounce answers over gRPC, and its peers run in processes of
their own without a server. What methods cost in quality is in [methods.md](methods.md).

## Streams

{curves_machine}

So many prompts of 128 tokens at once, on CodeGen-350M: new tokens per second while all of them
decode.

![Tokens per second over streams](performance/streams.png)

## Prompts

The time until the first token of one prompt comes, everybody else idle; both scales double.

![Time to first token over prompts](performance/prompts.png)

## Memory

The most memory that the process had while so many sequences ran: weights, keys and values,
scratch and the program itself.

![Resident memory over sequences](performance/memory.png)

## Methods

One stream on CodeGen-350M, the output layer in 8 bits in every row, sorted by what a token
reads. Where the share is high, the memory is what bounds; where it is low, unpacking is.

{methods_machine}

![Share of the memory's speed by method](performance/methods.png)

## Every row, and its target

A share says what of the machine's own limit is used, read in the same run; a ratio says how
many times as good as the best peer Ounce is. `bench/rows.py` lists the rows.

{sections}
"""


def main():
    folder = parse_arguments().results
    report, curves, methods = (read(folder, name) for name in ("all", "curves", "methods"))
    PICTURES.mkdir(exist_ok=True)
    draw_curve(curves["curves"]["tokens_per_second"], "New tokens per second, CodeGen-350M",
               "streams", "tokens/s", "streams.png")
    draw_curve(curves["curves"]["first_token_ms"], "Time to first token, CodeGen-350M",
               "tokens of the prompt", "ms", "prompts.png")
    draw_curve(curves["curves"]["peak_mib"], "Most resident memory, CodeGen-350M",
               "sequences", "MiB", "memory.png", from_zero=True)
    draw_shares(methods)
    DOC.write_text(PAGE.format(
        curves_machine=machine_text(curves["cpu"], curves["threads"], curves["rounds"], curves["limits"]),
        methods_machine=f"DRAM in this run: {methods['dram_gb_per_s']:.1f} GB/s, "
                        f"{methods['threads']} threads.",
        sections="\n\n".join(section_text(section, report) for section in report["sections"])))
    print(DOC)


if __name__ == "__main__":
    main()
