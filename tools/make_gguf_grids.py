#!/usr/bin/env python3
"""Writes model/checkpoint/gguf_grids.inc: the grids of GGUF's IQ types.

A grid's entry stands for eight magnitudes (four, of IQ3) out of few; an entry here
holds their indexes, 2 bits each (3, of IQ3), the first in the lowest. Read out of
the package gguf, which has them from ggml's ggml-common.h (MIT):

  pip install gguf==0.19.0
"""

import pathlib

from gguf import quants

OUT = pathlib.Path(__file__).parent.parent / "model/checkpoint/gguf_grids.inc"
GRIDS = {"kIq2Xxs": quants.IQ2_XXS, "kIq2Xs": quants.IQ2_XS, "kIq2S": quants.IQ2_S,
         "kIq3Xxs": quants.IQ3_XXS, "kIq3S": quants.IQ3_S, "kIq1": quants.IQ1_S}


def entries(kind):
    kind.init_grid()
    bits = 3 if len(kind.grid_map) == 8 else 2
    for row in kind.grid.reshape(kind.grid_shape):
        yield sum(kind.grid_map.index(int(value)) << bits * i for i, value in enumerate(row))


def main():
    text = "// Written by tools/make_gguf_grids.py; do not edit.\n"
    for name, kind in GRIDS.items():
        numbers = [f"0x{entry:04x}" for entry in entries(kind)]
        text += f"constexpr uint16_t {name}Grid[{len(numbers)}] = {{\n"
        for i in range(0, len(numbers), 9):
            text += "    " + ", ".join(numbers[i:i + 9]) + ",\n"
        text += "};\n"
    OUT.write_text(text)


if __name__ == "__main__":
    main()
