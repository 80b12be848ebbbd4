"""What calls raise: one exception for each code of a gRPC status."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

# Where a gRPC status has its google.rpc.Status.
_DETAILS_KEY = "grpc-status-details-bin"
_REQUEST_ID_KEY = "x-request-id"


class OunceError(Exception):
    """A call did not come to its end. ``str(error)`` says why, in plain words.

    Raised as the class below that stands for its code, or as this one for a code
    that no server of ours gives.

    >>> try:
    ...     client.generate_text("code", "def ", top_p=2)
    ... except ounce.InvalidArgumentError as error:
    ...     print(error.field)
    sampling.top_p
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        details: tuple[Message, ...] = (),
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        """The status's code."""
        self.details = details
        """Its google.rpc details: BadRequest, RetryInfo, ResourceInfo, ..."""
        self.request_id = request_id
        """By which the server's log knows the request, if the server told."""
        self.report: Any = None
        """What ``quantize`` or ``evaluate`` had reported before it was refused:
        a QuantizeReport with the figures that were over a limit, for instance."""

    @property
    def field(self) -> str | None:
        """The field of the request that is wrong: ``"sampling.top_p"``."""
        for detail in self.details:
            if isinstance(detail, error_details_pb2.BadRequest):
                for violation in detail.field_violations:
                    return str(violation.field)
        return None

    @property
    def retry_delay(self) -> float | None:
        """Seconds after which the same call may succeed, if the server says so."""
        for detail in self.details:
            if isinstance(detail, error_details_pb2.RetryInfo):
                return float(detail.retry_delay.ToTimedelta().total_seconds())
        return None


class AbortedError(OunceError):
    """Something else is being done to the model."""


class AlreadyExistsError(OunceError):
    """The name is taken."""


class CancelledError(OunceError):
    """The call was cancelled."""


class DataLossError(OunceError):
    """A file could not be read as it was, or to its end."""


class DeadlineExceededError(OunceError):
    """The time that the caller gave is over; the work has stopped."""


class FailedPreconditionError(OunceError):
    """The model can't do this, or a new version was over a limit."""


class InternalError(OunceError):
    """A bug of the server."""


class InvalidArgumentError(OunceError):
    """The request is wrong (``field`` says where) and will fail again."""


class NotFoundError(OunceError):
    """There is no such model, file or tensor."""


class PermissionDeniedError(OunceError):
    """The caller may not do this, or the server may not read that file."""


class ResourceExhaustedError(OunceError):
    """Full, or too large; worth another try where ``retry_delay`` is given."""


class UnauthenticatedError(OunceError):
    """The server wants a token, or does not know this one."""


class UnavailableError(OunceError):
    """Nothing answers, the model is loading, or the server is shutting down."""


class UnimplementedError(OunceError):
    """A form that is known and not supported."""


_CLASSES: dict[grpc.StatusCode, type[OunceError]] = {
    grpc.StatusCode.ABORTED: AbortedError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.CANCELLED: CancelledError,
    grpc.StatusCode.DATA_LOSS: DataLossError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
}

_DETAILS: dict[str, type[Message]] = {
    message.DESCRIPTOR.full_name: message
    for message in (
        error_details_pb2.BadRequest,
        error_details_pb2.DebugInfo,
        error_details_pb2.ErrorInfo,
        error_details_pb2.Help,
        error_details_pb2.LocalizedMessage,
        error_details_pb2.PreconditionFailure,
        error_details_pb2.QuotaFailure,
        error_details_pb2.RequestInfo,
        error_details_pb2.ResourceInfo,
        error_details_pb2.RetryInfo,
    )
}


def from_rpc_error(error: Any, address: str) -> OunceError:
    """The exception for one of gRPC's, of a call to ``address``."""
    code = error.code()
    trailers = {key: value for key, value in error.trailing_metadata() or ()}
    details = _parse_details(trailers.get(_DETAILS_KEY, b""))
    request_id = trailers.get(_REQUEST_ID_KEY)
    for detail in details:
        if isinstance(detail, error_details_pb2.RequestInfo):
            request_id = detail.request_id
    return _CLASSES.get(code, OunceError)(
        _plain_words(code, error.details() or "", address),
        code=code,
        details=details,
        request_id=request_id,
    )


def _parse_details(serialized: bytes) -> tuple[Message, ...]:
    details: list[Message] = []
    try:
        for detail in status_pb2.Status.FromString(serialized).details:
            known = _DETAILS.get(detail.TypeName())
            if known is not None:
                details.append(known.FromString(detail.value))
    except DecodeError:
        pass  # then code and message are all there is
    return tuple(details)


def _plain_words(code: grpc.StatusCode, message: str, address: str) -> str:
    """What the gRPC library itself says, as a person would."""
    if code is grpc.StatusCode.UNAVAILABLE and (
        message.startswith("failed to connect to all addresses")
        or message.startswith("DNS resolution failed")
    ):
        if "HTTP/2" in message or "http1.x" in message:
            return (
                f"what answers at {address} does not speak gRPC in plain text; does it "
                "speak TLS (tls, ca), or is it the port for metrics?"
            )
        if "CERTIFICATE_VERIFY_FAILED" in message:
            return (
                f"the certificate of {address} is not to be trusted: it has ended, is "
                "for another name, or nobody whom ca names has signed it"
            )
        if "handshake failed" in message or "Unwrap failed" in message:
            return (
                f"TLS with {address} failed; it may want a certificate (cert and key), "
                "or speak no TLS"
            )
        reason = message.rsplit(": ", 1)[-1]
        return (
            f"nothing answers at {address} ({reason}); start a server "
            "(ounce-server --model NAME=PATH) or say where it is"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED and not message:
        return (
            f"what answers at {address} does not know this call; are server "
            "(Inference) and admin (ModelAdmin) swapped, or is the server older "
            "than this package?"
        )
    if (
        code is grpc.StatusCode.DEADLINE_EXCEEDED
        and "Deadline Exceeded" in message  # "Stream removed (Deadline Exceeded)"
    ):
        return "the deadline has passed"
    return message or code.name
