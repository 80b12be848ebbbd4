"""TLS, with certificates of both sides, and tokens."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ounce
import pytest
from conftest import RunningServer


@dataclass
class Certified:
    """A server that wants a client's certificate, and where all of them are."""

    server: RunningServer
    folder: Path

    def options(self) -> dict[str, Path]:
        return {
            "ca": self.folder / "ca.pem",
            "cert": self.folder / "client.pem",
            "key": self.folder / "client.key",
        }


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def _make_certificates(folder: Path) -> None:
    new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split()
    authority = "req -x509 -subj /CN=authority -keyout ca.key -out ca.pem".split()
    _openssl(folder, *authority, *new)
    for name in ("server", "client"):
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
        request = f"req -new -subj /CN={name} -keyout {name}.key -out {name}.csr"
        _openssl(folder, *request.split(), *new[:-2])
        sign = f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial"
        end = f"-days 2 -extfile {name}.ext -out {name}.pem"
        _openssl(folder, *sign.split(), *end.split())


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certified]:
    folder = tmp_path_factory.mktemp("tls")
    _make_certificates(folder)
    with RunningServer(
        *("--model", "code=embedded/codegen-tiny"),
        *("--tls_cert", f"{folder}/server.pem", "--tls_key", f"{folder}/server.key"),
        *("--tls_client_ca", f"{folder}/ca.pem"),
        *("--admin_tls_client_ca", f"{folder}/ca.pem"),
    ) as server:
        yield Certified(server, folder)


def test_both_sides_show_a_certificate(certified: Certified) -> None:
    server = certified.server
    with ounce.Client(
        server.inference, server.admin, timeout=60, **certified.options()
    ) as client:
        assert client.generate_text("code", "import os\n", max_new_tokens=3)
        assert client.describe("code").version == 1

    async def main() -> None:
        async with ounce.AsyncClient(
            server.inference, timeout=60, **certified.options()
        ) as client:
            assert await client.models()

    asyncio.run(main())


def refusal(address: str, **options: Path | bool) -> str:
    with ounce.Client(address, timeout=60, **options) as client:  # type: ignore
        with pytest.raises(ounce.UnavailableError) as caught:
            client.models()
    return str(caught.value)


def test_says_why_there_is_no_connection(
    certified: Certified, server: RunningServer
) -> None:
    address = certified.server.inference
    authority = certified.folder / "ca.pem"
    assert "may want a certificate" in refusal(address, ca=authority)
    assert "not to be trusted" in refusal(address, tls=True)
    assert "does it speak TLS" in refusal(address)
    assert "the port for metrics" in refusal(server.metrics)
    assert "speak no TLS" in refusal(server.inference, ca=authority)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a token for Inference, "secret"."""
    folder = tmp_path_factory.mktemp("tokens")
    digest = hashlib.sha256(b"secret").hexdigest()
    (folder / "tokens").write_text(f"web infer {digest}\n")
    with RunningServer(
        *("--model", "code=embedded/codegen-tiny"),
        *("--token_file", f"{folder}/tokens"),
    ) as server:
        yield server


def test_sends_its_token(guarded: RunningServer) -> None:
    with ounce.Client(guarded.inference, guarded.admin, token="secret") as client:
        assert client.models()
        assert client.generate_text("code", "import os\n", max_new_tokens=3)
        with pytest.raises(ounce.PermissionDeniedError):
            client.describe("code")
    with ounce.Client(guarded.inference) as nobody:
        with pytest.raises(ounce.UnauthenticatedError):
            nobody.models()


def test_takes_the_token_from_the_environment(
    guarded: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUNCE_TOKEN", "secret")

    async def main() -> None:
        async with ounce.AsyncClient(guarded.inference) as client:
            assert await client.models()

    asyncio.run(main())


def test_reads_the_token_file_before_each_call(
    guarded: RunningServer, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("wrong\n")
    with ounce.Client(guarded.inference, token_file=file) as client:
        with pytest.raises(ounce.UnauthenticatedError):
            client.models()
        file.write_text("secret\n")
        assert client.models()
