#!/usr/bin/env python3
"""Makes tests/golden/codegen_tiny/expected.json: what transformers makes of embedded/codegen-tiny.

Prompts, their token ids, and up to 64 greedy tokens after each, computed in float32 from the
folder's float16 weights; they end early with an end-of-text. Made with torch 2.13.0 and
transformers 4.57.6.

Usage: make_tiny_goldens.py [MODEL_FOLDER [OUT]]
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, CodeGenForCausalLM

NEW_TOKENS = 64
# Greedy tokens must not hang on the last bits of a logit.
MIN_MARGIN = 1e-3
PROMPTS = ["def read_lines(path):\n", "class Stack:\n", "import os\n", "try:\n", "for i in range(",
           "with open(path) as f:\n"]


@torch.no_grad()
def greedy(model, ids, eot):
    """Tokens and the smallest lead that one had over the runner-up."""
    tokens, margin, past, step = [], float("inf"), None, torch.tensor([ids])
    while len(tokens) < NEW_TOKENS and tokens[-1:] != [eot]:
        out = model(step, past_key_values=past, use_cache=True)
        best = out.logits[0, -1].topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        tokens.append(best.indices[0].item())
        past, step = out.past_key_values, best.indices[None, :1]
    return tokens, margin


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "embedded/codegen-tiny")
    out = Path(sys.argv[2] if len(sys.argv) > 2 else "tests/golden/codegen_tiny/expected.json")
    torch.set_num_threads(1)
    model = CodeGenForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    cases = []
    for text in PROMPTS:
        ids = tokenizer(text).input_ids
        tokens, margin = greedy(model, ids, tokenizer.eos_token_id)
        print(f"{text!r}: {len(tokens)} tokens, margin {margin:.2g}\n{tokenizer.decode(tokens)}")
        if margin < MIN_MARGIN:
            raise SystemExit("too close a choice: change the prompt")
        cases.append({"text": text, "prompt": ids, "greedy": tokens})
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
