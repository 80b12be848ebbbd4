"""The package as its users have it, out of its wheel, and a real server."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[3]
MADE = Path(tempfile.mkdtemp(prefix="ounce-wheel-"))
atexit.register(shutil.rmtree, MADE, ignore_errors=True)


def _install_wheel() -> None:
    subprocess.run(
        [SOURCE / "tools/make_wheel.sh", sys.executable, MADE / "stage", MADE],
        check=True,
    )
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        + ["--disable-pip-version-check", "--target", MADE / "site"]
        + list(MADE.glob("*.whl")),
        check=True,
    )
    sys.path.insert(0, str(MADE / "site"))


_install_wheel()  # before the tests import it

import ounce  # noqa: E402

sys.path.insert(0, str(SOURCE / "tools"))
from ounce_server import OunceServer  # noqa: E402


class RunningServer(OunceServer):
    def __init__(self, *flags: str) -> None:
        super().__init__(os.environ["OUNCE_SERVER_BINARY"], *flags, cwd=SOURCE)

    def cancelled(self) -> int:
        """How many requests to the model "long" were cancelled."""
        line = 'ounce_requests_total{model="long",outcome="cancelled"} '
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://{self.metrics}/metrics") as page:
            for found in page.read().decode().splitlines():
                if found.startswith(line):
                    return int(float(found[len(line) :]))
        return 0

    def __exit__(self, *_: object) -> None:
        assert self.close(60) == 0


def long_model(folder: Path) -> Path:
    """The embedded model as if it had been trained on longer texts: it writes
    without end then, though not well."""
    shutil.copytree(SOURCE / "embedded/codegen-tiny", folder / "long")
    config = folder / "long/config.json"
    values = json.loads(config.read_text())
    config.unlink()
    config.write_text(json.dumps(values | {"n_positions": 8192, "n_ctx": 8192}))
    return folder / "long"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "saved").mkdir()
    with RunningServer(
        *("--save_root", str(folder / "saved")),
        *("--model", "code=embedded/codegen-tiny"),
        *("--model", "shapes=embedded/detr-tiny"),
        *("--model", f"long={long_model(folder)}"),
    ) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[ounce.Client]:
    with ounce.Client(server.inference, server.admin, timeout=60) as client:
        yield client


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
