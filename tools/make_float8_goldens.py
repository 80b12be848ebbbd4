#!/usr/bin/env python3
"""Makes tests/golden/float8/*: what torch's float8 types make of a matrix over
its scales.

  weights.bf16            [130, 132] bfloat16, normal; small and large rows
  FORMAT_GRANULARITY.codes, .scales
  FORMAT.ties             float32: all levels, and values on and beside all
                          borders between them; and FORMAT.ties.codes
  torch 2.13.0

Usage: make_float8_goldens.py [OUT]   (default: tests/golden/float8)
"""

import pathlib
import sys

import torch

TYPES = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}


def weights():
    generator = torch.Generator().manual_seed(8)
    matrix = 0.05 * torch.randn(130, 132, generator=generator)
    matrix[5] *= 1e-3
    matrix[9, 7] = 3
    matrix[70] = 0
    return matrix.to(torch.bfloat16)


def largest(matrix, granularity):
    magnitude = matrix.abs()
    if granularity == "channel":
        return magnitude.amax(1, keepdim=True)
    blocks = torch.empty((matrix.shape[0] + 127) // 128,
                         (matrix.shape[1] + 127) // 128)
    for row in range(blocks.shape[0]):
        for col in range(blocks.shape[1]):
            blocks[row, col] = magnitude[row * 128:(row + 1) * 128,
                                         col * 128:(col + 1) * 128].max()
    return blocks


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1
                       else "tests/golden/float8")
    out.mkdir(parents=True, exist_ok=True)
    stored = weights()
    matrix = stored.float()

    def write(name, tensor):
        (out / name).write_bytes(tensor.contiguous().numpy().tobytes())

    write("weights.bf16", stored.view(torch.int16))
    for name, dtype in TYPES.items():
        for granularity in ["channel", "block"]:
            if (name, granularity) == ("e5m2", "channel"):
                continue
            scales = largest(matrix, granularity) / torch.finfo(dtype).max
            scales[scales == 0] = 1
            spread = scales if granularity == "channel" else (
                scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
                [:matrix.shape[0], :matrix.shape[1]])
            codes = (matrix / spread).to(dtype).view(torch.uint8)
            write(f"{name}_{granularity}.codes", codes)
            write(f"{name}_{granularity}.scales", scales)
        levels = torch.arange(0, 128, dtype=torch.uint8).view(dtype).float()
        levels = levels[levels.isfinite()]
        borders = (levels[1:] + levels[:-1]) / 2
        ties = torch.cat([levels, borders,
                          torch.nextafter(borders, torch.tensor(1e9)),
                          torch.nextafter(borders, torch.tensor(0.0))])
        ties = torch.cat([ties, -ties])
        write(f"{name}.ties", ties)
        write(f"{name}.ties.codes", ties.to(dtype).view(torch.uint8))


if __name__ == "__main__":
    main()
