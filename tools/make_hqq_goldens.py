#!/usr/bin/env python3
"""Makes tests/golden/hqq/*: what the package hqq makes of a matrix, in float32
on the CPU, groups of 64 of a row (axis 1).

  weights.f32          [24, 320] float32, normal; some rows with outliers
  BITS.codes           a byte each, in the order of the matrix
  BITS.scales, .zeros  float32 each, of the groups
  torch 2.13.0, hqq 0.2.8.post1

Usage: make_hqq_goldens.py [OUT]   (default: tests/golden/hqq)
"""

import pathlib
import sys

import torch
from hqq.core.quantize import Quantizer


def weights():
    generator = torch.Generator().manual_seed(8)
    matrix = 0.05 * torch.randn(24, 320, generator=generator)
    matrix[5, 70:75] *= 15
    # Errors so large that not all of them shrink to nothing.
    matrix[9] *= 60
    matrix[14] += 0.2
    return matrix


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1
                       else "tests/golden/hqq")
    out.mkdir(parents=True, exist_ok=True)
    stored = weights()

    def write(name, tensor):
        (out / name).write_bytes(tensor.contiguous().numpy().tobytes())

    write("weights.f32", stored)
    for bits in [8, 4, 3, 2, 1]:
        codes, meta = Quantizer.quantize(
            stored, nbits=bits, group_size=64, axis=1, bitpack=False,
            device="cpu")
        write(f"{bits}.codes", codes.to(torch.uint8))
        write(f"{bits}.scales", meta["scale"])
        write(f"{bits}.zeros", meta["zero"])


if __name__ == "__main__":
    main()
