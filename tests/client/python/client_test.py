"""ounce.Client against a real server."""

from __future__ import annotations

import inspect
import io
import threading
from pathlib import Path

import grpc
import ounce
import pytest
from conftest import MADE, SOURCE, RunningServer, wait_until

PICTURE = SOURCE / "embedded/detr-tiny/examples/shapes-300x300.png"


def test_streams_the_text_that_comes_whole_from_generate_text(
    client: ounce.Client,
) -> None:
    messages = list(client.generate("code", "def add(a, b):\n", max_new_tokens=24))
    text = "".join(message.text for message in messages)
    assert text == client.generate_text("code", "def add(a, b):\n", max_new_tokens=24)
    assert len(text) > 10
    assert messages[-1].usage.new_tokens == 24
    assert messages[-1].finish_reason == ounce.FinishReason.FINISH_REASON_LENGTH
    assert all(not message.finish_reason for message in messages[:-1])


def test_takes_token_ids_for_a_prompt(client: ounce.Client) -> None:
    ids = client.tokenize("code", "import os\n")
    assert client.generate_text("code", ids, max_new_tokens=8) == client.generate_text(
        "code", "import os\n", max_new_tokens=8
    )


def test_sends_every_parameter_of_sampling(client: ounce.Client) -> None:
    wanted = {
        "temperature": 0.5,
        "top_k": 40,
        "top_p": 0.75,
        "min_p": 0.125,
        "repetition_penalty": 1.25,
        "seed": 7,
    }
    messages = list(
        client.generate("code", "class A", max_new_tokens=4, logprobs=2, **wanted)
    )
    counted = {
        field.name: value for field, value in messages[-1].sampling.ListFields()
    }
    assert counted == wanted
    assert {len(token.top) for message in messages for token in message.logprobs} == {2}


@pytest.mark.parametrize("several", [False, True])
def test_ends_at_a_stop_string(client: ounce.Client, several: bool) -> None:
    text = client.generate_text("code", "def ", max_new_tokens=40)
    stop = text[8:12]
    cut = client.generate_text(
        "code", "def ", max_new_tokens=40, stop=["\0", stop] if several else stop
    )
    assert cut == text[: text.index(stop)]


def test_finds_objects_in_a_path_or_in_bytes(client: ounce.Client) -> None:
    found = client.detect("shapes", PICTURE).detections
    assert len(found) > 0
    assert found == client.detect("shapes", str(PICTURE)).detections
    assert found == client.detect("shapes", PICTURE.read_bytes()).detections
    best = client.detect("shapes", PICTURE, max_detections=1).detections
    assert list(best) == [found[0]]
    assert all(object.score > 0.99 for object in
               client.detect("shapes", PICTURE, threshold=0.99).detections)


def test_quantizes_with_progress_and_back(client: ounce.Client) -> None:
    seen: list[ounce.QuantizeProgress] = []
    report = client.quantize("code", "linear", progress=seen.append)
    assert report.method == "linear"
    assert 0 < report.stored_bytes_after < report.stored_bytes_before
    assert seen[-1].report == report
    assert [p.stage == ounce.QuantizeStage.QUANTIZE_STAGE_DONE for p in seen] == [
        *(False for _ in seen[1:]),
        True,
    ]
    assert len(seen) > 1
    assert client.describe("code").method == "linear"
    assert client.quantize("code", "float16").method_before == "linear"


def test_serves_the_result_beside_the_model(client: ounce.Client) -> None:
    client.quantize("code", "linear", serve_as="code8")
    assert client.describe("code8").method == "linear"
    assert client.describe("code").method == "float16"
    client.unload("code8")


def test_saves_what_serves_to_a_folder_that_loads(client: ounce.Client) -> None:
    seen: list[ounce.SaveModelProgress] = []
    report = client.save("shapes", "shapes", progress=seen.append)
    assert seen[-1].report == report
    assert sum(file.bytes for file in report.files) > report.weight_bytes > 0
    client.load("shapes2", report.folder)
    assert client.detect("shapes2", PICTURE).detections == (
        client.detect("shapes", PICTURE).detections
    )
    client.unload("shapes2")
    with pytest.raises(ounce.AlreadyExistsError):
        client.save("shapes", "shapes")


def test_what_progress_raises_cancels_the_quantization(client: ounce.Client) -> None:
    class Enough(Exception):
        pass

    def stop(progress: ounce.QuantizeProgress) -> None:
        raise Enough

    version = client.describe("long").version
    long_to_measure = "import os\n" * 20000
    with pytest.raises(Enough):
        client.quantize("long", "linear", texts=long_to_measure, progress=stop)
    wait_until(
        lambda: client.describe("long").state == ounce.ModelState.MODEL_STATE_READY
    )
    assert client.describe("long").version == version


def test_a_refused_quantization_reports_its_figures(client: ounce.Client) -> None:
    with pytest.raises(ounce.FailedPreconditionError) as caught:
        client.quantize("long", "binary", probe=True, max_kl=0, dry_run=True)
    assert caught.value.report.quality.floats.mean_kl_divergence > 0
    assert caught.value.report.refused


