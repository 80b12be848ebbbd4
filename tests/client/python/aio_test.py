"""ounce.AsyncClient against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import ounce
import pytest
from conftest import SOURCE, RunningServer


def run(
    server: RunningServer, body: Callable[[ounce.AsyncClient], Awaitable[None]]
) -> None:
    async def main() -> None:
        async with ounce.AsyncClient(
            server.inference, server.admin, timeout=60
        ) as client:
            await asyncio.wait_for(body(client), 60)

    asyncio.run(main())


async def is_idle(client: ounce.AsyncClient) -> bool:
    return (await client.describe("long")).running_requests == 0


async def wait_until_cancelled(server: RunningServer, requests: int) -> None:
    while server.cancelled() < requests:
        await asyncio.sleep(0.005)


def test_answers_as_the_other_client_does(
    server: RunningServer, client: ounce.Client
) -> None:
    picture = SOURCE / "embedded/detr-tiny/examples/shapes-300x300.png"

    async def body(calls: ounce.AsyncClient) -> None:
        text = ""
        async for message in calls.generate("code", "def ", max_new_tokens=16):
            text += message.text
        assert message.usage.new_tokens == 16
        assert text == client.generate_text("code", "def ", max_new_tokens=16)
        found, models = await asyncio.gather(
            calls.detect("shapes", picture), calls.models()
        )
        assert found.detections == client.detect("shapes", picture).detections
        assert models == client.models()

    run(server, body)


def test_tasks_share_a_client(server: RunningServer) -> None:
    async def body(client: ounce.AsyncClient) -> None:
        texts = await asyncio.gather(
            *(client.generate_text("code", "x = ", max_new_tokens=12) for _ in range(8))
        )
        assert len(set(texts)) == 1

    run(server, body)


def test_quantizes_with_progress(server: RunningServer) -> None:
    async def body(client: ounce.AsyncClient) -> None:
        seen: list[ounce.QuantizeProgress] = []
        report = await client.quantize(
            "code", "linear", dry_run=True, progress=seen.append
        )
        assert report == seen[-1].report
        assert report.saved_ratio > 0

    run(server, body)


def test_leaving_the_loop_stops_the_work(server: RunningServer) -> None:
    async def body(client: ounce.AsyncClient) -> None:
        before = server.cancelled()
        async for _ in client.generate("long", "a", max_new_tokens=4000):
            break
        await wait_until_cancelled(server, before + 1)
        async with client.generate("long", "a", max_new_tokens=4000) as stream:
            await stream.__anext__()
        await wait_until_cancelled(server, before + 2)
        assert [message async for message in stream] == []

    run(server, body)


def test_cancelling_the_task_stops_the_work(server: RunningServer) -> None:
    async def body(client: ounce.AsyncClient) -> None:
        before = server.cancelled()
        task = asyncio.create_task(
            client.generate_text("long", "a", max_new_tokens=4000)
        )
        while await is_idle(client):
            assert not task.done()
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait_until_cancelled(server, before + 1)

    run(server, body)


def test_raises_the_same_errors(server: RunningServer) -> None:
    async def body(client: ounce.AsyncClient) -> None:
        with pytest.raises(ounce.InvalidArgumentError) as caught:
            await client.generate_text("code", "a", top_p=2)
        assert caught.value.field == "sampling.top_p"
        assert caught.value.request_id
        with pytest.raises(ounce.NotFoundError, match="nobody"):
            await client.describe("nobody")
        with pytest.raises(ounce.DeadlineExceededError):
            await client.generate_text("long", "a", max_new_tokens=4000, timeout=0.2)
        with pytest.raises(ounce.FailedPreconditionError) as refused:
            await client.quantize("long", "binary", probe=True, max_kl=0, dry_run=True)
        assert refused.value.report.refused

    run(server, body)
