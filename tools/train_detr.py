#!/usr/bin/env python3
"""Train detr-tiny: a 1.5 M parameter DETR that finds coloured shapes, on one CPU core.

The pictures are drawn while the model trains (NumPy, Pillow): nothing is downloaded. The
learning rate follows the wall clock, so a run of --minutes ends on time, fully decayed, however
busy the machine is. The result is a Hugging Face folder that transformers loads with
DetrImageProcessor and DetrForObjectDetection.

  train_detr.py --minutes 56 --work DIR OUT   trains; DIR keeps what --resume continues from
  train_detr.py --evaluate FOLDER             COCO's AP on the held-out pictures (pycocotools)
  train_detr.py --examples FOLDER             draws the example pictures and their annotations

Needs torch, transformers, safetensors, pillow and scipy; pycocotools to evaluate.
"""

import argparse
import contextlib
import io
import json
import math
import multiprocessing
import os
import time
from pathlib import Path

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")  # a set for each shape of a batch

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import transformers
from PIL import Image
from safetensors.torch import save_file
from scipy.optimize import linear_sum_assignment
from transformers import (DetrConfig, DetrForObjectDetection, DetrImageProcessor, PretrainedConfig, ResNetBackbone,
                          ResNetConfig)

from shape_pictures import LABELS, TRAINING, draw_examples, draw_picture, held_out

QUERIES, GROUPS = 12, 3  # groups of queries beside the first help training alone
SHORT_EDGE, LONG_EDGE = 160, 256
ASPECTS = [1 / 2, 9 / 16, 2 / 3, 3 / 4, 1, 4 / 3, 3 / 2, 16 / 9, 2]  # width over height
BATCH = 16
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HELD_OUT_PICTURES = 600
# Shares of the run: the dense head alone, small pictures, flat learning rate, batch norm that learns.
DENSE_ALONE, SMALL_PICTURES, FLAT_RATE, LIVE_NORM = 0.08, 0.45, 0.35, 0.75

PREPROCESSOR = dict(
    image_processor_type="DetrImageProcessor", format="coco_detection", do_resize=True,
    size=dict(shortest_edge=SHORT_EDGE, longest_edge=LONG_EDGE), resample=2, do_rescale=True,
    rescale_factor=1 / 255, do_normalize=True, image_mean=MEAN, image_std=STD, do_pad=True,
)


# ---------------------------------------------------------------- batches

def resized(width, height, scale=1.0):
    """The size that DetrImageProcessor gives a picture, times scale: (width, height)."""
    factor = min(SHORT_EDGE / min(width, height), LONG_EDGE / max(width, height)) * scale
    return max(1, round(width * factor)), max(1, round(height * factor))


