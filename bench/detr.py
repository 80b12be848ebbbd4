#!/usr/bin/env python3
"""Ounce beside its peers: DETR-ResNet-50 at full size, random weights, on this CPU.

One picture at a time, 640 x 480, which DETR sees as 1066 x 800. Ounce is measured
from outside, over gRPC, through its real server: seconds in the model as the
response tells them, which is what the peers' forward passes are held against, and
seconds of the whole call with decoding and resizing. The peers run in this process
on the prepared pixels: OpenVINO, ONNX Runtime and Hugging Face transformers
(channels last). All use the same checkpoint and the same number of threads. Rounds
are interleaved; the table shows medians, their ratio to OpenVINO in bfloat16, and
the machine's own limits, read between the rounds.

The last column is the largest difference of a detection's score from
transformers' in float32, all queries counted: it shows that the same thing is
computed, and what each precision costs.

Run it by `./run bench detr`, on a machine that does nothing else.
"""

import argparse
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy
import onnxruntime
import openvino
import torch
import transformers
from PIL import Image

from pictures import picture_file
from serving import ROOT, Server, machine_limits, median_limits, print_machine, progress

HEIGHT, WIDTH = 800, 1066
BASELINE = "OpenVINO bfloat16"


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path,
                        help="folder with ounce-server (default: build/release)")
    parser.add_argument("--checkpoint", type=pathlib.Path,
                        help="DETR folder (default: makes detr-resnet-50 under build/bench)")
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="per engine (default: the CPUs of this process)")
    parser.add_argument("--json", action="store_true", help="print medians as JSON instead")
    return parser.parse_args()


def best_scores(logits):
    """Of each query, the probability of its best label; sorted."""
    return numpy.sort(torch.from_numpy(logits).float().softmax(-1)[..., :-1].amax(-1).numpy().ravel())


class Ounce:
    """Seconds in the model; the whole call's are kept beside them."""

    def __init__(self, build, checkpoint, threads, compute, *model_options):
        self.name = f"Ounce {compute}" + "".join(" + int8" for _ in model_options[:1])
        self.server = Server(build, [",".join([f"bench={checkpoint}", *model_options])], threads,
                             "--compute", compute)
        self.call_seconds = []

    def run(self, file, _):
        request = self.server.inference_messages.DetectObjectsRequest(
            model="bench", image=file, threshold=0, max_detections=1000)
        started = time.perf_counter()
        response = self.server.inference.DetectObjects(request)
        self.call_seconds.append(time.perf_counter() - started)
        scores = numpy.sort([detection.score for detection in response.detections])
        return response.model_seconds, scores

    def close(self):
        self.server.close()


