#!/usr/bin/env python3
"""Makes a CodeGen checkpoint of random weights in Hugging Face layout.

The shapes and names are transformers' own; the values are drawn so that the
model behaves like one: greedy decoding wanders through the vocabulary and never
ends the text by itself, and every part of the network changes the logits. The
same arguments and versions give the same bytes. Needs torch, transformers and
safetensors; memory about the size of the weights.
"""

import argparse
import pathlib
import shutil
import sys

import safetensors.torch
import torch
from transformers import CodeGenConfig, CodeGenForCausalLM, GenerationConfig

PRESETS = {
    # Salesforce/codegen-350M-mono's.
    "codegen-350m": dict(vocab_size=51200, n_positions=2048, n_ctx=2048, n_embd=1024, n_layer=20,
                         n_head=16, rotary_dim=32, bos_token_id=1, eos_token_id=50256),
    # The same in everything but size, for tests.
    "codegen-small": dict(vocab_size=512, n_positions=256, n_ctx=256, n_embd=64, n_layer=2,
                          n_head=4, rotary_dim=8, bos_token_id=1, eos_token_id=2),
}
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
# Standard deviations of the matrices, times sqrt(inputs). Attention is sharp and
# each block adds little: with equal gains twenty blocks of attention average the
# past away, and greedy decoding repeats a handful of tokens.
GAINS = {"qkv_proj": 2.5, "out_proj": 0.15, "fc_in": 1.25, "fc_out": 0.3, "lm_head": 1.25}
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
                   "added_tokens.json", "special_tokens_map.json"]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("preset", choices=PRESETS, help="the configuration")
    parser.add_argument("folder", type=pathlib.Path, help="where to write; made if it is not there")
    parser.add_argument("--format", choices=["safetensors", "bin"], default="safetensors",
                        help="model.safetensors, or pytorch_model.bin by torch.save")
    parser.add_argument("--dtype", choices=DTYPES, default="float16", help="of the weights")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--layers", type=int, help="blocks, instead of the preset's")
    parser.add_argument("--with-masks", action="store_true",
                        help="add the causal_mask buffers that old files have "
                        "(2048 x 2048 bytes a block in codegen-350m)")
    parser.add_argument("--tokenizer", type=pathlib.Path, metavar="DIR",
                        help="copy the tokenizer files of this folder")
    arguments = parser.parse_args()
    if arguments.layers is not None and arguments.layers < 1:
        parser.error("--layers: 1 or more")
    if arguments.tokenizer is not None and not any(
            (arguments.tokenizer / name).exists() for name in TOKENIZER_FILES):
        parser.error(f"--tokenizer: no tokenizer files in {arguments.tokenizer}")
    return arguments


def draw(name, shape, config, generator):
    """Values of one parameter, float32."""
    noise = torch.randn(shape, generator=generator)
    if name == "lm_head.bias":
        noise *= 0.1
        noise[config.eos_token_id] = -100.0  # greedy decoding goes on for ever
        return noise
    if "ln_" in name:
        return noise.mul_(0.1).add_(1.0 if name.endswith("weight") else 0.0)
    if name.endswith("bias"):
        return noise.mul_(0.02)
    if name == "transformer.wte.weight":
        return noise.mul_(0.5)
    gain = next(gain for part, gain in GAINS.items() if part in name)
    return noise.mul_(gain / shape[-1] ** 0.5)


def make_weights(config, dtype, seed):
    with torch.device("meta"):
        shapes = {name: value.shape
                  for name, value in CodeGenForCausalLM(config).state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    return {name: draw(name, shape, config, generator).to(dtype)
            for name, shape in shapes.items()}


def make_masks(config):
    n = config.n_positions
    mask = torch.tril(torch.ones(n, n, dtype=torch.bool)).view(1, 1, n, n)
    return {f"transformer.h.{i}.attn.causal_mask": mask.clone() for i in range(config.n_layer)}


def main():
    arguments = parse_arguments()
    fields = dict(PRESETS[arguments.preset])
    if arguments.layers is not None:
        fields["n_layer"] = arguments.layers
    config = CodeGenConfig(tie_word_embeddings=False, architectures=["CodeGenForCausalLM"],
                           dtype=arguments.dtype, **fields)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(arguments.folder)
    GenerationConfig.from_model_config(config).save_pretrained(arguments.folder)
    if arguments.tokenizer is not None:
        for name in TOKENIZER_FILES:
            if (arguments.tokenizer / name).exists():
                shutil.copy(arguments.tokenizer / name, arguments.folder)

    tensors = make_weights(config, DTYPES[arguments.dtype], arguments.seed)
    parameters = sum(value.numel() for value in tensors.values())
    parameter_bytes = sum(value.nbytes for value in tensors.values())
    if arguments.with_masks:
        tensors.update(make_masks(config))
    # A folder made before may hold the other form, which would be read first.
    for old in ["model.safetensors", "pytorch_model.bin"]:
        (arguments.folder / old).unlink(missing_ok=True)
    if arguments.format == "safetensors":
        path = arguments.folder / "model.safetensors"
        safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
        path.chmod(0o644)  # the library makes it readable by its owner alone
    else:
        path = arguments.folder / "pytorch_model.bin"
        torch.save(tensors, path)
    print(f"{path}: {len(tensors)} tensors, {path.stat().st_size:,} bytes; {parameters:,} "
          f"parameters in {arguments.dtype} = {parameter_bytes:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