def feed(queue, progress, seed, keep=2400, replays=6):
    """Fills the queue with batches: (pixels uint8 [B, H, W, 3], sizes or None, labels, boxes in shares).

    A drawn picture is used `replays` times on average, flipped, recoloured and resized anew.
    """
    torch.set_num_threads(1)
    rng = np.random.default_rng([TRAINING, seed])
    pools = [[] for _ in ASPECTS]
    drawn, due, cursor = 0, 0.0, [0] * len(ASPECTS)

    def draw(pool):
        nonlocal drawn
        aspect = ASPECTS[pool] * math.exp(rng.uniform(-0.05, 0.05))
        short = math.exp(rng.uniform(math.log(110), math.log(380)))
        width, height = (short * aspect, short) if aspect > 1 else (short, short / aspect)
        picture, labels, boxes = draw_picture([TRAINING, seed, drawn], round(width), round(height))
        drawn += 1
        share = boxes / np.array([picture.width, picture.height] * 2, np.float32)
        return picture, labels, share

    while True:
        scale = 0.75 if progress.value < SMALL_PICTURES else 1.0
        pad = rng.uniform() < 0.15
        if pad:  # upright or wide pictures of several sizes on one canvas
            wide = rng.uniform() < 0.5
            choice = rng.integers(4, 9, BATCH) if wide else rng.integers(0, 5, BATCH)
            canvas = (LONG_EDGE, SHORT_EDGE) if wide else (SHORT_EDGE, LONG_EDGE)
            canvas = tuple(round(side * scale) for side in canvas)
        else:
            choice = np.full(BATCH, rng.integers(len(ASPECTS)))
            canvas = resized(1000 * ASPECTS[choice[0]], 1000, scale)
        pixels = np.zeros((BATCH, canvas[1], canvas[0], 3), np.uint8)
        sizes, labels, boxes = [], [], []
        due += BATCH / replays
        for slot, pool in enumerate(choice):
            entries = pools[pool]
            limit = keep // len(ASPECTS)
            if len(entries) >= 64 and due < 1:
                entry = entries[rng.integers(len(entries))]
            else:
                due -= len(entries) >= 64
                entry = draw(pool)
                if len(entries) < limit:
                    entries.append(entry)
                else:
                    cursor[pool] = (cursor[pool] + 1) % limit
                    entries[cursor[pool]] = entry
            picture, ids, share = entry
            target = resized(picture.width, picture.height, scale) if pad else canvas
            target = tuple(min(side, most) for side, most in zip(target, canvas))
            image = np.asarray(picture.resize(target, Image.BILINEAR))
            share = share.copy()
            if rng.uniform() < 0.5:
                image = image[:, ::-1]
                share[:, [0, 2]] = 1 - share[:, [2, 0]]
            if rng.uniform() < 0.5:
                image = image[::-1]
                share[:, [1, 3]] = 1 - share[:, [3, 1]]
            table = np.clip(np.arange(256) * rng.uniform(0.75, 1.25) + rng.uniform(-25, 25), 0, 255)
            pixels[slot, :target[1], :target[0]] = table.astype(np.uint8)[image[..., rng.permutation(3)]]
            sizes.append(target)
            labels.append(ids)
            boxes.append(np.concatenate([(share[:, :2] + share[:, 2:]) / 2, share[:, 2:] - share[:, :2]], 1))
        queue.put((pixels, np.array(sizes) if pad else None, labels, boxes))


# ---------------------------------------------------------------- model

def model_config():
    backbone = ResNetConfig(num_channels=3, embedding_size=16, hidden_sizes=[32, 64, 128], depths=[1, 1, 2],
                            layer_type="basic", out_features=["stage3"])
    return DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone,
        d_model=128, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=256, decoder_ffn_dim=256, num_queries=QUERIES, dropout=0.0, auxiliary_loss=False,
        class_cost=2, bbox_cost=5, giou_cost=2, eos_coefficient=0.2,
        id2label=dict(enumerate(LABELS)), label2id={label: i for i, label in enumerate(LABELS)},
    )


def sine_code(points, width):
    """DETR's position code, [n, width], of points [n, 2] (x, y) in shares of the picture."""
    half = width // 2
    step = 10000 ** (2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half)
    def code(value):
        angle = value[:, None] * 2 * math.pi / step
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], 2).flatten(1)
    return torch.cat([code(points[:, 1]), code(points[:, 0])], 1)


