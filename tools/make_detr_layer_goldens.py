#!/usr/bin/env python3
"""Makes tests/golden/detr_layers/expected.json: what transformers makes of the
parts of DETR that have no weights.

  positions     height, width, size of DetrSinePositionEmbedding, and `rows` of
                its result: [row (y * width + x), its values]
  post_process  logits, boxes, original picture (height, width) and threshold,
                and what DetrImageProcessor.post_process_object_detection says

The same versions give the same bytes:
  torch 2.13.0, transformers 4.57.6

Usage: make_detr_layer_goldens.py [OUT]   (default: tests/golden/detr_layers)
"""

import json
import pathlib
import sys
import types

import torch
from transformers import DetrImageProcessor
from transformers.models.detr.modeling_detr import DetrSinePositionEmbedding

# height, width, size (both halves), rows that are kept
POSITIONS = [
    (1, 1, 8, [0]),
    (3, 5, 24, range(15)),
    (7, 2, 64, [0, 1, 5, 13]),
    (25, 34, 256, [0, 33, 400, 849]),
    (42, 42, 256, [41, 1763]),
]


def as_lists(tensor):
    """float32 to the nine digits that tell it from its neighbours."""
    if tensor.dim() == 0:
        return float(f"{tensor.item():.9g}")
    return [as_lists(part) for part in tensor]


def positions():
    cases = []
    for height, width, size, rows in POSITIONS:
        embedding = DetrSinePositionEmbedding(size // 2, normalize=True)
        mask = torch.ones(1, height, width, dtype=torch.long)
        values = embedding(torch.zeros(1), mask)[0].flatten(1).T
        cases.append(dict(height=height, width=width, size=size,
                          rows=[[row, as_lists(values[row])] for row in rows]))
    return cases


def post_process_case(logits, boxes, original, threshold):
    outputs = types.SimpleNamespace(logits=logits[None], pred_boxes=boxes[None])
    [result] = DetrImageProcessor().post_process_object_detection(
        outputs, threshold=threshold, target_sizes=[original])
    return dict(logits=as_lists(logits), boxes=as_lists(boxes),
                original=original, threshold=threshold,
                scores=as_lists(result["scores"]),
                labels=result["labels"].tolist(),
                corners=as_lists(result["boxes"]))


def post_process():
    generator = torch.Generator().manual_seed(7)

    def random(queries, labels, spread):
        return (torch.randn(queries, labels + 1, generator=generator) * spread,
                torch.rand(queries, 4, generator=generator))

    # Equal logits, and some whose probabilities are equal only when rounded.
    ties = torch.tensor([[2.0, 2.0, 1.0, 0.0], [0.0, 3.0, 3.0, 3.0],
                         [1.0, 1.0000001, 0.0, -9.0], [0.0, 0.0, 0.0, 20.0]])
    return [
        post_process_case(*random(12, 7, 3.0), (480, 640), 0.5),
        post_process_case(*random(10, 91, 6.0), (1, 3000), 0.9),
        post_process_case(*random(6, 1, 1.0), (37, 53), 0.0),
        post_process_case(ties, torch.rand(4, 4, generator=generator),
                          (100, 200), 0.25),
        post_process_case(*random(3, 2, 1e4), (64, 64), 0.99),
        post_process_case(*random(3, 2, 0.1), (64, 64), 0.99),
    ]


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                       "tests/golden/detr_layers")
    out.mkdir(parents=True, exist_ok=True)
    golden = dict(positions=positions(), post_process=post_process())
    (out / "expected.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
