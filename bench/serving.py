"""What the comparisons share: Ounce's real server, and the machine's limits."""

import atexit
import importlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Server:
    """An ounce-server on free loopback ports, and the messages of its protocol."""

    def __init__(self, build, models, threads, *flags):
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

        ports = pathlib.Path(stubs, "ports")
        arguments = [argument for model in models for argument in ("--model", model)]
        for listener in ("listen", "admin_listen", "metrics_listen"):
            arguments += [f"--{listener}", "127.0.0.1:0"]
        started = time.perf_counter()
        self.log = pathlib.Path(stubs, "log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [build / "ounce-server", *arguments, "--threads", str(threads),
                 "--ports_file", ports, *flags], stdout=log, stderr=log)
        atexit.register(self.process.kill)  # if this program ends early; else it has ended
        while not ports.exists():
            if self.process.poll() is not None:
                sys.exit(f"ounce-server ended before it served:\n{self.log.read_text()}")
            time.sleep(0.05)
        self.seconds_to_serve = time.perf_counter() - started
        addresses = json.loads(ports.read_text())
        self.inference = inference_stubs.InferenceStub(
            grpc.insecure_channel(addresses["inference"]))
        self.admin = admin_stubs.ModelAdminStub(grpc.insecure_channel(addresses["admin"]))

    def resident_bytes(self):
        """Now, and the most there ever was."""
        fields = dict(line.split(":", 1) for line in
                      pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        return tuple(int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))

    def close(self):
        """The exit status."""
        self.process.terminate()
        status = self.process.wait()
        self.folder.cleanup()
        return status


def machine_limits(build, threads):
    """DRAM GB/s and int8 TOPS that this machine gives now, with all threads."""
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
          f"int8 {limits['int8_tops']:.1f} TOPS\n")


def progress(text):
    """One line on stderr that the next one replaces; "" clears it."""
    print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)
