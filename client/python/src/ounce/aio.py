"""The client of programs that run on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from . import _calls, errors
from ._calls import Call, Collected, Unary
from ._connection import Attempts, Connection, add_report

M = TypeVar("M", bound=Message)
T = TypeVar("T")
P = ParamSpec("P")


class AsyncStream(Generic[M]):
    """The messages of a call, as they come.

    The call ends with the loop: leaving it early, ``close``, the end of an ``async
    with`` block or of the stream's own life, and the cancellation of the task that
    waits for it cancel what is under way.
    """

    def __init__(
        self, begin: Callable[[float | None], Any], attempts: Attempts
    ) -> None:
        self._begin = begin
        self._attempts = attempts
        self._closed = False
        self._rpc = begin(attempts.time_left())

    def __aiter__(self) -> AsyncIterator[M]:
        return self

    async def __anext__(self) -> M:
        while not self._closed:
            try:
                message = await self._rpc.read()
            except asyncio.CancelledError:
                if self._closed:
                    break
                raise
            except grpc.RpcError as error:
                await asyncio.sleep(self._attempts.delay_after(error))
                self._rpc = self._begin(self._attempts.time_left())
            else:
                if message is grpc.aio.EOF:
                    break
                self._attempts.answered()
                answer: M = message
                return answer
        raise StopAsyncIteration

    def close(self) -> None:
        """Cancels the call, unless it has ended."""
        self._closed = True
        self._rpc.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.close()


def _unary_method(
    build: Callable[P, Unary[M, T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._answer(build(*args, **kwargs))

    _calls.like_method(build, method)
    return method


def _stream_method(
    build: Callable[P, Call[M]],
) -> Callable[Concatenate[AsyncClient, P], AsyncStream[M]]:
    def method(
        self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncStream[M]:
        return self._begin(build(*args, **kwargs))

    _calls.like_method(build, method)
    return method


def _collected_method(
    build: Callable[P, Collected[M, T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._collect(build(*args, **kwargs))

    _calls.like_method(build, method)
    return method


class AsyncClient(Connection):
    """Calls an ounce-server from the tasks of one event loop.

    The methods, options and errors of ``Client``: ``generate`` gives a stream for
    ``async for``, all others are awaited. ``async with`` closes it.

    >>> async def main():
    ...     async with ounce.AsyncClient(server, admin) as mine:
    ...         async for message in mine.generate("code", "import os\\n", max_new_tokens=3):
    ...             print(message.text, end="")
    ...         print()
    ...         return await mine.models()
    >>> asyncio.run(main())[0].name
    from typing import
    'code'
    """

    _transport: ClassVar[Any] = grpc.aio

    async def close(self) -> None:
        """Cancels what is under way, and closes the connections."""
        for channel in self._take_channels():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    generate = _stream_method(_calls.generate)
    generate_text = _collected_method(_calls.generate_text)
    detect = _unary_method(_calls.detect)
    models = _unary_method(_calls.models)
    tokenize = _unary_method(_calls.tokenize)
    detokenize = _unary_method(_calls.detokenize)
    describe = _unary_method(_calls.describe)
    load = _unary_method(_calls.load)
    unload = _unary_method(_calls.unload)
    quantize = _collected_method(_calls.quantize)
    evaluate = _collected_method(_calls.evaluate)
    save = _collected_method(_calls.save)
    inspect_checkpoint = _unary_method(_calls.inspect_checkpoint)
    methods = _unary_method(_calls.methods)
    server_info = _unary_method(_calls.server_info)

    async def _answer(self, call: Unary[M, T]) -> T:
        attempts = self._attempts(call)
        send = self._sender(call, "unary_unary")
        while True:
            try:
                return call.result(await send(attempts.time_left()))
            except grpc.RpcError as error:
                await asyncio.sleep(attempts.delay_after(error))

    def _begin(self, call: Call[M]) -> AsyncStream[M]:
        return AsyncStream(self._sender(call, "unary_stream"), self._attempts(call))

    async def _collect(self, call: Collected[M, T]) -> T:
        messages: list[M] = []
        async with self._begin(call) as stream:
            try:
                async for message in stream:
                    messages.append(message)
                    if call.progress is not None:
                        call.progress(message)
            except errors.OunceError as error:
                add_report(error, messages)
                raise
        return call.result(messages)