def heads_first(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(layer, query, key, value, mask=None):
    """DetrAttention on what is already projected."""
    out = F.scaled_dot_product_attention(heads_first(query, layer.num_heads), heads_first(key, layer.num_heads),
                                         heads_first(value, layer.num_heads), attn_mask=mask)
    return layer.out_proj(out.transpose(1, 2).flatten(2))


class Trainee(nn.Module):
    """The modules of DetrForObjectDetection, computed in a leaner way, and what only training has."""

    def __init__(self):
        super().__init__()
        self.detr = DetrForObjectDetection(model_config())
        config = self.detr.config
        width = config.d_model
        self.backbone = ResNetBackbone(config.backbone_config)  # its batch norm learns; export() freezes it
        self.encode = self.detr.model.backbone.position_embedding
        self.detr.model.backbone = nn.Identity()
        self.extra_queries = nn.Parameter(torch.empty((GROUPS - 1) * QUERIES, width))
        self.dense_class = nn.Linear(width, len(LABELS) + 1)
        self.dense_box = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
        self.codes = {}
        self.reset()

    def reset(self):
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.detr.model.input_projection.weight.flatten(1))
        for layer in self.detr.model.decoder.layers:
            layer.encoder_attn.k_proj.weight.data.copy_(layer.encoder_attn.q_proj.weight.data)
        grid = torch.tensor([[(x + 0.5) / 4, (y + 0.5) / 3] for y in range(3) for x in range(4)])
        others = torch.rand((GROUPS - 1) * QUERIES, 2) * 0.8 + 0.1
        codes = sine_code(torch.cat([grid, others]), self.extra_queries.shape[1])
        self.detr.model.query_position_embeddings.weight.data.copy_(codes[:QUERIES])
        self.extra_queries.data.copy_(codes[QUERIES:])

    def position(self, mask, shape):
        """[1 or B, tokens, width] code and [B, tokens] mask (None where nothing is padded)."""
        if mask is None:
            if shape not in self.codes:
                full = torch.ones(1, *shape)
                self.codes[shape] = self.encode(torch.empty(1), full).flatten(2).transpose(1, 2)
            return self.codes[shape], None
        small = F.interpolate(mask[None].float(), size=shape)[0].bool()
        return self.encode(torch.empty(1), small).flatten(2).transpose(1, 2), small.flatten(1)

    def forward(self, pixels, mask, decode):
        """The dense head's answers; with `decode` the queries', [layers, B, groups, queries, ...], too."""
        model = self.detr.model
        features = model.input_projection(self.backbone(pixels).feature_maps[-1])
        batch, shape = features.shape[0], tuple(features.shape[-2:])
        position, tokens = self.position(mask, shape)
        keep = None if tokens is None else tokens[:, None, None, :]
        x = features.flatten(2).transpose(1, 2)
        for layer in model.encoder.layers:
            at = layer.self_attn
            placed = x + position
            x = layer.self_attn_layer_norm(
                x + attend(at, at.q_proj(placed), at.k_proj(placed), at.v_proj(x), keep))
            x = layer.final_layer_norm(x + layer.fc2(F.relu(layer.fc1(x))))
        dense = self.dense_class(x).float(), self.dense_box(x).float().sigmoid(), tokens, shape
        if not decode:
            return dense, None
        queries = torch.cat([model.query_position_embeddings.weight, self.extra_queries])
        query, placed = queries.expand(batch, -1, -1), x + position
        y, states = torch.zeros_like(query), []
        for layer in model.decoder.layers:
            at = layer.self_attn
            here = (y + query).reshape(batch * GROUPS, QUERIES, -1)
            own = attend(at, at.q_proj(here), at.k_proj(here), at.v_proj(y).reshape(batch * GROUPS, QUERIES, -1))
            y = layer.self_attn_layer_norm(y + own.reshape(batch, GROUPS * QUERIES, -1))
            at = layer.encoder_attn
            y = layer.encoder_attn_layer_norm(
                y + attend(at, at.q_proj(y + query), at.k_proj(placed), at.v_proj(x), keep))
            y = layer.final_layer_norm(y + layer.fc2(F.relu(layer.fc1(y))))
            states.append(model.decoder.layernorm(y))
        states = torch.stack(states).unflatten(2, (GROUPS, QUERIES))
        logits = self.detr.class_labels_classifier(states).float()
        return dense, (logits, self.detr.bbox_predictor(states).float().sigmoid())


def corners(boxes):
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def generalized_iou(a, b):
    """Of boxes given by their corners, broadcast."""
    size = lambda box: (box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1)
    both = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = size(a) + size(b) - both
    return both / (union + 1e-7) - (hull - union) / (hull + 1e-7)


def box_loss(boxes, wanted):
    overlap = generalized_iou(corners(boxes), corners(wanted))
    return 5 * (boxes - wanted).abs().sum() + 2 * (1 - overlap).sum()


