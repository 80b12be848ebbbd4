#!/usr/bin/env python3
"""Ounce beside its peers, the machine's own limits, and what should be reached.

Ounce is measured over gRPC, through its real server; peers in processes of their own,
without a server (bench/peers.py): CTranslate2, OpenVINO, ONNX Runtime, transformers, and
llama.cpp compiled for this CPU. All have the same checkpoints (full size, random weights),
the same prompts and the same number of threads. Rounds are interleaved: a round measures
every engine once in every row, and then the machine. Figures are medians.

A peer that in the first round is less than half as fast as the best of a row keeps that
one reading, which ~ marks. One that can't run here is named with its reason.

Sections are instruction sets, of those that the CPU has: all it can, and capped by
OUNCE_MAX_ISA, the peers alike where they can be.

  decode   (new tokens - 1) / (time of the last token - time of the first one)
  prefill  prompt tokens / time to first token
  limit    memory: bytes that a token reads (weights, keys and values) at DRAM's speed;
           multiplying: the operations of its linear layers at the peak of the best
           instruction for such numbers, attention not counted; live quantization: DRAM;
           start: reading the checkpoint's file once, out of the page cache

--short is for a look: three rounds, fewer rows, no capped section. Run it by
`./run bench all`, on a machine that does nothing else.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time

import grpc

import rows as table
from ounce_text import OunceText, quantize
from report import LESS_IS_BETTER, judge, print_section, ratio_of
from serving import (ROOT, TOKENIZER, Server, cpu_name, machine_limits, made_checkpoint,
                     median_limits, progress)
from streams import Times, prompt, run_streams
from workers import CAPS, Peer, reason_not_capped

# What a picture of 800 x 1066 takes: 174.5e9 at 800 x 1137, says Open Model Zoo.
DETR_OPERATIONS = 174.5e9 * 1066 / 1137
KV_BYTES = 4  # Ounce keeps keys and values in float32 by default


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = list(dict.fromkeys(row.model for row in table.ROWS))
    parser.add_argument("--short", action="store_true", help="a look, in minutes")
    parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path,
                        help="folder with ounce-server (default: build/release)")
    for model, preset in (("codegen", "codegen-350m"), ("smollm2", "smollm2-135m"),
                          ("gpt2", "gpt2"), ("detr", "detr-resnet-50")):
        parser.add_argument(f"--{model}", type=pathlib.Path, metavar="DIR",
                            help=f"checkpoint (default: makes {preset} under build/bench)")
    parser.add_argument("--models", nargs="+", choices=models, default=models, metavar="MODEL",
                        help=f"of {', '.join(models)} (default: all)")
    parser.add_argument("--isas", nargs="+", choices=table.ISAS,
                        help="sections (default: all that the CPU has; --short: the best)")
    parser.add_argument("--peers", help="a regular expression: those of bench/peers.py that match")
    parser.add_argument("--rounds", type=int, help="default: 5; --short: 3")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="per engine (default: the CPUs of this process)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="writes all figures there")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (3 if arguments.short else 5)
    return arguments


class Section:
    """All rows on one instruction set."""

    def __init__(self, isa, is_best, arguments):
        self.isa, self.arguments = isa, arguments
        self.cap = None if is_best else isa
        self.env = CAPS[isa] if self.cap else {}
        self.figures = {}  # by row, by engine
        self.costs, self.others, self.notes, self.absent = {}, {}, {}, {}
        self.limits = []
        self.rows = [row for row in table.ROWS if row.model in arguments.models
                     and (row.short or not arguments.short)
                     and (is_best or row.model not in ("server", "gpt2"))]

    def rows_of(self, model):
        return [row for row in self.rows if row.model == model]

    def note(self, row, engine, value):
        self.figures.setdefault(row.name, {}).setdefault(engine, []).append(value)

    def measure_machine(self):
        self.limits.append(machine_limits(self.arguments.build, self.arguments.threads))

    def progress(self, round_index, what):
        progress(f"{self.isa}, round {round_index + 1} of {self.arguments.rounds}: {what}")

    def peers(self, rows, checkpoint, closing):
        """By kind, those that these rows want and that run here."""
        found = {}
        for kind in dict.fromkeys(kind for row in rows for kind in row.peers):
            if not re.search(self.arguments.peers or "", kind):
                self.absent[kind] = "left out by --peers"
                continue
            why = reason_not_capped(kind) if self.cap else None
            if not why:
                progress(f"{self.isa}: starting {kind}")
                try:
                    found[kind] = Peer(kind, checkpoint, self.arguments.threads, self.cap)
                    closing.callback(found[kind].close)
                except RuntimeError as error:
                    why = str(error)
            if why:
                self.absent[kind] = why
        return found

    def ask(self, peers, kind, what, *work):
        """What the peer gives; None of one that ends of it, which is no peer any more."""
        try:
            return getattr(peers[kind], what)(*work)
        except RuntimeError as error:
            self.absent[kind] = str(error)
            del peers[kind]
            return None

    def report(self):
        limits = median_limits(self.limits)
        medians = {name: statistics.median(engines["Ounce"])
                   for name, engines in self.figures.items() if "Ounce" in engines}
        lines = []
        for row in self.rows:
            line = judge(row, self.isa, self.figures.get(row.name, {}),
                               self.costs.get(row.name), limits, medians)
            lines.append({**line, "once": sorted(self.once(row)), **self.notes.get(row.name, {})})
        return {"isa": self.isa, "capped": bool(self.cap), "limits": limits, "rows": lines,
                "not_run": self.absent}

    def once(self, row):
        """Engines that were too slow to be measured again."""
        figures = self.figures.get(row.name, {})
        return [engine for engine, values in figures.items() if len(values) < self.arguments.rounds]


# Text.

def kv_bytes_of_token(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    layers = config.get("num_hidden_layers") or config["n_layer"]
    width = config.get("hidden_size") or config["n_embd"]
    if "num_key_value_heads" in config:
        width = width * config["num_key_value_heads"] // config["num_attention_heads"]
    return 2 * layers * width * KV_BYTES


def reading(row, times, length):
    if row.reads == "first":
        return 1e3 * max(tokens[0] for tokens in times.tokens)
    return times.rate(row.reads, length)


def cost_of(row, ounce, checkpoint):
    _, length, new_tokens = table.WORKLOADS[row.workload]
    if row.limit == "memory":
        return ounce.bytes_of_token(row.ounce) + kv_bytes_of_token(checkpoint) * (length + new_tokens / 2)
    if row.limit:
        return ounce.operations_of_token(row.ounce) * (length if row.reads == "first" else 1)
    return None


def measure_text(section, model, checkpoint):
    rows = section.rows_of(model)
    if not rows:
        return
    arguments = section.arguments
    with contextlib.ExitStack() as closing:
        ounce = {}  # the engine of each plan
        for compute in ("auto", "bfloat16"):
            plans = list(dict.fromkeys(
                row.ounce for row in rows if (row.ounce == "bf16") == (compute == "bfloat16")))
            if plans:
                engine = OunceText(arguments.build, arguments.threads, checkpoint, plans,
                                   "--compute", compute, env=section.env)
                closing.callback(engine.close)
                ounce |= dict.fromkeys(plans, engine)
        peers = section.peers(rows, checkpoint, closing)
        for row in rows:
            section.costs[row.name] = cost_of(row, ounce[row.ounce], checkpoint)
        # Who is measured in each workload, and what is read off.
        wanted = {}
        for row in rows:
            for engine in (row.ounce, *row.peers):
                if engine in ounce or engine in peers:
                    wanted.setdefault(row.workload, {}).setdefault(engine, []).append(row)
        for round_index in range(-1, arguments.rounds):  # -1: a warm-up
            found = {}  # readings of this round by row
            for workload, engines in wanted.items():
                _, length, new_tokens = shape = table.WORKLOADS[workload]
                for engine, read in engines.items():
                    section.progress(round_index, f"{model}, {workload}, {engine}")
                    if engine in ounce:
                        times, name = ounce[engine].run(engine, *shape), "Ounce"
                    elif engine in peers:
                        name = peers[engine].name
                        times = section.ask(peers, engine, "run", *shape)
                    else:
                        continue
                    if times and min(map(len, times.tokens)) < new_tokens:
                        sys.exit(f"{engine}: a stream ended before {new_tokens} tokens")
                    for row in read if times else ():
                        found.setdefault(row.name, {})[name] = reading(row, times, length)
            for row in rows:
                for name, value in found.get(row.name, {}).items():
                    if round_index >= 0:
                        section.note(row, name, value)
            if round_index == 0:
                drop_slow(wanted, peers, found)
            if round_index >= 0:
                section.measure_machine()


def drop_slow(wanted, peers, found):
    """Of each workload, the peers that come near the best one in no row: one reading is enough."""
    for engines in wanted.values():
        for kind in [kind for kind in engines if kind in peers]:
            name = peers[kind].name
            if not any(is_near(row, name, found[row.name]) for row in engines[kind]):
                del engines[kind]


def is_near(row, name, values):
    others = [value for engine, value in values.items() if engine != "Ounce"]
    return any(ratio_of(row.unit, values[name], best) >= 0.5
               for best in [(min if row.unit in LESS_IS_BETTER else max)(others)])


# Pictures.

class OunceDetector:
    def __init__(self, arguments, checkpoint, precision, env):
        from pictures import picture_file
        model, compute = {
            "int8": (f"bench={checkpoint},method=linear,convolutions=true", "auto")}.get(
                precision, (f"bench={checkpoint}", precision))
        self.server = Server(arguments.build, [model], arguments.threads, "--compute", compute, env=env)
        self.request = self.server.inference_messages.DetectObjectsRequest(
            model="bench", image=picture_file(), threshold=0, max_detections=1000)
        self.calls = []

    def detect(self):
        started = time.perf_counter()
        response = self.server.inference.DetectObjects(self.request)
        self.calls.append(time.perf_counter() - started)
        return response.model_seconds, sorted(found.score for found in response.detections)

    def close(self):
        self.server.close()


def measure_pictures(section, checkpoint):
    rows = section.rows_of("detr")
    if not rows:
        return
    with contextlib.ExitStack() as closing:
        ounce = {}
        for row in rows:
            progress(f"{section.isa}: {row.name}")
            ounce[row.name] = OunceDetector(section.arguments, checkpoint, row.ounce, section.env)
            closing.callback(ounce[row.name].close)
            section.costs[row.name] = DETR_OPERATIONS
        peers = section.peers(rows, checkpoint, closing)
        scores = {}
        for round_index in range(-1, section.arguments.rounds):  # -1: a warm-up
            for row in rows:
                for engine in ("Ounce", *row.peers):
                    section.progress(round_index, f"{row.name}, {engine}")
                    if engine == "Ounce":
                        name, found = engine, ounce[row.name].detect()
                    elif engine in peers:
                        name = peers[engine].name
                        found = section.ask(peers, engine, "detect")
                    else:
                        continue
                    if found:
                        scores[row.name, name] = found[1]
                        if round_index >= 0:
                            section.note(row, name, 1e3 * found[0])
            if round_index >= 0:
                section.measure_machine()
        exact = next((found for (_, name), found in scores.items()
                      if name.startswith("transformers") and name.endswith("float32")), None)
        for row in rows:
            note = {"call_ms": 1e3 * statistics.median(ounce[row.name].calls[1:])}
            if exact:
                # The largest difference of a detection's score from transformers' in float32.
                note["score_drift"] = {
                    name: max(abs(a - b) for a, b in zip(found, exact))
                    for (of, name), found in scores.items() if of == row.name}
            section.notes[row.name] = note


# The server itself.

def forward_milliseconds(section, checkpoint):
    """Of a decoding step of 1 and of 32 streams, each after 32 tokens, in the model alone."""
    arguments = section.arguments
    said = subprocess.run(
        [arguments.build / "forward_bench", checkpoint, table.PLANS["int8"], str(arguments.threads),
         "8", "decode"], check=True, capture_output=True, text=True).stdout
    return {int(batch): float(milliseconds) for batch, milliseconds in
            re.findall(r"context +32 batch +(\d+) +([\d.]+) ms", said)}


def read_milliseconds(checkpoint):
    block = memoryview(bytearray(1 << 20))
    started = time.perf_counter()
    with next(checkpoint.glob("*.safetensors")).open("rb", buffering=0) as file:
        while file.readinto(block):
            pass
    return 1e3 * (time.perf_counter() - started)


def first_token_milliseconds(section, checkpoint):
    server = Server(section.arguments.build, [f"bench={checkpoint}"], section.arguments.threads)
    try:
        return 1e3 * (server.seconds_to_serve + run_streams(server, "bench", [[1]], 1).tokens[0][0])
    finally:
        server.close()


class LiveModel:
    """A server in floats, on which quantizations are made."""

    def __init__(self, arguments, checkpoint):
        self.server = Server(arguments.build, [f"bench={checkpoint}"], arguments.threads)

    def gigabytes_per_second(self):
        """Of a quantization of the idle server: the checkpoint read, the codes written."""
        report = quantize(self.server, "bench", table.PLANS["int8"])
        quantize(self.server, "bench", "keep")
        return (report.checkpoint_bytes + report.stored_bytes_after) / report.seconds / 1e9

    def longest_wait(self):
        """Milliseconds between two tokens of a stream while the model is quantized."""
        messages = self.server.inference_messages
        call = self.server.inference.Generate(messages.GenerateRequest(
            model="bench", prompt_token_ids=messages.TokenIds(ids=prompt(32)), max_new_tokens=1900))
        times = Times(1)
        started = threading.Event()

        def read():
            with contextlib.suppress(grpc.RpcError):  # it is cancelled
                for response in call:
                    times.note(0, len(response.token_ids))
                    if len(times.tokens[0]) > 8:
                        started.set()
            started.set()

        reader = threading.Thread(target=read)
        reader.start()
        started.wait()
        begun = time.perf_counter() - times.start
        quantize(self.server, "bench", table.PLANS["int8"])
        ended = time.perf_counter() - times.start
        call.cancel()
        reader.join()
        quantize(self.server, "bench", "keep")
        came = times.tokens[0]
        return 1e3 * max(b - a for a, b in itertools.pairwise(came) if b > begun and a < ended)

    def close(self):
        self.server.close()


def server_reading(section, row, checkpoint, ounce, live, forward):
    if row.reads == "quantization":
        return live.gigabytes_per_second()
    if row.reads == "wait":
        return live.longest_wait()
    if row.reads == "start":
        return first_token_milliseconds(section, checkpoint)
    # Of tokens after a prompt of 16, the middle one has 32 before it, as those of `forward`.
    streams, length, _ = shape = table.WORKLOADS[row.workload]
    step = 1e3 * streams / ounce.run(row.ounce, *shape).rate("decode", length)
    return 100 * (1 - forward[streams] / step)


def measure_server(section, checkpoint):
    rows = section.rows_of("server")
    if not rows:
        return
    with contextlib.ExitStack() as closing:
        ounce = OunceText(section.arguments.build, section.arguments.threads, checkpoint, ["int8"],
                          env=section.env)
        closing.callback(ounce.close)
        live = LiveModel(section.arguments, checkpoint)
        closing.callback(live.close)
        ounce.run("int8", *table.WORKLOADS["32x16"])  # a warm-up
        live.gigabytes_per_second()
        read = []
        for round_index in range(section.arguments.rounds):
            section.progress(round_index, "the model without the server")
            forward = forward_milliseconds(section, checkpoint)
            for row in rows:
                section.progress(round_index, row.name)
                section.note(row, "Ounce",
                             server_reading(section, row, checkpoint, ounce, live, forward))
            read.append(read_milliseconds(checkpoint))
            section.measure_machine()
        for row in rows:
            if row.limit == "file":
                section.costs[row.name] = statistics.median(read)


def main():
    arguments = parse_arguments()
    limits = machine_limits(arguments.build, arguments.threads)
    there = [isa for isa in table.ISAS if f"{isa}_int8_tops" in limits]
    if not there:
        sys.exit("bench all: this CPU has no AVX2")
    isas = arguments.isas or (there[-1:] if arguments.short else there[::-1])
    checkpoints = {
        model: getattr(arguments, model) or made_checkpoint(preset, *flags)
        for model, preset, flags in (
            ("codegen", "codegen-350m", TOKENIZER), ("smollm2", "smollm2-135m", TOKENIZER),
            ("gpt2", "gpt2", TOKENIZER), ("detr", "detr-resnet-50", ()))
        if model in arguments.models or (model == "codegen" and "server" in arguments.models)}
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    report = {"cpu": cpu_name(), "threads": arguments.threads, "rounds": arguments.rounds, "sections": []}
    for isa in isas:
        if isa not in there:
            print(f"{isa}: this CPU hasn't it")
            continue
        section = Section(isa, isa == there[-1], arguments)
        for model in ("codegen", "smollm2", "gpt2"):
            if model in arguments.models:
                measure_text(section, model, checkpoints[model])
        if "detr" in arguments.models:
            measure_pictures(section, checkpoints["detr"])
        if "server" in arguments.models:
            measure_server(section, checkpoints["codegen"])
        progress("")
        if section.limits:
            report["sections"].append(section.report())
            print_section(report["sections"][-1], arguments)
    print("\n(~: slow, one reading; "
          f"{(time.monotonic() - started) / 60:.0f} minutes in all)")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
