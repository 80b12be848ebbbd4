#!/usr/bin/env python3
"""Holds GGUF files that Ounce has saved to other people's programs: the package
gguf, transformers and llama.cpp.

For each file it prints a row, and says what is wrong if something is:

  bytes    tensors whose bytes are those that the package gguf makes of the
           source's floats, under its own names; and those that it cannot make
           (K types), which are compared with llama.cpp's quantization
  tokens   lines of the text whose ids llama.cpp and transformers agree on
  logits   how far llama.cpp's are from transformers' of the source's floats,
           relative to their norm (llama.cpp rounds activations to 8 bits)
  greedy   tokens that llama.cpp takes as transformers does, of 96
  ppl      llama.cpp's perplexity on the text, and after it that of the file
           that llama.cpp's own quantization of the same floats is

  pip install torch==2.13.0 transformers==4.57.6 safetensors==0.8.0 gguf==0.19.0 \\
      llama-cpp-python==0.3.36

  ounce save MODEL f32 --format gguf --method float32          (the floats)
  ounce save MODEL q4_1 --format gguf --plan '@embedding=gguf-q8_0 gguf-q4_1'
  check_saved_gguf.py SOURCE --floats f32 --text TEXT q4_1 ...

Usage: check_saved_gguf.py SOURCE [--floats SAVED] [--text FILE] SAVED ...
SOURCE is the folder that was saved, of floats; SAVED a folder or a file.
Without --floats and --text what they are for is left out.
"""

import argparse
import collections
import ctypes
import math
import pathlib
import re
import sys
import tempfile

import gguf
import llama_cpp
import numpy
import torch
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize, quantize
from transformers import AutoModelForCausalLM, AutoTokenizer

from make_gguf_model_goldens import all_then_all, alternate

WINDOW, SCORED = 256, 12  # tokens; windows of the text
FILE_TYPES = {T.F16: 1, T.Q4_0: 2, T.Q4_1: 3, T.Q8_0: 7, T.Q5_0: 8, T.Q5_1: 9, T.Q2_K: 10,
              T.Q3_K: 11, T.Q4_K: 14, T.Q5_K: 16, T.Q6_K: 18, T.IQ4_NL: 25, T.IQ4_XS: 30,
              T.BF16: 32, T.TQ2_0: 37}
MADE = {T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.TQ2_0}


@llama_cpp.llama_log_callback
def say_nothing(*_):
    """What llama.cpp tells of its work."""


def file_of(saved):
    path = pathlib.Path(saved)
    return path / "model.gguf" if path.is_dir() else path


def wanted_tensors(model, arch):
    """Of transformers' weights: GGUF's name, and the floats as llama.cpp's converters
    turn them."""
    config = model.config
    names = gguf.get_tensor_name_map(
        next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == arch), config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name.endswith((".attn.bias", ".masked_bias", ".inv_freq")):
            continue
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        module, kind = name.rsplit(".", 1)
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            sys.exit(f"gguf has no name for {name}")
        weight = weight.to(torch.float32)
        heads = config.num_attention_heads
        if arch == "llama" and module.endswith("q_proj"):
            weight = alternate(weight, heads)
        if arch == "llama" and module.endswith("k_proj"):
            weight = alternate(weight, config.num_key_value_heads)
        if arch == "gptneox" and module.endswith("query_key_value"):
            weight = all_then_all(weight, heads)
        if arch == "gemma" and module.endswith("norm"):
            weight = weight + 1
        if arch == "gpt2" and re.search(r"c_(attn|proj|fc)$", module) and kind == "weight":
            weight = weight.t()
        yield target, weight.contiguous().numpy()


def check_bytes(path, model):
    """Compares tensors with what the package makes of the floats."""
    reader = gguf.GGUFReader(path)
    arch = reader.get_field("general.architecture").contents()
    found = {tensor.name: tensor for tensor in reader.tensors}
    for tensor in reader.tensors:
        if not numpy.isfinite(dequantize(tensor.data, tensor.tensor_type)).all():
            sys.exit(f"{path}: {tensor.name} has values that are no numbers")
    same, unmade = 0, []
    for name, floats in wanted_tensors(model, arch):
        tensor = found.pop(name, None)
        if tensor is None:
            sys.exit(f"{path}: has no {name}")
        kind = T(tensor.tensor_type)
        if kind not in MADE:
            unmade.append(name)
            continue
        made = quantize(floats, kind)
        if bytes(made.tobytes()) != bytes(tensor.data.tobytes()):
            sys.exit(f"{path}: {name}: bytes of {kind.name} are not the package's")
        same += 1
    found.pop("rope_freqs.weight", None)
    if found:
        sys.exit(f"{path}: has {', '.join(found)}, which the source has not")
    return reader, same, unmade


def load(path, context=WINDOW):
    return llama_cpp.Llama(str(path), n_ctx=context, n_batch=context, logits_all=True,
                           verbose=False, n_threads=2)


def logits_of(llama, ids):
    llama.reset()
    llama.eval(ids)
    return numpy.array(llama.scores[:len(ids)], dtype=numpy.float64)


