#!/usr/bin/env python3
"""Makes a checkpoint of random weights in Hugging Face layout: a decoder or DETR.

Configurations, shapes and names are those of the published one; the values are
drawn so that the model behaves like one. Decoders: greedy decoding wanders through
the vocabulary and never ends the text by itself. DETR: what comes out hangs on the
picture, yet rounding changes it little; queries, which nobody trained to look
elsewhere, nearly agree. Every part of the network changes what comes out. The same
arguments and versions give the same bytes. Needs torch and transformers; memory
about the size of the largest tensor in float32, or with --format bin of the
weights.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import shutil
import struct
import sys
from typing import Callable

import torch
from transformers import (AutoConfig, AutoModelForCausalLM, CodeGenConfig, CodeGenForCausalLM,
                          DetrConfig, DetrForObjectDetection, DetrImageProcessor, GenerationConfig,
                          ResNetConfig)

CODEGEN = {
    # Salesforce/codegen-350M-mono's.
    "codegen-350m": dict(vocab_size=51200, n_positions=2048, n_ctx=2048, n_embd=1024, n_layer=20,
                         n_head=16, rotary_dim=32, bos_token_id=1, eos_token_id=50256),
    # The same in everything but size, for tests.
    "codegen-small": dict(vocab_size=512, n_positions=256, n_ctx=256, n_embd=64, n_layer=2,
                          n_head=4, rotary_dim=8, bos_token_id=1, eos_token_id=2),
}
# Other decoders: the dtype, and the config's fields that are not its class's defaults.
OPT = dict(model_type="opt", max_position_embeddings=2048, vocab_size=50272, activation_function="relu",
           pad_token_id=1, bos_token_id=2, eos_token_id=2)
LLAMA = dict(model_type="llama", rms_norm_eps=1e-5, tie_word_embeddings=True)
DECODERS = {
    # openai-community/gpt2's.
    "gpt2": ("float16", dict(
        model_type="gpt2", vocab_size=50257, n_positions=1024, n_embd=768, n_layer=12, n_head=12,
        bos_token_id=50256, eos_token_id=50256)),
    # facebook/opt-125m's and opt-350m's.
    "opt-125m": ("float16", dict(
        OPT, hidden_size=768, num_hidden_layers=12, ffn_dim=3072, num_attention_heads=12,
        word_embed_proj_dim=768, do_layer_norm_before=True)),
    "opt-350m": ("bfloat16", dict(
        OPT, hidden_size=1024, num_hidden_layers=24, ffn_dim=4096, num_attention_heads=16,
        word_embed_proj_dim=512, do_layer_norm_before=False)),
    # HuggingFaceTB/SmolLM2-135M's.
    "smollm2-135m": ("bfloat16", dict(
        LLAMA, vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192,
        rope_theta=100000, bos_token_id=0, eos_token_id=0)),
    # meta-llama/Llama-3.2-1B's.
    "llama-1b": ("bfloat16", dict(
        LLAMA, vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
        num_attention_heads=32, num_key_value_heads=8, head_dim=64, max_position_embeddings=131072,
        rope_theta=500000.0, bos_token_id=128000, eos_token_id=128001,
        rope_scaling=dict(rope_type="llama3", factor=32.0, low_freq_factor=1.0,
                          high_freq_factor=4.0, original_max_position_embeddings=8192))),
}
DETR = ["detr-resnet-50"]  # facebook/detr-resnet-50's
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
# Standard deviations of the matrices, times sqrt(inputs). Attention is sharp and
# each block adds little: with equal gains twenty blocks of attention average the
# past away, and greedy decoding repeats a handful of tokens.
GAINS = {"qkv_proj": 2.5, "out_proj": 0.15, "fc_in": 1.25, "fc_out": 0.3, "lm_head": 1.25}
# The same of other decoders' matrices, the first name that fits. Of two products
# that are multiplied, both are as large.
DECODER_GAINS = {"c_attn": 2.5, "q_proj": 2.5, "k_proj": 2.5, "v_proj": 1.0, "mlp.c_proj": 0.3,
                 "c_proj": 0.15, "out_proj": 0.15, "o_proj": 0.15, "c_fc": 1.25, "fc1": 1.25,
                 "fc2": 0.3, "gate_proj": 1.25, "up_proj": 1.0, "down_proj": 0.3, "project": 1.0}
# The same for DETR; convolutions keep the size of what a ReLU lets through.
DETR_GAINS = {"q_proj": 2.0, "k_proj": 2.0, "class_labels_classifier": 3.0,
              "bbox_predictor": 1.5, "input_projection": 0.5}
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
                   "added_tokens.json", "special_tokens_map.json"]
# COCO's categories by id, with the gaps that its ids have.
COCO_LABELS = """
N/A|person|bicycle|car|motorcycle|airplane|bus|train|truck|boat|traffic light|fire hydrant|street sign|
stop sign|parking meter|bench|bird|cat|dog|horse|sheep|cow|elephant|bear|zebra|giraffe|hat|backpack|
umbrella|shoe|eye glasses|handbag|tie|suitcase|frisbee|skis|snowboard|sports ball|kite|baseball bat|
baseball glove|skateboard|surfboard|tennis racket|bottle|plate|wine glass|cup|fork|knife|spoon|bowl|
banana|apple|sandwich|orange|broccoli|carrot|hot dog|pizza|donut|cake|chair|couch|potted plant|bed|mirror|
dining table|window|desk|toilet|door|tv|laptop|mouse|remote|keyboard|cell phone|microwave|oven|toaster|
sink|refrigerator|blender|book|clock|vase|scissors|teddy bear|hair drier|toothbrush
""".replace("\n", "").split("|")
# Ids that COCO's objects never have; the published config calls them so.
COCO_GAPS = {0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("preset", choices=[*CODEGEN, *DECODERS, *DETR], help="the configuration")
    parser.add_argument("folder", type=pathlib.Path, help="where to write; made if it is not there")
    parser.add_argument("--format", choices=["safetensors", "bin"], default="safetensors",
                        help="model.safetensors, or pytorch_model.bin by torch.save")
    parser.add_argument("--dtype", choices=DTYPES, default=argparse.SUPPRESS,
                        help="of the weights (default: as published, or 16 bits of it)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--layers", type=int, help="decoders: blocks, instead of the preset's")
    parser.add_argument("--with-masks", action="store_true",
                        help="CodeGen: add the causal_mask buffers that old files have "
                        "(2048 x 2048 bytes a block in codegen-350m)")
    parser.add_argument("--tokenizer", type=pathlib.Path, metavar="DIR",
                        help="decoders: copy the tokenizer files of this folder")
    parser.add_argument("--naming", choices=["transformers", "timm"], default="transformers",
                        help="DETR: the names of the backbone's tensors; facebook/detr-resnet-50 "
                        "has timm's, and transformers' in its revision no_timm")
    arguments = parser.parse_args()
    if arguments.preset in DETR and (arguments.layers is not None or
                                     arguments.tokenizer is not None):
        parser.error("--layers and --tokenizer are for decoders")
    if arguments.preset not in CODEGEN and arguments.with_masks:
        parser.error("--with-masks is for CodeGen")
    if arguments.preset not in DETR and arguments.naming != "transformers":
        parser.error("--naming is for DETR")
    if "dtype" not in arguments:
        published = {preset: dtype for preset, (dtype, _) in DECODERS.items()}
        arguments.dtype = published.get(
            arguments.preset, "float32" if arguments.preset in DETR else "float16")
    if arguments.layers is not None and arguments.layers < 1:
        parser.error("--layers: 1 or more")
    if arguments.tokenizer is not None and not any(
            (arguments.tokenizer / name).exists() for name in TOKENIZER_FILES):
        parser.error(f"--tokenizer: no tokenizer files in {arguments.tokenizer}")
    return arguments


def draw_codegen(name, shape, config, generator):
    """Values of one parameter, float32."""
    noise = torch.randn(shape, generator=generator)
    if name == "lm_head.bias":
        noise *= 0.1
        noise[config.eos_token_id] = -100.0  # greedy decoding goes on for ever
        return noise
    if "ln_" in name:
        return noise.mul_(0.1).add_(1.0 if name.endswith("weight") else 0.0)
    if name.endswith("bias"):
        return noise.mul_(0.02)
    if name == "transformer.wte.weight":
        return noise.mul_(0.5)
    gain = next(gain for part, gain in GAINS.items() if part in name)
    return noise.mul_(gain / shape[-1] ** 0.5)


def draw_detr(name, shape, _, generator):
    """Values of one parameter or buffer, float32."""
    noise = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return noise.mul_(0.2).exp_()
    if name.endswith("running_mean"):
        return noise.mul_(0.2)
    if len(shape) == 1:
        return noise.mul_(0.1).add_(0.9 if name.endswith("weight") else 0.0)
    if name == "model.query_position_embeddings.weight":
        return noise
    if name.endswith("convolution.weight"):
        return noise.mul_((2 / (shape[1] * shape[2] * shape[3])) ** 0.5)
    gain = next((gain for part, gain in DETR_GAINS.items() if part in name), 1.0)
    return noise.mul_(gain / shape[1] ** 0.5)


def draw_decoder(name, shape, config, generator):
    """Values of one parameter of any other decoder, float32."""
    noise = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        if not name.endswith("weight"):
            return noise.mul_(0.02)
        # Of mixed signs, so that the tied head does not repeat the token it saw.
        if re.search(r"ln_f|model\.norm|decoder\.final_layer_norm", name):
            return noise
        return noise.mul_(0.1).add_(1.0)
    if re.search("wte|embed_tokens", name):
        noise[config.eos_token_id] = 0  # never the best: greedy decoding goes on for ever
        return noise.mul_(0.1)
    if re.search("wpe|embed_positions", name):
        return noise.mul_(0.05)
    gain = next(gain for part, gain in DECODER_GAINS.items() if part in name)
    inputs = shape[0] if config.model_type == "gpt2" else shape[1]  # which has Conv1D's order
    return noise.mul_(gain / inputs ** 0.5)


@dataclasses.dataclass
class Tensor:
    """One of a file, made when it is written; in the order of the list."""
    name: str
    shape: tuple
    dtype: torch.dtype
    make: Callable
    is_parameter: bool = True

    def nbytes(self):
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def parameters_of(model_class, config, draw, arguments):
    with torch.device("meta"):
        model = model_class(config)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        for name in model._tied_weights_keys or []:
            shapes.pop(name, None)
    generator = torch.Generator().manual_seed(arguments.seed)
    dtype = DTYPES[arguments.dtype]
    return [Tensor(name, shape, dtype,
                   lambda name=name, shape=shape: draw(name, shape, config, generator).to(dtype))
            for name, shape in shapes.items()]


def causal_masks(pattern, positions, layers, dtype):
    shape = (1, 1, positions, positions)
    return [Tensor(pattern.format(i), shape, dtype,
                   lambda: torch.ones(positions, positions).tril().to(dtype).view(shape), False)
            for i in range(layers)]


def timm_name(name):
    """A tensor's name in DETR checkpoints whose backbone is timm's resnet."""
    name = name.replace("embedder.embedder.convolution", "conv1")
    name = name.replace("embedder.embedder.normalization", "bn1")
    name = re.sub(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.",
                  lambda match: f"layer{int(match[1]) + 1}.{match[2]}.", name)
    name = re.sub(r"layer\.(\d+)\.convolution", lambda match: f"conv{int(match[1]) + 1}", name)
    name = re.sub(r"layer\.(\d+)\.normalization", lambda match: f"bn{int(match[1]) + 1}", name)
    return name.replace("shortcut.convolution", "downsample.0").replace(
        "shortcut.normalization", "downsample.1")


def save_text_files(config, arguments):
    config.save_pretrained(arguments.folder)
    GenerationConfig.from_model_config(config).save_pretrained(arguments.folder)
    if arguments.tokenizer is not None:
        for name in TOKENIZER_FILES:
            if (arguments.tokenizer / name).exists():
                shutil.copy(arguments.tokenizer / name, arguments.folder)


def make_codegen(arguments):
    """Writes all but the weights; returns these."""
    fields = dict(CODEGEN[arguments.preset])
    if arguments.layers is not None:
        fields["n_layer"] = arguments.layers
    config = CodeGenConfig(tie_word_embeddings=False, architectures=["CodeGenForCausalLM"],
                           dtype=arguments.dtype, **fields)
    save_text_files(config, arguments)
    tensors = parameters_of(CodeGenForCausalLM, config, draw_codegen, arguments)
    if arguments.with_masks:
        tensors += causal_masks("transformer.h.{}.attn.causal_mask", config.n_positions,
                                config.n_layer, torch.bool)
    return tensors


def make_decoder(arguments):
    config = AutoConfig.for_model(**DECODERS[arguments.preset][1], dtype=arguments.dtype)
    if arguments.layers is not None:
        config.num_hidden_layers = arguments.layers
    model_class = AutoModelForCausalLM._model_mapping[type(config)]
    config.architectures = [model_class.__name__]
    save_text_files(config, arguments)
    tensors = parameters_of(model_class, config, draw_decoder, arguments)
    if config.model_type == "gpt2":
        tensors += causal_masks("transformer.h.{}.attn.bias", config.n_positions, config.n_layer,
                                DTYPES[arguments.dtype])
    # As published, from before the model stood in one with a head.
    prefix = {"gpt2": "transformer.", "opt": "model."}.get(config.model_type, "")
    for tensor in tensors:
        tensor.name = tensor.name.removeprefix(prefix)
    return tensors


def detr_config(dtype):
    """facebook/detr-resnet-50's, around transformers' own ResNet: timm does not
    import beside a torch for CPUs alone."""
    labels = ["N/A" if i in COCO_GAPS else label for i, label in enumerate(COCO_LABELS)]
    return DetrConfig(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
                      backbone_config=ResNetConfig(out_features=["stage4"]),
                      id2label=dict(enumerate(labels)),
                      label2id={label: i for i, label in enumerate(labels)},
                      architectures=["DetrForObjectDetection"], dtype=dtype)


def make_detr(arguments):
    config = detr_config(arguments.dtype)
    config.save_pretrained(arguments.folder)
    DetrImageProcessor().save_pretrained(arguments.folder)
    tensors = parameters_of(DetrForObjectDetection, config, draw_detr, arguments)
    if arguments.naming == "timm":
        file = arguments.folder / "config.json"
        fields = json.loads(file.read_text())
        fields.update(use_timm_backbone=True, backbone="resnet50", backbone_config=None,
                      dilation=False)
        file.write_text(json.dumps(fields, indent=2) + "\n")
        for tensor in tensors:
            tensor.name = timm_name(tensor.name)
    return tensors


def write_safetensors(tensors, path):
    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.bool: "BOOL"}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for tensor in tensors:
        begin, end = end, end + tensor.nbytes()
        header[tensor.name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape),
                               "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            out.write(tensor.make().reshape(-1).view(torch.uint8).numpy().data)


def main():
    arguments = parse_arguments()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    make = (make_detr if arguments.preset in DETR else
            make_codegen if arguments.preset in CODEGEN else make_decoder)
    tensors = make(arguments)
    # A folder made before may hold the other form, which would be read first.
    for old in ["model.safetensors", "pytorch_model.bin"]:
        (arguments.folder / old).unlink(missing_ok=True)
    if arguments.format == "safetensors":
        path = arguments.folder / "model.safetensors"
        write_safetensors(tensors, path)
    else:
        path = arguments.folder / "pytorch_model.bin"
        torch.save({tensor.name: tensor.make() for tensor in tensors}, path)
    parameters = [tensor for tensor in tensors if tensor.is_parameter]
    print(f"{path}: {len(tensors)} tensors, {path.stat().st_size:,} bytes; "
          f"{sum(tensor.shape.numel() for tensor in parameters):,} values in {arguments.dtype} = "
          f"{sum(tensor.nbytes() for tensor in parameters):,} bytes")


if __name__ == "__main__":
    sys.exit(main())
