#!/usr/bin/env python3
"""Makes tests/golden/rope/*.json: what transformers makes of a config's rotary
embedding.

  config        what config.json says of it, for heads of `head_dim`
  frequencies   of the pairs, and `magnitude`
  positions     and `cos` and `sin` of all pairs, times the magnitude, at each

Other CPUs give other last digits, since torch's powf is not the same on all.
  torch 2.13.0, transformers 4.57.6

Usage: make_rope_goldens.py [OUT]   (default: tests/golden/rope)
"""

import json
import pathlib
import sys

import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

POSITIONS = [1, 63, 8191]
HEAD_DIM = 20

CASES = {
    "default": {"rope_theta": 10000.0},
    "default_base_million": {"rope_theta": 1000000.0},
    "partial": {"rope_theta": 10000.0, "partial_rotary_factor": 0.4},
    "linear": {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "linear_by_three": {"rope_scaling": {"rope_type": "linear", "factor": 3}},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0},
                "max_position_embeddings": 8192},
    "llama3": {
        "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
                         "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192}},
    "llama3_uneven": {
        "rope_theta": 10000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 3.3,
                         "low_freq_factor": 1.3, "high_freq_factor": 5.1,
                         "original_max_position_embeddings": 700}},
    "yarn": {
        "rope_theta": 1000000.0,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                         "original_max_position_embeddings": 2048}},
    "yarn_from_positions": {
        "max_position_embeddings": 1024,
        "rope_scaling": {"type": "yarn", "factor": 2.5}},
    "yarn_betas": {
        "rope_scaling": {"rope_type": "yarn", "factor": 16.0, "beta_fast": 24.5,
                         "beta_slow": 2, "truncate": False,
                         "original_max_position_embeddings": 4096}},
    "yarn_mscale": {
        "rope_scaling": {"rope_type": "yarn", "factor": 40, "mscale": 0.707,
                         "mscale_all_dim": 1.2, "beta_fast": 0,
                         "original_max_position_embeddings": 4096}},
    "yarn_attention_factor": {
        "rope_scaling": {"rope_type": "yarn", "factor": 8.0,
                         "attention_factor": 0.9, "mscale": 2.0,
                         "original_max_position_embeddings": 512}},
    # The slope begins and ends at the first pair.
    "yarn_no_slope": {
        "rope_scaling": {"rope_type": "yarn", "factor": 2.0,
                         "original_max_position_embeddings": 6}},
}


def digits(tensor):
    """float32 to the nine digits that tell it from its neighbours."""
    return [float(f"{value:.9g}") for value in tensor.flatten().tolist()]


def golden(changes):
    settings = {"max_position_embeddings": 8192, **changes}
    # A copy, since LlamaConfig writes into rope_scaling.
    config = LlamaConfig(hidden_size=2 * HEAD_DIM, num_attention_heads=2,
                         **json.loads(json.dumps(settings)))
    rope = LlamaRotaryEmbedding(config)
    pairs = rope.inv_freq.shape[0]
    cos, sin = rope(torch.zeros(1), torch.tensor([POSITIONS]))
    return {
        "config": settings,
        "head_dim": HEAD_DIM,
        "frequencies": digits(rope.inv_freq),
        "magnitude": digits(torch.tensor(float(rope.attention_scaling)))[0],
        "positions": POSITIONS,
        "cos": digits(cos[0, :, :pairs]),
        "sin": digits(sin[0, :, :pairs]),
    }


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 \
        else root / "tests/golden/rope"
    folder.mkdir(parents=True, exist_ok=True)
    for name, changes in CASES.items():
        (folder / f"{name}.json").write_text(
            json.dumps(golden(changes)) + "\n")


if __name__ == "__main__":
    main()
