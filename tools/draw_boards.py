#!/usr/bin/env python3
"""Draws the boards of deploy/grafana/dashboards as Grafana would, roughly, into docs/boards.

    python tools/draw_boards.py --build build/release

A real server on the embedded models works for some minutes: text and pictures from several
clients, quantizations, wrong requests. A real Prometheus reads its metrics; every panel shows
what Prometheus answers to the panel's own expressions.

Needs matplotlib, and prometheus on PATH (./run setup unpacks it into ~/.cache/ounce).
"""

import argparse
import datetime
import http.server
import io
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates as dates  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
from PIL import Image  # noqa: E402

from ounce_server import OunceServer  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
BOARDS = ROOT / "deploy/grafana/dashboards"
TEXT, PICTURES = "code", "shapes"
EXAMPLES = ROOT / "embedded/detr-tiny/examples"
SCRAPE_SECONDS, RATE_INTERVAL = 2, "20s"
INK, FAINT, GRID, CARD, PAGE = "#24292f", "#6b7280", "#e5e7eb", "#ffffff", "#f3f4f6"
COLORS = ["#3b75af", "#e1812c", "#3a923a", "#c03d3e", "#9372b2", "#845b53", "#d684bd", "#7f7f7f",
          "#a9aa35", "#2eabb8"]
NAMED = {"green": "#3a923a", "orange": "#e1812c", "red": "#c03d3e", "blue": "#3b75af",
         "text": "#6b7280"}
