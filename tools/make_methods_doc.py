#!/usr/bin/env python3
"""Writes docs/methods.md: what every method costs and saves on three small models.

Measures the specs of bench/methods.txt by `ounce compare` on an ounce-server of its
own, model by model: SmolLM2-135M (tools/smollm2.py), TinyStories-656K and
codegen-tiny, on the texts of bench/texts. What build/methods holds already is not
measured again, so it goes on where it ended; --again measures all afresh. Takes up
what `bench/quality.py` and `bench/methods.py` left there.

Run it by `./run docs methods`.
"""

import argparse
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
from methods_list import read_methods  # noqa: E402
from ounce_server import OunceServer  # noqa: E402

DOC = ROOT / "docs/methods.md"
RESULTS = ROOT / "build/methods"
WINDOW, STRIDE, NEW_TOKENS, PROMPT_TOKENS = 512, 512, 24, 32


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = pathlib.Path(os.environ.get("OUNCE_SHARED_DATA", ROOT / "../shared/data"))
    parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path,
                        help="folder with ounce-server and ounce (default: build/release)")
    parser.add_argument("--smollm2", type=pathlib.Path,
                        default=pathlib.Path.home() / ".cache/ounce/smollm2",
                        help="folder of SmolLM2-135M-Instruct (default: where ./run smollm2 puts it)")
    parser.add_argument("--tinystories", type=pathlib.Path, default=data / "tinystories-656k",
                        help="folder of TinyStories-656K")
    parser.add_argument("--again", action="store_true", help="measure what was measured before too")
    parser.add_argument("--write-only", action="store_true",
                        help="write the page of what is measured already")
    return parser.parse_args()


class Model:
    def __init__(self, name, title, folder, text, about):
        self.name, self.title, self.folder, self.text, self.about = name, title, folder, text, about
        self.out = RESULTS / name
        self.comparison, self.results = None, {}

    def measure(self, build, specs):
        with OunceServer(build / "ounce-server", f"--model={self.name}={self.folder}",
                         "--prefix_cache_bytes=0", seconds=math.inf) as server:
            ended = subprocess.run(
                [build / "ounce", "--server", server.inference, "--admin", server.admin, "compare",
                 self.name, "--methods", ";".join(specs), "--text", ROOT / "bench/texts" / self.text,
                 "--window", str(WINDOW), "--stride", str(STRIDE), "--new_tokens", str(NEW_TOKENS),
                 "--prompt_tokens", str(PROMPT_TOKENS), "--out", self.out],
                stdout=subprocess.DEVNULL)
        if ended.returncode not in (0, 3):
            sys.exit(f"make_methods_doc: comparing {self.title} ended with {ended.returncode}; "
                     "run it again to go on")

    def read(self):
        path = self.out / "results.json"
        if path.exists():
            self.comparison = json.loads(path.read_text())
            self.results = {r["spec"]: r for r in self.comparison["results"]}

    def figure(self, spec, key):
        return self.results.get(spec, {}).get(key)

    def counted_tokens(self):
        return next((r["counted_tokens"] for r in self.results.values() if "counted_tokens" in r), 0)

    def float_perplexity(self):
        return next((r["float_perplexity"] for r in self.results.values()
                     if "float_perplexity" in r), None)

    def uncertainty(self, spec):
        """Of the ratio of its perplexity to the floats': one standard deviation."""
        return math.sqrt(2 * self.figure(spec, "kl_divergence") / self.counted_tokens())

    def bits_by_formula(self, method):
        """The mean over the matrices that it stores."""
        settings = self.comparison["settings"]
        checkpoint_bits = 8 * settings["checkpoint_bytes"] / settings["parameters"]
        weights = bits = 0
        for tensor in self.results.get(method.spec, {}).get("tensors", []):
            if not tensor["chosen"]:
                continue
            elements = 1
            for extent in tensor["shape"]:
                elements *= extent
            weights += elements
            bits += elements * method.bits_of(tensor["shape"], round(checkpoint_bits))
        return bits / weights if weights else None


def row(*cells):
    return "| " + " | ".join(cells) + " |\n"


def cell(value, text):
    return "" if value is None else text.format(value)


