#!/usr/bin/env python3
"""Minutes or hours of mixed load on one server: nothing grows, and no answer is lost or wrong.

Callers of all kinds (soak_load.py) ask the embedded models of a real ounce-server at the same
time, while both are quantized back and forth and others come and go. It holds if

- each call ends once, by the code that it must end by, with its own id; each answer is to the bit
  what the same request was told by a version of the same plan when it was alone;
- memory: now and then the load stops, models go back to the plan of the checkpoint, and the
  resident bytes of the idle server are noted, and the anonymous ones among them: the system may
  take pages of files away, which hides growth. What prefix caches keep is no growth and comes
  off both. After the warm-up, the first fifth, the median of
  the last third of each is above that of the first third by at most 1 % of what was resident;
- each time it is idle, it has the threads, descriptors, memory accounts and queues of an idle
  server;
- its metrics count what callers counted. What a caller cancels, or its deadline ends, may have
  ended otherwise for the server.

Run it by `./run bench soak`. Speed plays no part, so neighbours do not disturb it. Exit code 1:
it does not hold.
"""

import argparse
import collections
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time

from serving import ROOT, cpu_name, progress
from soak_calls import Tally
from soak_load import PATHS, PLANS, Load
from ounce_server import OunceServer

MOST_GROWTH = 0.01  # of resident and of anonymous memory, as a share of what is resident
MOST_MORE_THREADS = 4  # of gRPC, whose pools grow when the machine is slow; our own are constant
FEWEST_MOMENTS = 6  # idle moments after the warm-up, to judge memory by
SAMPLE_SECONDS = 0.2
IDLE = {  # series of an idle server that are 0
    "ounce_connections", "ounce_memory_ending_bytes", "ounce_server_requests_queued",
    "ounce_server_requests_running", "ounce_kv_cache_used_bytes", "ounce_pictures_in_flight",
    "ounce_picture_memory_used_bytes", 'ounce_memory_bytes{share="pictures"}'}


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path,
                        help="folder with ounce-server (default: build/release)")
    parser.add_argument("--minutes", type=float, default=10, help="default: 10")
    parser.add_argument("--cycle", type=float, default=24, metavar="SECONDS",
                        help="of load between two idle moments (default: 24)")
    parser.add_argument("--idle", type=float, default=6, metavar="SECONDS",
                        help="of rest before memory is read; a detector gives its working memory "
                             "back after 5 (default: 6)")
    parser.add_argument("--plans", type=int, metavar="N",
                        help="quantize each model by its first N (default: all)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="of the server (default: the CPUs of this process)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all figures to FILE")
    return parser.parse_args()


def long_model(folder):
    """The embedded model as if it had been trained on longer texts."""
    path = pathlib.Path(folder, "long")
    shutil.copytree(ROOT / PATHS["code"], path)
    config = path / "config.json"
    values = json.loads(config.read_text())
    config.unlink()
    config.write_text(json.dumps(values | {"n_positions": 8192, "n_ctx": 8192}))
    return path


def process_figures(pid):
    """What the system says of the process."""
    proc = pathlib.Path(f"/proc/{pid}")
    memory = dict(re.findall(r"^(\w+): +(\d+) kB", (proc / "smaps_rollup").read_text(), re.MULTILINE))
    names = collections.Counter((task / "comm").read_text().strip() for task in (proc / "task").iterdir())
    return {"resident_bytes": int(memory["Rss"]) * 1024, "anonymous_bytes": int(memory["Anonymous"]) * 1024,
            "descriptors": len(list((proc / "fd").iterdir())), "threads": names.total(),
            "threads_by_name": dict(sorted(names.items()))}


def series_of(page):
    """The values of a page of /metrics by series, NAME{LABELS}."""
    lines = (line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def sum_of(series, name, **labels):
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(value for key, value in series.items()
               if key.split("{")[0] == name and all(label in key for label in wanted))


class Peak:
    """The most resident bytes while a block runs."""

    def __init__(self, pid):
        self._status = pathlib.Path(f"/proc/{pid}/statm")
        self._over = threading.Event()
        self.bytes = 0

    def __enter__(self):
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._over.wait(SAMPLE_SECONDS):
            try:
                pages = int(self._status.read_text().split()[1])
            except (OSError, IndexError):
                return
            self.bytes = max(self.bytes, pages * os.sysconf("SC_PAGE_SIZE"))

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


def wait_until_idle(load, seconds):
    """The series of the idle server; what is not idle is a fault."""
    deadline = time.monotonic() + 30
    while True:
        series = series_of(load.page("/metrics"))
        busy = [f"{name} is {value:g} when idle" for name, value in series.items()
                if (value and not IDLE.isdisjoint((name, name.split("{")[0])))
                or (value > 1 and name.startswith("ounce_model_versions_alive"))
                or (name.startswith("ounce_model_info") and 'model="second"' in name)]
        if not busy or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    for what in busy:
        load.tally.fault(what)
    time.sleep(seconds)
    return series_of(load.page("/metrics"))


def check_metrics(load, series):
    """Holds the counters to what the callers counted; the lines of a report."""
    tally, lines = load.tally, []

    def compare(what, counted, least, most=None):
        most = least if most is None else most
        holds = least <= counted <= most
        if not holds:
            tally.fault(f"{what}: the server counted {counted:g}",
                        f"callers {least}" + (f" to {most}" if most > least else ""))
        lines.append({"what": what, "server": counted, "callers": [least, most], "holds": holds})

    rpcs = sorted({rpc for rpc, _ in tally.codes})
    name = "ounce_rpc_requests_total"
    for rpc in rpcs:
        unsure = tally.open_ended[rpc]
        ours = {code: count for (of, code), count in tally.codes.items() if of == rpc}
        compare(f"calls of {rpc}", sum_of(series, name, rpc=rpc), sum(ours.values()) - unsure,
                sum(ours.values()))
        for code in sorted(set(ours) - {"CANCELLED", "DEADLINE_EXCEEDED"}):
            compare(f"calls of {rpc}, {code}", sum_of(series, name, rpc=rpc, code=code), ours[code],
                    ours[code] + unsure)
    unknown = sum(value for key, value in series.items() if key.startswith(name + "{") and
                  not any(f'rpc="{rpc}"' in key for rpc in rpcs))
    compare("calls that nobody made", unknown, 0)
    unsure = tally.open_ended["ounce.v1.Inference/Generate"]
    for model in ("code", "long"):
        ends = sum(sum_of(series, "ounce_requests_total", model=model, outcome=outcome)
                   for outcome in ("eos", "length", "stop"))
        more = unsure if model == "long" else 0  # all that are cancelled
        compare(f"answers of {model}", ends, tally.answers[model], tally.answers[model] + more)
        compare(f"tokens of {model}", sum_of(series, "ounce_generated_tokens_total", model=model),
                tally.tokens[model], tally.tokens[model] + more * len(load.long_ids))
    compare("answers of shapes", sum_of(series, "ounce_detect_requests_total", outcome="done"),
            tally.answers["shapes"])
    for model in PLANS:
        unsure = tally.runs[model, "done or cancelled"]
        runs = {outcome: sum_of(series, "ounce_quantizations_total", model=model, outcome=outcome)
                for outcome in ("done", "cancelled", "refused_quality")}
        compare(f"quantizations of {model} done", runs["done"], tally.runs[model, "done"],
                tally.runs[model, "done"] + unsure)
        compare(f"quantizations of {model} done or cancelled", runs["done"] + runs["cancelled"],
                tally.runs[model, "done"] + unsure)
        compare(f"quantizations of {model} refused", runs["refused_quality"],
                tally.runs[model, "refused_quality"])
    compare("scrapes", series["exposer_scrapes_total"], tally.scrapes - 1)  # before the last one
    return lines


def check_moments(moments, tally):
    """Memory, its accounts, threads and descriptors over the idle moments; what was found."""
    after = moments[-(-len(moments) // 5):]  # the warm-up, a fifth rounded up
    found = {"moments": len(moments), "after_warm_up": len(after)}
    if len(after) < FEWEST_MOMENTS:
        return found
    third = len(after) // 3
    for figure in ("resident_bytes", "anonymous_bytes", "threads", "descriptors"):
        first, last = (statistics.median(moment[figure] for moment in part)
                       for part in (after[:third], after[-third:]))
        found[figure] = {"first": first, "last": last, "growth": last / first - 1,
                         "first_moment": after[0][figure], "last_moment": after[-1][figure]}
    found["most_growth_bytes"] = MOST_GROWTH * found["resident_bytes"]["first"]
    for kind in ("resident", "anonymous"):
        memory = found[f"{kind}_bytes"]
        if memory["last"] - memory["first"] > found["most_growth_bytes"]:
            tally.fault(f"{kind} memory grew", f"by {(memory['last'] - memory['first']) / 2**20:.2f} MiB; "
                        f"{found['most_growth_bytes'] / 2**20:.2f} MiB are allowed")
    for figure, most in (("threads", MOST_MORE_THREADS), ("descriptors", 0)):
        if found[figure]["last"] > found[figure]["first"] + most:
            tally.fault(f"{figure} grew", str(found[figure]))
    for moment in after:
        own = [{name: count for name, count in each["threads_by_name"].items()
                if name.startswith("ounce-")} for each in (after[0], moment)]
        if own[0] != own[1]:
            tally.fault("the server's own threads changed", f"{own[1]}, at first {own[0]}")
        if moment["accounts"] != after[0]["accounts"]:
            tally.fault("the accounts of an idle server's memory changed",
                        f"{moment['accounts']}, at first {after[0]['accounts']}")
    return found


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def print_report(report, faults):
    machine = report["machine"]
    print(f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['memory_bytes'] / 2**30:.1f} GiB, "
          f"Linux {machine['kernel']}; ounce-server {machine['version']} ({machine['isa']}), "
          f"{machine['threads']} threads")
    print(f"from {report['started']}, {report['load_seconds']:.0f} s of load in "
          f"{len(report['moments'])} cycles; {report['calls']} calls, {report['tokens']} tokens, "
          f"{report['pictures']} pictures in answers compared, {report['quantizations']} quantizations\n")
    print(f"{'':34} {'well':>8} {'per s':>7} {'p50 ms':>8} {'p99 ms':>8}")
    for kind, row in report["latencies"].items():
        print(f"{kind:34} {row['calls']:8} {row['per_second']:7.1f} {row['p50'] * 1e3:8.1f} "
              f"{row['p99'] * 1e3:8.1f}")
    print("\nCodes:")
    for rpc, codes in report["codes"].items():
        print(f"  {rpc}: {', '.join(f'{code} {count}' for code, count in codes.items())}")
    print("\nThe idle server, MiB:")
    print(f"{'minute':>8} {'resident':>9} {'anonymous':>9} {'peak':>8} {'threads':>8} {'descriptors':>11}")
    step = -(-len(report["moments"]) // 24)
    for moment in report["moments"][::-step][::-1]:
        print(f"{moment['minute']:8.1f} {moment['resident_bytes'] / 2**20:9.2f} "
              f"{moment['anonymous_bytes'] / 2**20:9.2f} {moment['peak_bytes'] / 2**20:8.1f} "
              f"{moment['threads']:8} {moment['descriptors']:11}")
    found = report["found"]
    if "resident_bytes" in found:
        for figure in ("resident", "anonymous"):
            memory = found[f"{figure}_bytes"]
            print(f"{figure}, medians: after the warm-up {memory['first'] / 2**20:.2f}, at the end "
                  f"{memory['last'] / 2**20:.2f}, {memory['growth']:+.2%}; first moment "
                  f"{memory['first_moment'] / 2**20:.2f}, last {memory['last_moment'] / 2**20:.2f}")
        print(f"each median may grow by {found['most_growth_bytes'] / 2**20:.2f}")
    else:
        print("too short to say whether memory grows")
    held = sum(line["holds"] for line in report["counters"])
    print(f"\n{held} of {len(report['counters'])} counters are what the callers counted")
    for what, count in faults.items():
        print(f"FAULT {count} x {what}")
    print("it holds" if report["holds"] else "IT DOES NOT HOLD")


def main():
    arguments = parse_arguments()
    started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    tally, moments, load_seconds = Tally(), [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        server = OunceServer(
            arguments.build / "ounce-server", *(f"--model={name}={path}" for name, path in PATHS.items()),
            f"--model=long={long_model(folder)}", f"--threads={arguments.threads}", cwd=ROOT)
        load = Load(server, tally, {model: plans[:arguments.plans] for model, plans in PLANS.items()})
        load.learn()
        load.disconnect()
        tally.seconds.clear()  # it was alone
        began = time.monotonic()
        while not moments or (time.monotonic() - began < arguments.minutes * 60 and
                              server.process.poll() is None):
            with Peak(server.process.pid) as peak:
                cycle_began = time.monotonic()
                load.start()
                time.sleep(arguments.cycle)
                load.stop()
                load_seconds += time.monotonic() - cycle_began
            if server.process.poll() is not None:
                break
            load.restore()
            load.disconnect()
            series = wait_until_idle(load, arguments.idle)
            minute = (time.monotonic() - began) / 60
            figures = process_figures(server.process.pid)
            kept = int(sum_of(series, "ounce_prefix_cache_bytes"))
            figures["resident_bytes"] -= kept
            figures["anonymous_bytes"] -= kept
            moments.append(figures | {
                "minute": minute, "peak_bytes": peak.bytes, "kept_bytes": kept, "accounts": {
                    name: value for name, value in series.items()
                    if name.startswith("ounce_memory_bytes") and 'share="kept"' not in name}})
            progress(f"minute {minute:.1f}, {tally.codes.total()} calls, {tally.faults.total()} faults")
        progress("")
        if server.process.poll() is None:
            counters = check_metrics(load, series)
            found = check_moments(moments, tally)
            build = next(name for name in series if name.startswith("ounce_build_info"))
            if code := server.close(60):
                tally.fault(f"the server ended with {code}")
        else:
            print(server.said(), file=sys.stderr)
            raise SystemExit(f"the server ended by itself, with {server.process.returncode}")
    codes = collections.defaultdict(dict)
    for (rpc, code), count in sorted(tally.codes.items()):
        codes[rpc][code] = count
    report = {
        "started": started,
        "machine": {"cpu": cpu_name(), "cpus": len(os.sched_getaffinity(0)),
                    "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
                    "kernel": platform.release(), "threads": arguments.threads,
                    **dict(re.findall(r'(\w+)="([^"]*)"', build))},
        "load_seconds": load_seconds, "calls": tally.codes.total(), "tokens": tally.tokens.total(),
        "pictures": tally.answers["shapes"],
        "quantizations": sum(count for (_, outcome), count in tally.runs.items() if outcome == "done"),
        "latencies": {kind: {"calls": len(times), "per_second": len(times) / load_seconds,
                             "p50": quantile(times, 0.5), "p99": quantile(times, 0.99)}
                      for kind, times in sorted(tally.seconds.items())},
        "codes": codes, "moments": moments, "found": found, "counters": counters,
        "faults": tally.faults, "first_faults": tally.first_faults, "holds": not tally.faults}
    print_report(report, tally.faults)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if report["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
