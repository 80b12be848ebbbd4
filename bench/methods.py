#!/usr/bin/env python3
"""How fast each method decodes: CodeGen-350M at full size, random weights, one stream.

Every row has the head (lm_head) in 8 bits, so that rows differ in the linear layers
alone; float rows too. The server is Ounce's real one, over gRPC; tokens per second
are (new tokens - 1) / (time of the last one - time of the first), the median of some
rounds. What a machine's memory gives changes with its neighbours, so each round of a
spec follows one of `linear`, by a second model that has nothing else to do, and
"x linear" is the median of their ratios. A step reads all weights but the embedding once: their resident bytes times
tokens per second is what it takes of the memory's bandwidth, whose limit is measured
beside it.

Writes build/methods/full_size.json, which `./run docs methods` takes up.
Run it by `./run bench methods`, on a machine that does nothing else.
"""

import argparse
import json
import os
import pathlib
import statistics

import grpc

from methods_list import read_methods
from serving import (ROOT, TOKENIZER, Server, machine_limits, made_checkpoint, median_limits,
                     print_machine, progress)
from streams import prompt, run_streams

HEAD = "lm_head=linear"
BASELINE = "linear"


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path,
                        help="folder with ounce-server (default: build/release)")
    parser.add_argument("--checkpoint", type=pathlib.Path,
                        help="CodeGen folder (default: makes codegen-350m under build/bench)")
    parser.add_argument("--specs", help="SPEC;SPEC;... (default: bench/methods.txt)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--tokens", type=int, default=48, help="new ones a round (default: 48)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="of the server (default: the CPUs of this process)")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/methods/full_size.json")
    return parser.parse_args()


def rate_of(server, model, arguments):
    return run_streams(server, model, [prompt(32)], arguments.tokens).rate("decode", 32)


def measure(server, spec, arguments):
    request = server.admin_messages.QuantizeRequest(model="bench", plan=f"{HEAD} {spec}")
    try:
        report = list(server.admin.Quantize(request))[-1].report
    except grpc.RpcError as error:
        return {"spec": spec, "error": error.details()}
    rates, ratios = [], []
    for round_index in range(-1, arguments.rounds):  # -1: a warm-up
        baseline = rate_of(server, "baseline", arguments)
        rate = rate_of(server, "bench", arguments)
        if round_index >= 0:
            rates.append(rate)
            ratios.append(rate / baseline)
    embedding = sum(tensor.bytes_after for tensor in report.tensors
                    if tensor.kind == server.admin_messages.TENSOR_KIND_EMBEDDING)
    read = report.resident_bytes_after - embedding
    return {"spec": spec, "plan": report.plan, "stored_bytes": report.stored_bytes_after,
            "resident_bytes": report.resident_bytes_after, "bytes_per_token": read,
            "tokens_per_second": statistics.median(rates),
            "times_baseline": statistics.median(ratios), "quantize_seconds": report.seconds}


def main():
    arguments = parse_arguments()
    checkpoint = arguments.checkpoint or made_checkpoint("codegen-350m", *TOKENIZER)
    specs = ([s.strip() for s in arguments.specs.split(";")] if arguments.specs
             else [method.spec for method in read_methods()])
    server = Server(arguments.build,
                    [f"bench={checkpoint}", f"baseline={checkpoint},plan={HEAD} {BASELINE}"],
                    arguments.threads)
    rows, limits = [], []
    try:
        for index, spec in enumerate(specs):
            progress(f"{index + 1} of {len(specs)}: {spec}")
            rows.append(measure(server, spec, arguments))
            if index % 8 == 0:
                limits.append(machine_limits(arguments.build, arguments.threads))
        progress("")
    finally:
        server.close()
    limits = median_limits(limits)
    print_machine(limits, arguments)
    width = max(len(s) for s in specs)
    print(f"{'':{width}}  {'tok/s':>7}  {'x ' + BASELINE:>8}  {'MB/token':>8}  {'of DRAM':>7}")
    for row in rows:
        if "error" in row:
            print(f"{row['spec']:{width}}  {row['error']}")
            continue
        row["share_of_dram"] = (row["bytes_per_token"] * row["tokens_per_second"] /
                                (limits["dram_gb_per_s"] * 1e9))
        print(f"{row['spec']:{width}}  {row['tokens_per_second']:7.1f}  {row['times_baseline']:8.2f}  "
              f"{row['bytes_per_token'] / 1e6:8.1f}  {row['share_of_dram']:7.0%}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(
        {"threads": arguments.threads, **limits, "head": HEAD, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