COLUMN_INCHES, ROW_INCHES = 0.62, 0.34  # of Grafana's grid


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes all spans of traces, and forgets them."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Programs:
    """A server, a Prometheus that reads it every two seconds, and clients; all end with it."""

    def __init__(self, build, folder):
        self.build, self.folder = build, folder
        self.processes = []

    def begin(self):
        folder = self.folder
        self.collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
        threading.Thread(target=self.collector.serve_forever, daemon=True).start()
        self.server = server = OunceServer(
            self.build / "ounce-server", f"--model={TEXT}=embedded/codegen-tiny",
            f"--model={PICTURES}=embedded/detr-tiny", "--memory_bytes=256MiB",
            "--kv_cache_bytes=32MiB",
            f"--otlp_endpoint=http://127.0.0.1:{self.collector.server_port}", cwd=ROOT)
        self.processes.append(server.process)
        self.environment = {**os.environ, "OUNCE_SERVER": server.inference,
                            "OUNCE_ADMIN": server.admin}
        config = (ROOT / "deploy/prometheus/prometheus.yaml").read_text()
        config = config.replace("ounce:8502", server.metrics)
        (folder / "prometheus.yaml").write_text(config.replace("15s", f"{SCRAPE_SECONDS}s"))
        (folder / "rules.yaml").write_text((ROOT / "deploy/prometheus/rules.yaml").read_text())
        self.prometheus = f"http://127.0.0.1:{free_port()}"
        self.start(["prometheus", f"--config.file={folder}/prometheus.yaml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address={self.prometheus.removeprefix('http://')}"])
        self.wait(lambda: self.answers() and self.query("ounce_build_info", 0, time.time()))

    def start(self, command):
        log = (self.folder / "log").open("a")
        self.processes.append(subprocess.Popen([str(part) for part in command], cwd=ROOT,
                                               stdout=log, stderr=log))

    def wait(self, done):
        deadline = time.monotonic() + 60
        while not done():
            if time.monotonic() > deadline or any(p.poll() is not None for p in self.processes):
                sys.exit(f"draw_boards: no start:\n{self.server.said()}"
                         f"{(self.folder / 'log').read_text()}")
            time.sleep(0.2)

    def answers(self):
        try:
            return urllib.request.urlopen(f"{self.prometheus}/-/ready").status == 200
        except OSError:
            return False

    def query(self, expression, start, end, step=SCRAPE_SECONDS):
        """[(labels, times, values)] of those that have a value."""
        if not start:
            start = end - 60
        parameters = urllib.parse.urlencode({"query": expression, "start": start, "end": end,
                                             "step": step})
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/query_range?{parameters}") as answer:
            result = json.load(answer)["data"]["result"]
        series = []
        for each in result:
            points = [(float(t), float(v)) for t, v in each["values"] if v != "NaN"]
            if points:
                series.append((each["metric"], [t for t, _ in points], [v for _, v in points]))
        return series

    def client(self, *arguments):
        return subprocess.run([self.build / "ounce", *map(str, arguments)], cwd=ROOT,
                              env=self.environment, capture_output=True, text=True).returncode

    def end(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()
        self.collector.shutdown()


def work(programs, seconds):
    """Some minutes of a server's life."""
    over = threading.Event()

    def again_and_again(pause, *commands):
        while not over.is_set():
            for command in commands:
                programs.client(*command)
                over.wait(pause)

    clients = [
        *[(0.05, ("generate", TEXT, start, "--max_new_tokens", 300))
          for start in ("def read_lines(path):", "import os\n\n\n", "class Stack:")],
        (0.5, ("generate", TEXT, "x = " * 120, "--max_new_tokens", 20)),
        *[(0.2, *[("detect", PICTURES, path) for path in sorted(EXAMPLES.glob("*.png"))])] * 2,
        (6, ("generate", "nothing", "def "), ("detect", PICTURES, ROOT / "LICENSE"),
         ("generate", TEXT, "def f", "--max_new_tokens", 400, "--deadline", "0.05")),
    ]
    threads = [threading.Thread(target=again_and_again, args=client, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    admin = [("quantize", TEXT, "linear", "--probe"),
             ("quantize", PICTURES, "linear", "--convolutions", "--probe"),
             ("evaluate", PICTURES, "--pictures", EXAMPLES, "--annotations",
              EXAMPLES / "annotations.json"),
             ("quantize", TEXT, "linear:bits=4,granularity=group", "--include", "*", "--probe"),
             ("quantize", TEXT, "ks4", "--probe")]
    for command in admin:
        time.sleep(seconds / (len(admin) + 1))
        if programs.client(*command) != 0:
            print(f"draw_boards: failed: {command}", file=sys.stderr)
    time.sleep(seconds / (len(admin) + 1))
    over.set()
    for thread in threads:
        thread.join()


def formatted(value, unit):
    if unit == "bytes":
        for name in ("B", "KiB", "MiB", "GiB"):
            if abs(value) < 1024 or name == "GiB":
                return f"{value:.3g} {name}"
            value /= 1024
    if unit == "s":
        for scale, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
            if abs(value) * scale >= 1:
                return f"{value * scale:.3g} {name}"
        return f"{value:.3g} s"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    suffix = {"cps": "/s", "reqps": "/s"}.get(unit, unit[7:] if unit.startswith("suffix:") else "")
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}") + suffix


def named(legend, labels):
    for label, value in labels.items():
        legend = legend.replace("{{%s}}" % label, value)
    return legend if legend != "__auto" else ", ".join(
        f"{k}={v}" for k, v in labels.items() if not k.startswith("__"))


def threshold_color(value, steps):
    color = steps[0]["color"]
    for step in steps[1:]:
        if value >= step["value"]:
            color = step["color"]
    return NAMED.get(color, color)


class Picture:
    def __init__(self, board, programs, start, end):
        self.board, self.programs, self.start, self.end = board, programs, start, end
        self.variables = {"$__rate_interval": RATE_INTERVAL, "$__range": f"{int(end - start)}s"}
        for variable in board["templating"]["list"]:
            chosen = variable["current"]["value"] if variable["type"] == "custom" else ".*"
            self.variables["$" + variable["name"]] = chosen
        self.swaps = []
        for annotation in board.get("annotations", {}).get("list", ()):
            for labels, times, _ in self.query(annotation["expr"]):
                self.swaps.append((times[0], named(annotation["titleFormat"], labels)))

    def query(self, expression):
        for name in sorted(self.variables, key=len, reverse=True):
            expression = expression.replace(name, self.variables[name])
        return self.programs.query(expression, self.start, self.end)

    def draw(self, path):
        panels = self.board["panels"]
        rows = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels)
        width, height = 24 * COLUMN_INCHES, (rows + 2) * ROW_INCHES
        figure = plt.figure(figsize=(width, height), facecolor=PAGE)
        figure.text(0.012, 1 - 1.1 * ROW_INCHES / height, self.board["title"], fontsize=17,
                    color=INK, weight="bold", va="center")
        for panel in panels:
            place = panel["gridPos"]
            left, top = place["x"] / 24, (place["y"] + 2) / (rows + 2)
            if panel["type"] == "row":
                figure.text(0.012, 1 - top - 0.5 * place["h"] / (rows + 2), "▾ " + panel["title"],
                            fontsize=12, color=INK, va="center")
                continue
            box = (left + 0.003, 1 - top - place["h"] / (rows + 2) + 0.06 / height,
                   place["w"] / 24 - 0.006, place["h"] / (rows + 2) - 0.12 / height)
            self.panel(figure, panel, box, height, place["w"] * COLUMN_INCHES)
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=90, facecolor=PAGE)
        plt.close(figure)
        Image.open(drawn).convert("RGB").quantize(128).save(path, optimize=True)
        print(path)

    def panel(self, figure, panel, box, height, inches):
        left, bottom, wide, high = box
        card = figure.add_axes(box, facecolor=CARD)
        card.set_xticks([]), card.set_yticks([])
        for spine in card.spines.values():
            spine.set_color(GRID)
        figure.text(left + 0.005, bottom + high - 0.13 / height, panel["title"], fontsize=9,
                    color=INK, weight="bold", va="center")
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")
        found = [(target, self.query(target["expr"])) for target in panel["targets"]]
        series = [(named(target["legendFormat"], labels), labels, times, values)
                  for target, result in found for labels, times, values in result]
        below = 0.4 + 0.14 * -(-min(len(series), 9) // 3)  # the legend
        inner = (left + 0.6 / (24 * COLUMN_INCHES), bottom + below / height,
                 wide - 0.75 / (24 * COLUMN_INCHES), high - (below + 0.3) / height)
        if not series:
            card.text(0.5, 0.5, "no data", ha="center", va="center", color=FAINT, fontsize=9)
        elif panel["type"] in ("stat", "gauge"):
            self.number(card, panel, series[0], unit)
        elif panel["type"] == "table":
            self.table(card, panel, found, inches)
        elif panel["type"] == "bargauge":
            self.bars(figure, series, unit, box, height)
        elif panel["type"] == "state-timeline":
            self.states(figure.add_axes((inner[0] + 0.14 * wide, bottom + 0.35 / height,
                                         inner[2] - 0.14 * wide, high - 0.7 / height)), series)
        elif panel["type"] == "heatmap":
            self.heat(figure.add_axes((inner[0], bottom + 0.35 / height, inner[2],
                                       high - 0.7 / height)), series, unit)
        else:
            self.lines(figure.add_axes(inner), panel, series, unit, inner[3] * height)

    def number(self, card, panel, series, unit):
        _, _, times, values = series
        defaults = panel["fieldConfig"]["defaults"]
        color = threshold_color(values[-1], defaults["thresholds"]["steps"])
        card.text(0.5, 0.5, formatted(values[-1], unit), ha="center", va="center", fontsize=18,
                  color=color, weight="bold")
        if panel["type"] == "stat":
            course = card.inset_axes((0, 0, 1, 0.3))
            course.fill_between(times, values, color=color, alpha=0.15)
            course.plot(times, values, color=color, linewidth=1)
            course.set_ylim(min(0, *values), max(max(values), 1e-9) * 1.1)
            course.axis("off")
        else:
            card.barh([0.16], [0.9], left=0.05, height=0.08, color=GRID)
            card.barh([0.16], [0.9 * min(1, values[-1])], left=0.05, height=0.08, color=color)
            card.set_xlim(0, 1), card.set_ylim(0, 1)

    def time_axis(self, axes):
        axes.set_xlim(datetime.datetime.fromtimestamp(self.start),
                      datetime.datetime.fromtimestamp(self.end))
        axes.xaxis.set_major_locator(dates.MinuteLocator(interval=max(
            1, int(self.end - self.start) // 300)))
        axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
        axes.tick_params(colors=FAINT, labelsize=7.5, length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(GRID)

    def lines(self, axes, panel, series, unit, inches):
        defaults = panel["fieldConfig"]["defaults"]
        custom = defaults.get("custom", {})
        stacked = custom.get("stacking", {}).get("mode") == "normal"
        limits = [s for s in series if s[0].startswith(("limit", "SLO"))]
        plain = [s for s in series if s not in limits]
        colors = [COLORS[i % len(COLORS)] for i in range(len(plain))]
        when = [[datetime.datetime.fromtimestamp(t) for t in s[2]] for s in series]
        if stacked and plain:
            grid = sorted({t for s in plain for t in s[2]})
            heights = [[dict(zip(s[2], s[3])).get(t, 0) for t in grid] for s in plain]
            axes.stackplot([datetime.datetime.fromtimestamp(t) for t in grid], heights,
                           colors=colors, alpha=0.5, labels=[s[0] for s in plain])
        for (legend, _, _, values), times in zip(series, when):
            if legend in [s[0] for s in limits]:
                axes.plot(times, values, color=NAMED["red"], linestyle="--", linewidth=1.2,
                          label=legend)
            elif not stacked:
                color = colors[[s[0] for s in plain].index(legend)]
                axes.plot(times, values, color=color, linewidth=1.4, label=legend,
                          marker="." if len(values) < 4 else None)
        top = 1.05 * axes.dataLim.ymax  # no data: -inf
        if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
            for step in defaults["thresholds"]["steps"][1:]:
                axes.axhline(step["value"], color=NAMED["red"], linestyle="--", linewidth=0.8)
            top = max(top, 1.05 * max(s["value"] for s in defaults["thresholds"]["steps"][1:]))
        axes.set_ylim(0, top if top > 0 else 1)
        for at, _ in self.swaps:
            axes.axvline(datetime.datetime.fromtimestamp(at), color=NAMED["blue"], linewidth=0.8,
                         linestyle=":")
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        axes.yaxis.set_major_locator(plt.MaxNLocator(5))
        axes.yaxis.set_major_formatter(lambda value, _: formatted(value, unit))
        self.time_axis(axes)
        entries = dict(zip(*reversed(axes.get_legend_handles_labels())))
        shown = list(entries.items())[:9]
        axes.legend([handle for _, handle in shown], [label[:38] for label, _ in shown],
                    loc="upper left", bbox_to_anchor=(-0.08, -0.27 / inches), ncols=3, fontsize=6.8,
                    frameon=False, handlelength=1.1, columnspacing=0.9, labelcolor=INK,
                    borderaxespad=0)

    def bars(self, figure, series, unit, box, height):
        left, bottom, wide, high = box
        axes = figure.add_axes((left + 0.36 * wide, bottom + 0.1 / height, 0.5 * wide,
                                high - 0.4 / height))
        last = [(legend, values[-1]) for legend, _, times, values in series
                if times[-1] > self.end - 3 * SCRAPE_SECONDS]
        last.sort(reverse=True)
        axes.barh(range(len(last)), [v for _, v in last], color=NAMED["blue"], height=0.6)
        for place, (_, value) in enumerate(last):
            axes.text(value, place, " " + formatted(value, unit), va="center", fontsize=8,
                      color=INK)
        axes.set_yticks(range(len(last)), [legend[:44] for legend, _ in last], fontsize=7.5)
        axes.set_xticks([])
        axes.tick_params(length=0, colors=INK)
        axes.spines[:].set_visible(False)

    def states(self, axes, series):
        for place, (_, _, times, values) in enumerate(series):
            for at, value in zip(times, values):
                axes.barh([place], [SCRAPE_SECONDS / 86400], height=0.6, color=NAMED[
                    "blue" if value else "text"], alpha=1 if value else 0.2,
                          left=dates.date2num(datetime.datetime.fromtimestamp(at)))
        axes.set_yticks(range(len(series)), [s[0][:26] for s in series])
        axes.set_ylim(-0.6, len(series) - 0.4)
        self.time_axis(axes)

    def heat(self, axes, series, unit):
        buckets = sorted(series, key=lambda s: float(s[1]["le"]))
        grid = sorted({t for s in buckets for t in s[2]})
        counts = [[dict(zip(s[2], s[3])).get(t, 0) for t in grid] for s in buckets]
        cells = [counts[0]] + [[max(0, b - a) for a, b in zip(low, up)]
                               for low, up in zip(counts, counts[1:])]
        axes.pcolormesh([datetime.datetime.fromtimestamp(t) for t in grid], range(len(buckets)),
                        cells, cmap="Blues", shading="nearest")
        axes.set_yticks(range(0, len(buckets), 3), [formatted(float(s[1]["le"]), unit)
                                                    for s in buckets[::3]])
        self.time_axis(axes)

    def table(self, card, panel, found, inches):
        names = {o["matcher"]["options"]: {p["id"]: p["value"] for p in o["properties"]}
                 for o in panel["fieldConfig"]["overrides"]}
        order = panel["transformations"][1]["options"]["indexByName"]
        keys = sorted(order, key=order.get)
        rows = {}
        for index, (target, result) in enumerate(found):
            shown = names[f"Value #{target['refId']}"]
            for labels, times, values in result:
                if times[-1] < self.end - 3 * SCRAPE_SECONDS:
                    continue
                row = rows.setdefault(tuple(labels.get(key, "") for key in keys), {})
                row[index] = formatted(values[-1], shown["unit"])
        heads = keys + [names[f"Value #{t['refId']}"]["displayName"] for t, _ in found]
        # Wide enough for what a column holds.
        texts = [heads] + [[*key, *(row.get(i, "") for i in range(len(found)))]
                           for key, row in sorted(rows.items())]
        widths = [max(len(text[column]) for text in texts) + 2 for column in range(len(heads))]
        total = max(sum(widths), inches * 9)
        for line, text in enumerate(texts[:8]):
            y, x = 0.78 - 0.11 * line, 0.012
            for column, word in enumerate(text):
                card.text(x, y, word, fontsize=7.8, va="center", color=INK if line else FAINT,
                          transform=card.transAxes)
                x += 0.98 * widths[column] / total


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release",
                        help="where ounce-server and ounce are")
    parser.add_argument("--seconds", type=int, default=400, help="how long they work")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/boards")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        programs = Programs(arguments.build.resolve(), pathlib.Path(folder))
        try:
            programs.begin()
            start = time.time()
            work(programs, arguments.seconds)
            end = time.time()
            for path in sorted(BOARDS.glob("*.json")):
                board = json.loads(path.read_text())
                Picture(board, programs, start, end).draw(
                    arguments.out / f"{path.stem}.png")
        finally:
            programs.end()


if __name__ == "__main__":
    main()
