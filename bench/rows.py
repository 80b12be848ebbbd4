"""The rows of `./run bench all`: what is measured, and what it should reach.

Targets are of the ratio to the best peer and of the share of the machine's limit, so that
they hold on any machine, but for those of the server itself. bench/report.py judges.
"""

import dataclasses

ISAS = ("avx2", "avx512", "amx")

# Each engine measured in a workload; what it gives is read off by the rows.
#   name: (streams, prompt tokens, new tokens)
WORKLOADS = {
    "1x32": (1, 32, 33), "1x128": (1, 128, 2), "1x512": (1, 512, 33), "1x1800": (1, 1800, 33),
    "8x32": (8, 32, 33), "32x32": (32, 32, 33), "64x32": (64, 32, 33),
    "1x16": (1, 16, 33), "32x16": (32, 16, 33),
}

# Ounce's plans, by the key of a row.
GROUPS_OF_64 = "linear:bits=4,granularity=group"
PLANS = {
    "int8": "linear",
    "a8": "linear:activations=8",
    "int8-head": "lm_head=linear linear",
    "g64": f"lm_head=linear {GROUPS_OF_64}",
    "nf4": "lm_head=linear bnb-nf4",
    "ks4": "lm_head=linear ks4",
    "bf16": "bfloat16",
    "q4_1": "@head=gguf-q8_0 gguf-q4_1",
    "q8_0": "@head=gguf-q8_0 gguf-q8_0",
}

TEXT_PEERS = ("ctranslate2-int8", "openvino-int8", "openvino-int4", "openvino-bfloat16",
              "openvino-float32", "onnxruntime-int8", "onnxruntime-float32",
              "transformers-bfloat16", "transformers-float32")
DETR_FLOAT_PEERS = ("detr-openvino-float32", "detr-onnxruntime-float32",
                    "detr-transformers-float32")
DETR_BFLOAT_PEERS = ("detr-openvino-bfloat16", "detr-transformers-bfloat16")


@dataclasses.dataclass(frozen=True)
class Target:
    """Of what: "peers" (the ratio to the best one is at least `value`), "limit" (the share of it
    is), the name of another row (the ratio to it is), or "itself" (the figure is at most that)."""
    of: str
    value: float

    def text(self):
        if self.of == "itself":
            return f"at most {self.value:g}"
        if self.of == "limit":
            return f"{self.value:.0%} of limit"
        return f"{self.value:g} x " + {"peers": "best peer"}.get(self.of, self.of)


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    model: str  # codegen, smollm2, gpt2, detr, server
    unit: str
    ounce: str  # a key of PLANS; of detr its precision
    workload: str = ""
    reads: str = ""  # decode, prefill, first: what of the workload's times; or what of the server
    peers: tuple = ()
    limit: str = ""  # memory, int8, bfloat16, float32, copy, file: what bounds it
    amx: tuple = ()  # targets by the best instruction set
    avx512: tuple = ()
    avx2: tuple = ()
    short: bool = False  # measured by --short too

    def targets(self, isa):
        return getattr(self, isa)


def peers(value):
    return (Target("peers", value),)


def limit(value):
    return (Target("limit", value),)


def everywhere(*targets):
    return {"amx": targets, "avx512": targets, "avx2": targets}


def _text(name, plan, workload, reads, limit_by, amx=(), avx512=None, short=False, among=TEXT_PEERS):
    """A row of CodeGen; on AVX2 alone it is as fast as the best peer."""
    unit = "ms" if reads == "first" else "tok/s"
    return Row(name, "codegen", unit, plan, workload, reads, among, limit_by, amx,
               amx if avx512 is None else avx512, peers(1), short)


HEAD_ROW = "decode, 1 stream, int8, head in 8 bits"
_four_bits = (*limit(0.8), Target(HEAD_ROW, 1.5))
_bfloat_peers = ("transformers-bfloat16", "openvino-bfloat16")

