#!/usr/bin/env python3
"""Makes tests/golden/detr: small DETR checkpoints and what transformers makes of
them.

Each case is a folder with config.json, for some cases the weights, and
  expected.json  the runs (pictures of a batch and the canvas they are padded
                 to) and what post-processing keeps of each picture
  outputs.bin    float32, little-endian: of each run the logits [pictures,
                 queries, labels + 1], then the boxes [pictures, queries, 4]
  tensors.json   the names and shapes of weights, where there is no weight file

Pictures, and the weights of such cases, follow from the formulas below, which
the tests compute too. `full_size` is facebook/detr-resnet-50 as configured:
names and shapes alone. transformers' ResNet stands for
timm's (timm does not import beside a torch for CPUs alone): its tensors are
renamed, and its last stage is dilated by hand for "dc5".

The same versions give the same bytes: torch 2.13.0, transformers 4.57.6.

Usage: make_detr_goldens.py [OUT]   (default: tests/golden/detr)
"""

import json
import pathlib
import shutil
import sys

import numpy
import safetensors.torch
import torch
from make_checkpoint import detr_config, timm_name
from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

SMALL = dict(d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
             decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=20, num_queries=7)
WIDE = dict(d_model=64, encoder_layers=1, decoder_layers=2, encoder_attention_heads=8,
            decoder_attention_heads=8, encoder_ffn_dim=128, decoder_ffn_dim=96, num_queries=10)
LABELS = ["N/A", "circle", "square", "triangle", "star"]
SIZES = [(70, 96), (49, 61)]  # of pictures: height, width

CASES = [
    dict(name="bottleneck", file="model.safetensors", dtype=torch.float32, timm=False,
         detr=SMALL, resnet=dict(embedding_size=8, hidden_sizes=[16, 24, 32, 40],
                                 depths=[1, 2, 1, 1], out_features=["stage4"])),
    # Old files have counters of batch norm, and stages that nobody asked for.
    dict(name="basic_bin", file="pytorch_model.bin", dtype=torch.float16, timm=True,
         detr=dict(SMALL, auxiliary_loss=True),
         resnet=dict(embedding_size=8, hidden_sizes=[8, 16, 24, 28], depths=[2, 1, 1, 1],
                     layer_type="basic", out_features=["stage3"])),
    dict(name="early_strides", file=None, dtype=torch.float32, timm=False, detr=SMALL,
         resnet=dict(embedding_size=8, hidden_sizes=[16, 24, 32], depths=[1, 2, 1],
                     downsample_in_first_stage=True, downsample_in_bottleneck=True,
                     out_features=["stage1", "stage3"])),
    dict(name="resnet50", file=None, dtype=torch.float32, timm=False, detr=WIDE,
         resnet=dict(out_features=["stage4"])),
    # As facebook/detr-resnet-50-dc5 says it, around a smaller backbone.
    dict(name="resnet18_dc5", file=None, dtype=torch.float32, timm=True, detr=WIDE,
         resnet=dict(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic",
                     out_features=["stage4"]),
         saved=dict(use_timm_backbone=True, backbone="resnet18", backbone_config=None,
                    dilation=True)),
]


