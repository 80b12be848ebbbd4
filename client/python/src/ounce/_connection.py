"""How a client reaches the server, and how often it tries: what ``Client`` and
``AsyncClient`` share beside their requests.
"""

from __future__ import annotations

import ipaddress
import math
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import grpc
from google.protobuf.message import Message

from . import errors
from ._calls import Call

_MAX_RECEIVE_BYTES = 64 << 20  # a report of very many tensors

# Where Debian and many others keep the certificates that they trust.
_SYSTEM_CAS = "/etc/ssl/certs/ca-certificates.crt"

File = str | os.PathLike[str]


def _read(file: File | None) -> bytes | None:
    return None if file is None else Path(file).read_bytes()


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if address.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name


class Connection:
    """Addresses and options of one server, and the channels to it."""

    _transport: ClassVar[Any]  # grpc or grpc.aio

    def __init__(
        self,
        server: str | None = None,
        admin: str | None = None,
        *,
        timeout: float | None = None,
        retries: int = 3,
        token: str | None = None,
        token_file: File | None = None,
        plaintext_token: bool = False,
        tls: bool = False,
        ca: File | None = None,
        cert: File | None = None,
        key: File | None = None,
    ) -> None:
        """Connects with the first call, and again whenever that is needed.

        server, admin: HOST:PORT of Inference and of ModelAdmin; what OUNCE_SERVER
            and OUNCE_ADMIN say, else 127.0.0.1:8500 and 127.0.0.1:8501.
        timeout: seconds that a call may take, retries included, unless its own
            ``timeout`` says otherwise (math.inf: as long as it needs); None: no end.
        retries: how often a call that the server refuses for now (it says when to
            come back) is made again, as long as nothing of its answer has come.
        token: sent as ``authorization: Bearer TOKEN``; or the file that holds it,
            which is read before each call; else what OUNCE_TOKEN says. Without TLS
            it goes to other machines only with ``plaintext_token``.
        tls: encrypts, and trusts the system's authorities; or those in ``ca``.
            ``cert`` and ``key`` are the client's own, for servers that want one.
            Files in PEM form; any of them turns TLS on.
        """
        if token is not None and token_file is not None:
            raise ValueError("token, token_file: give one of them")
        if (cert is None) != (key is None):
            raise ValueError("cert, key: one is nothing without the other")
        self._server = server or os.environ.get("OUNCE_SERVER") or "127.0.0.1:8500"
        self._admin = admin or os.environ.get("OUNCE_ADMIN") or "127.0.0.1:8501"
        self._timeout = timeout
        self._retries = retries
        self._token = token
        if token is None and token_file is None:
            self._token = os.environ.get("OUNCE_TOKEN")
        self._token_file = token_file
        self._lock = threading.Lock()
        self._channels: dict[str, Any] = {}  # by address
        self._credentials: grpc.ChannelCredentials | None = None
        if tls or ca is not None or cert is not None:
            # Without such a file gRPC has a list of its own.
            if ca is None and os.path.exists(_SYSTEM_CAS):
                ca = _SYSTEM_CAS
            self._credentials = grpc.ssl_channel_credentials(
                root_certificates=_read(ca),
                private_key=_read(key),
                certificate_chain=_read(cert),
            )
        elif self._has_token() and not plaintext_token:
            for address in (self._server, self._admin):
                if not _is_loopback(address):
                    raise ValueError(
                        f"token: would go to {address} in plain text; connect with "
                        "tls, or allow it with plaintext_token"
                    )

    def _address(self, call: Call[Any]) -> str:
        return self._admin if call.is_admin else self._server

    def _channel(self, address: str) -> Any:
        with self._lock:
            if address not in self._channels:
                self._channels[address] = self._connect(address)
            return self._channels[address]

    def _connect(self, address: str) -> Any:
        options = [("grpc.max_receive_message_length", _MAX_RECEIVE_BYTES)]
        if _is_loopback(address):
            options.append(("grpc.enable_http_proxy", 0))
        if self._credentials is None:
            return self._transport.insecure_channel(address, options)
        return self._transport.secure_channel(address, self._credentials, options)

    def _take_channels(self) -> list[Any]:
        """All of them, to be closed."""
        with self._lock:
            channels = list(self._channels.values())
            self._channels.clear()
            return channels

    def _has_token(self) -> bool:
        return bool(self._token) or self._token_file is not None

    def _metadata(self) -> Sequence[tuple[str, str]]:
        if not self._has_token():
            return ()
        token = self._token
        if self._token_file is not None:
            token = Path(self._token_file).read_text(encoding="utf-8").strip()
        return (("authorization", f"Bearer {token}"),)

    def _sender(self, call: Call[Any], kind: str) -> Callable[[float | None], Any]:
        """What begins the call, given the seconds that it may take; ``kind`` is
        unary_unary or unary_stream.
        """
        send = getattr(self._channel(self._address(call)), kind)(
            call.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.message.FromString,
        )
        return lambda time_left: send(
            call.request, timeout=time_left, metadata=self._metadata()
        )

    def _attempts(self, call: Call[Any]) -> Attempts:
        timeout = self._timeout if call.timeout is None else call.timeout
        return Attempts(self._address(call), self._retries, timeout)


class Attempts:
    """The tries of one call: how many more there may be, and until when."""

    def __init__(self, address: str, retries: int, timeout: float | None) -> None:
        self._address = address
        self._retries = retries
        self._end = math.inf if timeout is None else time.monotonic() + timeout

    def time_left(self) -> float | None:
        """Seconds, as gRPC takes them."""
        if self._end == math.inf:
            return None
        return max(0.0, self._end - time.monotonic())

    def answered(self) -> None:
        """Something has come that a second try would repeat."""
        self._retries = 0

    def delay_after(self, error: grpc.RpcError) -> float:
        """Seconds to wait before the next try.

        Raises what became of the call if there is to be none.
        """
        translated = errors.from_rpc_error(error, self._address)
        delay = translated.retry_delay
        if delay is None or self._retries == 0:
            raise translated from None
        # Those who were refused together don't come back together.
        delay *= 1 + random.random() / 4
        if time.monotonic() + delay >= self._end:
            raise translated from None
        self._retries -= 1
        return delay


def add_report(error: errors.OunceError, messages: Sequence[Message]) -> None:
    """What was reported before the refusal goes with it."""
    if messages and "report" in [field.name for field, _ in messages[-1].ListFields()]:
        error.report = getattr(messages[-1], "report")