def small(value):
    if value is None:
        return ""
    return "0" if value == 0 else f"{value:.2e}" if value < 1e-3 else f"{value:.4f}"


def perplexity(value):
    if value is None:
        return ""
    return f"{value:.4f}" if value < 1000 else f"{value:.2e}"


def rate(value):
    return "" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def table_of(model, methods):
    text = row("method", "bits by formula", "measured", "stored MB", "weight error", "perplexity",
               "over floats", "KL", "top-1", "tok/s", "tok/s of 8")
    text += row("---", *["---:"] * 10)
    floats = model.float_perplexity()
    for method in methods:
        spec = method.spec
        if model.figure(spec, "perplexity") is None:
            continue
        over = model.figure(spec, "perplexity") / floats - 1
        mark = " \\*" if "exact" in method.marks and model.name == "smollm2" else ""
        text += row(f"`{spec}`{mark}", cell(model.bits_by_formula(method), "{:.3f}"),
                    cell(model.figure(spec, "bits_per_weight"), "{:.3f}"),
                    cell(model.figure(spec, "stored_bytes") / 1e6, "{:.2f}"),
                    small(model.figure(spec, "weight_error")),
                    perplexity(model.figure(spec, "perplexity")),
                    f"{100 * over:+.2f}%" if over < 10 else f"{1 + over:,.0f} ×",
                    small(model.figure(spec, "kl_divergence")),
                    cell(model.figure(spec, "top1_agreement"), "{:.1%}"),
                    rate(model.figure(spec, "tokens_per_second")),
                    rate(model.figure(spec, "tokens_per_second_of_8")))
    return text


def front_of(model, methods):
    """Specs that no other beats in stored bytes and in perplexity, smallest first."""
    points = sorted((model.figure(m.spec, "stored_bytes"), model.figure(m.spec, "perplexity"), m.spec)
                    for m in methods if model.figure(m.spec, "perplexity") is not None)
    front, best = [], float("inf")
    for _, value, spec in points:
        if value < best:
            best = value
            front.append(spec)
    return front


def failures_of(models, methods):
    lines = {}
    for method in methods:
        for model in models:
            error = model.figure(method.spec, "error")
            if error:
                lines.setdefault((method.spec, error["message"]), []).append(model.title)
    return "".join(f"- `{spec}` on {', '.join(titles)}: {message}\n"
                   for (spec, message), titles in lines.items())


def peers_text(peers):
    text = f"""## Beside its peers

{peers['about']}

"""
    text += row("what", "bits", "weight error", "perplexity", "over floats", "KL", "top-1")
    text += row("---", *["---:"] * 6)
    for peer in peers["results"]:
        text += row(peer["name"], cell(peer.get("bits_per_weight"), "{:.3f}"),
                    small(peer.get("weight_error")), perplexity(peer["perplexity"]),
                    f"{100 * (peer['perplexity'] / peers['float_perplexity'] - 1):+.2f}%",
                    small(peer["kl_divergence"]), f"{peer['top1_agreement']:.1%}")
    return text


def full_size_text(full_size):
    text = f"""## Speed at full size

CodeGen-350M, random weights, one stream, `{full_size['head']}` in every row, so that rows
differ in the linear layers alone (`./run bench methods`): {full_size['threads']} threads on a machine
whose memory gives {full_size['dram_gb_per_s']:.1f} GB/s. Each round of a method follows one of `linear`,
and × `linear` is the median of their ratios: the machine's memory is shared, and what it
gives changes. A token reads all weights but the embedding once; what that takes of the
memory's bandwidth is the last column.

"""
    text += row("method", "tok/s", "× `linear`", "MB a token", "of DRAM")
    text += row("---", *["---:"] * 4)
    for result in full_size["results"]:
        if "error" in result:
            continue
        text += row(f"`{result['spec']}`", f"{result['tokens_per_second']:.1f}",
                    f"{result['times_baseline']:.2f}", f"{result['bytes_per_token'] / 1e6:.1f}", f"{result['share_of_dram']:.0%}")
    return text