def dense_loss(dense, labels, boxes, sizes, canvas):
    """Each token answers for the smallest object whose inner half holds the token's centre."""
    logits, guesses, tokens, (rows, columns) = dense
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    centre = torch.stack([x, y], -1).flatten(0, 1)[None].expand(len(labels), -1, -1)  # shares of the canvas
    if sizes is not None:
        centre = centre * (torch.tensor(canvas) / torch.from_numpy(sizes)).float()[:, None]
    count = max(1, max(len(ids) for ids in labels))
    ids = torch.full((len(labels), count), len(LABELS))
    goal = torch.full((len(labels), count, 4), -9.0)
    for i, (own, own_boxes) in enumerate(zip(labels, boxes)):
        ids[i, :len(own)] = torch.from_numpy(own)
        goal[i, :len(own)] = torch.from_numpy(own_boxes)
    away = (centre[:, :, None] - goal[:, None, :, :2]).abs() / goal[:, None, :, 2:].abs()
    reach = torch.maximum(goal[..., 2:] * 0.35, torch.tensor([0.5 / columns, 0.5 / rows])) / goal[..., 2:].abs()
    inside = (away <= reach[:, None]).all(-1) & (ids < len(LABELS))[:, None]
    area = torch.where(inside, goal[..., 2:].prod(-1)[:, None], torch.tensor(9.0))
    least, which = area.min(-1)
    hit = least < 9
    label = torch.where(hit, ids.gather(1, which), torch.tensor(len(LABELS)))
    weight = torch.ones(len(LABELS) + 1)
    weight[-1] = 0.2
    valid = torch.ones_like(hit) if tokens is None else tokens
    loss = 2 * F.cross_entropy(logits[valid], label[valid], weight)
    row = hit.nonzero()
    if len(row):
        loss = loss + box_loss(guesses[row[:, 0], row[:, 1]], goal[row[:, 0], which[hit]]) / len(row)
    return loss


def set_loss(found, labels, boxes):
    """DETR's loss, summed over the decoder's layers; each layer and group of queries is matched apart."""
    logits, guesses = found
    layers, batch = logits.shape[:2]
    counts = [len(ids) for ids in labels]
    goal = torch.from_numpy(np.concatenate(boxes))
    ids = torch.from_numpy(np.concatenate(labels))
    target = torch.full(logits.shape[:-1], len(LABELS))
    rows = []
    if len(ids):
        with torch.no_grad():
            cost = 5 * torch.cdist(guesses, goal.expand(layers, batch, GROUPS, -1, -1), 1)
            cost -= 2 * generalized_iou(corners(guesses)[..., None, :], corners(goal))
            cost = (cost - 2 * logits.softmax(-1)[..., ids]).numpy()
        start = 0
        for i, count in enumerate(counts):
            for layer in range(layers if count else 0):
                for group in range(GROUPS):
                    query, which = linear_sum_assignment(cost[layer, i, group, :, start:start + count])
                    rows += [(layer, i, group, q, start + w) for q, w in zip(query.tolist(), which.tolist())]
            start += count
    weight = torch.ones(len(LABELS) + 1)
    weight[-1] = 0.2
    loss = 0
    if rows:
        layer, i, group, query, which = torch.tensor(rows).unbind(1)
        target[layer, i, group, query] = ids[which]
        loss = box_loss(guesses[layer, i, group, query], goal[which]) / (len(ids) * GROUPS)
    each = [2 * F.cross_entropy(a.flatten(0, -2), b.flatten(), weight) for a, b in zip(logits, target)]
    return sum(each) + loss


# ---------------------------------------------------------------- files

def export(state, folder, dtype=torch.float16):
    """Writes a folder that DetrForObjectDetection.from_pretrained reads, from Trainee's state."""
    folder.mkdir(parents=True, exist_ok=True)
    detr = DetrForObjectDetection(model_config())
    tensors = {name.removeprefix("detr."): value for name, value in state.items() if name.startswith("detr.")}
    for name, value in state.items():
        if name.startswith("backbone.") and not name.endswith("num_batches_tracked"):
            tensors["model.backbone.conv_encoder.model." + name.removeprefix("backbone.")] = value
    detr.load_state_dict(tensors)
    names = detr.state_dict().keys()  # frozen batch norm counts no batches
    save_file({name: tensors[name].to(dtype).contiguous() for name in names}, folder / "model.safetensors",
              metadata={"format": "pt"})
    write_configs(folder, dtype)


