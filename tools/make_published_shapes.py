#!/usr/bin/env python3
"""Makes tests/golden/published: configs of published models, and the names and
shapes of their tensors, for figures that follow from these alone.

The models are made by transformers 4.57.6 on torch's meta device, so there are
no weights. (DETR's are in tests/golden/detr/full_size.)

Usage: make_published_shapes.py
"""

import json
import pathlib

import torch
from transformers import (CodeGenConfig, CodeGenForCausalLM, GPT2Config, GPT2LMHeadModel,
                          OPTConfig, OPTForCausalLM)

OUT = pathlib.Path(__file__).parent.parent / "tests/golden/published"

MODELS = {
    "gpt2": (GPT2LMHeadModel, GPT2Config()),
    "opt-350m": (OPTForCausalLM,
                 OPTConfig(hidden_size=1024, word_embed_proj_dim=512, ffn_dim=4096,
                           num_hidden_layers=24, num_attention_heads=16,
                           do_layer_norm_before=False)),
    "codegen-350M-mono": (CodeGenForCausalLM,
                          CodeGenConfig(vocab_size=51200, n_positions=2048, n_embd=1024,
                                        n_layer=20, n_head=16, rotary_dim=32)),
}


def main():
    for name, (model_class, config) in MODELS.items():
        config.architectures = [model_class.__name__]
        with torch.device("meta"):
            model = model_class(config)
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(folder)
        # Tied ones once.
        lines = [f"{json.dumps(key)}: {list(p.shape)}" for key, p in model.named_parameters()]
        (folder / "tensors.json").write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()
