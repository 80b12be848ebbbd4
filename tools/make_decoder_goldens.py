#!/usr/bin/env python3
"""Makes tests/golden/decoder: tiny checkpoints of each family of decoders, and
what transformers makes of them.

Each case is a folder <family>/<case>: config.json and weights, named and stored
as published checkpoints of the family are, plus
  expected.json  prompts (token ids), the 64 greedy tokens after each, and the
                 versions that made them
  logits.bin     float32, little-endian: [vocab_size] for each position of
                 each prompt, prompts in order

Weights are random, with a spread that makes every part of the network matter;
that each does is checked. transformers computes in float32, with eager
attention (but for one case), what it loads from the folder. The same versions
give the same weights and tokens:
  torch 2.13.0, transformers 4.57.6, safetensors 0.8.0

Usage: make_decoder_goldens.py [FAMILY[/CASE] ...]   (default: all)
"""

import copy
import dataclasses
import itertools
import json
import pathlib
import shutil
import sys
from typing import Callable

import safetensors.torch
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import no_init_weights

from decoder_goldens import VERSIONS, load, write_expected

OUT = pathlib.Path(__file__).parent.parent / "tests/golden/decoder"
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16

# So that what a test allows is for the order of sums alone.
MAX_ROUNDING = 2e-5


# How state dicts were named and what else they held, as published. Each takes
# the tensors of transformers' names and the config, and gives those of the file.


def without_prefix(prefix, buffers=None):
    def rename(state, config):
        state = buffers(state, config) if buffers else state
        return {name.removeprefix(prefix): value for name, value in state.items()}
    return rename


def with_masks(prefix, attention, dtype):
    """Causal masks, and the number for what they hide, in every layer."""
    def add(state, config):
        n = config.max_position_embeddings
        mask = torch.ones(n, n).tril().to(dtype).view(1, 1, n, n)
        for i in range(config.num_hidden_layers):
            state[f"{prefix}{i}.{attention}.bias"] = mask.clone()
            state[f"{prefix}{i}.{attention}.masked_bias"] = torch.tensor(-1e9)
        return state
    return add


def with_frequencies(prefix, attention, also=None):
    """Rotary frequencies in every layer, as computed at the time."""
    def add(state, config):
        state = also(state, config) if also else state
        frequencies = 10000.0 ** -torch.arange(0, 1, 0.25)
        for i in range(config.num_hidden_layers):
            state[f"{prefix}{i}.{attention}.rotary_emb.inv_freq"] = frequencies.clone()
        return state
    return add


def with_head_twice(embedding):
    """A tied head beside the embedding, as published Falcon has it."""
    return lambda state, config: {**state, "lm_head.weight": state[embedding].clone()}


def head_for_embedding(state, config):
    state["lm_head.weight"] = state.pop("model.embed_tokens.weight")
    return state


@dataclasses.dataclass
class Case:
    name: str
    dtype: torch.dtype
    fields: dict  # of the config
    form: str = "safetensors"  # or "bin"; "sharded safetensors", "sharded bin"
    rename: Callable = lambda state, config: state
    metadata: dict = dataclasses.field(default_factory=dict)  # of the safetensors file
    spread: dict = dataclasses.field(default_factory=dict)  # of a module, if not draw()'s
    attention: str = "eager"  # transformers' implementation
    shard: float = 5 / 8  # a shard's part of all bytes, at most
    # config.json's own spelling: new keys; None takes a key away.
    spelling: dict = dataclasses.field(default_factory=dict)


def gpt2_like(width, heads, **more):
    return {"n_embd": width, "n_head": heads, "n_layer": 2, "n_positions": 104, **more}


def neox_like(width, heads, **more):
    return {"hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": 2,
            "max_position_embeddings": 128, **more}


def llama_like(width, heads, kv_heads, inner, **more):
    return neox_like(width, heads, num_key_value_heads=kv_heads, intermediate_size=inner, **more)


def neo_like(width, heads, layers, attention_types, **more):
    return {"hidden_size": width, "num_heads": heads, "num_layers": layers,
            "attention_types": attention_types, "max_position_embeddings": 104, **more}


def small_ones(names, fields, **more):
    """For the names and the form of their files, which a name's end tells."""
    return [Case(name, dtype, {"vocab_size": 48, **fields},
                 ("sharded " if "shards" in name else "") +
                 ("bin" if name.endswith("bin") else "safetensors"), **more)
            for name, dtype in zip(names, itertools.cycle([F16, BF16]))]