def test_evaluates_with_progress(client: ounce.Client) -> None:
    seen: list[ounce.EvaluateProgress] = []
    report = client.evaluate(
        "code", "import os\n" * 50, window=64, stride=32, progress=seen.append
    )
    assert (report.quality.window, report.quality.stride) == (64, 32)
    assert seen[-1].tokens_done == seen[-1].tokens_total
    pictures = client.evaluate("shapes", pictures=[PICTURE], compare_with_floats=True)
    assert pictures.detection.pictures == 1


def test_loads_and_unloads(client: ounce.Client) -> None:
    model = client.load("second", "embedded/codegen-tiny", method="linear")
    assert (model.name, model.method) == ("second", "linear")
    with pytest.raises(ounce.AlreadyExistsError):
        client.load("second", "embedded/codegen-tiny")
    client.unload("second", force=True)
    assert "second" not in [served.name for served in client.models()]


def test_a_wrong_field_is_named(client: ounce.Client) -> None:
    with pytest.raises(ounce.InvalidArgumentError) as caught:
        client.generate_text("code", "a", top_p=2)
    assert caught.value.field == "sampling.top_p"
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.retry_delay is None
    assert "sampling.top_p: must be" in str(caught.value)
    assert caught.value.request_id  # the server's


def test_errors_are_told_apart_by_class(client: ounce.Client) -> None:
    with pytest.raises(ounce.NotFoundError, match="nobody"):
        list(client.generate("nobody", "a"))
    with pytest.raises(ounce.FailedPreconditionError):
        client.detect("code", PICTURE)
    with pytest.raises(ounce.DeadlineExceededError, match="deadline"):
        client.generate_text("long", "a", max_new_tokens=4000, timeout=0.2)


def test_says_what_to_do_where_nothing_answers(server: RunningServer) -> None:
    with ounce.Client("127.0.0.1:1", timeout=20) as nowhere:
        with pytest.raises(
            ounce.UnavailableError, match="nothing answers at 127.0.0.1:1 .*start a"
        ):
            nowhere.models()
    with ounce.Client(server.admin, server.inference) as swapped:
        with pytest.raises(ounce.UnimplementedError, match="swapped"):
            swapped.models()


def test_uses_no_proxy_for_this_machine(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with ounce.Client(server.inference) as client:
        assert client.models()


def test_finds_the_server_by_the_environment(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUNCE_SERVER", server.inference)
    monkeypatch.setenv("OUNCE_ADMIN", server.admin)
    with ounce.Client() as client:
        assert client.describe(client.models()[0].name).version > 0


def test_leaving_the_loop_stops_the_work(
    server: RunningServer, client: ounce.Client
) -> None:
    before = server.cancelled()
    for message in client.generate("long", "a", max_new_tokens=4000):
        break
    wait_until(lambda: server.cancelled() == before + 1)


def test_the_end_of_a_with_block_stops_the_work(
    server: RunningServer, client: ounce.Client
) -> None:
    before = server.cancelled()
    with client.generate("long", "a", max_new_tokens=4000) as stream:
        next(stream)
    wait_until(lambda: server.cancelled() == before + 1)
    assert list(stream) == []


def test_another_thread_may_close_a_stream(
    server: RunningServer, client: ounce.Client
) -> None:
    before = server.cancelled()
    stream = client.generate("long", "a", max_new_tokens=4000)
    next(stream)
    messages: list[ounce.GenerateResponse] = []
    reader = threading.Thread(target=lambda: messages.extend(stream))
    reader.start()
    stream.close()
    reader.join(20)
    assert not reader.is_alive()
    assert all(not message.finish_reason for message in messages)
    wait_until(lambda: server.cancelled() == before + 1)


def test_help_shows_the_parameters_of_a_method() -> None:
    parameters = list(inspect.signature(ounce.Client.generate_text).parameters)
    assert parameters[:3] == ["self", "model", "prompt"]
    assert "repetition_penalty" in parameters
    assert ounce.Client.detect.__doc__ == ounce.AsyncClient.detect.__doc__
    for name, method in vars(ounce.Client).items():
        assert name.startswith("_") or method.__doc__, name


def test_the_two_clients_have_the_same_methods() -> None:
    def methods(client: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in vars(client).items()
            if not name.startswith("_")
        }

    assert methods(ounce.Client) == methods(ounce.AsyncClient)


def test_refuses_options_that_are_nothing_alone() -> None:
    with pytest.raises(ValueError, match="cert, key"):
        ounce.Client(cert="client.pem")
    with pytest.raises(ValueError, match="token"):
        ounce.Client(token="secret", token_file="token")


def test_sends_no_token_to_others_in_plain_text() -> None:
    with pytest.raises(ValueError, match="models.example.com:8500 in plain text"):
        ounce.Client("models.example.com:8500", token="secret")
    ounce.Client("models.example.com:8500", token="secret", tls=True)
    ounce.Client("models.example.com:8500", token="secret", plaintext_token=True)
    ounce.Client("[::1]:8500", "unix:/run/ounce", token="secret")
