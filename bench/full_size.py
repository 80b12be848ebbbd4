#!/usr/bin/env python3
"""Proves the product on a checkpoint of full size, random weights, on this CPU.

For each form in which the checkpoint can be stored: makes it, starts the real
server on it, keeps four clients busy, quantizes it live with `linear`, and tells
what a platform engineer asks: seconds to load, bytes before and after, resident
memory at its peak and afterwards, how much slower the clients were meanwhile, and
how long a stream waited.
A request that fails, bytes that are not the expected ones, or answers that are
not those of transformers end it with an error.

  codegen  codegen-350m in float16 as .safetensors, and as .bin with mask buffers;
           64 greedy tokens after three prompts equal transformers' in float32
  detr     detr-resnet-50 in float32 with Hugging Face's names as .safetensors, and
           with timm's names as .bin; detections equal transformers' in float32
  gpt2, opt-125m, opt-350m, smollm2-135m, llama-1b
           in 16 bits, named as published; opt-350m as .bin too; tokens as codegen's

Run it by `./run bench full_size codegen` (or another of these).
"""

import argparse
import os
import pathlib
import subprocess
import sys
import threading
import time

import torch
import transformers

from pictures import picture, picture_file
from serving import ROOT, Server, progress

CLIENTS = 4


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=CHECKS, metavar="MODEL", help=", ".join(CHECKS))
    parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path,
                        help="folder with ounce-server (default: build/release)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="of the server (default: the CPUs of this process)")
    parser.add_argument("--seconds", type=float, default=8,
                        help="of load before and after the quantization (default: 8)")
    return parser.parse_args()


def expect(condition, message):
    if not condition:
        sys.exit(f"full_size: {message}")


class CodeGen:
    preset = "codegen-350m"
    forms = {"safetensors": [], "bin": ["--format", "bin", "--with-masks"]}
    flags = ["--tokenizer", ROOT / "embedded/codegen-tiny"]
    stored_bytes = (713_424_896, 462_135_296)
    exclude = []  # from the quantization, beside what is left alone anyway
    unit = "tokens"
    # Prompts whose greedy continuation stays within the tokenizer's ids.
    prompts = [[2 + 17 * i % 1000 for i in range(n)] for n in (8, 21, 40)]
    reference_flags = ["--compute", "float32"]
    reference_method = "float32"

    def request(self, server, client):
        ids = [(client * 37 + i * 11) % 4000 for i in range(32)]
        tokens = 0
        reason = 0
        for response in server.inference.Generate(server.inference_messages.GenerateRequest(
                model="m", prompt_token_ids=server.inference_messages.TokenIds(ids=ids),
                max_new_tokens=64)):
            tokens += len(response.token_ids)
            reason = response.finish_reason
            yield len(response.token_ids)
        expect(reason != 0 and tokens > 0, "a stream ended without a reason")

    def check_answers(self, server, folder):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        ids = transformers.AutoTokenizer.from_pretrained(folder)
        beyond = list(range(len(ids), model.config.vocab_size))
        equal = 0
        for prompt in self.prompts:
            wanted = model.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=64,
                min_new_tokens=64, do_sample=False, suppress_tokens=beyond, pad_token_id=0)
            found = []
            for response in server.inference.Generate(server.inference_messages.GenerateRequest(
                    model="m", prompt_token_ids=server.inference_messages.TokenIds(ids=prompt),
                    max_new_tokens=64)):
                found += response.token_ids
            expect(found == wanted[0, len(prompt):].tolist(), f"greedy tokens differ: {found}")
            equal += len(found)
        return f"{equal} greedy tokens after {len(self.prompts)} prompts equal transformers'"


class Detr:
    preset = "detr-resnet-50"
    forms = {"huggingface safetensors": [],
             "timm bin": ["--naming", "timm", "--format", "bin"]}
    flags = []
    stored_bytes = (166_524_032, 114_803_840)
    exclude = []
    unit = "pictures"
    reference_flags = ["--compute", "float32"]
    reference_method = "float32"

    def __init__(self):
        self.picture = picture()
        self.file = picture_file()

    def detect(self, server):
        return server.inference.DetectObjects(server.inference_messages.DetectObjectsRequest(
            model="m", image=self.file, threshold=0, max_detections=1000))

    def request(self, server, _):
        expect(len(self.detect(server).detections) == 100, "a picture without detections")
        yield 1

    def check_answers(self, server, folder):
        processor = transformers.DetrImageProcessor.from_pretrained(folder)
        model = transformers.DetrForObjectDetection.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.inference_mode():
            output = model(**processor(self.picture, return_tensors="pt"))
        wanted = processor.post_process_object_detection(output, 0, [(480, 640)])[0]
        order = wanted["scores"].argsort(descending=True)
        boxes = wanted["boxes"][order].clamp(min=0)
        boxes = torch.minimum(boxes, torch.tensor([640.0, 480, 640, 480]))
        found = self.detect(server).detections
        expect(len(found) == len(order), f"{len(found)} detections, transformers has {len(order)}")
        scores = abs(torch.tensor([d.score for d in found]) - wanted["scores"][order]).max().item()
        # Equal scores may come in another order, so each box is held against the nearest.
        places = torch.tensor([[d.box.x_min, d.box.y_min, d.box.x_max, d.box.y_max] for d in found])
        distance = (places[:, None] - boxes[None]).abs().amax(-1).amin(-1).max().item()
        expect(scores < 1e-4 and distance < 0.1,
               f"scores differ by {scores}, boxes by {distance} pixels")
        return f"scores within {scores:.1e} and boxes within {distance:.1e} pixels of transformers'"


