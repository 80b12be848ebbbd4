#!/usr/bin/env python3
"""Ounce beside its peers: CodeGen-350M at full size, random weights, on this CPU.

Ounce is measured from outside, over gRPC, through its real server with method
`linear` (8 bit); CTranslate2 with int8 and Hugging Face transformers in float32
run in this process. All use the same checkpoint, the same prompts (token ids)
and the same number of threads. Rounds are interleaved, a round measures every
engine once; the table shows medians, their ratio to CTranslate2, and the
machine's own limit, DRAM bandwidth, read between the rounds.

  decode   (new tokens - 1) / (time of last token - time of first one)
  prefill  prompt tokens / time to first token

Run it by `./run bench codegen`, on a machine that does nothing else.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import ctranslate2
import torch
import transformers

from serving import ROOT, Server, machine_limits, median_limits, print_machine, progress
from streams import Times, prompt, run_streams

# (name, streams, prompt tokens, new tokens, what is read off)
SCENARIOS = [
    ("decode, 1 stream, prompt 32", 1, 32, 64, "decode"),
    ("decode, 1 stream, prompt 512", 1, 512, 64, "decode"),
    ("decode, 8 streams, prompt 32", 8, 32, 64, "decode"),
    ("prefill of 512", 1, 512, 2, "prefill"),
]


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path,
                        help="folder with ounce-server (default: build/release)")
    parser.add_argument("--checkpoint", type=pathlib.Path,
                        help="CodeGen folder (default: makes codegen-350m under build/bench)")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="per engine (default: the CPUs of this process)")
    parser.add_argument("--skip-transformers", action="store_true",
                        help="leave out float32 transformers, the slowest")
    parser.add_argument("--json", action="store_true", help="print medians as JSON instead")
    return parser.parse_args()


class Ounce:
    name = "Ounce linear int8"

    def __init__(self, build, checkpoint, threads):
        self.server = Server(build, [f"bench={checkpoint},method=linear"], threads)

    def run(self, streams, prompt_length, new_tokens):
        return run_streams(self.server, "bench",
                           [prompt(prompt_length, i) for i in range(streams)], new_tokens)

    def close(self):
        self.server.close()


class CTranslate2:
    name = f"CTranslate2 {ctranslate2.__version__} int8"

    def __init__(self, checkpoint, threads, folder):
        converted = folder / "ctranslate2"
        if not (converted / "model.bin").exists():
            ctranslate2.converters.TransformersConverter(str(checkpoint)).convert(
                str(converted), quantization="int8", force=True)
        self.generator = ctranslate2.Generator(
            str(converted), compute_type="int8", inter_threads=1, intra_threads=threads)
        self.vocabulary = json.loads((converted / "vocabulary.json").read_text())

    def run(self, streams, prompt_length, new_tokens):
        prompts = [[self.vocabulary[i] for i in prompt(prompt_length, s)] for s in range(streams)]
        times = Times(streams)
        self.generator.generate_batch(
            prompts, max_length=new_tokens, min_length=new_tokens, beam_size=1, sampling_topk=1,
            include_prompt_in_result=False, callback=lambda step: times.note(step.batch_id))
        return times

    def close(self):
        del self.generator


class Transformers:
    name = f"transformers {transformers.__version__} float32"

    def __init__(self, checkpoint, threads):
        torch.set_num_threads(threads)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=torch.float32).eval()

    @torch.inference_mode()
    def run(self, streams, prompt_length, new_tokens):
        times = Times(streams)
        ids = torch.tensor([prompt(prompt_length, s) for s in range(streams)])
        cache = None
        for _ in range(new_tokens):
            output = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            ids = output.logits[:, -1:].argmax(-1)
            for stream in range(streams):
                times.note(stream)
        return times

    def close(self):
        del self.model


def print_table(engines, rates, limits, arguments):
    median = {key: statistics.median(values) for key, values in rates.items()}
    limits = median_limits(limits)
    if arguments.json:
        print(json.dumps({
            **limits,
            "tokens_per_second": {f"{e} | {s}": value for (e, s), value in median.items()}}))
        return
    print_machine(limits, arguments)
    baseline = next(e.name for e in engines if isinstance(e, CTranslate2))
    width = max(len(s[0]) for s in SCENARIOS)
    print(" " * width + "".join(f"  {e.name:>26}" for e in engines))
    for scenario, *_ in SCENARIOS:
        cells = ""
        for engine in engines:
            value = median[engine.name, scenario]
            ratio = value / median[baseline, scenario]
            cells += f"  {value:9.1f} tok/s  ({ratio:5.2f} x)"
        print(f"{scenario:{width}}{cells}")
    print(f"\n(x: ratio to {baseline})")


def main():
    arguments = parse_arguments()
    folder = ROOT / "build/bench"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = arguments.checkpoint or folder / "codegen-350m"
    if not (checkpoint / "config.json").exists():
        subprocess.run([sys.executable, ROOT / "tools/make_checkpoint.py", "codegen-350m", checkpoint,
                        "--tokenizer", ROOT / "embedded/codegen-tiny"], check=True)
    engines = [Ounce(arguments.build, checkpoint, arguments.threads),
               CTranslate2(checkpoint, arguments.threads, folder)]
    if not arguments.skip_transformers:
        engines.append(Transformers(checkpoint, arguments.threads))
    rates, limits = {}, []
    try:
        for round_index in range(-1, arguments.rounds):  # -1: a warm-up
            for scenario, streams, prompt_length, new_tokens, kind in SCENARIOS:
                for engine in engines:
                    times = engine.run(streams, prompt_length, new_tokens)
                    short = [i for i, t in enumerate(times.tokens) if len(t) < new_tokens]
                    if short:
                        sys.exit(f"{engine.name}: stream {short[0]} ended before {new_tokens} tokens")
                    if round_index >= 0:
                        rates.setdefault((engine.name, scenario), []).append(
                            times.rate(kind, prompt_length))
                    progress(f"round {round_index + 1} of {arguments.rounds}: {scenario}: {engine.name}")
            if round_index >= 0:
                limits.append(machine_limits(arguments.build, arguments.threads))
        progress("")
        print_table(engines, rates, limits, arguments)
    finally:
        for engine in engines:
            engine.close()


if __name__ == "__main__":
    main()