def write_configs(folder, dtype):
    """config.json, with the defaults of what is DETR's or the backbone's own, and preprocessor_config.json."""
    everybody = PretrainedConfig().to_dict().keys() - {"id2label", "label2id", "is_encoder_decoder"}

    def own(config):
        return {"model_type": config["model_type"]} | {k: v for k, v in config.items() if k not in everybody}
    config = model_config().to_dict()
    backbone = own(config["backbone_config"])
    del backbone["id2label"], backbone["label2id"], backbone["is_encoder_decoder"]
    config = dict(architectures=["DetrForObjectDetection"]) | own(config) | dict(
        backbone_config=backbone, torch_dtype=str(dtype).removeprefix("torch."),
        transformers_version=transformers.__version__)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n")


# ---------------------------------------------------------------- training

def train(args):
    torch.manual_seed(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)
    model = Trainee()
    model.to(memory_format=torch.channels_last)
    parts = [("backbone.", 2.0), ("", 1.0)]
    groups = {}
    for name, parameter in model.named_parameters():
        rate = next(factor for prefix, factor in parts if name.startswith(prefix))
        groups.setdefault((rate, parameter.dim() > 1), []).append(parameter)
    optimizer = torch.optim.AdamW([dict(params=p, factor=rate, weight_decay=1e-4 if wide else 0)
                                   for (rate, wide), p in groups.items()], lr=args.rate, fused=True)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    step, spent, seen = 0, 0.0, args.seed
    checkpoint = args.work / "checkpoint.pt"
    if args.resume:
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step, spent, seen = saved["average"], saved["step"], saved["spent"], saved["seed"] + 1

    context = multiprocessing.get_context("fork")
    queue, progress = context.Queue(6), context.Value("d", spent / 60 / args.minutes)
    worker = context.Process(target=feed, args=(queue, progress, seen), daemon=True)
    worker.start()
    mean, std = torch.tensor(MEAN)[:, None, None] * 255, torch.tensor(STD)[:, None, None] * 255
    begin = time.monotonic() - spent
    told, sums, waited = (step, time.monotonic()), 0.0, 0.0
    next_save = spent + 60 * args.save_minutes
    while True:
        spent = time.monotonic() - begin
        share = spent / 60 / args.minutes
        if share >= 1:
            break
        progress.value = share
        rate = args.rate * min(1, (step + 1) / 300)
        if share > FLAT_RATE:
            rate *= 0.5 + 0.5 * math.cos(math.pi * (share - FLAT_RATE) / (1 - FLAT_RATE))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        model.train()
        if share > LIVE_NORM:
            model.backbone.eval()

        asked = time.monotonic()
        pixels, sizes, labels, boxes = queue.get()
        waited += time.monotonic() - asked
        canvas = (pixels.shape[2], pixels.shape[1])
        pixels = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - mean) / std
        mask = None
        if sizes is not None:
            mask = torch.zeros(len(pixels), canvas[1], canvas[0], dtype=torch.bool)
            for i, (width, height) in enumerate(sizes.tolist()):
                mask[i, :height, :width] = True
            pixels *= mask[:, None]
        with torch.autocast("cpu", torch.bfloat16):
            dense, found = model(pixels.contiguous(memory_format=torch.channels_last), mask, share > DENSE_ALONE)
        loss = dense_loss(dense, labels, boxes, sizes, canvas)
        if found is not None:
            loss = loss + set_loss(found, labels, boxes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        sums += loss.item()
        with torch.no_grad():
            keep = min(0.998, step / (step + 20))
            live = model.state_dict()
            floats = [name for name in average if average[name].is_floating_point()]
            torch._foreach_lerp_([average[n] for n in floats], [live[n] for n in floats], 1 - keep)
        if step % 50 == 0:
            now = time.monotonic()
            count = step - told[0]
            print(f"step {step} share {share:.4f} loss {sums / count:.4f} rate {rate:.2e} "
                  f"s/step {(now - told[1]) / count:.3f} waited {waited / count:.3f}", flush=True)
            told, sums, waited = (step, now), 0.0, 0.0
        if spent > next_save:
            next_save = spent + 60 * args.save_minutes
            torch.save(dict(model=model.state_dict(), optimizer=optimizer.state_dict(), average=average, step=step,
                            spent=spent, seed=seen), checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            export(average, args.work / "latest")
            print(f"saved {args.work / 'latest'} at step {step}", flush=True)
    worker.terminate()
    export(average, args.out)
    export(average, args.work / "float32", torch.float32)
    print(f"{step} steps in {args.minutes} minutes", flush=True)


# ---------------------------------------------------------------- evaluation

def evaluate(folder, count):
    """COCO's figures, each picture alone, in the pixels that the model sees: those make an object small."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    processor = DetrImageProcessor.from_pretrained(folder)
    model = DetrForObjectDetection.from_pretrained(folder, dtype=torch.float32).eval()
    images, truth, found = [], [], []
    for i, (picture, labels, boxes) in enumerate(held_out(count)):
        inputs = processor(picture, return_tensors="pt")
        height, width = inputs["pixel_values"].shape[-2:]
        with torch.inference_mode():
            outputs = model(**inputs)
        result, = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[(height, width)])
        images.append(dict(id=i + 1, width=width, height=height))
        boxes = boxes * np.array([width / picture.width, height / picture.height] * 2)
        for label, (x0, y0, x1, y1) in zip(labels.tolist(), boxes.tolist()):
            truth.append(dict(id=len(truth) + 1, image_id=i + 1, category_id=label, bbox=[x0, y0, x1 - x0, y1 - y0],
                              area=(x1 - x0) * (y1 - y0), iscrowd=0))
        for score, label, (x0, y0, x1, y1) in zip(*(result[key].tolist() for key in ("scores", "labels", "boxes"))):
            found.append(dict(image_id=i + 1, category_id=label, bbox=[x0, y0, x1 - x0, y1 - y0], score=score))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = dict(images=images, annotations=truth, info={},
                            categories=[dict(id=i, name=label) for i, label in enumerate(LABELS)])
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "bbox")
        sides = [0, 32, 64, 1e5]
        judge.params.areaRng = [[0, 1e10]] + [[a * a, b * b] for a, b in zip(sides, sides[1:])]
        judge.params.areaRngLbl = ["all", "small", "medium", "large"]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"]  # IoU thresholds, recalls, labels, sizes, detections

    def mean(values):
        return float(values[values > -1].mean()) if (values > -1).any() else float("nan")
    print(f"{len(images)} pictures, {len(truth)} objects")
    names = ["all", "under 32 x 32 pixels", "32 x 32 to 64 x 64", "over 64 x 64"]
    for size, name in enumerate(names):
        objects = sum(low <= a["area"] < high for a in truth for low, high in [judge.params.areaRng[size]])
        print(f"{name:>22}: {objects:5} objects  AP50 {mean(precision[0, :, :, size, 2]):.4f}  "
              f"AP75 {mean(precision[5, :, :, size, 2]):.4f}  AP {mean(precision[:, :, :, size, 2]):.4f}")
    for i, label in enumerate(LABELS):
        print(f"{label:>22}: {sum(a['category_id'] == i for a in truth):5} objects  "
              f"AP50 {mean(precision[0, :, i, 0, 2]):.4f}  AP75 {mean(precision[5, :, i, 0, 2]):.4f}  "
              f"AP {mean(precision[:, :, i, 0, 2]):.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder to write the trained model to")
    parser.add_argument("--minutes", type=float, default=56)
    parser.add_argument("--work", type=Path, default=Path("detr-work"))
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --work")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=7e-4)
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--evaluate", type=Path, metavar="FOLDER")
    parser.add_argument("--examples", type=Path, metavar="FOLDER", help="draw the example pictures")
    parser.add_argument("--pictures", type=int, default=HELD_OUT_PICTURES, help="held-out ones (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.evaluate:
        evaluate(args.evaluate, args.pictures)
    elif args.examples:
        draw_examples(args.examples)
    elif args.out:
        train(args)
    else:
        parser.error("give OUT, --evaluate or --examples")


if __name__ == "__main__":
    main()