def page(models, methods):
    settings = models[0].comparison["settings"]
    uncertainties = ", ".join(f"{model.uncertainty('linear'):.2%} ({model.title})" for model in models)
    text = f"""# What each method costs and saves

Written by `./run docs methods`; do not edit. `ounce methods` prints what every parameter
means, [operations.md](operations.md#plans) how plans mix methods.

Each spec stores the linear layers, and nothing else but where it is a float; embeddings
and heads keep the checkpoint's dtype, also the tied ones. Measured on {settings['threads']} threads
({settings['instruction_set']}) by `ounce compare`:

"""
    text += row("model", "what it is", "parameters", "text", "tokens counted", "floats' perplexity")
    text += row("---", "---", "---:", "---", "---:", "---:")
    for model in models:
        text += row(model.title, model.about,
                    f"{model.comparison['settings']['parameters']:,}",
                    f"[{model.text}](../bench/texts/{model.text})", f"{model.counted_tokens():,}",
                    perplexity(model.float_perplexity()))
    text += f"""
Windows of {WINDOW} tokens, one every {STRIDE}. *Bits by formula* are what the method's definition says
of these shapes, *measured* what is stored, fields beside the codes included. *Weight error*
is the root mean square of the matrices' relative L2 errors, each weighted by its elements.
*KL* is the mean divergence of the next token's distribution from that of the checkpoint's
floats, in nats; *top-1* how often both hold the same token most likely. *tok/s* is one greedy
stream of {NEW_TOKENS} new tokens or more after {PROMPT_TOKENS}, empty where it was over too soon to tell; small
models are bound by everything but their weights, so speeds compare at full size
(`./run bench methods`).

GGUF's types with blocks of 256 columns need widths that are multiples of it. What isn't
takes the type that llama.cpp takes then, as reports of `ounce quantize` say: SmolLM2's
matrices of 576 columns are Q8_0 under `gguf-q6_k`, Q5_1 and Q5_0 under `gguf-q5_k` and
`-q4_k`, Q4_0 under `-q3_k`, `-q2_k` and `-tq2_0`, IQ4_NL under `-iq4_xs`; the bits show it.

Perplexities of such texts are uncertain: where KL is small, the ratio to the floats' is so
by about the root of twice KL over the number of tokens, for `linear` by {uncertainties}.
"""
    for model in models:
        text += f"\n## {model.title}\n\n"
        if model.name == "smollm2":
            text += ("Its floats are a dequantized Q4_1 file: affine 4-bit blocks of 32, which "
                     "methods marked\n\\* store nearly as they are. They say nothing about those "
                     "methods; TinyStories and\ncodegen-tiny were never quantized.\n\n")
        text += table_of(model, methods)
        front = front_of(model, methods)
        text += ("\nNothing is smaller and better than these, smallest first: "
                 + ", ".join(f"`{spec}`" for spec in front) + ".\n")
    for name, write in (("peers.json", peers_text), ("full_size.json", full_size_text)):
        if (RESULTS / name).exists():
            text += "\n" + write(json.loads((RESULTS / name).read_text()))
    failures = failures_of(models, methods)
    if failures:
        text += "\n## Refused\n\n" + failures
    return text


def main():
    arguments = parse_arguments()
    models = [
        Model("smollm2", "SmolLM2-135M", arguments.smollm2, "prose.txt",
              "Llama's family, float32, head tied"),
        Model("tinystories", "TinyStories-656K", arguments.tinystories, "stories.txt",
              "Llama's family"),
        Model("codegen", "codegen-tiny", ROOT / "embedded/codegen-tiny", "code.txt",
              "CodeGen, float16"),
    ]
    methods = read_methods()
    specs = [method.spec for method in methods]
    for model in models:
        if not (model.folder / "config.json").exists():
            sys.exit(f"make_methods_doc: no {model.title} in {model.folder}; say where it is with "
                     f"--{model.name}" + (", or run ./run smollm2" if model.name == "smollm2" else ""))
    for model in models:
        if arguments.again:
            shutil.rmtree(model.out, ignore_errors=True)
        if not arguments.write_only:
            print(f"== {model.title}", flush=True)
            model.measure(arguments.build, specs)
        model.read()
        if model.comparison is None:
            sys.exit(f"make_methods_doc: {model.title} was not measured yet")
    DOC.write_text(page(models, methods))
    print(DOC)


if __name__ == "__main__":
    main()
