#!/usr/bin/env python3
"""Methods beside those of others that exist on CPUs, on SmolLM2-135M: same text, same
windows.

  llama.cpp      its types, quantized by its own code (all linear layers in one type,
                 the embedding in float32) and run by it: it rounds activations to 8 bits
  bitsandbytes   NF4, FP4 and int8 by its own code; their weights, decoded, in
                 transformers in float32, which is what its CPU path computes
  HQQ            by its own code, the same way
  Ounce          by `ounce compare`

KL divergence and top-1 agreement are with transformers' float32 logits; Ounce's are
with its own, which is the same to four digits. Bits and weight error are those of the
linear layers, as docs/methods.md has them, into which `./run docs methods` takes
what this leaves in build/methods/peers.json.

Run it by `./run bench quality`.
"""

import argparse
import ctypes
import json
import math
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers

from gguf_files import quantize_gguf, write_gguf
from serving import ROOT, progress

sys.path.insert(0, str(ROOT / "tools"))
from make_methods_doc import RESULTS, STRIDE, WINDOW, Model  # noqa: E402

TEXT = "english.txt"  # shorter than that of docs/methods.md: peers take their time

# (Ounce's spec, kind of peer, what it is called there)
PAIRS = [
    ("gguf-q8_0", "llama.cpp", "Q8_0"), ("gguf-q6_k", "llama.cpp", "Q6_K"),
    ("gguf-q5_k", "llama.cpp", "Q5_K_S"), ("gguf-q5_1", "llama.cpp", "Q5_1"),
    ("gguf-q5_0", "llama.cpp", "Q5_0"), ("gguf-q4_k", "llama.cpp", "Q4_K_S"),
    ("gguf-q4_1", "llama.cpp", "Q4_1"), ("gguf-q4_0", "llama.cpp", "Q4_0"),
    ("gguf-iq4_nl", "llama.cpp", "IQ4_NL"), ("gguf-iq4_xs", "llama.cpp", "IQ4_XS"),
    ("gguf-q3_k", "llama.cpp", "Q3_K_S"), ("gguf-q2_k", "llama.cpp", "Q2_K"),
    ("bnb-int8", "bitsandbytes", "int8"), ("bnb-nf4", "bitsandbytes", "nf4"),
    ("bnb-nf4:double_quant=true", "bitsandbytes", "nf4 double"),
    ("bnb-fp4", "bitsandbytes", "fp4"),
    ("hqq:bits=8", "HQQ", "8"), ("hqq", "HQQ", "4"), ("hqq:bits=3", "HQQ", "3"),
    ("hqq:bits=2", "HQQ", "2"),
    ("linear", None, None), ("linear:bits=4,granularity=group", None, None), ("ks4", None, None),
]


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path,
                        help="folder with ounce-server and ounce (default: build/release)")
    parser.add_argument("--smollm2", type=pathlib.Path,
                        default=pathlib.Path.home() / ".cache/ounce/smollm2",
                        help="folder of SmolLM2-135M-Instruct (default: where ./run smollm2 puts it)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "peers.json")
    return parser.parse_args()


def windows_of(ids):
    """Runs of tokens, of each of which all but the first count."""
    assert STRIDE == WINDOW
    return [ids[i:i + WINDOW] for i in range(0, len(ids), WINDOW) if i + 1 < len(ids)]


class Score:
    """Of logits beside those of the floats, over all windows."""

    def __init__(self):
        self.tokens = self.nll = self.kl = self.same = 0

    def add(self, ids, logits, floats):
        """`logits`: [tokens, vocabulary], torch; `floats`: log-probabilities."""
        found = torch.log_softmax(logits[:-1].float(), -1)
        wanted = floats[:-1]
        targets = torch.tensor(ids[1:])
        self.tokens += len(targets)
        self.nll -= found.gather(-1, targets[:, None]).double().sum().item()
        self.kl += (wanted.exp() * (wanted - found)).double().sum().item()
        self.same += (wanted.argmax(-1) == found.argmax(-1)).sum().item()

    def figures(self):
        return {"perplexity": math.exp(self.nll / self.tokens),
                "kl_divergence": max(0, self.kl / self.tokens),
                "top1_agreement": self.same / self.tokens}


class Floats:
    """transformers in float32, and its linear layers."""

    def __init__(self, folder, text):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.windows = windows_of(tokenizer(text)["input_ids"])
        self.linear = {name: module for name, module in self.model.named_modules()
                       if isinstance(module, torch.nn.Linear) and name != "lm_head"}
        self.weights = {name: module.weight.data for name, module in self.linear.items()}
        with torch.inference_mode():
            self.log_probabilities = [torch.log_softmax(self.logits(w), -1) for w in self.windows]

    def logits(self, ids):
        return self.model(torch.tensor([ids])).logits[0]

    @torch.inference_mode()
    def score_with(self, store):
        """With each linear weight as `store` gives it back, beside its bytes."""
        size = error = elements = 0
        for name, module in self.linear.items():
            weight = self.weights[name]
            stored, count = store(weight)
            difference = (stored.double() - weight.double()).norm() / weight.double().norm()
            error += weight.numel() * difference.item() ** 2
            elements += weight.numel()
            size += count
            module.weight.data = stored.float()
        score = Score()
        for ids, floats in zip(self.windows, self.log_probabilities):
            score.add(ids, self.logits(ids), floats)
        for name, module in self.linear.items():
            module.weight.data = self.weights[name]
        return {"bits_per_weight": 8 * size / elements,
                "weight_error": math.sqrt(error / elements), **score.figures()}


class BitsAndBytes:
    def __init__(self):
        import bitsandbytes
        self.functional = bitsandbytes.functional
        self.version = bitsandbytes.__version__

    def store(self, what):
        if what == "int8":
            return self._int8
        kind, *double = what.split()

        def four_bits(weight):
            codes, state = self.functional.quantize_4bit(
                weight, blocksize=64, quant_type=kind, compress_statistics=bool(double))
            size = codes.numel() + state.absmax.numel() * state.absmax.element_size()
            if double:
                size += state.state2.absmax.numel() * 4 + 4
            return self.functional.dequantize_4bit(codes, state), size
        return four_bits

    def _int8(self, weight):
        codes, scales, _ = self.functional.int8_vectorwise_quant(weight.half())
        return codes.float() * scales[:, None] / 127, codes.numel() + 4 * scales.numel()

    def figures(self, floats, what):
        return floats.score_with(self.store(what))


class Hqq:
    def __init__(self):
        import importlib.metadata

        from hqq.core.quantize import Quantizer
        self.quantizer = Quantizer
        self.version = importlib.metadata.version("hqq")

    def figures(self, floats, what):
        def store(weight):
            codes, meta = self.quantizer.quantize(
                weight, nbits=int(what), group_size=64, axis=1, device="cpu",
                compute_dtype=torch.float32)
            # Scales and zero-points in 16 bits, as it saves them.
            size = weight.numel() * int(what) / 8 + 2 * 2 * meta["scale"].numel()
            return self.quantizer.dequantize(codes, meta).reshape(weight.shape), size
        return floats.score_with(store)


class LlamaCpp:
    """A GGUF file of the model in float32, its quantizer, and its own run of them."""

    def __init__(self, floats, threads, folder):
        import gguf
        import llama_cpp
        self.gguf, self.llama = gguf, llama_cpp
        self.version = llama_cpp.__version__
        self.threads = threads
        self.folder = pathlib.Path(folder)
        self.floats = self.folder / "float32.gguf"
        write_gguf(floats.model, self.floats)
        quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        self._quiet = quiet  # it must live
        llama_cpp.llama_backend_init()

    def figures(self, floats, what):
        path = self.folder / f"{what}.gguf"
        quantize_gguf(self.floats, path, what, self.threads)
        figures = {**self._weights(path), **self._run(floats, path)}
        path.unlink()
        return figures

    def _weights(self, path):
        tensors = {t.name: t for t in self.gguf.GGUFReader(path).tensors}
        size = error = elements = 0
        for original in self.gguf.GGUFReader(self.floats).tensors:
            if not original.name.startswith("blk.") or "norm" in original.name:
                continue
            stored = tensors[original.name]
            weight = original.data.astype(np.float64).ravel()
            found = self.gguf.quants.dequantize(stored.data, stored.tensor_type).ravel()
            size += stored.n_bytes
            elements += weight.size
            error += weight.size * (np.linalg.norm(found - weight) / np.linalg.norm(weight)) ** 2
        return {"bits_per_weight": 8 * size / elements, "weight_error": math.sqrt(error / elements)}

    def _run(self, floats, path):
        llama = self.llama
        model = llama.llama_model_load_from_file(
            str(path).encode(), llama.llama_model_default_params())
        params = llama.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = WINDOW
        params.n_threads = params.n_threads_batch = self.threads
        params.type_k = params.type_v = 0  # float32, as Ounce
        context = llama.llama_init_from_model(model, params)
        vocabulary = floats.model.config.vocab_size
        batch = llama.llama_batch_init(WINDOW, 0, 1)
        score = Score()
        for ids, wanted in zip(floats.windows, floats.log_probabilities):
            llama.llama_memory_clear(llama.llama_get_memory(context), True)
            batch.n_tokens = len(ids)
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i] = token, i
                batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, 1
            if llama.llama_decode(context, batch):
                sys.exit("quality: llama.cpp could not decode")
            logits = np.ctypeslib.as_array(llama.llama_get_logits(context),
                                           shape=(len(ids), vocabulary))
            score.add(ids, torch.from_numpy(logits.copy()), wanted)
        llama.llama_batch_free(batch)
        llama.llama_free(context)
        llama.llama_model_free(model)
        return score.figures()


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    ounce = Model("peers", "SmolLM2-135M", arguments.smollm2, TEXT, "")
    ounce.measure(arguments.build, [spec for spec, *_ in PAIRS])
    ounce.read()
    text = (ROOT / "bench/texts" / TEXT).read_text()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        progress("transformers in float32")
        floats = Floats(arguments.smollm2, text)
        peers = {"llama.cpp": LlamaCpp(floats, arguments.threads, folder),
                 "bitsandbytes": BitsAndBytes(), "HQQ": Hqq()}
        reference = Score()
        for ids, wanted in zip(floats.windows, floats.log_probabilities):
            reference.add(ids, wanted, wanted)
        float_perplexity = reference.figures()["perplexity"]
        for index, (spec, peer, what) in enumerate(PAIRS):
            progress(f"{index + 1} of {len(PAIRS)}: {spec}")
            own = ounce.results.get(spec, {})
            if "perplexity" in own:
                rows.append({"name": f"Ounce `{spec}`", **{key: own[key] for key in (
                    "bits_per_weight", "weight_error", "perplexity", "kl_divergence",
                    "top1_agreement")}})
            if peer:
                rows.append({"name": f"{peer} {what}", **peers[peer].figures(floats, what)})
        progress("")
    print(f"floats: perplexity {float_perplexity:.4f} by transformers, "
          f"{ounce.float_perplexity():.4f} by Ounce")
    print(f"{'':36}  {'bits':>6}  {'error':>7}  {'perplexity':>10}  {'KL':>8}  {'top-1':>6}")
    for row in rows:
        print(f"{row['name']:36}  {row['bits_per_weight']:6.3f}  {row['weight_error']:7.4f}  "
              f"{row['perplexity']:10.4f}  {row['kl_divergence']:8.5f}  {row['top1_agreement']:6.1%}")
    versions = ", ".join(f"{name} {peer.version}" for name, peer in peers.items())
    about = (f"A shorter text, [{TEXT}](../bench/texts/{TEXT}), the same for all, in the same windows on\n"
             f"SmolLM2-135M, in one run of `./run bench quality`: {versions}\n"
             "(llama.cpp out of llama-cpp-python). All linear layers in one type, the tied embedding in\n"
             "float32. llama.cpp quantizes and runs by its own code, which rounds activations to 8 bits;\n"
             "what bitsandbytes and HQQ make of the weights is decoded and run by transformers in\n"
             f"float32, whose perplexity without them is {float_perplexity:.4f} (Ounce's: "
             f"{ounce.float_perplexity():.4f}). Widths of 576 do not divide\nby 256: both llama.cpp and "
             "Ounce store those matrices in a fallback type, and bits say so.")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(
        {"about": about, "float_perplexity": float_perplexity, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
