"""The Open Inference Protocol of a real server, asked by Triton's own client, and
by KServe's where that is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tools"))
from ounce_server import OunceServer  # noqa: E402

PROMPT = b"def fibonacci(n):\n"
PICTURE_FILE = SOURCE / "embedded/detr-tiny/examples/shapes-300x300.png"
PICTURE = PICTURE_FILE.read_bytes()


@pytest.fixture(scope="module")
def server() -> Iterator[OunceServer]:
    running = OunceServer(
        os.environ["OUNCE_SERVER_BINARY"],
        *("--model", "code=embedded/codegen-tiny"),
        *("--model", "shapes=embedded/detr-tiny"),
        cwd=SOURCE,
    )
    yield running
    print(running.said())
    assert running.close(60) == 0


@pytest.fixture
def client(server: OunceServer) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(server.inference)
    yield client
    client.close()


def one(name: str, value: bytes) -> triton.InferInput:
    tensor = triton.InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(numpy.array([value], dtype=numpy.object_))
    return tensor


def flag(name: str, value: bool) -> triton.InferInput:
    tensor = triton.InferInput(name, [1], "BOOL")
    tensor.set_data_from_numpy(numpy.array([value], dtype=bool))
    return tensor


def text_of(result: triton.InferResult) -> str:
    return bytes(result.as_numpy("text_output")[0]).decode()


def test_triton_hears_of_server_and_models(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("code") and client.is_model_ready("shapes", "1")
    assert not client.is_model_ready("none")
    assert client.get_server_metadata().name == "ounce"
    model = client.get_model_metadata("shapes")
    assert [tensor.name for tensor in model.inputs] == ["image"]
    assert [tensor.name for tensor in model.outputs] == ["boxes", "labels", "scores"]


def test_triton_gets_text(client: triton.InferenceServerClient) -> None:
    parameters = {"max_tokens": 12, "temperature": "0"}
    result = client.infer("code", [one("text_input", PROMPT)], parameters=parameters, request_id="9")
    assert text_of(result)
    assert result.as_numpy("num_output_tokens")[0] == 12
    assert result.as_numpy("finish_reason")[0] == b"length"
    assert result.get_response().id == "9"
    again = client.infer(
        "code",
        [
            one("text_input", PROMPT),
            one("sampling_parameters", json.dumps(parameters).encode()),
            flag("exclude_input_in_output", True),
        ],
        outputs=[triton.InferRequestedOutput("text_output")],
    )
    assert text_of(again) == text_of(result)
    assert again.as_numpy("finish_reason") is None


def test_triton_gets_objects(client: triton.InferenceServerClient) -> None:
    result = client.infer("shapes", [one("image", PICTURE)], parameters={"threshold": "0.5"})
    boxes, scores = result.as_numpy("boxes"), result.as_numpy("scores")
    labels = [label.decode() for label in result.as_numpy("labels")]
    assert boxes.shape == (len(labels), 4) and scores.shape == (len(labels),)
    assert labels and (scores > 0.5).all()
    assert (boxes >= 0).all() and (boxes <= 300).all()


def test_triton_streams_text(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    parameters = {"max_tokens": 20, "temperature": "0"}
    for id in ("first", "second"):
        client.async_stream_infer(
            "code",
            [one("text_input", PROMPT), flag("stream", True)],
            parameters=parameters,
            request_id=id,
            enable_empty_final_response=True,
        )
    client.async_stream_infer("code", [one("text_input", b"")], request_id="wrong")
    parts: dict[str, list[str]] = {"first": [], "second": []}
    ended = []
    while len(ended) < 2:
        result, error = answers.get(timeout=60)
        assert error is None
        response = result.get_response()
        parts[response.id].append(text_of(result))
        if response.parameters["triton_final_response"].bool_param:
            ended.append(response.id)
    _, error = answers.get(timeout=60)
    assert error.message() == "text_input: is empty"
    client.stop_stream()
    assert ended == ["first", "second"]
    assert len(parts["first"]) > 1
    whole = client.infer("code", [one("text_input", PROMPT)], parameters=parameters)
    assert "".join(parts["first"]) == "".join(parts["second"]) == text_of(whole)


def test_triton_hears_what_is_wrong(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as raised:
        client.infer("code", [one("text_input", PROMPT)], parameters={"top_p": "2"})
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert raised.value.message() == "top_p: must be from 0 to 1, is 2"
    with pytest.raises(InferenceServerException) as raised:
        client.load_model("more")
    assert raised.value.status() == "StatusCode.UNIMPLEMENTED"


def test_triton_loads_and_unloads_on_the_admins_listener(server: OunceServer) -> None:
    admin = triton.InferenceServerClient(server.admin)
    client = triton.InferenceServerClient(server.inference)
    admin.load_model("code")  # it is there
    admin.unload_model("code", unload_dependents=True)
    assert not client.is_model_ready("code")
    states = {model.name: model.state for model in admin.get_model_repository_index().models}
    assert states == {"code": "UNAVAILABLE", "shapes": "READY"}
    admin.load_model("code")
    assert client.is_model_ready("code")
    with pytest.raises(InferenceServerException) as raised:
        admin.load_model("new", config="{}", files={"file:1/model.bin": b"x"})
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert raised.value.message().startswith("parameters: '")
    admin.close()
    client.close()


@pytest.mark.skipif(importlib.util.find_spec("kserve") is None, reason="kserve is not installed")
def test_kserve_asks_too(server: OunceServer) -> None:
    program = Path(__file__).with_name("oip_kserve_client.py")
    subprocess.run([sys.executable, program, server.inference, PICTURE_FILE], check=True, timeout=60)


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", __file__]))
