"""Writes tests/golden/coco/cases.json: random objects and detections, and what
pycocotools finds of them.

    pip install pycocotools==2.0.11 numpy
    python3 tools/make_coco_goldens.py tests/golden/coco
"""

import contextlib
import io
import json
import pathlib
import random
import sys

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def make_case(rng, pictures, categories, objects, noise, crowds, detections):
    """A picture is {"objects": [...], "detections": [...]}, ids left out."""

    def box(largest):
        side = rng.choice([20, 60, largest])
        width, height = (round(rng.uniform(3, side), 2) for _ in range(2))
        return [round(rng.uniform(0, 400), 2), round(rng.uniform(0, 300), 2), width, height]

    case = []
    for _ in range(pictures):
        picture = {"objects": [], "detections": []}
        for _ in range(rng.randrange(objects + 1)):
            there = {
                "category_id": rng.randrange(categories),
                "bbox": box(220),
                "iscrowd": int(rng.random() < crowds),
            }
            # Of the shape in the box, which is smaller.
            there["area"] = round(there["bbox"][2] * there["bbox"][3] * rng.uniform(0.5, 1), 2)
            picture["objects"].append(there)
            for _ in range(rng.choice([0, 1, 1, 1, 2])):
                x, y, w, h = there["bbox"]
                moved = [
                    x + rng.gauss(0, noise) * w,
                    y + rng.gauss(0, noise) * h,
                    max(1, w * (1 + rng.gauss(0, noise))),
                    max(1, h * (1 + rng.gauss(0, noise))),
                ]
                picture["detections"].append(
                    {
                        "category_id": there["category_id"]
                        if rng.random() < 0.9
                        else rng.randrange(categories + 1),
                        "bbox": [round(side, 2) for side in moved],
                        # Of few values, so that some are equal.
                        "score": round(rng.random(), 2),
                    }
                )
        for _ in range(rng.randrange(detections + 1)):
            picture["detections"].append(
                {
                    "category_id": rng.randrange(categories + 1),
                    "bbox": box(220),
                    "score": round(rng.random() ** 2, 2),
                }
            )
        case.append(picture)
    return case


def evaluate(case):
    """The first six figures of COCOeval.summarize."""
    categories = sorted({o["category_id"] for p in case for o in p["objects"]})
    truth, found = [], []
    for image, picture in enumerate(case):
        for there in picture["objects"]:
            truth.append({"id": len(truth) + 1, "image_id": image + 1, **there})
        for seen in picture["detections"]:
            if seen["category_id"] in categories:
                found.append({"image_id": image + 1, **seen})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i + 1} for i in range(len(case))],
            "annotations": truth,
            "categories": [{"id": c, "name": str(c)} for c in categories],
        }
        coco.createIndex()
        ev = COCOeval(coco, coco.loadRes(found), "bbox")
        ev.evaluate()
        ev.accumulate()
        ev.summarize()
    return [float(value) for value in ev.stats[:6]]


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(7)
    cases = {
        "several": make_case(rng, 12, 4, 6, 0.06, 0.1, 4),
        "exact": make_case(rng, 6, 3, 5, 0.0, 0.0, 0),
        "crowds": make_case(rng, 8, 2, 6, 0.1, 0.5, 4),
        "loose": make_case(rng, 8, 3, 5, 0.2, 0.1, 10),
        "one picture": make_case(rng, 1, 2, 6, 0.05, 0.2, 3),
        "over a hundred": make_case(rng, 2, 1, 40, 0.08, 0.1, 150),
    }
    # No large ones at all.
    cases["small"] = [
        {
            "objects": [o for o in p["objects"] if o["area"] < 32 * 32],
            "detections": p["detections"],
        }
        for p in make_case(rng, 6, 2, 8, 0.05, 0.1, 2)
    ]
    out = [
        {"name": name, "pictures": case, "expected": evaluate(case)}
        for name, case in cases.items()
    ]
    text = json.dumps({"source": "pycocotools 2.0.11", "cases": out}, separators=(",", ":"))
    (folder / "cases.json").write_text(text.replace("},{", "},\n{") + "\n")


if __name__ == "__main__":
    main()
