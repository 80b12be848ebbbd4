"""A real ounce-server, for the tools, benchmarks and tests that ask one."""

import atexit
import json
import os
import pathlib
import subprocess
import tempfile
import time


class OunceServer:
    """`program`, an ounce-server, with `flags`, on free ports of 127.0.0.1, until it is closed or
    its `with` block ends. It serves when this is made; a program that ends before, or takes longer
    than `seconds`, is a SystemExit with what it said. `env` is added to this process's."""

    def __init__(self, program, *flags, cwd=None, seconds=60, env=None):
        self._folder = tempfile.TemporaryDirectory()
        ports = pathlib.Path(self._folder.name, "ports")
        self._log = pathlib.Path(self._folder.name, "log")
        listeners = [f"--{name}=127.0.0.1:0" for name in ("listen", "admin_listen", "metrics_listen")]
        with self._log.open("w") as log:
            self.process = subprocess.Popen([program, *flags, *listeners, f"--ports_file={ports}"],
                                            cwd=cwd, stdout=log, stderr=log,
                                            env=os.environ | (env or {}))
        atexit.register(self.process.kill)  # if this program ends early; else it has ended
        deadline = time.monotonic() + seconds
        while not ports.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"ounce-server does not serve:\n{self.said()}")
            time.sleep(0.01)
        addresses = json.loads(ports.read_text())
        self.inference = addresses["inference"]  # HOST:PORT
        self.admin = addresses["admin"]
        self.metrics = addresses["metrics"]

    def said(self):
        """All that it has written to stdout and stderr."""
        return self._log.read_text()

    def close(self, timeout=None):
        """Lets it end, for `timeout` seconds at most; returns its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(timeout)
        finally:
            self.process.kill()
            self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
