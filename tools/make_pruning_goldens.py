#!/usr/bin/env python3
"""Makes tests/golden/pruning: which weights torch's own pruning zeroes.

masks.json has a matrix of float32 ("weights", row by row) and, by spec of a
stage, its mask of the same order: "1" for a weight that is kept.

The same version gives the same masks: torch 2.13.0

Usage: make_pruning_goldens.py
"""

import json
import pathlib

import torch
from torch.ao.pruning import WeightNormSparsifier
from torch.nn.utils import prune

OUT = pathlib.Path(__file__).parent.parent / "tests/golden/pruning"
ROWS, COLS = 13, 20  # 260 weights: some counts end in a half


def magnitude(weights, sparsity):
    return prune.L1Unstructured(sparsity).compute_mask(weights, torch.ones_like(weights))


def two_of_four(weights):
    layer = torch.nn.Linear(COLS, ROWS, bias=False)
    layer.weight.data = weights.clone()
    model = torch.nn.Sequential(layer)
    sparsifier = WeightNormSparsifier(sparsity_level=1.0, sparse_block_shape=(1, 4),
                                      zeros_per_block=2)
    sparsifier.prepare(model, [{"tensor_fqn": "0.weight"}])
    sparsifier.step()
    return model[0].parametrizations.weight[0].mask


def main():
    torch.manual_seed(1)
    weights = torch.randn(ROWS, COLS)
    masks = {"prune-24": two_of_four(weights)}
    for sparsity in (0.05, 0.25, 0.5, 0.675, 0.9):
        name = f"prune-magnitude:sparsity={sparsity}"
        masks[name] = magnitude(weights, sparsity)
        masks[name + ",per=row"] = torch.stack([magnitude(row, sparsity) for row in weights])
    OUT.mkdir(parents=True, exist_ok=True)
    text = json.dumps({
        "rows": ROWS,
        "cols": COLS,
        "weights": [float(w) for w in weights.flatten()],
        "masks": {
            name: "".join(str(int(kept)) for kept in mask.flatten())
            for name, mask in masks.items()
        },
    }, indent=1)
    (OUT / "masks.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