def compare_outputs(llama, model):
    """How far logits are apart, and how many of 96 greedy tokens are the same."""
    generator = torch.Generator().manual_seed(3)
    far, same = 0.0, 0
    for _ in range(4):
        ids = torch.randint(0, model.config.vocab_size, (16,), generator=generator).tolist()
        with torch.no_grad():
            theirs = model(torch.tensor([ids])).logits[0].double().numpy()
            taken = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)),
                                   max_new_tokens=24, do_sample=False)[0].tolist()
        ours = logits_of(llama, ids)
        far = max(far, float(numpy.linalg.norm(ours - theirs) / numpy.linalg.norm(theirs)))
        # Each after the same tokens, so that one that differs counts once.
        steps = logits_of(llama, taken)[len(ids) - 1:-1].argmax(1)
        same += int((steps == numpy.array(taken[len(ids):])).sum())
    return far, same


def compare_tokens(llama, source, text):
    tokenizer = AutoTokenizer.from_pretrained(source)
    lines = [line for line in text.split("\n") if line.strip()][:400]
    same = sum(llama.tokenize(line.encode(), add_bos=False, special=True)
               == tokenizer(line, add_special_tokens=False).input_ids for line in lines)
    return same, len(lines)


def perplexity(llama, text):
    """Of the second halves of windows, as llama-perplexity does it."""
    ids = llama.tokenize(text.encode(), add_bos=False, special=False)
    total, count = 0.0, 0
    for start in range(0, min(len(ids) - WINDOW, WINDOW * SCORED), WINDOW):
        window = ids[start:start + WINDOW]
        scores = logits_of(llama, window)
        for i in range(WINDOW // 2, WINDOW - 1):
            row = scores[i] - scores[i].max()
            total += math.log(numpy.exp(row).sum()) - row[window[i + 1]]
            count += 1
    return math.exp(total / count)


def quantized_by_llama_cpp(floats, reader, folder):
    """The same types of the same floats."""
    kinds = {tensor.name: T(tensor.tensor_type) for tensor in reader.tensors}
    embedding = kinds["token_embd.weight"]
    most = collections.Counter(
        kind for name, kind in kinds.items() if name.startswith("blk.") and
        name.endswith(("ffn_up.weight", "attn_q.weight", "attn_qkv.weight", "ffn_down.weight")))
    names = {str(T(kind).name) for kind in kinds.values()}
    # What was asked for: a type may stand in where blocks do not divide a width.
    asked = next((kind for kind in (T.Q4_K, T.Q5_K, T.Q6_K, T.Q2_K, T.Q3_K, T.IQ4_XS, T.TQ2_0)
                  if kind.name in names), most.most_common(1)[0][0])
    if asked == T.F32:
        return None
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[asked]
    params.pure = True
    params.token_embedding_type = int(embedding)
    params.output_tensor_type = int(kinds.get("output.weight", embedding))
    path = pathlib.Path(folder) / f"{asked.name}.gguf"
    if llama_cpp.llama_model_quantize(str(floats).encode(), str(path).encode(),
                                      ctypes.byref(params)) != 0:
        sys.exit(f"llama.cpp does not quantize {floats}")
    return path


def same_bytes(reader, path):
    """How many tensors of two files are the same to the byte, and how many are not."""
    others = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    same = sum(tensor.tensor_type == others[tensor.name].tensor_type and
               tensor.data.tobytes() == others[tensor.name].data.tobytes()
               for tensor in reader.tensors)
    return same, len(others) - same


def check(path, args, model, text):
    reader, same, unmade = check_bytes(path, model)
    counts = collections.Counter(T(tensor.tensor_type).name for tensor in reader.tensors)
    row = [path.parent.name, " ".join(f"{n}×{kind}" for kind, n in counts.items()),
           f"{same} + {len(unmade)}"]
    llama = load(path)
    if text is None:
        row.append("")
    far, greedy = compare_outputs(llama, model)
    if text is not None:
        right, lines = compare_tokens(llama, args.source, text)
        row.append(f"{right}/{lines}")
    row += [f"{far:.5f}", f"{greedy}/96"]
    if text is not None:
        ours = perplexity(llama, text)
        row.append(f"{ours:.4f}")
        if args.floats:
            with tempfile.TemporaryDirectory() as folder:
                other = quantized_by_llama_cpp(file_of(args.floats), reader, folder)
                if other is not None:
                    equal, unequal = same_bytes(reader, other)
                    theirs = perplexity(load(other), text)
                    row.append(f"{theirs:.4f} ({equal} of {equal + unequal} tensors the same)")
                    if abs(ours - theirs) > 0.01 * theirs:
                        sys.exit(f"{path}: perplexity {ours:.4f} is over 1 % from {theirs:.4f}")
    print("| " + " | ".join(row) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("--floats")
    parser.add_argument("--text")
    parser.add_argument("saved", nargs="+")
    args = parser.parse_args()
    llama_cpp.llama_log_set(say_nothing, ctypes.c_void_p(0))
    model = AutoModelForCausalLM.from_pretrained(args.source, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None  # all are taken to the end
    text = pathlib.Path(args.text).read_text() if args.text else None
    print("| file | tensors | bytes | tokens | logits | greedy | ppl | llama.cpp's own |\n"
          "|---|---|---|---|---|---|---|---|")
    for saved in args.saved:
        check(file_of(saved), args, model, text)


if __name__ == "__main__":
    main()
