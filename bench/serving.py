"""What the comparisons share: Ounce's real server, and the machine's limits."""

import importlib
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from ounce_server import OunceServer  # noqa: E402


class Server:
    """An ounce-server on free loopback ports, and the messages of its protocol. `env` is added to
    this process's."""

    def __init__(self, build, models, threads, *flags, env=None):
        self.folder = tempfile.TemporaryDirectory()
        stubs = self.folder.name
        protos = ["ounce/v1/inference.proto", "ounce/v1/model_admin.proto"]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}/proto",
                        f"--python_out={stubs}", f"--grpc_python_out={stubs}", *protos], check=True)
        sys.path.insert(0, stubs)
        grpc = importlib.import_module("grpc")
        inference_stubs = importlib.import_module("ounce.v1.inference_pb2_grpc")
        admin_stubs = importlib.import_module("ounce.v1.model_admin_pb2_grpc")
        self.inference_messages = importlib.import_module("ounce.v1.inference_pb2")
        self.admin_messages = importlib.import_module("ounce.v1.model_admin_pb2")

        started = time.perf_counter()
        # A checkpoint of full size takes its time. Every prompt is computed, as often as it comes.
        self.server = OunceServer(build / "ounce-server", *(f"--model={model}" for model in models),
                                  f"--threads={threads}", "--prefix_cache_bytes=0", *flags,
                                  seconds=math.inf, env=env)
        self.seconds_to_serve = time.perf_counter() - started
        self.inference = inference_stubs.InferenceStub(grpc.insecure_channel(self.server.inference))
        self.admin = admin_stubs.ModelAdminStub(grpc.insecure_channel(self.server.admin))

    @property
    def pid(self):
        return self.server.process.pid

    def resident_bytes(self):
        return resident_bytes(self.pid)

    def close(self):
        """The exit status."""
        self.folder.cleanup()
        return self.server.close()


def resident_bytes(pid):
    """Of a process: now, and the most there was since forget_peak(), or ever."""
    fields = dict(line.split(":", 1) for line in
                  pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return tuple(int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))


def forget_peak(pid):
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def made_checkpoint(preset, *flags):
    """The folder of a checkpoint of full size and random weights, made at its first time."""
    folder = ROOT / "build/bench" / preset
    if not (folder / "config.json").exists():
        progress(f"making {folder}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, ROOT / "tools/make_checkpoint.py", preset, folder, *flags],
                       check=True, stdout=subprocess.DEVNULL)
        progress("")
    return folder


TOKENIZER = ("--tokenizer", ROOT / "embedded/codegen-tiny")  # of the decoders so made


def machine_limits(build, threads):
    """What this machine gives now, with all threads: DRAM GB/s; int8, bfloat16 and float32
    multiplied in registers, of the best instruction set and of each (`avx2_int8_tops`)."""
    output = subprocess.run([build / "machine_limits", str(threads)], check=True,
                            capture_output=True, text=True).stdout
    return json.loads(output)


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"


def median_limits(limits):
    """What machine_limits gave, each figure's median."""
    return {key: statistics.median(limit[key] for limit in limits) for key in limits[0]}


def print_machine(limits, arguments):
    """What a table is headed by: the machine, and its own limits in this run."""
    print(f"{cpu_name()}, {arguments.threads} threads, medians of {arguments.rounds} rounds")
    print(f"this machine, in this run: DRAM {limits['dram_gb_per_s']:.1f} GB/s, "
          f"int8 {limits['int8_tops']:.2f} TOPS, bfloat16 {limits['bfloat16_tflops']:.2f} and "
          f"float32 {limits['float32_tflops']:.2f} TFLOPS\n")


def progress(text):
    """One line on stderr that the next one replaces; "" clears it."""
    print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)