class OnnxRuntime:
    name = "ONNX Runtime float32"

    def __init__(self, onnx, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(onnx, options, ["CPUExecutionProvider"])

    def run(self, _, pixels):
        started = time.perf_counter()
        logits, _ = self.session.run(None, {"pixel_values": pixels})
        return time.perf_counter() - started, best_scores(logits)

    def close(self):
        del self.session


class OpenVino:
    def __init__(self, onnx, threads, name, hint):
        self.name = f"OpenVINO {name}"
        core = openvino.Core()
        model = core.compile_model(core.read_model(onnx), "CPU", {
            "INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY"})
        self.request = model.create_infer_request()

    def run(self, _, pixels):
        started = time.perf_counter()
        result = self.request.infer([pixels])
        return time.perf_counter() - started, best_scores(result["logits"])

    def close(self):
        del self.request


class Transformers:
    def __init__(self, model, threads, name, dtype):
        torch.set_num_threads(threads)
        self.name = f"transformers {name}"
        self.model = model.to(dtype).to(memory_format=torch.channels_last)
        self.dtype = dtype

    @torch.inference_mode()
    def run(self, _, pixels):
        inputs = torch.from_numpy(pixels).to(self.dtype).to(memory_format=torch.channels_last)
        started = time.perf_counter()
        logits = self.model(inputs).logits
        return time.perf_counter() - started, best_scores(logits.float().numpy())

    def close(self):
        del self.model


def load(checkpoint):
    return transformers.DetrForObjectDetection.from_pretrained(checkpoint, dtype=torch.float32).eval()


def export_onnx(checkpoint, path):
    class Forward(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = load(checkpoint)

        def forward(self, pixel_values):
            output = self.model(pixel_values)
            return output.logits, output.pred_boxes

    with torch.inference_mode():
        torch.onnx.export(Forward(), (torch.zeros(1, 3, HEIGHT, WIDTH),), path, dynamo=False,
                          input_names=["pixel_values"], output_names=["logits", "pred_boxes"])


def print_results(engines, seconds, drift, limits, arguments):
    median = {engine.name: statistics.median(seconds[engine.name]) for engine in engines}
    calls = {engine.name: statistics.median(engine.call_seconds[1:])
             for engine in engines if isinstance(engine, Ounce)}
    limits = median_limits(limits)
    if arguments.json:
        print(json.dumps({**limits, "seconds": median,
                          "call_seconds": calls, "score_drift": drift}))
        return
    print_machine(limits, arguments)
    width = max(len(engine.name) for engine in engines)
    print(f"{'':{width}}   in the model     ratio   whole call   score drift")
    for engine in engines:
        name = engine.name
        call = f"{1000 * calls[name]:7.0f} ms" if name in calls else " " * 10
        print(f"{name:{width}}   {1000 * median[name]:9.0f} ms   {median[name] / median[BASELINE]:5.2f} x"
              f"   {call}   {drift[name]:11.6f}")
    print(f"\n(x: ratio to {BASELINE}; less is faster)")


def main():
    arguments = parse_arguments()
    folder = ROOT / "build/bench"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = arguments.checkpoint or folder / "detr-resnet-50"
    if not (checkpoint / "config.json").exists():
        subprocess.run([sys.executable, ROOT / "tools/make_checkpoint.py", "detr-resnet-50", checkpoint],
                       check=True)
    onnx = folder / "detr-resnet-50.onnx"
    if not onnx.exists():
        progress("exporting to ONNX")
        export_onnx(checkpoint, onnx)
    file = picture_file()
    processor = transformers.DetrImageProcessor.from_pretrained(checkpoint)
    pixels = processor(Image.open(io.BytesIO(file)), return_tensors="np")["pixel_values"]
    if pixels.shape != (1, 3, HEIGHT, WIDTH):
        sys.exit(f"{checkpoint}: its image processor gives {pixels.shape}, "
                 f"{(1, 3, HEIGHT, WIDTH)} wanted")

    build, threads = arguments.build, arguments.threads
    reference = Transformers(load(checkpoint), threads, "float32", torch.float32)
    engines = [
        Ounce(build, checkpoint, threads, "bfloat16"),
        Ounce(build, checkpoint, threads, "bfloat16", "method=linear", "convolutions=true"),
        OpenVino(onnx, threads, "bfloat16", "bf16"),
        Transformers(load(checkpoint), threads, "bfloat16", torch.bfloat16),
        Ounce(build, checkpoint, threads, "float32"),
        OpenVino(onnx, threads, "float32", "f32"),
        OnnxRuntime(onnx, threads),
        reference,
    ]
    seconds, limits = {engine.name: [] for engine in engines}, []
    try:
        wanted = reference.run(file, pixels)[1]
        drift = {}
        for round_index in range(-1, arguments.rounds):  # -1: a warm-up
            for engine in engines:
                progress(f"round {round_index + 1} of {arguments.rounds}: {engine.name}")
                took, scores = engine.run(file, pixels)
                if round_index >= 0:
                    seconds[engine.name].append(took)
                drift[engine.name] = float(abs(scores - wanted).max())
            if round_index >= 0:
                limits.append(machine_limits(build, threads))
        progress("")
        print_results(engines, seconds, drift, limits, arguments)
    finally:
        for engine in engines:
            engine.close()


if __name__ == "__main__":
    main()
