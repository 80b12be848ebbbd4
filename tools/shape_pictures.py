"""Pictures of coloured shapes on varied backgrounds, with their labels and boxes, all from seeds.

tools/train_detr.py trains and evaluates embedded/detr-tiny on them; it also draws that model's
example pictures.
"""

import colorsys
import json
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

LABELS = ["circle", "square", "triangle", "star", "ring", "cross", "heart", "moon"]
BACKGROUNDS = ["plain", "linear", "radial", "stripes", "waves", "checks", "clouds", "marble"]
MAX_OBJECTS = 6
TRAINING, HELD_OUT, EXAMPLES = 1, 2, 3  # first part of a picture's seed
EXAMPLE_PICTURES = {  # seed, width, height
    "shapes-320x240.png": (42, 320, 240), "shapes-400x300.png": (40, 400, 300), "shapes-240x360.png": (21, 240, 360),
    "shapes-480x270.png": (14, 480, 270), "shapes-300x300.png": (50, 300, 300), "shapes-640x480.jpg": (49, 640, 480),
}


def shape_outline(label, rng):
    """[n, 2] corners of a shape about the origin, y down. A ring's path runs around, in, and back."""
    turn = np.linspace(0, 2 * np.pi, 49)
    if label == "circle":
        points = np.stack([np.cos(turn), np.sin(turn)], 1)
    elif label == "square":
        points = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    elif label == "triangle":
        points = np.array([[math.sin(a), -math.cos(a)] for a in (0, 2 * np.pi / 3, 4 * np.pi / 3)])
    elif label == "star":
        radius = np.where(np.arange(10) % 2, rng.uniform(0.4, 0.5), 1.0)
        angle = np.arange(10) * np.pi / 5
        points = np.stack([radius * np.sin(angle), -radius * np.cos(angle)], 1)
    elif label == "ring":
        circle = np.stack([np.cos(turn), np.sin(turn)], 1)
        points = np.concatenate([circle, rng.uniform(0.5, 0.65) * circle[::-1]])
    elif label == "cross":
        a = rng.uniform(0.28, 0.38)
        points = np.array([[-a, -1], [a, -1], [a, -a], [1, -a], [1, a], [a, a],
                           [a, 1], [-a, 1], [-a, a], [-1, a], [-1, -a], [-a, -a]])
    elif label == "heart":
        t = turn[:-1]
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        points = np.stack([16 * np.sin(t) ** 3, -y - 2.5], 1) / 16
    else:  # moon: a disc less a smaller disc to its right
        away, radius = rng.uniform(0.45, 0.6), 0.8
        x = (away * away + 1 - radius * radius) / (2 * away)
        a, b = math.acos(x), math.atan2(math.sqrt(1 - x * x), x - away)
        outer, inner = np.linspace(a, 2 * np.pi - a, 40), np.linspace(2 * np.pi - b, b, 32)
        points = np.concatenate([np.stack([np.cos(outer), np.sin(outer)], 1),
                                 np.stack([away + radius * np.cos(inner), radius * np.sin(inner)], 1)])
    angle = rng.uniform(-np.pi, np.pi) if label in ("triangle", "star") else rng.uniform(-0.45, 0.45)
    cos, sin = math.cos(angle), math.sin(angle)
    stretch = 1 + rng.uniform(-0.12, 0.12)
    return points @ np.array([[cos, sin], [-sin, cos]]) * [stretch, 1 / stretch]


def random_colour(rng, vivid):
    hue = rng.uniform()
    if vivid:
        kind = rng.uniform()
        if kind < 0.8:
            saturation, value = rng.uniform(0.6, 1), rng.uniform(0.7, 1)
        elif kind < 0.9:  # nearly white
            saturation, value = rng.uniform(0, 0.15), rng.uniform(0.85, 1)
        else:  # nearly black
            saturation, value = rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.35)
    else:
        saturation, value = rng.uniform(0.05, 0.6), rng.uniform(0.15, 1)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255


