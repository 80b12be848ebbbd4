#!/usr/bin/env python3
"""Makes tests/golden/bnb_int8: a weight in LLM.int8, and products with it, by
bitsandbytes 0.50.2 on the CPU (torch 2.13.0).

On the CPU its layer dequantizes and multiplies floats; the product with 8-bit
activations and outlier columns is asked for by its autograd function, which is what
layers on a GPU run. x is float32 of values that float16 has, one row at a time.

Files are raw little-endian arrays: weight.f32 [ROWS, COLS], codes.i8 [ROWS, COLS],
scb.f32 [ROWS], x.f32 [INPUTS, COLS], and by threshold y_6.f32, y_0.f32 [INPUTS, ROWS].

Usage: make_bnb_int8_goldens.py
"""

import logging
import pathlib

import bitsandbytes
import numpy as np
import torch
from bitsandbytes.autograd._functions import MatMul8bitLt, MatmulLtState

OUT = pathlib.Path(__file__).parent.parent / "tests/golden/bnb_int8"
ROWS, COLS, INPUTS = 21, 150, 6


def weight():
    values = torch.randn(ROWS, COLS, generator=torch.Generator().manual_seed(1))
    values *= torch.logspace(-3, 2, ROWS)[:, None]
    # Half steps: to nearest even of 127 steps.
    values[3] = (torch.arange(COLS) % 127) - 63 + 0.5
    values[3, 0] = 127
    # Numbers that float16 has among its smallest, and rounds to its largest.
    values[5] = values[5].sign() * torch.arange(COLS) * 2.0**-25
    values[6, 7] = -65519
    # All the same but for one.
    values[8] = 0.3
    values[8, 149] = -0.7
    return values


def inputs():
    values = torch.randn(INPUTS, COLS, generator=torch.Generator().manual_seed(2))
    values[1, 17] = 60
    values[1, 130] = -35
    values[2, [0, 5, 64, 149]] = torch.tensor([6.0, -6.0, 5.99, 1000])
    values[3] *= 5  # many
    values[4] *= 100  # nearly all
    values[5] = 0
    values[5, 66] = -7
    return values.half().float()


def main():
    assert bitsandbytes.__version__ == "0.50.2", bitsandbytes.__version__
    logging.disable(logging.WARNING)
    w, x = weight(), inputs()
    codes, scb, _ = torch.ops.bitsandbytes.int8_vectorwise_quant(w.half())
    products = {}
    for threshold in (6, 0):
        rows = []
        for i in range(INPUTS):
            state = MatmulLtState()
            state.CB, state.SCB = codes, scb
            state.has_fp16_weights = False
            state.threshold = float(threshold)
            rows.append(MatMul8bitLt.apply(x[i : i + 1], None, None, None, state))
        products[threshold] = torch.cat(rows)
    OUT.mkdir(parents=True, exist_ok=True)
    for name, values, dtype in [
        ("weight.f32", w, np.float32),
        ("codes.i8", codes, np.int8),
        ("scb.f32", scb, np.float32),
        ("x.f32", x, np.float32),
        ("y_6.f32", products[6], np.float32),
        ("y_0.f32", products[0], np.float32),
    ]:
        array = values.numpy()
        assert array.dtype == dtype, (name, array.dtype)
        (OUT / name).write_bytes(array.tobytes())


if __name__ == "__main__":
    main()
