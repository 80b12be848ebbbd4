"""Calls an ounce-server, which makes Hugging Face models small and serves them on CPUs.

``Client`` waits for its answers, ``AsyncClient`` is for asyncio; their methods are
the same. Answers are the messages of the contract (``ounce.v1``), whose fields are
explained in its .proto files.

>>> import ounce
>>> with ounce.Client(server, admin) as client:
...     for message in client.generate("code", "import os\\n", max_new_tokens=3):
...         print(message.text, end="")
from typing import
"""

from .aio import AsyncClient, AsyncStream
from .client import Client, Stream
from .errors import (
    AbortedError,
    AlreadyExistsError,
    CancelledError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OunceError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from .v1.inference_pb2 import (
    DetectObjectsResponse,
    Detection,
    FinishReason,
    GenerateResponse,
    ModelState,
    ServedModel,
    Task,
)
from .v1.model_admin_pb2 import (
    AnnotatedObject,
    EvaluateProgress,
    EvaluateReport,
    Method,
    Model,
    QuantizeProgress,
    QuantizeReport,
    QuantizeStage,
    SaveModelProgress,
    SaveModelReport,
    Server,
)

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "AnnotatedObject",
    "AsyncClient",
    "AsyncStream",
    "CancelledError",
    "Client",
    "DataLossError",
    "DeadlineExceededError",
    "DetectObjectsResponse",
    "Detection",
    "EvaluateProgress",
    "EvaluateReport",
    "FailedPreconditionError",
    "FinishReason",
    "GenerateResponse",
    "InternalError",
    "InvalidArgumentError",
    "Method",
    "Model",
    "ModelState",
    "NotFoundError",
    "OunceError",
    "PermissionDeniedError",
    "QuantizeProgress",
    "QuantizeReport",
    "QuantizeStage",
    "ResourceExhaustedError",
    "SaveModelProgress",
    "SaveModelReport",
    "ServedModel",
    "Server",
    "Stream",
    "Task",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
]
