#!/usr/bin/env python3
"""Makes tests/golden/{tinystories,smollm2}/expected.json: how two trained models
go on greedily, by transformers in float32. Their weights stay where they are.

With VERSIONS of decoder_goldens.py, and tokenizers 0.22.2.

Usage: make_published_goldens.py tinystories|smollm2 DIR
  DIR is TinyStories-656K's folder, or what tools/smollm2.py wrote.
"""

import json
import pathlib
import sys

import torch
from transformers import AutoTokenizer

from decoder_goldens import MIN_MARGIN, VERSIONS, greedy, load

GOLDEN = pathlib.Path(__file__).parent.parent / "tests/golden"
# Prompts, and tokens after each.
MODELS = {
    "tinystories": (100, [
        "Once upon a time",
        "Once upon a time, there was a little girl named Lily",
    ]),
    "smollm2": (64, [
        "The capital of France is",
        "def fibonacci(n):\n",
        "<|im_start|>user\nName three colours of 2 letters or more.<|im_end|>\n"
        "<|im_start|>assistant\n",
    ]),
}


@torch.no_grad()
def main():
    name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    count, prompts = MODELS[name]
    model, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    cases = []
    for prompt in prompts:
        ids = tokenizer(prompt).input_ids
        tokens, margin = greedy(model, ids, count)
        if margin < MIN_MARGIN:
            sys.exit(f"{prompt!r}: a margin of only {margin:.1e}")
        text = tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
        print(repr(prompt), ids, f"{margin:.1e}", repr(text))
        cases.append({"prompt": prompt, "ids": ids, "greedy": tokens, "text": text})
    out = GOLDEN / name / "expected.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"made_with": VERSIONS, "cases": cases}, ensure_ascii=False,
                              indent=1) + "\n")


if __name__ == "__main__":
    main()
