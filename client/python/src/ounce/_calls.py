"""What each method of a client asks of the server, and what it gives back: the
requests, once for ``Client`` and ``AsyncClient``. Nothing here is sent.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from google.protobuf.message import Message

from .v1 import inference_pb2 as inference
from .v1 import model_admin_pb2 as admin

M = TypeVar("M", bound=Message)
T = TypeVar("T")
P = ParamSpec("P")

_INFERENCE = "/ounce.v1.Inference/"
_ADMIN = "/ounce.v1.ModelAdmin/"

# A picture: its file's bytes, or the file's path.
Picture = bytes | str | os.PathLike[str]
# A prompt: text, or token ids.
Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Call(Generic[M]):
    """An RPC with its request."""

    path: str
    request: Message
    message: type[M]  # of each answer
    timeout: float | None  # seconds; None: the client's

    @property
    def is_admin(self) -> bool:
        return self.path.startswith(_ADMIN)


@dataclass(frozen=True)
class Unary(Call[M], Generic[M, T]):
    """One answer, and what of it the caller gets."""

    result: Callable[[M], T]


@dataclass(frozen=True)
class Collected(Call[M], Generic[M, T]):
    """A stream that is read to its end, and what of it the caller gets."""

    result: Callable[[Sequence[M]], T]
    progress: Callable[[M], object] | None = None


def like_method(build: Callable[..., Any], method: Callable[..., Any]) -> None:
    """Gives ``method``, which sends what ``build`` makes, its name, its words and
    its parameters behind ``self``; what it returns is not what ``build`` does.
    """
    functools.update_wrapper(method, build)
    signature = inspect.signature(build)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[itself, *signature.parameters.values()],
        return_annotation=inspect.Signature.empty,
    )


def _file(picture: Picture) -> bytes:
    if isinstance(picture, (str, os.PathLike)):
        return Path(picture).read_bytes()
    return bytes(picture)


def _strings(one_or_more: str | Iterable[str]) -> Iterable[str]:
    return [one_or_more] if isinstance(one_or_more, str) else one_or_more


# Inference


def generate(
    model: str,
    prompt: Prompt,
    *,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    seed: int | None = None,
    stop: str | Iterable[str] = (),
    logprobs: int = 0,
    timeout: float | None = None,
) -> Call[inference.GenerateResponse]:
    """Continues a prompt, text or token ids, and streams what comes.

    What is left out is as the model's authors recommend. Each message has the new
    ``text`` and ``token_ids``; the last one also ``finish_reason``, ``usage``,
    ``method`` and what counted of all parameters. Leaving the loop, or closing the
    stream, stops the work on the server.

    >>> for message in client.generate("code", "def add(a, b):", max_new_tokens=8):
    ...     print(message.text, end="")  # doctest: +ELLIPSIS
    <BLANKLINE>
    ...
    >>> message.usage.new_tokens
    8
    """
    request = inference.GenerateRequest(
        model=model,
        max_new_tokens=max_new_tokens,
        sampling=inference.Sampling(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
        ),
        stop=_strings(stop),
        logprobs=logprobs,
    )
    if isinstance(prompt, str):
        request.prompt = prompt
    else:
        request.prompt_token_ids.ids.extend(prompt)
    return Call(_INFERENCE + "Generate", request, inference.GenerateResponse, timeout)


def _as_text(
    build: Callable[P, Call[inference.GenerateResponse]],
) -> Callable[P, Collected[inference.GenerateResponse, str]]:
    def generate_text(
        *args: P.args, **kwargs: P.kwargs
    ) -> Collected[inference.GenerateResponse, str]:
        call = build(*args, **kwargs)
        return Collected(
            call.path,
            call.request,
            call.message,
            call.timeout,
            result=lambda messages: "".join(message.text for message in messages),
        )

    generate_text.__signature__ = inspect.signature(build)  # type: ignore[attr-defined]
    generate_text.__doc__ = """The text that ``generate``, whose parameters these are, streams.

    >>> client.generate_text("code", "import os\\n", max_new_tokens=3, temperature=0)
    'from typing import'
    """
    return generate_text


generate_text = _as_text(generate)


def detect(
    model: str,
    picture: Picture,
    *,
    threshold: float | None = None,
    max_detections: int = 0,
    timeout: float | None = None,
) -> Unary[inference.DetectObjectsResponse, inference.DetectObjectsResponse]:
    """Finds objects in a picture: the path or the bytes of a JPEG, PNG or WebP file.

    ``detections`` are those with a score above ``threshold`` (0.9), best first, with
    boxes in pixels; at most ``max_detections`` (100).

    >>> found = client.detect("shapes", "embedded/detr-tiny/examples/shapes-300x300.png")
    >>> best = found.detections[0]
    >>> f"{best.label} at ({best.box.x_min:.0f}, {best.box.y_min:.0f})"
    'cross at (26, 50)'
    """
    request = inference.DetectObjectsRequest(
        model=model,
        image=_file(picture),
        threshold=threshold,
        max_detections=max_detections,
    )
    return Unary(
        _INFERENCE + "DetectObjects",
        request,
        inference.DetectObjectsResponse,
        timeout,
        result=lambda response: response,
    )


def models(
    *, timeout: float | None = None
) -> Unary[inference.ListServedModelsResponse, list[inference.ServedModel]]:
    """What may be named as ``model``, by name: state, tasks, version and method.

    >>> client.models()[0].name
    'code'
    """
    return Unary(
        _INFERENCE + "ListModels",
        inference.ListServedModelsRequest(),
        inference.ListServedModelsResponse,
        timeout,
        result=lambda response: list(response.models),
    )


def tokenize(
    model: str, text: str, *, timeout: float | None = None
) -> Unary[inference.TokenizeResponse, list[int]]:
    """The token ids of a text, as ``generate`` would see it.

    >>> client.detokenize("code", client.tokenize("code", "import os"))
    'import os'
    """
    return Unary(
        _INFERENCE + "Tokenize",
        inference.TokenizeRequest(model=model, text=text),
        inference.TokenizeResponse,
        timeout,
        result=lambda response: list(response.token_ids),
    )


def detokenize(
    model: str, token_ids: Iterable[int], *, timeout: float | None = None
) -> Unary[inference.DetokenizeResponse, str]:
    """The text of token ids, special tokens left out."""
    return Unary(
        _INFERENCE + "Detokenize",
        inference.DetokenizeRequest(model=model, token_ids=token_ids),
        inference.DetokenizeResponse,
        timeout,
        result=lambda response: response.text,
    )


# ModelAdmin


def describe(
    model: str, *, timeout: float | None = None
) -> Unary[admin.Model, admin.Model]:
    """All figures of one model: bytes, plan, load, KV cache, quality.

    >>> client.describe("code").architecture
    'codegen'
    """
    return Unary(
        _ADMIN + "GetModel",
        admin.GetModelRequest(name=model),
        admin.Model,
        timeout,
        result=lambda response: response,
    )


def load(
    name: str,
    path: str,
    *,
    method: str = "",
    convolutions: bool = False,
    plan: str = "",
    timeout: float | None = None,
) -> Unary[admin.Model, admin.Model]:
    """Loads a checkpoint, a folder on the server or ``org/name``, under a new name.

    Returns when it serves. ``method`` or ``plan`` says how its weights are stored.

    >>> client.load("small", "embedded/codegen-tiny", method="linear").method
    'linear'
    """
    return Unary(
        _ADMIN + "LoadModel",
        admin.LoadModelRequest(
            name=name, path=path, method=method, convolutions=convolutions, plan=plan
        ),
        admin.Model,
        timeout,
        result=lambda response: response,
    )


def unload(
    name: str, *, force: bool = False, timeout: float | None = None
) -> Unary[admin.UnloadModelResponse, None]:
    """Takes a model out of service; returns when its memory is free.

    Its running requests finish first, unless ``force`` ends them.

    >>> client.unload("small")
    """
    return Unary(
        _ADMIN + "UnloadModel",
        admin.UnloadModelRequest(name=name, force=force),
        admin.UnloadModelResponse,
        timeout,
        result=lambda response: None,
    )


def quantize(
    model: str,
    method: str = "",
    *,
    plan: str = "",
    include: str | Iterable[str] = (),
    exclude: str | Iterable[str] = (),
    convolutions: bool = False,
    serve_as: str = "",
    dry_run: bool = False,
    pictures: Iterable[Picture] = (),
    texts: str | Iterable[str] = (),
    probe: bool = False,
    max_perplexity_increase: float | None = None,
    max_kl: float | None = None,
    max_box_drift: float | None = None,
    progress: Callable[[admin.QuantizeProgress], object] | None = None,
    timeout: float | None = None,
) -> Collected[admin.QuantizeProgress, admin.QuantizeReport]:
    """Stores a model in fewer bits while it serves, and reports what that saved.

    ``progress`` is called with each QuantizeProgress as it comes; what it raises
    cancels the call. Where a limit is not kept (``max_kl``, ...), the old version
    serves on, and the FailedPreconditionError has the report as ``report``.

    >>> report = client.quantize("code", "linear", dry_run=True)
    >>> report.stored_bytes_after < report.stored_bytes_before
    True
    """
    request = admin.QuantizeRequest(
        model=model,
        method=method,
        plan=plan,
        include=_strings(include),
        exclude=_strings(exclude),
        convolutions=convolutions,
        dry_run=dry_run,
        pictures=[_file(picture) for picture in pictures],
        texts=_strings(texts),
        probe=probe,
        max_perplexity_increase=max_perplexity_increase,
        max_kl=max_kl,
        max_box_drift=max_box_drift,
        **{"as": serve_as},  # no name in Python
    )
    return Collected(
        _ADMIN + "Quantize",
        request,
        admin.QuantizeProgress,
        timeout,
        result=lambda messages: messages[-1].report,
        progress=progress,
    )


def evaluate(
    model: str,
    text: str = "",
    *,
    window: int = 0,
    stride: int = 0,
    compare_with_floats: bool = False,
    pictures: Iterable[Picture] = (),
    objects: Iterable[admin.AnnotatedObject] = (),
    text_name: str = "",
    progress: Callable[[admin.EvaluateProgress], object] | None = None,
    timeout: float | None = None,
) -> Collected[admin.EvaluateProgress, admin.EvaluateReport]:
    """Measures how well a model predicts a text, or finds the objects of pictures.

    ``progress`` is called with each EvaluateProgress as it comes.

    >>> report = client.evaluate("code", "import os\\nimport sys\\n" * 8)
    >>> report.quality.perplexity > 1
    True
    """
    request = admin.EvaluateRequest(
        model=model,
        text=text,
        window=window,
        stride=stride,
        compare_with_floats=compare_with_floats,
        pictures=[_file(picture) for picture in pictures],
        objects=objects,
        text_name=text_name,
    )
    return Collected(
        _ADMIN + "Evaluate",
        request,
        admin.EvaluateProgress,
        timeout,
        result=lambda messages: messages[-1].report,
        progress=progress,
    )


def save(
    model: str,
    folder: str,
    *,
    format: str = "",
    max_shard_bytes: int = 0,
    progress: Callable[[admin.SaveModelProgress], object] | None = None,
    timeout: float | None = None,
) -> Collected[admin.SaveModelProgress, admin.SaveModelReport]:
    """Writes a model, as it is stored now, to a new folder on the server.

    ``folder`` is below the server's ``--save_root``; the report's ``folder`` is what
    ``load`` takes. ``progress`` is called with each SaveModelProgress as it comes;
    what it raises cancels the call, and nothing is left.

    >>> report = client.save("code", "variants/code", format="ounce")
    >>> client.load("again", report.folder).method
    'float16'
    """
    request = admin.SaveModelRequest(
        model=model, folder=folder, format=format, max_shard_bytes=max_shard_bytes
    )
    return Collected(
        _ADMIN + "SaveModel",
        request,
        admin.SaveModelProgress,
        timeout,
        result=lambda messages: messages[-1].report,
        progress=progress,
    )


def inspect_checkpoint(
    model: str = "",
    *,
    path: str = "",
    plan: str = "",
    tensor: str = "",
    method: str = "",
    timeout: float | None = None,
) -> Unary[admin.InspectResponse, admin.InspectResponse]:
    """What a served model's checkpoint, or one in a folder, holds.

    >>> len(client.inspect_checkpoint("code").tensors) > 10
    True
    """
    return Unary(
        _ADMIN + "Inspect",
        admin.InspectRequest(
            model=model, path=path, plan=plan, tensor=tensor, method=method
        ),
        admin.InspectResponse,
        timeout,
        result=lambda response: response,
    )


def methods(
    *, timeout: float | None = None
) -> Unary[admin.ListMethodsResponse, list[admin.Method]]:
    """The methods that the server knows, with their parameters.

    >>> "linear" in [method.name for method in client.methods()]
    True
    """
    return Unary(
        _ADMIN + "ListMethods",
        admin.ListMethodsRequest(),
        admin.ListMethodsResponse,
        timeout,
        result=lambda response: list(response.methods),
    )


def server_info(*, timeout: float | None = None) -> Unary[admin.Server, admin.Server]:
    """Version, instruction set, memory, uptime and configuration of the server.

    >>> client.server_info().memory_used_bytes > 0
    True
    """
    return Unary(
        _ADMIN + "GetServer",
        admin.GetServerRequest(),
        admin.Server,
        timeout,
        result=lambda response: response,
    )
