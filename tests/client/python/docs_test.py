"""The examples of the package's documentation do what they show."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import re
import zipfile
from pathlib import Path

import ounce
import pytest
from conftest import MADE, SOURCE, RunningServer

MODULES = ["ounce", "ounce._calls", "ounce.aio", "ounce.client", "ounce.errors"]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(
    name: str,
    server: RunningServer,
    client: ounce.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(SOURCE)
    result = doctest.testmod(
        importlib.import_module(name),
        globs={
            "asyncio": asyncio,
            "client": client,
            "ounce": ounce,
            "server": server.inference,
            "admin": server.admin,
        },
    )
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("path", ["README.md", "client/python/README.md"])
def test_readme(
    path: str,
    server: RunningServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(SOURCE)
    monkeypatch.setenv("OUNCE_SERVER", server.inference)
    monkeypatch.setenv("OUNCE_ADMIN", server.admin)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (SOURCE / path).read_text(), re.DOTALL)
    for block in blocks:
        block = block.replace("127.0.0.1:8500", server.inference)
        exec(compile(block, path, "exec"), names)
    assert "tokens by float16" in capsys.readouterr().out


def test_the_wheel_has_all_that_its_users_need() -> None:
    version = re.search(
        r"^project\(ounce VERSION (\S+)", (SOURCE / "CMakeLists.txt").read_text(), re.M
    )
    assert version is not None
    (wheel,) = MADE.glob("*.whl")
    assert wheel.name == f"ounce_client-{version[1]}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name).name for name in archive.namelist()}
        metadata = archive.read(f"ounce_client-{version[1]}.dist-info/METADATA")
    assert {
        "LICENSE",
        "py.typed",
        "inference.proto",
        "inference_pb2.py",
        "inference_pb2.pyi",
        "model_admin_pb2_grpc.py",
    } <= names
    for package in ("grpcio", "protobuf", "googleapis-common-protos"):
        assert re.search(rf"^Requires-Dist: {package}\S*>=", metadata.decode(), re.M)