FAMILIES = {
    "gpt2": [
        Case("published", F16, gpt2_like(36, 4), rename=without_prefix(
            "transformer.", with_masks("transformer.h.", "attn", torch.uint8))),
        # As Stanford's Mistral has them.
        Case("by_layer", F32, gpt2_like(
            24, 3, n_layer=3, n_inner=56, scale_attn_by_inverse_layer_idx=True,
            reorder_and_upcast_attn=True, activation_function="gelu",
            layer_norm_epsilon=0.05, tie_word_embeddings=False)),
        Case("unscaled_bin", BF16, gpt2_like(
            32, 4, scale_attn_weights=False, activation_function="relu"),
             "bin", with_masks("transformer.h.", "attn", torch.bool)),
        *small_ones(["shards", "shards_bin"], gpt2_like(16, 2, n_inner=24)),
        *small_ones(["no_prefix_bin", "no_prefix_shards", "no_prefix_shards_bin"],
                    gpt2_like(16, 2, n_inner=24), rename=without_prefix("transformer.")),
    ],
    "gpt_bigcode": [
        Case("multi_query_bin", F16, gpt2_like(36, 4, n_inner=72), "bin"),
        Case("multi_head", BF16, gpt2_like(
            32, 4, multi_query=False, scale_attn_weights=False, activation_function="gelu",
            layer_norm_epsilon=0.05, tie_word_embeddings=False)),
        *small_ones(["shards", "shards_bin"], gpt2_like(16, 2, n_inner=24)),
    ],
    "gptj": [
        Case("published_bin", F16, gpt2_like(36, 4, rotary_dim=4),
             "bin", with_masks("transformer.h.", "attn", torch.bool)),
        Case("tied", BF16, gpt2_like(
            32, 2, n_layer=3, rotary_dim=16, n_inner=40, activation_function="gelu",
            layer_norm_epsilon=0.05, tie_word_embeddings=True)),
        *small_ones(["shards", "shards_bin"], gpt2_like(16, 2, n_inner=24, rotary_dim=4)),
    ],
    "gpt_neox": [
        Case("parallel_bin", F16, neox_like(32, 2, intermediate_size=64),
             "bin", with_frequencies("gpt_neox.layers.", "attention", with_masks(
                 "gpt_neox.layers.", "attention", torch.bool))),
        Case("sequential", BF16, neox_like(
            36, 4, intermediate_size=60, rotary_pct=0.5, rotary_emb_base=500,
            use_parallel_residual=False, hidden_act="gelu_new", layer_norm_eps=0.05)),
        Case("linear_tied", F16, neox_like(
            32, 4, intermediate_size=64, rotary_pct=1.0, attention_bias=False,
            tie_word_embeddings=True, rope_scaling={"rope_type": "linear", "factor": 2.5})),
        *small_ones(["shards", "shards_bin"], neox_like(16, 2, intermediate_size=24)),
    ],
    "opt": [
        # 125m's form, 350m's, Galactica's.
        Case("pre_norm_bin", F16, neox_like(36, 4, ffn_dim=64), "bin", without_prefix("model.")),
        Case("post_norm_bin", F16, neox_like(
            32, 4, ffn_dim=64, do_layer_norm_before=False, word_embed_proj_dim=20), "bin"),
        Case("bare", BF16, neox_like(
            32, 2, ffn_dim=72, enable_bias=False, layer_norm_elementwise_affine=False,
            activation_function="gelu", tie_word_embeddings=False)),
        Case("no_final_norm", BF16, neox_like(
            32, 4, ffn_dim=48, _remove_final_layer_norm=True, word_embed_proj_dim=40),
             spread={"project_out": 0.1}),
        *small_ones(["shards", "shards_bin"], neox_like(16, 2, ffn_dim=24)),
        *small_ones(["old_names", "old_names_shards", "old_names_shards_bin"],
                    neox_like(16, 2, ffn_dim=24), rename=without_prefix("model.")),
    ],
    "phi": [
        Case("partial", BF16, neox_like(36, 3, intermediate_size=64)),
        Case("norms", F16, llama_like(
            40, 4, 2, 56, qk_layernorm=True, partial_rotary_factor=0.4, rope_theta=500.0,
            rope_scaling={"type": "dynamic", "factor": 2.0}, hidden_act="gelu",
            layer_norm_eps=0.05)),
        Case("linear_tied", F16, llama_like(
            32, 4, 1, 48, tie_word_embeddings=True,
            rope_scaling={"rope_type": "linear", "factor": 1.7})),
        *small_ones(["bin", "shards", "shards_bin"], neox_like(16, 2, intermediate_size=24)),
    ],
    "llama": [
        Case("gqa_bin", F16, llama_like(32, 4, 2, 52),
             "bin", with_frequencies("model.layers.", "self_attn")),
        Case("llama3_tied", BF16, llama_like(
            32, 2, 2, 48, tie_word_embeddings=True, head_dim=24, rope_theta=5000.0,
            rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                          "high_freq_factor": 4.0, "original_max_position_embeddings": 32})),
        Case("linear_biases_shards", F16, llama_like(
            32, 4, 4, 40, attention_bias=True, mlp_bias=True,
            rope_scaling={"type": "linear", "factor": 2.0}),
             "sharded safetensors", spelling={"rope_scaling": {"type": "linear", "factor": 2.0}}),
        Case("yarn_mqa", F16, llama_like(
            30, 3, 1, 40, hidden_act="gelu", rms_norm_eps=0.05,
            rope_scaling={"rope_type": "yarn", "factor": 4.0, "beta_fast": 16.0,
                          "original_max_position_embeddings": 32})),
        # As safetensors' save_model writes tied weights.
        Case("head_for_embedding", F32, llama_like(16, 4, 2, 40, tie_word_embeddings=True),
             rename=head_for_embedding,
             metadata={"model.embed_tokens.weight": "lm_head.weight"}),
    ],
    "mistral": [
        Case("window", BF16, llama_like(32, 4, 2, 48, sliding_window=8)),
        Case("no_window_shards_bin", F16, llama_like(
            32, 4, 1, 40, sliding_window=None, head_dim=10, rope_theta=1e6, rms_norm_eps=0.05,
            tie_word_embeddings=True),
             "sharded bin", with_head_twice("model.embed_tokens.weight")),
    ],
    "qwen2": [
        Case("tied", BF16, llama_like(
            32, 4, 2, 48, tie_word_embeddings=True, rope_theta=1e6, sliding_window=8,
            max_window_layers=1)),
        Case("upper_windows", F16, llama_like(
            24, 2, 1, 40, num_hidden_layers=3, use_sliding_window=True, sliding_window=9,
            max_window_layers=1, hidden_act="gelu", rms_norm_eps=0.05),
             spelling={"layer_types": None}),
        Case("named_windows", BF16, llama_like(
            24, 3, 3, 40, use_sliding_window=True, sliding_window=7,
            layer_types=["sliding_attention", "full_attention"],
            rope_scaling={"rope_type": "linear", "factor": 1.5})),
    ],
    "qwen3": [
        Case("tied_shards", BF16, llama_like(
            32, 4, 2, 48, tie_word_embeddings=True, head_dim=16, rope_theta=1e6),
             "sharded safetensors", with_head_twice("model.embed_tokens.weight")),
        Case("windows_yarn", F16, llama_like(
            30, 3, 1, 40, head_dim=12, attention_bias=True, use_sliding_window=True,
            sliding_window=8, max_window_layers=1, rms_norm_eps=0.05,
            rope_scaling={"rope_type": "yarn", "factor": 2.0, "mscale": 1.0,
                          "mscale_all_dim": 0.5, "original_max_position_embeddings": 64}),
             spelling={"layer_types": None}),
    ],
    "starcoder2": [
        Case("window", BF16, llama_like(32, 4, 2, 64, sliding_window=8)),
        Case("unbiased_shards_bin", F16, llama_like(
            36, 3, 1, 60, use_bias=False, tie_word_embeddings=False, rope_theta=1e5,
            rope_scaling={"rope_type": "linear", "factor": 2.0}, hidden_act="gelu",
            norm_epsilon=0.05), "sharded bin"),
        *small_ones(["bin", "shards"], llama_like(16, 2, 1, 24), shard=1 / 2),
    ],
    "gemma": [
        Case("mqa", BF16, llama_like(32, 4, 1, 48, head_dim=20)),
        Case("gqa_biases", F16, llama_like(
            28, 4, 2, 40, head_dim=6, attention_bias=True, tie_word_embeddings=False,
            hidden_act="gelu", rope_theta=500.0, rms_norm_eps=0.05)),
    ],
    "gemma2": [
        # Both caps bite. What a layer adds is normed, so embeddings are small beside it.
        Case("caps", BF16, llama_like(
            32, 4, 2, 48, head_dim=10, num_hidden_layers=3, sliding_window=8,
            query_pre_attn_scalar=24, attn_logit_softcapping=4.0, final_logit_softcapping=2.0),
             spread={"embed_tokens": 0.1}),
        Case("no_caps", F16, llama_like(
            28, 4, 1, 40, head_dim=6, attention_bias=True, tie_word_embeddings=False,
            hidden_activation="gelu", rope_theta=500.0, rms_norm_eps=0.05, sliding_window=9,
            query_pre_attn_scalar=6, layer_types=["full_attention", "sliding_attention"],
            attn_logit_softcapping=None, final_logit_softcapping=None)),
    ],
    "phi3": [
        Case("window", BF16, llama_like(32, 4, 4, 48, sliding_window=8)),
        Case("gqa_partial", F16, llama_like(
            40, 4, 2, 40, partial_rotary_factor=0.6, tie_word_embeddings=True, rope_theta=500.0,
            hidden_act="gelu_pytorch_tanh", rms_norm_eps=0.05)),
        *small_ones(["bin", "shards", "shards_bin"], llama_like(16, 2, 1, 24)),
    ],
    "olmo": [
        Case("gqa", BF16, llama_like(32, 4, 2, 48, rope_theta=500.0)),
        Case("tied_biases", F16, llama_like(
            36, 3, 3, 40, tie_word_embeddings=True, attention_bias=True,
            rope_scaling={"type": "linear", "factor": 2.0})),
    ],
    "gpt_neo": [
        # Scores are not divided.
        Case("published_bin", F16, neo_like(36, 4, 2, [[["global", "local"], 1]], window_size=6),
             "bin", with_masks("transformer.h.", "attn.attention", torch.bool),
             spread={"q_proj": 1.2, "k_proj": 1.2}),
        Case("local_first", BF16, neo_like(
            32, 2, 3, [[["local"], 2], [["global"], 1]], window_size=9, intermediate_size=40,
            activation_function="gelu", layer_norm_epsilon=0.05, tie_word_embeddings=False),
             spread={"q_proj": 1.2, "k_proj": 1.2}),
        *small_ones(["shards", "shards_bin"],
                    neo_like(16, 2, 2, [[["global", "local"], 1]], window_size=6,
                             intermediate_size=24),
                    spread={"q_proj": 1.2, "k_proj": 1.2}),
    ],
    "bloom": [
        Case("published_bin", F16, dict(hidden_size=42, n_head=6, n_layer=2),
             "bin", without_prefix("transformer."),
             spelling={"hidden_size": None, "n_embed": 42, "n_head": None,
                       "num_attention_heads": 6, "seq_length": 112}),
        Case("post_norm", BF16, dict(
            hidden_size=32, n_head=4, n_layer=2, apply_residual_connection_post_layernorm=True,
            layer_norm_epsilon=0.05, tie_word_embeddings=False)),
        *small_ones(["bin", "shards"], dict(hidden_size=20, n_head=4, n_layer=2)),
        *small_ones(["no_prefix_shards_bin"], dict(hidden_size=20, n_head=4, n_layer=2),
                    rename=without_prefix("transformer.")),
    ],
    "falcon": [
        # 7b's form, rw-1b's, 40b's, 11B's.
        Case("multi_query", BF16, neox_like(36, 3), rename=with_head_twice(
            "transformer.word_embeddings.weight")),
        Case("alibi", F16, neox_like(
            42, 6, ffn_hidden_size=80, alibi=True, multi_query=False, parallel_attn=False,
            bias=True, tie_word_embeddings=False),
             # Eager attention adds ALiBi twice, what transformers uses by itself once.
             attention="sdpa"),
        Case("two_norms_bin", BF16, neox_like(
            32, 4, num_kv_heads=2, ffn_hidden_size=72, new_decoder_architecture=True,
            layer_norm_epsilon=0.05), "bin", without_prefix("transformer.")),
        Case("one_norm", F16, neox_like(
            32, 4, num_kv_heads=1, ffn_hidden_size=64, new_decoder_architecture=True, bias=True,
            num_ln_in_parallel_attn=1, activation="gelu_new", rope_theta=500.0,
            rope_scaling={"rope_type": "linear", "factor": 2.0})),
        *small_ones(["no_prefix", "no_prefix_shards"], neox_like(16, 2, ffn_hidden_size=24),
                    rename=without_prefix("transformer."), shard=1 / 2),
        *small_ones(["two_norms_shards_bin"], neox_like(
            16, 2, num_kv_heads=1, ffn_hidden_size=24, new_decoder_architecture=True),
                    shard=1 / 2),
    ],
}