ROWS = [
    _text("decode, 1 stream, prompt 32, int8", "int8", "1x32", "decode", "memory", limit(0.85),
          short=True),
    _text("decode, 1 stream, prompt 512, int8", "int8", "1x512", "decode", "memory", limit(0.75),
          short=True),
    _text("decode, 1 stream, prompt 1800, int8", "int8", "1x1800", "decode", "memory", limit(0.75)),
    _text(HEAD_ROW, "int8-head", "1x32", "decode", "memory", short=True),
    _text("decode, 1 stream, 4 bits, linear g64", "g64", "1x32", "decode", "memory", _four_bits,
          short=True),
    _text("decode, 1 stream, 4 bits, bnb-nf4", "nf4", "1x32", "decode", "memory", _four_bits),
    _text("decode, 1 stream, 4 bits, ks4", "ks4", "1x32", "decode", "memory", _four_bits),
    _text("decode, 8 streams, int8", "int8", "8x32", "decode", "", peers(2), short=True),
    _text("decode, 32 streams, int8", "int8", "32x32", "decode", "", peers(2)),
    _text("decode, 64 streams, int8", "int8", "64x32", "decode", "", peers(2)),
    *(_text(f"prefill of {n}, int8, activations in {bits} bits", plan, f"1x{n}", "prefill", "int8",
            peers(3), peers(without_amx), n == 512)
      for n in (128, 512, 1800)
      for bits, plan, without_amx in ((16, "int8", 0.8), (8, "a8", 1.3))),
    *(_text(f"prefill of {n}, bfloat16", "bf16", f"1x{n}", "prefill", "bfloat16", peers(1.5),
            short=n == 512, among=_bfloat_peers)
      for n in (128, 512)),
    _text("time to first token, prompt 32, int8", "int8", "1x32", "first", "int8", peers(1),
          short=True),

    Row("SmolLM2-135M Q4_1, decode", "smollm2", "tok/s", "q4_1", "1x32", "decode",
        ("llamacpp-q4_1",), "memory", **everywhere(*peers(1.1)), short=True),
    Row("SmolLM2-135M Q4_1, prefill of 512", "smollm2", "tok/s", "q4_1", "1x512", "prefill",
        ("llamacpp-q4_1",), "int8", **everywhere(*peers(2)), short=True),
    Row("GPT-2 Q8_0, decode", "gpt2", "tok/s", "q8_0", "1x32", "decode",
        ("llamacpp-q8_0",), "memory"),
    Row("GPT-2 Q8_0, prefill of 512", "gpt2", "tok/s", "q8_0", "1x512", "prefill",
        ("llamacpp-q8_0",), "int8"),

    Row("DETR-R50, 800 x 1066, bfloat16", "detr", "ms", "bfloat16", peers=DETR_BFLOAT_PEERS,
        limit="bfloat16", amx=peers(1.3), avx512=peers(1), avx2=peers(1), short=True),
    Row("DETR-R50, 800 x 1066, float32", "detr", "ms", "float32", peers=DETR_FLOAT_PEERS,
        limit="float32", **everywhere(*peers(1)), short=True),
    Row("DETR-R50, 800 x 1066, int8", "detr", "ms", "int8", limit="int8",
        **everywhere(Target("DETR-R50, 800 x 1066, bfloat16", 2)), short=True),

    Row("outside the model, of a step, 1 stream", "server", "%", "int8", "1x16", "outside",
        **everywhere(Target("itself", 3)), short=True),
    Row("outside the model, of a step, 32 streams", "server", "%", "int8", "32x16", "outside",
        **everywhere(Target("itself", 10))),
    Row("live quantization to int8", "server", "GB/s", "int8", reads="quantization", limit="copy",
        **everywhere(*limit(0.6)), short=True),
    Row("longest wait of a stream meanwhile", "server", "ms", "int8", reads="wait",
        **everywhere(Target("itself", 50)), short=True),
    Row("start to first token", "server", "ms", "int8", reads="start", limit="file",
        **everywhere(*limit(0.5)), short=True),
]
