#!/usr/bin/env python3
"""Makes tests/golden/bnb4/*: what bitsandbytes' CPU path makes of a matrix in 4
bits.

  weights.bf16          [20, 577] bfloat16, normal with some outliers
  TYPE_BLOCK.codes      a byte each, in the order of the matrix
  TYPE_BLOCK.absmax     float32 each
  nf4_64_double.indexes, .nested (largest of 256, then the offset)
  map.f32               the 256 entries of the map of double quantization

The CPU path differs from the reference's kernels in two ways, in which the
kernels are followed: on fp4's thresholds, which it knows to other digits, it
takes the lower value and not the lower magnitude (values near one are put
right here); and of two entries of the map that are about as near it may take
the farther one (the nearest is written, the other checked to be its neighbour).
  torch 2.13.0, bitsandbytes 0.50.2

Usage: make_bnb4_goldens.py [OUT]   (default: tests/golden/bnb4)
"""

import pathlib
import sys

import torch
from bitsandbytes import functional

ROWS, COLS = 20, 577
# The codes of the magnitudes below and above each.
FP4_THRESHOLDS = {0.00260417: (0, 1), 0.0859375: (1, 6), 0.20833333: (6, 7),
                  0.29166667: (7, 4), 0.4166667: (4, 5), 0.583333: (5, 2),
                  0.8333333: (2, 3)}


def weights():
    generator = torch.Generator().manual_seed(4)
    matrix = 0.05 * torch.randn(ROWS, COLS, generator=generator)
    matrix[3, 100:110] *= 12
    matrix[7] *= 0.01
    matrix[11] = 0
    return matrix.to(torch.bfloat16)


def unpacked(packed, count):
    packed = packed.reshape(-1)
    return torch.stack([packed >> 4, packed & 15], 1).reshape(-1)[:count]


def as_kernels_do(codes, values, absmax, block):
    scaled = values.reshape(-1) * (1 / absmax.clamp(min=1e-38)).repeat_interleave(
        block)[:values.numel()]
    for threshold, (below, above) in FP4_THRESHOLDS.items():
        near = (scaled.abs() - threshold).abs() < 1e-6
        codes[near] = torch.where(
            scaled[near].abs() > torch.tensor(threshold), above, below).to(
                torch.uint8)
    # Which of 0 and 8 zero gets is left to how a sort treats equal keys.
    zeros = (codes & 7) == 0
    codes[zeros] = 0
    codes[values.reshape(-1) < 0] |= 8
    return codes


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1
                       else "tests/golden/bnb4")
    out.mkdir(parents=True, exist_ok=True)
    stored = weights()
    values = stored.float()

    def write(name, tensor):
        (out / name).write_bytes(tensor.contiguous().numpy().tobytes())

    write("weights.bf16", stored.view(torch.int16))
    for kind, block in [("nf4", 64), ("nf4", 4096), ("fp4", 64), ("fp4", 512)]:
        packed, state = functional.quantize_4bit(values, blocksize=block,
                                                 quant_type=kind)
        codes = unpacked(packed, values.numel())
        if kind == "fp4":
            codes = as_kernels_do(codes, values, state.absmax, block)
        write(f"{kind}_{block}.codes", codes)
        write(f"{kind}_{block}.absmax", state.absmax)
    fresh = functional.create_dynamic_map()
    write("map.f32", fresh)
    packed, state = functional.quantize_4bit(
        values, blocksize=64, quant_type="nf4", compress_statistics=True)
    absmax = functional.quantize_4bit(values, blocksize=64,
                                      quant_type="nf4")[1].absmax
    scaled = (absmax - state.offset) / state.state2.absmax
    indexes = (scaled[:, None] - fresh[None]).abs().argmin(1)
    assert ((indexes - state.absmax.long()).abs() <= 1).all()
    assert (indexes != state.absmax).sum() <= 1
    write("nf4_64_double.indexes", indexes.to(torch.uint8))
    write("nf4_64_double.nested",
          torch.cat([state.state2.absmax, state.offset.reshape(1)]))


if __name__ == "__main__":
    main()
