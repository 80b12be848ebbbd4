#!/usr/bin/env python3
"""Makes tests/golden/perplexity/expected.json: how well models predict the texts
beside it, by transformers in float32, in windows as proto/ounce/v1/model_admin.proto
says of TextQuality.

`page` is what the script of transformers' page on the perplexity of fixed-length
models gives. It weighs a window by a token less than its mean is of: the same for a
single window, close by for long strides, and far off for short ones (with a stride of
1 only the first window is left).

With VERSIONS of decoder_goldens.py, and tokenizers 0.22.2.

Usage: make_perplexity_goldens.py TINYSTORIES
  the folder of TinyStories-656K.
"""

import json
import math
import pathlib
import sys

import torch
from transformers import AutoTokenizer

from decoder_goldens import VERSIONS, load

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = ROOT / "tests/golden"
OUT = GOLDEN / "perplexity/expected.json"
# Name, folder, text, windows and strides. Without a text: token ids.
TEXTS = [
    ("codegen_tiny", ROOT / "embedded/codegen-tiny", "code.txt",
     [(512, 256), (128, 64), (100, 100), (64, 7)]),
    ("codegen_bfloat16", GOLDEN / "codegen/bfloat16", "code.txt", [(128, 64), (33, 11)]),
    ("tinystories", None, "story.txt", [(512, 256), (512, 512), (128, 64), (50, 1)]),
]
IDS = ["gpt2/published", "llama/yarn_mqa", "mistral/window", "gemma2/caps"]
NUM_IDS, IDS_WINDOWS = 300, [(100, 50), (64, 64), (17, 5)]


@torch.no_grad()
def perplexity(model, ids, window, stride):
    losses, page_sum, page_tokens = [], 0.0, 0
    covered = 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        logits = model(torch.tensor([ids[begin:end]])).logits[0].double()
        chosen = torch.tensor(ids[begin + 1:end])
        costs = -logits[:-1].log_softmax(-1)[torch.arange(len(chosen)), chosen]
        counted = min(end - covered, len(chosen))
        last = costs[len(chosen) - counted:]
        losses += [(begin + 1 + len(chosen) - counted + i, c) for i, c in enumerate(last.tolist())]
        page_sum += last.mean().item() * (end - covered - 1)
        page_tokens += end - covered - 1
        covered = end
        if end == len(ids):
            break
    mean = math.fsum(c for _, c in losses) / len(losses)
    worst, cost = max(losses, key=lambda x: x[1])
    return {"window": window, "stride": stride, "counted_tokens": len(losses), "mean": mean,
            "perplexity": math.exp(mean), "worst_index": worst, "worst_id": ids[worst],
            "worst": cost, "page": math.exp(page_sum / page_tokens)}


def main():
    torch.set_num_threads(2)
    texts = []
    for name, folder, file, windows in TEXTS:
        folder = folder or pathlib.Path(sys.argv[1])
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer((OUT.parent / file).read_text()).input_ids
        bos = tokenizer("").input_ids
        model = load(folder)
        texts.append({"name": name, "text": file, "tokens": len(ids),
                      "bos": tokenizer.decode(bos),
                      "windows": [perplexity(model, ids, *w) for w in windows]})
        print(json.dumps(texts[-1], indent=1))
    id_cases = []
    for name in IDS:
        folder = GOLDEN / "decoder" / name
        model = load(folder)
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(0, model.config.vocab_size, (NUM_IDS,), generator=generator).tolist()
        id_cases.append({"folder": name, "ids": ids,
                         "windows": [perplexity(model, ids, *w) for w in IDS_WINDOWS]})
        print(json.dumps(id_cases[-1]["windows"], indent=1))
    OUT.write_text(json.dumps({"made_with": VERSIONS, "texts": texts, "ids": id_cases}) + "\n")


if __name__ == "__main__":
    main()