def smooth_noise(rng, width, height, octaves):
    field, weight = np.zeros((height, width), np.float32), 1.0
    for octave in range(octaves):
        cells = 3 * 2 ** octave
        rows, columns = (max(2, cells * side // max(width, height)) for side in (height, width))
        cell = Image.fromarray(rng.uniform(0, 1, (rows + 1, columns + 1)).astype(np.float32))
        field += weight * np.asarray(cell.resize((width, height), Image.BICUBIC))
        weight *= 0.5
    field -= field.min()
    return field / max(field.max(), 1e-6)


def background_blend(kind, rng, width, height):
    """[height, width] in 0 to 1: how much of the second colour."""
    if kind == "plain":
        return np.zeros((height, width), np.float32)
    if kind == "clouds":
        return smooth_noise(rng, width, height, int(rng.integers(1, 5)))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle))
    if kind == "linear":
        return (along - along.min()) / max(float(np.ptp(along)), 1e-6)
    if kind == "radial":
        away = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height))
        return away / away.max()
    period = min(width, height) * rng.uniform(0.06, 0.35)
    if kind == "checks":
        across = y * np.float32(math.cos(angle)) - x * np.float32(math.sin(angle))
        wave = np.sin(along * (2 * np.pi / period)) * np.sin(across * (2 * np.pi / period))
    elif kind == "marble":
        wave = np.sin(along * (2 * np.pi / period) + 9 * smooth_noise(rng, width, height, 3))
    elif kind == "waves":
        across = y * np.float32(math.cos(angle)) - x * np.float32(math.sin(angle))
        wave = np.sin((along + 0.3 * period * np.sin(across * (2 * np.pi / period))) * (2 * np.pi / period))
    else:
        wave = np.sin(along * (2 * np.pi / period))
    return np.clip(0.5 + wave * rng.uniform(0.5, 6), 0, 1)


def place(boxes, rng, width, height, size):
    """The corner of a free spot for a shape of this (width, height), or None."""
    for _ in range(12):
        if size[0] > width - 2 or size[1] > height - 2:
            return None
        x, y = rng.uniform(1, width - 1 - size[0]), rng.uniform(1, height - 1 - size[1])
        for x0, y0, x1, y1 in boxes:
            shared = max(0, min(x + size[0], x1) - max(x, x0)) * max(0, min(y + size[1], y1) - max(y, y0))
            if shared > 0.12 * min(size[0] * size[1], (x1 - x0) * (y1 - y0)):
                break
        else:
            return np.array([x, y])
    return None