def draw(model, case, seed):
    """Values that the file's dtype has: sharp attention, blocks that outweigh
    neither each other nor the embedding, norms and biases unlike a fresh model's."""
    generator = torch.Generator().manual_seed(seed)
    norms = {f"{name}.weight" for name, module in model.named_modules()
             if "Norm" in type(module).__name__}
    gemma = model.config.model_type in ("gemma", "gemma2")  # adds 1 itself
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        wanted = next((v for part, v in case.spread.items() if part in name), None)
        if name in norms:
            noise = noise * 0.3 + (0 if gemma else 1)
        elif value.dim() == 1:
            noise = noise * 0.3
        elif "proj" not in name and ("embed" in name or "wte" in name or "wpe" in name):
            noise = noise * (wanted or 0.4)
        else:
            fan_in = value.shape[0] if "Conv1D" in str(type(model.get_submodule(
                name.rpartition(".")[0]))) else value.shape[1]
            noise = noise * ((wanted or 2.2) * fan_in ** -0.5)
        value.copy_(noise.to(case.dtype))


def save(folder, case, model):
    config = model.config
    state = dict(model.state_dict())
    if config.tie_word_embeddings:
        for name in model._tied_weights_keys:
            del state[name]
    state = case.rename({k: v.to(case.dtype) for k, v in state.items()}, config)
    if case.form.startswith("sharded"):
        model.save_pretrained(folder, state_dict=state,
                              safe_serialization="safetensors" in case.form,
                              max_shard_size=int(
                                  sum(v.nbytes for v in state.values()) * case.shard))
    else:
        config.save_pretrained(folder)
        if case.form == "bin":
            torch.save(state, folder / "pytorch_model.bin")
        else:
            safetensors.torch.save_file(state, folder / "model.safetensors",
                                        {"format": "pt", **case.metadata})
            (folder / "model.safetensors").chmod(0o644)
    file = folder / "config.json"
    written = json.loads(file.read_text())
    written["architectures"] = [type(model).__name__]
    written.update(case.spelling)
    written = {key: value for key, value in written.items()
               if key not in case.spelling or value is not None}
    file.write_text(json.dumps(written, indent=2) + "\n")


