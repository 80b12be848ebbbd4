#!/usr/bin/env python3
"""Makes tests/golden/codegen: tiny CodeGen checkpoints and what transformers
makes of them.

Each case is a servable model folder (config.json, weights, tokenizer.json)
plus
  expected.json  prompts (token ids) and the 64 greedy tokens after each
  logits.bin     float32, little-endian: [vocab_size] for each position of
                 each prompt, prompts in order

Weights are random, with a spread that makes every part of the network matter.
The same versions give the same weights and tokens:
  torch 2.13.0, transformers 4.57.6, tokenizers 0.22.2

Usage: make_codegen_goldens.py [CASE ...]   (default: all)
"""

import json
import pathlib
import shutil
import sys

import tokenizers
import torch
from transformers import CodeGenConfig, CodeGenForCausalLM

from decoder_goldens import write_expected

OUT = pathlib.Path(__file__).parent.parent / "tests/golden/codegen"

MERGES = """Ġ Ġ|ĠĠ ĠĠ|ĠĠĠĠ ĠĠĠĠ|Ġ t|h e|i n|r e|o n|a t|e r|d e|de f|s e|se l|sel f|
Ġ =|r n|e l|re t|ret u|retu rn|m p|i mp|o r|imp or|impor t|c l|a s|cl as|clas s|
Ġt he|i f|f or|Ġ in|l e|n e|w h|i le|wh ile|( )|) :|Ċ Ċ""".replace("\n", "").split("|")

CASES = [
    # name, dtype, tied, form, config
    ("float32", torch.float32, False, "safetensors",
     dict(n_embd=32, n_head=4, rotary_dim=4, n_positions=128)),
    ("float16_odd_head", torch.float16, False, "safetensors",
     dict(n_embd=48, n_head=4, rotary_dim=10, n_positions=112, n_inner=100)),
    ("bfloat16", torch.bfloat16, False, "safetensors",
     dict(n_embd=64, n_head=4, rotary_dim=16, n_positions=128)),
    ("tied_bin", torch.float16, True, "bin",
     dict(n_embd=64, n_head=8, rotary_dim=8, n_positions=104, n_inner=72)),
    ("shards", torch.float16, False, "sharded safetensors",
     dict(n_embd=16, n_head=4, rotary_dim=4, n_positions=104, n_inner=24)),
    ("tied_shards_bin", torch.bfloat16, True, "sharded bin",
     dict(n_embd=16, n_head=4, rotary_dim=4, n_positions=104, n_inner=24)),
]


def make_tokenizer():
    """Byte-level BPE like GPT-2's: 256 bytes, a few merges, end of text."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    tokens = alphabet + [a + b for a, b in merges]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def make_model(config, seed):
    torch.manual_seed(seed)
    model = CodeGenForCausalLM(config)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            spread = 0.4 if "h." in name and "weight" in name else 0.3
            tensor.copy_(torch.randn_like(tensor) * spread)
            if "ln_" in name and name.endswith("weight"):
                tensor.add_(1.0)
    if config.tie_word_embeddings:
        model.tie_weights()
    return model.eval()


def save_bin(model, config, folder):
    """As old transformers did, mask buffers included."""
    state = model.state_dict()
    positions = config.n_positions
    mask = torch.tril(torch.ones(positions, positions, dtype=torch.bool))
    for layer in range(config.n_layer):
        prefix = f"transformer.h.{layer}.attn."
        state[prefix + "causal_mask"] = mask.view(
            1, 1, positions, positions).clone()
        state[prefix + "masked_bias"] = torch.tensor(-1e9)
    torch.save(state, folder / "pytorch_model.bin")


@torch.no_grad()
def make_case(folder, dtype, tied, form, seed, fields):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer()
    eos = tokenizer.token_to_id("<|endoftext|>")
    config = CodeGenConfig(vocab_size=304, n_layer=2, tie_word_embeddings=tied,
                           bos_token_id=eos, eos_token_id=eos, **fields)
    # Values must be those that the file holds.
    model = make_model(config, seed).to(dtype)
    config.save_pretrained(folder)
    if form == "bin":
        save_bin(model, config, folder)
        saved = json.loads((folder / "config.json").read_text())
        saved["architectures"] = ["CodeGenForCausalLM"]
        (folder / "config.json").write_text(json.dumps(saved, indent=2) + "\n")
    elif form.startswith("sharded"):
        # The first shard ends inside a layer.
        size = sum(value.nbytes for value in model.parameters())
        model.save_pretrained(folder, safe_serialization="safetensors" in form,
                              max_shard_size=size * 9 // 16)
    else:
        model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))

    model = CodeGenForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return write_expected(folder, model.eval(), seed)


def main():
    torch.set_num_threads(1)
    wanted = sys.argv[1:]
    for name, dtype, tied, form, fields in CASES:
        if wanted and name not in wanted:
            continue
        seed = 1
        while not make_case(OUT / name, dtype, tied, form, seed, fields):
            seed += 1


if __name__ == "__main__":
    main()