class Gpt2(CodeGen):
    preset = "gpt2"
    forms = {"safetensors": []}
    stored_bytes = (248_879_616, 164_110_848)


class Opt125m(Gpt2):
    preset = "opt-125m"
    stored_bytes = (250_478_592, 165_709_824)


class Opt350m(Gpt2):
    preset = "opt-350m"
    forms = {"safetensors": [], "bin": ["--format", "bin"]}
    stored_bytes = (662_392_832, 359_799_808)
    exclude = ["lm_head"]


class SmolLm2(Gpt2):
    preset = "smollm2-135m"
    stored_bytes = (269_030_016, 163_172_736)


class Llama1b(Gpt2):
    preset = "llama-1b"
    stored_bytes = (2_471_628_800, 1_499_303_936)


CHECKS = {"codegen": CodeGen, "detr": Detr, **{check.preset: check for check in (
    Gpt2, Opt125m, Opt350m, SmolLm2, Llama1b)}}


class Load:
    """Clients that ask again and again; when what came."""

    def __init__(self, check, server):
        self.check, self.server = check, server
        self.stopping = False
        self.events, self.waits, self.failures, self.finished = [], [], [], 0
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _run(self, client):
        while not self.stopping:
            try:
                last = None
                for count in self.check.request(self.server, client):
                    now = time.perf_counter()
                    self.events.append((now, count))
                    if last is not None:
                        self.waits.append((now, now - last))
                    last = now
                self.finished += 1
            except Exception as error:  # a failed call, whatever it was, is what is counted
                self.failures.append(error)

    def rate(self, start, end):
        return sum(n for t, n in self.events if start <= t < end) / (end - start)

    def longest_waits(self, start, end):
        """In seconds, within a stream: the median, and the longest one."""
        waits = sorted(wait for t, wait in self.waits if start <= t < end)
        return (waits[len(waits) // 2], waits[-1]) if waits else (0, 0)

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()


def megabytes(count):
    return f"{count / 1e6:,.1f} MB"


def check_form(check, form, folder, arguments):
    print(f"\n{check.preset}, {form}")
    server = Server(arguments.build, [f"m={folder}"], arguments.threads)
    print(f"  serves after            {server.seconds_to_serve:.1f} s")
    load = Load(check, server)
    while not load.events and not load.failures:
        time.sleep(0.05)
    time.sleep(arguments.seconds)
    before = time.perf_counter()
    messages = list(server.admin.Quantize(
        server.admin_messages.QuantizeRequest(model="m", method="linear", exclude=check.exclude)))
    after = time.perf_counter()
    time.sleep(arguments.seconds)
    end = time.perf_counter()
    load.stop()
    report = messages[-1].report
    stored = report.stored_bytes_before, report.stored_bytes_after
    spans = [(before - arguments.seconds * 0.9, before), (before, after), (after + 0.5, end)]
    rates = [load.rate(*span) for span in spans]
    waits = [load.longest_waits(*span) for span in spans[:2]]
    time.sleep(1)
    resident, peak = server.resident_bytes()
    print(f"  stored bytes            {stored[0]:,} -> {stored[1]:,} ({report.saved_ratio:.2%} saved)")
    print(f"  resident weight bytes   {report.resident_bytes_before:,} -> {report.resident_bytes_after:,}")
    print(f"  quantized in            {report.seconds:.1f} s, while {CLIENTS} clients went on")
    expect(rates[0], f"no {check.unit} came in {arguments.seconds} s; --seconds gives more")
    print(f"  {check.unit} per second".ljust(26) + f"{rates[0]:.1f} before, {rates[1]:.1f} meanwhile, "
          f"{rates[2]:.1f} after (meanwhile {rates[1] / rates[0]:.0%} of before)")
    if load.waits:
        print("  between tokens          " + ", ".join(
            f"median {1e3 * median:.0f} ms, longest {1e3 * longest:.0f} ms {when}"
            for (median, longest), when in zip(waits, ("before", "meanwhile"))))
    print(f"  requests                {load.finished} finished, {len(load.failures)} failed")
    print(f"  resident memory         peak {megabytes(peak)}, afterwards {megabytes(resident)}")
    expect(server.close() == 0, "the server did not end well")
    expect(not load.failures, f"a request failed: {load.failures[:1]}")
    expect(stored == check.stored_bytes, f"stored bytes {stored}, {check.stored_bytes} wanted")

    server = Server(arguments.build, [f"m={folder},method=linear"], arguments.threads)
    resident, peak = server.resident_bytes()
    print(f"  started with linear     peak {megabytes(peak)}, afterwards {megabytes(resident)}")
    expect(server.close() == 0, "the server did not end well")


def main():
    arguments = parse_arguments()
    check = CHECKS[arguments.model]()
    parent = ROOT / "build/bench"
    parent.mkdir(parents=True, exist_ok=True)
    first = None
    for form, flags in check.forms.items():
        folder = parent / "-".join([check.preset, *form.split()])
        first = first or folder
        if not (folder / "config.json").exists():
            progress(f"making {folder}")
            subprocess.run([sys.executable, ROOT / "tools/make_checkpoint.py", check.preset, folder,
                            *check.flags, *flags], check=True, stdout=subprocess.DEVNULL)
            progress("")
        check_form(check, form, folder, arguments)
    server = Server(arguments.build, [f"m={first},method={check.reference_method}"],
                    arguments.threads, *check.reference_flags)
    print(f"\nin float32: {check.check_answers(server, first)}")
    expect(server.close() == 0, "the server did not end well")


if __name__ == "__main__":
    main()
