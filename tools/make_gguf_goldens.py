#!/usr/bin/env python3
"""Makes tests/golden/gguf: weights, the blocks of GGUF that ggml makes of them,
and what these are worth.

  weights.f32     float32, rows of 256
  TYPE.blocks     all rows in that type
  TYPE.f32        the values of the first rows' blocks, float32

Blocks are made by ggml's own library (PyPI's libggml-python), without an
importance matrix. Where PyPI's gguf package can quantize, its bytes are the
same; its values of the blocks are the same for all types. Both are asserted
here.

  pip install gguf==0.19.0 libggml-python==0.20.2.post1
"""

import ctypes
import importlib.resources
import pathlib

import gguf
import gguf.quants
import numpy as np

FOLDER = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "gguf"
TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
         "Q6_K", "IQ4_NL", "IQ4_XS", "TQ2_0"]
QUANTIZED_BY_GGUF = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ2_0"}
COLS = 256
VALUE_ROWS = 4


def weights():
    random = np.random.default_rng(1)
    normal = random.normal(0, 0.02, (16, COLS))
    huge = normal[1].copy()
    huge[100] = 30000
    tiny = normal[2].copy() * 1e-6  # scales are subnormal in float16
    mixed = normal[3].copy()
    mixed[::3] = random.uniform(-1e-38, 1e-38, mixed[::3].shape)  # subnormal
    mixed[1::16] = -0.0
    halves = np.round(normal[4] * 100) / 8  # ties
    heavy = np.clip(random.standard_cauchy(COLS) * 0.01, -100, 100)
    sparse = np.where(random.uniform(0, 1, COLS) < 0.1, normal[5], 0)
    one = np.zeros(COLS)
    one[77] = -0.125
    # Where the best scale or the last change of a code is the last that is
    # tried: in Q3_K; IQ4, first and last; Q6_K, Q4_K; Q5_K; Q2_K.
    late = [np.random.default_rng(seed).normal(0, 0.02, COLS)
            for seed in (416, 44, 71, 110, 509, 11)]
    return np.stack([
        normal[0], huge, mixed, np.full(COLS, -0.7), np.full(COLS, 0.3),
        tiny, halves, heavy, sparse, one, np.zeros(COLS), np.abs(normal[6]),
        np.where(np.arange(COLS) % 2, 0.5, -0.5), *late,
    ]).astype(np.float32)


def ggml():
    library = importlib.resources.files("libggml") / "lib64"
    base = ctypes.CDLL(str(library / "libggml-base.so"))
    base.ggml_quantize_chunk.restype = ctypes.c_size_t
    base.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
        ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    return base


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    base = ggml()
    data = weights()
    data.tofile(FOLDER / "weights.f32")
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = np.zeros((len(data), COLS // block * size), np.uint8)
        written = base.ggml_quantize_chunk(
            kind.value, data.ctypes.data, blocks.ctypes.data, 0, len(data),
            COLS, None)
        assert written == blocks.nbytes
        if name in QUANTIZED_BY_GGUF:
            assert np.array_equal(gguf.quants.quantize(data, kind), blocks), name
        values = gguf.quants.dequantize(blocks, kind).astype(np.float32)
        blocks.tofile(FOLDER / f"{name.lower()}.blocks")
        values[:VALUE_ROWS].tofile(FOLDER / f"{name.lower()}.f32")


if __name__ == "__main__":
    main()
