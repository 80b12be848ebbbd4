"""The client of programs that wait for their answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Self, TypeVar

import grpc
from google.protobuf.message import Message

from . import _calls, errors
from ._calls import Call, Collected, Unary
from ._connection import Attempts, Connection, add_report

M = TypeVar("M", bound=Message)
T = TypeVar("T")
P = ParamSpec("P")


class Stream(Generic[M]):
    """The messages of a call, as they come.

    The call ends with the loop: leaving it early, ``close``, the end of a ``with``
    block or of the stream's own life cancels what is under way. ``close`` may be
    called by any thread; the loop then ends.

    >>> with client.generate("code", "def ", max_new_tokens=100) as stream:
    ...     first = next(stream)  # and no more of it
    """

    def __init__(
        self, begin: Callable[[float | None], Any], attempts: Attempts
    ) -> None:
        self._begin = begin
        self._attempts = attempts
        self._closed = threading.Event()
        self._rpc = begin(attempts.time_left())

    def __iter__(self) -> Iterator[M]:
        return self

    def __next__(self) -> M:
        while not self._closed.is_set():
            try:
                message: M = next(self._rpc)
            except grpc.RpcError as error:
                if self._closed.is_set():
                    break
                self._closed.wait(self._attempts.delay_after(error))
                self._rpc = self._begin(self._attempts.time_left())
            else:
                self._attempts.answered()
                return message
        self._rpc.cancel()  # closed before it was begun again
        raise StopIteration

    def close(self) -> None:
        """Cancels the call, unless it has ended."""
        self._closed.set()
        self._rpc.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _unary_method(
    build: Callable[P, Unary[M, T]],
) -> Callable[Concatenate[Client, P], T]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._answer(build(*args, **kwargs))

    _calls.like_method(build, method)
    return method


def _stream_method(
    build: Callable[P, Call[M]],
) -> Callable[Concatenate[Client, P], Stream[M]]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Stream[M]:
        return self._begin(build(*args, **kwargs))

    _calls.like_method(build, method)
    return method


def _collected_method(
    build: Callable[P, Collected[M, T]],
) -> Callable[Concatenate[Client, P], T]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._collect(build(*args, **kwargs))

    _calls.like_method(build, method)
    return method


class Client(Connection):
    """Calls an ounce-server. Any thread may use it; ``with`` closes it.

    >>> with ounce.Client(server, admin, timeout=30) as mine:
    ...     mine.generate_text("code", "import os\\n", max_new_tokens=3)
    'from typing import'

    Every method raises OunceError (its subclasses stand for the codes), and takes
    ``timeout``, seconds, in place of the client's own.
    """

    _transport: ClassVar[Any] = grpc

    def close(self) -> None:
        """Cancels what is under way, and closes the connections."""
        for channel in self._take_channels():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

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

    def _answer(self, call: Unary[M, T]) -> T:
        attempts = self._attempts(call)
        send = self._sender(call, "unary_unary")
        while True:
            try:
                return call.result(send(attempts.time_left()))
            except grpc.RpcError as error:
                time.sleep(attempts.delay_after(error))

    def _begin(self, call: Call[M]) -> Stream[M]:
        return Stream(self._sender(call, "unary_stream"), self._attempts(call))

    def _collect(self, call: Collected[M, T]) -> T:
        messages: list[M] = []
        with self._begin(call) as stream:
            try:
                for message in stream:
                    messages.append(message)
                    if call.progress is not None:
                        call.progress(message)
            except errors.OunceError as error:
                add_report(error, messages)
                raise
        return call.result(messages)