def draw_shape(picture, points, colour, edge_colour, edge, shadow, rng):
    scale = 4
    low = np.floor(points.min(0) - edge - 1).astype(int)
    size = np.ceil(points.max(0) + edge + 1).astype(int) - low
    path = [tuple(p) for p in ((points - low) * scale - 0.5).tolist()]
    mask = Image.new("L", (int(size[0]) * scale, int(size[1]) * scale))
    ImageDraw.Draw(mask).polygon(path, fill=255)
    if edge:
        rim = Image.new("L", mask.size)
        ImageDraw.Draw(rim).line(path + path[:2], fill=255, width=max(1, round(edge * scale)), joint="curve")
        rim = rim.reduce(scale)
    mask = mask.reduce(scale)
    if shadow:
        dark = Image.new("L", (mask.width + 8 * shadow, mask.height + 8 * shadow))
        dark.paste(mask, (4 * shadow, 4 * shadow))
        dark = dark.filter(ImageFilter.GaussianBlur(shadow)).point([i * 2 // 5 for i in range(256)])
        picture.paste((0, 0, 0), (int(low[0]) - 3 * shadow, int(low[1]) - 3 * shadow), dark)
    fill = Image.new("RGB", mask.size, tuple(colour.astype(int).tolist()))
    if rng.uniform() < 0.6:  # lit from above
        shade = Image.new("RGB", mask.size, tuple((colour * 0.72).astype(int).tolist()))
        fill = Image.composite(shade, fill, Image.linear_gradient("L").resize(mask.size))
    picture.paste(fill, tuple(low.tolist()), mask)
    if edge:
        picture.paste(tuple(edge_colour.astype(int).tolist()), tuple(low.tolist()), rim)


def draw_picture(seed, width, height, grain=True):
    """An RGB picture, its label ids [n] and its boxes [n, 4]: x and y, least and greatest, in pixels."""
    rng = np.random.default_rng(seed)
    kind = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    first = random_colour(rng, False)
    second = first + (random_colour(rng, False) - first) * rng.uniform(0.2, 0.8)
    blend = background_blend(kind, rng, width, height)[..., None]
    pixels = first.astype(np.float32) * (1 - blend) + second.astype(np.float32) * blend
    grainy = grain and rng.uniform() < 0.35
    if rng.uniform() < 0.5:
        pixels *= 0.75 + 0.35 * smooth_noise(rng, width, height, 1)[..., None]
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    short = min(width, height)
    labels, boxes = [], []
    wanted = int(rng.integers(1, MAX_OBJECTS + 1)) if rng.uniform() < 0.96 else 0
    edged, shadowed = rng.uniform() < 0.5, rng.uniform() < 0.5
    for _ in range(wanted):
        label = int(rng.integers(len(LABELS)))
        points = shape_outline(LABELS[label], rng)
        points -= points.min(0)
        largest = short * math.exp(rng.uniform(math.log(0.14), math.log(0.55)))
        points *= largest / points.max()
        edge = max(1.0, largest * rng.uniform(0.02, 0.05)) if edged and LABELS[label] != "ring" else 0
        corner = place(boxes, rng, width, height, points.max(0) + edge)
        if corner is None:
            continue
        points += corner + edge / 2
        for _ in range(20):
            colour = random_colour(rng, True)
            if min(np.linalg.norm(colour - first), np.linalg.norm(colour - second)) > 90:
                break
        edge_colour = np.array([255.0] * 3) if rng.uniform() < 0.5 else colour * 0.45
        shadow = max(1, round(short / 120)) if shadowed else 0
        draw_shape(picture, points, colour, edge_colour, edge, shadow, rng)
        labels.append(label)
        boxes.append(np.concatenate([corner, points.max(0) + edge / 2]))
    if grainy:
        pixels = np.asarray(picture, np.float32)
        noise = rng.standard_normal((height, width, 1 if rng.uniform() < 0.5 else 3), np.float32)
        picture = Image.fromarray(np.clip(pixels + noise * rng.uniform(3, 12), 0, 255).astype(np.uint8))
    return picture, np.array(labels, np.int64), np.array(boxes, np.float32).reshape(-1, 4)


def held_out(count):
    """The first `count` held-out pictures as draw_picture gives them; aspects from 1:2 to 2:1."""
    for i in range(count):
        rng = np.random.default_rng([HELD_OUT, i, 0])
        aspect = math.exp(rng.uniform(-math.log(2), math.log(2)))
        short = math.exp(rng.uniform(math.log(96), math.log(480)))
        width, height = (short * aspect, short) if aspect > 1 else (short, short / aspect)
        yield draw_picture([HELD_OUT, i, 1], round(width), round(height))


def draw_examples(folder):
    """folder/*.png, *.jpg and annotations.json, in COCO's form."""
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for name, (seed, width, height) in EXAMPLE_PICTURES.items():
        picture, labels, boxes = draw_picture([EXAMPLES, seed], width, height, grain=False)
        picture.save(folder / name, **(dict(quality=92) if name.endswith("jpg") else dict(optimize=True)))
        images.append(dict(id=len(images) + 1, file_name=name, width=width, height=height))
        for label, (x0, y0, x1, y1) in zip(labels.tolist(), boxes.astype(float)):
            box = [round(float(v), 1) for v in (x0, y0, x1 - x0, y1 - y0)]
            annotations.append(dict(id=len(annotations) + 1, image_id=len(images), category_id=label, bbox=box,
                                    area=round(box[2] * box[3], 1), iscrowd=0))
    categories = [dict(id=i, name=label) for i, label in enumerate(LABELS)]
    lists = dict(images=images, annotations=annotations, categories=categories)
    lines = [f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for key, rows in lists.items()]
    (folder / "annotations.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
