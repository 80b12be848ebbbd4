"""A call that a full server refuses comes again when the server says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import ounce
import pytest
from conftest import RunningServer, long_model
from ounce._connection import Attempts


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One request runs, one waits."""
    folder = tmp_path_factory.mktemp("small")
    with RunningServer(
        *("--model", f"long={long_model(folder)}"),
        *("--max_running_requests", "1", "--max_queued_requests", "1"),
    ) as server:
        yield server


@pytest.fixture
def full(small_server: RunningServer) -> Iterator[ExitStack]:
    """What keeps the server full until it is closed."""
    with ExitStack() as busy:
        client = busy.enter_context(
            ounce.Client(small_server.inference, small_server.admin)
        )
        running = client.generate("long", "a", max_new_tokens=4000)
        next(running)
        waiting = client.generate("long", "a", max_new_tokens=4000)
        while client.describe("long").queued_requests == 0:
            pass
        busy.callback(waiting.close)
        busy.callback(running.close)
        yield busy


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch, full: ExitStack) -> list[float]:
    """The delays that clients were to wait; the server has room again then."""
    delays: list[float] = []
    original = Attempts.delay_after

    def delay_after(attempts: Attempts, error: grpc.RpcError) -> float:
        delays.append(original(attempts, error))
        full.close()
        return 0.01

    monkeypatch.setattr(Attempts, "delay_after", delay_after)
    return delays


def test_a_refused_call_says_when_to_come_back(
    small_server: RunningServer, full: ExitStack
) -> None:
    with ounce.Client(small_server.inference, retries=0) as client:
        with pytest.raises(ounce.ResourceExhaustedError) as caught:
            client.generate_text("long", "a", max_new_tokens=2)
    assert caught.value.retry_delay is not None
    assert 0 < caught.value.retry_delay < 60


def test_it_is_made_again(small_server: RunningServer, waits: list[float]) -> None:
    with ounce.Client(small_server.inference, retries=1000) as client:
        assert client.generate_text("long", "a", max_new_tokens=2)
    assert len(waits) >= 1
    assert min(waits) > 0


def test_asyncio_does_the_same(small_server: RunningServer, waits: list[float]) -> None:
    async def main() -> str:
        async with ounce.AsyncClient(small_server.inference, retries=1000) as client:
            return await client.generate_text("long", "a", max_new_tokens=2)

    assert asyncio.run(main())
    assert len(waits) >= 1


def test_not_when_the_deadline_is_before_that(
    small_server: RunningServer, full: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ounce.OunceError, "retry_delay", 3600.0)
    with ounce.Client(small_server.inference, retries=1000, timeout=20) as client:
        with pytest.raises(ounce.ResourceExhaustedError):
            client.generate_text("long", "a", max_new_tokens=2)
