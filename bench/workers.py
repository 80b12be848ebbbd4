"""Engines beside Ounce, each in a process of its own that stands still unless it is asked.

In one process two runtimes would share OpenMP's threads, and idle ones spin; and an
instruction set can only be capped before an engine's first call.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import zlib

from serving import ROOT
from streams import Times

# What caps each engine: Ounce, CTranslate2, oneDNN (in all of them), PyTorch, MKL.
CAPS = {
    "avx2": {"OUNCE_MAX_ISA": "avx2", "CT2_FORCE_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2",
             "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx512": {"OUNCE_MAX_ISA": "avx512", "CT2_FORCE_CPU_ISA": "AVX512",
               "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "ATEN_CPU_CAPABILITY": "avx512",
               "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
}
NOT_CAPPED = {  # why a peer isn't in a capped section
    "onnxruntime": "no setting caps the instruction set of ONNX Runtime",
    "llamacpp": "llama.cpp is compiled for all that this CPU has",
}


def reason_not_capped(kind):
    return next((why for name, why in NOT_CAPPED.items() if name in kind.split("-")), None)


class Peer:
    """An engine of bench/peers.py. Making it converts the checkpoint, at its first time; one that
    can't run here is a RuntimeError that says why."""

    def __init__(self, kind, checkpoint, threads, cap=None):
        # Another checkpoint is converted anew.
        weights = next(pathlib.Path(checkpoint).glob("*.safetensors")).stat()
        mark = zlib.crc32(f"{weights.st_size} {weights.st_mtime_ns}".encode())
        folder = ROOT / "build/bench/peers" / f"{pathlib.Path(checkpoint).name}-{mark:08x}"
        folder.mkdir(parents=True, exist_ok=True)
        self.kind = kind
        self._said = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, ROOT / "bench/peers.py", kind, checkpoint, folder, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, bufsize=1,
            env=os.environ | CAPS.get(cap, {}))
        try:
            self.name = self._answer()["name"]
        except RuntimeError:
            self.close()
            raise
        self._process.send_signal(signal.SIGSTOP)

    @property
    def pid(self):
        return self._process.pid

    def _answer(self):
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._said.seek(0)
        said = self._said.read().strip().splitlines()
        raise RuntimeError(said[-1].strip() if said else f"it ended with status {status}")

    def _ask(self, work):
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps(work) + "\n")
            return self._answer()
        except BrokenPipeError:
            raise RuntimeError("it has ended") from None
        finally:
            self._process.send_signal(signal.SIGSTOP)

    def run(self, streams, length, new_tokens):
        """The Times of so many prompts at once."""
        times = Times(streams)
        times.tokens = self._ask(
            {"streams": streams, "prompt": length, "new_tokens": new_tokens})["tokens"]
        return times

    def detect(self):
        """Seconds of one forward pass, and the sorted scores of all queries."""
        found = self._ask({})
        return found["seconds"], found["scores"]

    def close(self):
        self._process.kill()
        self._process.wait()
