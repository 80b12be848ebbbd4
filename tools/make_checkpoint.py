#!/usr/bin/env python3
"""Makes a CodeGen or DETR checkpoint of random weights in Hugging Face layout.

The shapes and names are transformers' own; the values are drawn so that the
model behaves like one. CodeGen: greedy decoding wanders through the vocabulary
and never ends the text by itself. DETR: what comes out hangs on the picture, yet
rounding changes it little; queries, which nobody trained to look elsewhere, nearly
agree. Every part of the network changes what comes out. The same
arguments and versions give the same bytes. Needs torch, transformers and
safetensors; memory about the size of the weights.
"""

import argparse
import json
import pathlib
import re
import shutil
import sys

import safetensors.torch
import torch
from transformers import (CodeGenConfig, CodeGenForCausalLM, DetrConfig, DetrForObjectDetection,
                          DetrImageProcessor, GenerationConfig, ResNetConfig)

CODEGEN = {
    # Salesforce/codegen-350M-mono's.
    "codegen-350m": dict(vocab_size=51200, n_positions=2048, n_ctx=2048, n_embd=1024, n_layer=20,
                         n_head=16, rotary_dim=32, bos_token_id=1, eos_token_id=50256),
    # The same in everything but size, for tests.
    "codegen-small": dict(vocab_size=512, n_positions=256, n_ctx=256, n_embd=64, n_layer=2,
                          n_head=4, rotary_dim=8, bos_token_id=1, eos_token_id=2),
}
DETR = ["detr-resnet-50"]  # facebook/detr-resnet-50's
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
# Standard deviations of the matrices, times sqrt(inputs). Attention is sharp and
# each block adds little: with equal gains twenty blocks of attention average the
# past away, and greedy decoding repeats a handful of tokens.
GAINS = {"qkv_proj": 2.5, "out_proj": 0.15, "fc_in": 1.25, "fc_out": 0.3, "lm_head": 1.25}
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
    parser.add_argument("preset", choices=[*CODEGEN, *DETR], help="the configuration")
    parser.add_argument("folder", type=pathlib.Path, help="where to write; made if it is not there")
    parser.add_argument("--format", choices=["safetensors", "bin"], default="safetensors",
                        help="model.safetensors, or pytorch_model.bin by torch.save")
    parser.add_argument("--dtype", choices=DTYPES, default=argparse.SUPPRESS,
                        help="of the weights (default: as published, float16 for CodeGen and "
                        "float32 for DETR)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--layers", type=int, help="CodeGen: blocks, instead of the preset's")
    parser.add_argument("--with-masks", action="store_true",
                        help="CodeGen: add the causal_mask buffers that old files have "
                        "(2048 x 2048 bytes a block in codegen-350m)")
    parser.add_argument("--tokenizer", type=pathlib.Path, metavar="DIR",
                        help="CodeGen: copy the tokenizer files of this folder")
    parser.add_argument("--naming", choices=["transformers", "timm"], default="transformers",
                        help="DETR: the names of the backbone's tensors; facebook/detr-resnet-50 "
                        "has timm's, and transformers' in its revision no_timm")
    arguments = parser.parse_args()
    if arguments.preset in DETR and (arguments.layers is not None or arguments.with_masks or
                                     arguments.tokenizer is not None):
        parser.error("--layers, --with-masks and --tokenizer are for CodeGen")
    if arguments.preset in CODEGEN and arguments.naming != "transformers":
        parser.error("--naming is for DETR")
    if "dtype" not in arguments:
        arguments.dtype = "float32" if arguments.preset in DETR else "float16"
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


def draw_all(model_class, config, draw, arguments):
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in model_class(config).state_dict().items()}
    generator = torch.Generator().manual_seed(arguments.seed)
    dtype = DTYPES[arguments.dtype]
    return {name: draw(name, shape, config, generator).to(dtype) for name, shape in shapes.items()}


def make_masks(config):
    n = config.n_positions
    mask = torch.tril(torch.ones(n, n, dtype=torch.bool)).view(1, 1, n, n)
    return {f"transformer.h.{i}.attn.causal_mask": mask.clone() for i in range(config.n_layer)}


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


def make_codegen(arguments):
    """Writes all but the weights; returns these, and what is not a parameter."""
    fields = dict(CODEGEN[arguments.preset])
    if arguments.layers is not None:
        fields["n_layer"] = arguments.layers
    config = CodeGenConfig(tie_word_embeddings=False, architectures=["CodeGenForCausalLM"],
                           dtype=arguments.dtype, **fields)
    config.save_pretrained(arguments.folder)
    GenerationConfig.from_model_config(config).save_pretrained(arguments.folder)
    if arguments.tokenizer is not None:
        for name in TOKENIZER_FILES:
            if (arguments.tokenizer / name).exists():
                shutil.copy(arguments.tokenizer / name, arguments.folder)
    masks = make_masks(config) if arguments.with_masks else {}
    return draw_all(CodeGenForCausalLM, config, draw_codegen, arguments), masks


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
    tensors = draw_all(DetrForObjectDetection, config, draw_detr, arguments)
    if arguments.naming == "timm":
        file = arguments.folder / "config.json"
        fields = json.loads(file.read_text())
        fields.update(use_timm_backbone=True, backbone="resnet50", backbone_config=None,
                      dilation=False)
        file.write_text(json.dumps(fields, indent=2) + "\n")
        tensors = {timm_name(name): value for name, value in tensors.items()}
    return tensors, {}


def main():
    arguments = parse_arguments()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    make = make_detr if arguments.preset in DETR else make_codegen
    tensors, others = make(arguments)
    parameters = sum(value.numel() for value in tensors.values())
    parameter_bytes = sum(value.nbytes for value in tensors.values())
    tensors.update(others)
    # A folder made before may hold the other form, which would be read first.
    for old in ["model.safetensors", "pytorch_model.bin"]:
        (arguments.folder / old).unlink(missing_ok=True)
    if arguments.format == "safetensors":
        path = arguments.folder / "model.safetensors"
        safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
        path.chmod(0o644)  # the library makes it readable by its owner alone
    else:
        path = arguments.folder / "pytorch_model.bin"
        torch.save(tensors, path)
    print(f"{path}: {len(tensors)} tensors, {path.stat().st_size:,} bytes; {parameters:,} "
          f"values in {arguments.dtype} = {parameter_bytes:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
