#!/usr/bin/env python3
"""Ounce and its peers over the number of streams, the length of prompts, and the memory
that they take: what `./run docs performance` draws.

CodeGen-350M at full size with random weights, Ounce over gRPC, one server per plan; peers in
processes of their own (bench/peers.py), on the same number of threads. A round measures every
engine at every point, so that what the machine does meanwhile touches all of them; figures are
medians.

  streams  so many prompts of 128 tokens at once: tokens/s while all of them decode, and the
           most memory that the process had meanwhile
  prompts  time to the first token of one prompt, everybody else idle

The first stream has begun long before the last, where prompts are computed one after another:
there are so many new tokens that all decode together for a while. Memory is that of the first
round, before longer prompts and more streams were there. A peer that is ten times as slow as the
best at a point is spared the rest of that curve.
Run it by `./run bench curves`, on a machine that does nothing else.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics

from ounce_text import OunceText
from rows import PLANS
from serving import (ROOT, TOKENIZER, cpu_name, forget_peak, machine_limits, made_checkpoint,
                     median_limits, print_machine, progress, resident_bytes)
from workers import Peer

STREAMS = (1, 2, 4, 8, 16, 32, 64)
PROMPTS = (32, 64, 128, 256, 512, 1024, 2000)
STREAM_PROMPT = 128
OUNCE = {"int8": "Ounce int8", "a8": "Ounce int8, 8-bit activations", "ks4": "Ounce ks4"}
PEERS = ("ctranslate2-int8", "openvino-int8", "openvino-bfloat16", "transformers-bfloat16")
TOO_SLOW = 10

CURVES = {  # what, in what, over what, and whether more of it is better
    "tokens_per_second": ("new tokens/s", "streams", True),
    "first_token_ms": ("time to first token, ms", "tokens of the prompt", False),
    "peak_mib": ("most resident memory, MiB", "streams", False),
}


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path,
                        help="folder with ounce-server (default: build/release)")
    parser.add_argument("--codegen", type=pathlib.Path, metavar="DIR",
                        help="checkpoint (default: makes codegen-350m under build/bench)")
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=list(OUNCE), metavar="PLAN",
                        help=f"of {', '.join(PLANS)} (default: {', '.join(OUNCE)})")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), metavar="PEER",
                        help=f"of bench/peers.py (default: {', '.join(PEERS)})")
    parser.add_argument("--streams", nargs="*", type=int, default=list(STREAMS), metavar="N")
    parser.add_argument("--prompts", nargs="*", type=int, default=list(PROMPTS), metavar="TOKENS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="per engine (default: the CPUs of this process)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="writes all figures there")
    return parser.parse_args()


class Ounce:
    def __init__(self, arguments, checkpoint, plan):
        self.name = OUNCE.get(plan, f"Ounce {plan}")
        self._plan = plan
        self._engine = OunceText(arguments.build, arguments.threads, checkpoint, [plan])
        self.pid = self._engine.pid
        self.close = self._engine.close

    def run(self, *shape):
        return self._engine.run(self._plan, *shape)


class Readings:
    """By curve, engine and point, one figure of each round."""

    def __init__(self):
        self.figures = {name: {} for name in CURVES}

    def note(self, curve, engine, point, value):
        self.figures[curve].setdefault(engine, {}).setdefault(point, []).append(value)

    def medians(self):
        def middle(curve, values):
            return values[0] if curve == "peak_mib" else statistics.median(values)
        return {curve: {engine: {point: middle(curve, values) for point, values in points.items()}
                        for engine, points in engines.items()}
                for curve, engines in self.figures.items()}

    def is_too_slow(self, curve, engine, point):
        """A peer, beside the best at this point or, where it has none, at the last one before."""
        if engine.startswith("Ounce"):
            return False
        engines = self.medians()[curve]
        known = [p for p in engines.get(engine, {}) if p <= point]
        if not known:
            return False
        at = max(known)
        values = [points[at] for points in engines.values() if at in points]
        mine = engines[engine][at]
        return max(values) / mine > TOO_SLOW if CURVES[curve][2] else mine / min(values) > TOO_SLOW


def measure(engine, arguments, readings, say):
    for streams in arguments.streams:
        if readings.is_too_slow("tokens_per_second", engine.name, streams):
            break
        say(f"{engine.name}, {streams} streams")
        forget_peak(engine.pid)
        new_tokens = 33 + 2 * streams
        times = engine.run(streams, STREAM_PROMPT, new_tokens)
        if min(map(len, times.tokens)) < new_tokens:
            raise RuntimeError(f"a stream of {streams} ended before {new_tokens} tokens")
        readings.note("tokens_per_second", engine.name, streams, times.rate("decode", STREAM_PROMPT))
        readings.note("peak_mib", engine.name, streams, resident_bytes(engine.pid)[1] / 2**20)
    for length in arguments.prompts:
        if readings.is_too_slow("first_token_ms", engine.name, length):
            break
        say(f"{engine.name}, a prompt of {length}")
        times = engine.run(1, length, 2)
        if not times.tokens[0]:
            raise RuntimeError(f"no token after a prompt of {length}")
        readings.note("first_token_ms", engine.name, length, 1e3 * times.tokens[0][0])


def print_curves(medians):
    for curve, (what, over, _) in CURVES.items():
        engines = medians[curve]
        points = sorted({point for values in engines.values() for point in values})
        if not points:
            continue
        width = max(map(len, engines))
        print(f"{what}, by {over}")
        print(f"{'':{width}}" + "".join(f"{point:>9}" for point in points))
        for engine, values in engines.items():
            print(f"{engine:{width}}" + "".join(
                f"{values[point]:9.1f}" if point in values else f"{'-':>9}" for point in points))
        print()


def main():
    arguments = parse_arguments()
    checkpoint = arguments.codegen or made_checkpoint("codegen-350m", *TOKENIZER)
    readings, limits, absent = Readings(), [], {}
    with contextlib.ExitStack() as closing:
        engines = []
        for kind in arguments.peers:
            progress(f"starting {kind}")
            try:
                engines.append(Peer(kind, checkpoint, arguments.threads))
            except RuntimeError as error:
                absent[kind] = str(error)
                continue
            closing.callback(engines[-1].close)
        for plan in arguments.plans:
            engines.append(Ounce(arguments, checkpoint, plan))
            closing.callback(engines[-1].close)
        for engine in engines:
            progress(f"warming up {engine.name}")
            engine.run(1, STREAM_PROMPT, 2)
        for round_index in range(arguments.rounds):
            def say(what, index=round_index):
                progress(f"round {index + 1} of {arguments.rounds}: {what}")
            for engine in list(engines):
                try:
                    measure(engine, arguments, readings, say)
                except RuntimeError as error:
                    absent[engine.name] = str(error)
                    engines.remove(engine)
            limits.append(machine_limits(arguments.build, arguments.threads))
    progress("")
    limits = median_limits(limits)
    print_machine(limits, arguments)
    medians = readings.medians()
    print_curves(medians)
    for name, why in absent.items():
        print(f"not run: {name}: {why}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({
            "cpu": cpu_name(), "threads": arguments.threads, "rounds": arguments.rounds,
            "limits": limits, "curves": medians, "not_run": absent}, indent=1) + "\n")


if __name__ == "__main__":
    main()