def rounding(folder, case, model, ids):
    """How far float32 takes a logit from what it is."""
    exact = load(folder, case.attention).double()
    for module in exact.modules():
        if hasattr(module, "reorder_and_upcast_attn"):
            module.reorder_and_upcast_attn = False  # the same in float32
    return float((exact(ids).logits - model(ids).logits).abs().max())


def check_every_part_matters(case, model, ids):
    usual = model(ids).logits
    for name, value in model.named_parameters():
        kept = value.clone()
        value.copy_(kept.roll(1, -1) if value.dim() == 1 else kept.flip(0))
        change = float((model(ids).logits - usual).abs().max())
        value.copy_(kept)
        # A constant added to all keys cancels out of attention, unless turned by position.
        if change < 0.02 and not name.endswith("k_proj.bias"):
            sys.exit(f"{case.name}: {name} does not matter ({change:.1e})")


def make_case(folder, family, case, seed):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fields = {"vocab_size": 96, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
              **copy.deepcopy(case.fields)}
    config = AutoConfig.for_model(family, **fields)
    with no_init_weights():  # OPT's own initialization trips over norms without weights
        made = AutoModelForCausalLM.from_config(config, attn_implementation=case.attention)
    made.tie_weights()
    made.config.dtype = case.dtype
    draw(made.eval(), case, seed)
    save(folder, case, made)
    model = load(folder, case.attention)
    ids = torch.arange(40)[None] * 7 % config.vocab_size
    if not torch.equal(model(ids).logits, made(ids).logits):
        sys.exit(f"{folder}: transformers loads something else")
    check_every_part_matters(case, model, ids)
    return rounding(folder, case, model, ids) < MAX_ROUNDING and write_expected(
        folder, model, seed, made_with=VERSIONS)


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    wanted = sys.argv[1:]
    for family, cases in FAMILIES.items():
        for case in cases:
            if wanted and family not in wanted and f"{family}/{case.name}" not in wanted:
                continue
            print(family, end=" ")
            seed = 1
            while not make_case(OUT / family / case.name, family, case, seed):
                seed += 1


if __name__ == "__main__":
    main()