def noise(name, count):
    """`count` numbers in [-1, 1), multiples of 2^-23: splitmix64 over FNV-1a."""
    seed = 0xcbf29ce484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001b3 % 2**64
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(seed) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(
            0x9e3779b97f4a7c15)
        z = (z ^ z >> numpy.uint64(30)) * numpy.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ z >> numpy.uint64(27)) * numpy.uint64(0x94d049bb133111eb)
        z = z ^ z >> numpy.uint64(31)
    return (z >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(2**23) - numpy.float32(1)


def value(name, shape):
    """A tensor's values by its name in the file: offset + spread * noise."""
    fan_in = numpy.prod(shape[1:], dtype=numpy.int64)
    if name.endswith("running_var"):
        offset, spread = 1.0, 0.5
    elif name.endswith("running_mean"):
        offset, spread = 0.0, 0.3
    elif len(shape) == 1:
        offset, spread = (0.8, 0.2) if name.endswith("weight") else (0.0, 0.1)
    elif name.endswith("query_position_embeddings.weight"):
        offset, spread = 0.0, 1.5
    else:
        offset, spread = 0.0, (6 / fan_in if len(shape) == 4 else 3 / fan_in) ** 0.5
        # Attention that looks somewhere, but is no switch; logits far apart.
        if "q_proj" in name or "k_proj" in name:
            spread *= 2
        elif name.startswith("class_labels_classifier"):
            spread *= 3
        elif name.startswith("model.input_projection"):
            spread *= 0.25
    values = numpy.float32(offset) + numpy.float32(spread) * noise(name, numpy.prod(shape))
    return torch.from_numpy(values.reshape(shape))


def picture(index, height, width):
    """Smooth waves with some noise on top, in bytes: [height, width, 3]."""
    y, x, c = numpy.meshgrid(numpy.arange(height), numpy.arange(width), numpy.arange(3),
                             indexing="ij")
    wave = ((3 + index) * x + (5 - index) * y + 60 * c) % 192
    grain = noise(f"picture {index}", height * width * 3).reshape(height, width, 3)
    return (wave + numpy.floor((grain + 1) * numpy.float32(32)).astype(numpy.int64)).astype(
        numpy.uint8)


def dilate_last_stage(model):
    """What timm's output_stride 16 and the original's dilation mean."""
    stage = model.model.backbone.conv_encoder.model.encoder.stages[3]
    for i, block in enumerate(stage.layers):
        for j, layer in enumerate(block.layer):
            layer.convolution.stride = (1, 1)
            if layer.convolution.kernel_size == (3, 3) and (i, j) != (0, 0):
                layer.convolution.dilation = layer.convolution.padding = (2, 2)
        if hasattr(block.shortcut, "convolution"):
            block.shortcut.convolution.stride = (1, 1)


def save_shapes(tensors, folder):
    lines = [f"{json.dumps(name)}: {json.dumps(list(tensor.shape))}"
             for name, tensor in tensors.items()]
    (folder / "tensors.json").write_text("{" + ",\n".join(lines) + "}\n")


def save(case, config, tensors, folder):
    saved = json.loads(config.to_json_string())
    saved.update(architectures=["DetrForObjectDetection"], dtype=str(case["dtype"])[6:],
                 **case.get("saved", {}))
    (folder / "config.json").write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")
    if case["file"] == "model.safetensors":
        safetensors.torch.save_file(tensors, folder / case["file"], metadata={"format": "pt"})
        (folder / case["file"]).chmod(0o644)
    elif case["file"] is None:
        save_shapes(tensors, folder)
    else:
        counters = {name.replace("running_var", "num_batches_tracked"): torch.tensor(7)
                    for name in tensors if name.endswith("running_var")}
        torch.save({**tensors, **counters}, folder / case["file"])


def run(model, processor, pictures):
    inputs = processor(images=list(pictures), return_tensors="pt")
    output = model(**inputs)
    sizes = [picture.shape[:2] for picture in pictures]
    # A threshold in the middle, with no score close to it.
    scores = output.logits.softmax(-1)[..., :-1].max(-1).values.flatten().sort().values
    middle = slice(len(scores) // 4, len(scores) * 3 // 4)
    gap = (scores[middle].diff()).argmax() + middle.start
    threshold = float(scores[gap] + scores[gap + 1]) / 2
    kept = processor.post_process_object_detection(output, threshold, sizes)
    detections = [{"scores": found["scores"].tolist(), "labels": found["labels"].tolist(),
                   "boxes": found["boxes"].tolist()} for found in kept]
    return output, {"sizes": sizes, "canvas": list(inputs["pixel_values"].shape[2:]),
                    "threshold": threshold, "detections": detections}


@torch.inference_mode()
def make_case(out, case):
    folder = out / case["name"]
    folder.mkdir(parents=True)
    config = DetrConfig(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
                        backbone_config=ResNetConfig(**case["resnet"]),
                        id2label=dict(enumerate(LABELS)), **case["detr"])
    model = DetrForObjectDetection(config)
    names = {name: timm_name(name) if case["timm"] else name for name in model.state_dict()}
    tensors = {names[name]: value(names[name], tuple(tensor.shape)).to(case["dtype"])
               for name, tensor in model.state_dict().items()}
    save(case, config, tensors, folder)
    model.load_state_dict({name: tensors[stored].float() for name, stored in names.items()})
    if case.get("saved", {}).get("dilation"):
        dilate_last_stage(model)
    model = model.eval()

    processor = DetrImageProcessor(do_resize=False)
    pictures = [picture(i, *size) for i, size in enumerate(SIZES)]
    runs, outputs, logits = [], [], []
    for first, end in ((0, 2), (0, 1), (1, 2)):
        output, expected = run(model, processor, pictures[first:end])
        runs.append({"first": first, **expected})
        logits.append(output.logits)
        outputs += [output.logits.flatten(), output.pred_boxes.flatten()]
    (folder / "outputs.bin").write_bytes(torch.cat(outputs).numpy().tobytes())
    (folder / "expected.json").write_text(json.dumps({"runs": runs}) + "\n")
    print(f"{case['name']}: logits' spread {logits[0].std():.2f}, among queries "
          f"{logits[0].std(1).mean():.2f}, between pictures {(logits[0][0] - logits[0][1]).std():.2f}; "
          f"kept {[[len(d['scores']) for d in r['detections']] for r in runs]}; padding changes "
          f"{(logits[0][1] - logits[2][0]).abs().max():.3f}")


def make_full_size(out):
    folder = out / "full_size"
    config = detr_config("float32")
    config.save_pretrained(folder)
    with torch.device("meta"):
        save_shapes(DetrForObjectDetection(config).state_dict(), folder)


def main():
    default = pathlib.Path(__file__).parent.parent / "tests/golden/detr"
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    torch.set_num_threads(1)
    shutil.rmtree(out, ignore_errors=True)
    for case in CASES:
        make_case(out, case)
    make_full_size(out)


if __name__ == "__main__":
    main()
