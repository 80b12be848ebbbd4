"""Traces of a real server, as a collector gets them: read by OpenTelemetry's own
messages, and with collectors that fail."""

from __future__ import annotations

import base64
import http.server
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from grpc_tools import protoc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tools"))
from ounce_server import OunceServer  # noqa: E402

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACED = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "rojo=1"))
PROMPT = "def secret(n):\n"


@pytest.fixture(scope="session")
def ounce_v1(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The modules of the contract: inference_pb2, inference_pb2_grpc, ..."""
    folder = str(tmp_path_factory.mktemp("stubs"))
    files = [str(SOURCE / f"proto/ounce/v1/{name}.proto") for name in ("inference", "model_admin")]
    arguments = ["", f"-I{SOURCE / 'proto'}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main(arguments + files) == 0
    sys.path.insert(0, folder)
    from ounce.v1 import inference_pb2, inference_pb2_grpc, model_admin_pb2, model_admin_pb2_grpc

    class Modules:
        inference, inference_grpc = inference_pb2, inference_pb2_grpc
        admin, admin_grpc = model_admin_pb2, model_admin_pb2_grpc

    return Modules


class Post:
    def __init__(self, path: str, headers: dict[str, str], body: str):
        self.time = time.monotonic()
        self.path, self.headers, self.body = path, headers, body


class Collector:
    """Answers each post by the next of `answers` (a status, and headers), then by 200, which is
    also what it says when there are none; None is no answer until it is closed."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answers: list[tuple[int, dict[str, str]] | None] = []
        self.closing = threading.Event()
        self.changed = threading.Condition()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                collector.serve(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, call: http.server.BaseHTTPRequestHandler) -> None:
        body = call.rfile.read(int(call.headers["Content-Length"]))
        with self.changed:
            self.posts.append(Post(call.path, dict(call.headers), body.decode()))
            answer = self.answers.pop(0) if self.answers else (200, {})
            self.changed.notify_all()
        if answer is None:
            self.closing.wait()
            return
        call.send_response(answer[0])
        for name, value in answer[1].items():
            call.send_header(name, value)
        call.send_header("Content-Length", "2")
        call.end_headers()
        call.wfile.write(b"{}")

    def wait_for_posts(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.posts) >= count, 60)

    def spans(self) -> list[trace_pb2.Span]:
        return [
            span
            for post in self.posts
            for resource in message(post).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def message(post: Post) -> trace_service_pb2.ExportTraceServiceRequest:
    """As OpenTelemetry reads it: any field that it does not know is an error. Only that OTLP has
    ids in hexadecimal, protobuf's JSON in base64."""

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: walk(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner) for inner in value]
        if key in ("traceId", "spanId", "parentSpanId"):
            assert len(value) == (32 if key == "traceId" else 16) and value == value.lower()
            return base64.b64encode(bytes.fromhex(value)).decode()
        if key.endswith("UnixNano") or key == "intValue":
            assert isinstance(value, str)
        if key == "kind" or key == "code":
            assert isinstance(value, int)
        return value

    request = trace_service_pb2.ExportTraceServiceRequest()
    return json_format.ParseDict(walk(json.loads(post.body)), request)


def attributes(owner: Any) -> dict[str, Any]:
    def value(any_value: Any) -> Any:
        kind = any_value.WhichOneof("value")
        found = getattr(any_value, kind)
        return [value(item) for item in found.values] if kind == "array_value" else found

    result = {attribute.key: value(attribute.value) for attribute in owner.attributes}
    assert len(result) == len(owner.attributes), "no key twice"
    return result


def start(*flags: str) -> OunceServer:
    return OunceServer(
        os.environ["OUNCE_SERVER_BINARY"], "--model", "code=embedded/codegen-tiny", *flags, cwd=SOURCE
    )


def stop(server: OunceServer) -> str:
    """Lets it end, well and by itself; returns its log."""
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    said = server.said()
    server.close()
    assert said.rstrip().endswith("stopped"), said
    return said


def generate(ounce_v1: Any, server: OunceServer, metadata: tuple = TRACED) -> None:
    with grpc.insecure_channel(server.inference) as channel:
        stub = ounce_v1.inference_grpc.InferenceStub(channel)
        request = ounce_v1.inference.GenerateRequest(model="code", prompt=PROMPT, max_new_tokens=4)
        assert list(stub.Generate(request, metadata=metadata, timeout=60))


def metric(server: OunceServer, line: str) -> float:
    """0 where it is not there yet."""
    page = urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=60).read().decode()
    found = [row for row in page.splitlines() if row.startswith(line + " ")]
    return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_calls_and_loads_are_traced(ounce_v1: Any, collector: Collector) -> None:
    before = time.time_ns()
    server = start("--otlp_endpoint", collector.url, "--request_log", "all")
    generate(ounce_v1, server)
    with grpc.insecure_channel(server.admin) as channel:
        stub = ounce_v1.admin_grpc.ModelAdminStub(channel)
        request = ounce_v1.admin.QuantizeRequest(model="code", method="linear", probe=True)
        assert list(stub.Quantize(request, timeout=60))
        again = ounce_v1.admin.LoadModelRequest(name="again", path="embedded/codegen-tiny")
        stub.LoadModel(again, timeout=60)
        # {model_name: "code"}, by the Open Inference Protocol.
        for rpc in ("RepositoryModelUnload", "RepositoryModelLoad"):
            channel.unary_unary(f"/inference.GRPCInferenceService/{rpc}")(b"\x12\x04code", timeout=60)
    wait_until(lambda: metric(server, "ounce_spans_sent_total") >= 4)
    # What came last is sent by the stop.
    generate(ounce_v1, server, ())
    said = stop(server)
    after = time.time_ns()

    assert {post.path for post in collector.posts} == {"/v1/traces"}
    assert {post.headers["Content-Type"] for post in collector.posts} == {"application/json"}
    assert not any("secret" in post.body for post in collector.posts)
    for post in collector.posts:
        resource = message(post).resource_spans[0].resource
        assert attributes(resource)["service.name"] == "ounce"
        assert attributes(resource)["service.version"]
        assert attributes(resource)["service.instance.id"]

    spans = collector.spans()
    roots = {}
    for span in spans:
        assert before <= span.start_time_unix_nano <= span.end_time_unix_nano <= after, span
        if span.kind == trace_pb2.Span.SPAN_KIND_SERVER or not span.parent_span_id:
            roots.setdefault(span.name, []).append(span)

    def children(parent: trace_pb2.Span) -> list[str]:
        below = [span for span in spans if span.parent_span_id == parent.span_id]
        for child in below:
            assert child.trace_id == parent.trace_id
            assert child.kind == trace_pb2.Span.SPAN_KIND_INTERNAL
            assert child.start_time_unix_nano >= parent.start_time_unix_nano
        return [child.name for child in below]

    traced, last = roots["ounce.v1.Inference/Generate"]
    assert traced.trace_id.hex() == TRACE and traced.parent_span_id.hex() == PARENT
    assert traced.trace_state == "rojo=1"
    assert traced.flags == 0x301  # sampled, and its parent is remote
    assert children(traced) == children(last) == ["queue", "prefill", "decode"]
    assert last.trace_id.hex() != TRACE and not last.parent_span_id
    told = attributes(traced)
    assert told["gen_ai.operation.name"] == "text_completion"
    assert told["gen_ai.request.model"] == "code"
    assert told["gen_ai.request.max_tokens"] == 4
    assert told["gen_ai.usage.output_tokens"] == 4
    assert told["gen_ai.response.finish_reasons"] == ["length"]
    assert told["server.port"] == int(server.inference.rsplit(":", 1)[1])
    assert told["rpc.grpc.status_code"] == 0

    (quantized,) = roots["ounce.v1.ModelAdmin/Quantize"]
    stages = children(quantized)
    assert stages[0] == "reading" and stages[-1] == "swapping", stages
    assert "quantizing" in stages and "evaluating" in stages
    assert attributes(quantized)["ounce.model.method"] == "linear"
    for name in (
        "load_model",
        "ounce.v1.ModelAdmin/LoadModel",
        "inference.GRPCInferenceService/RepositoryModelLoad",
    ):
        (loaded,) = roots[name]
        assert children(loaded) == ["reading", "packing", "publishing"], name
        below = [span for span in spans if span.parent_span_id == loaded.span_id]
        for earlier, later in zip(below, below[1:]):
            assert earlier.end_time_unix_nano == later.start_time_unix_nano
    (loaded,) = roots["load_model"]
    assert attributes(loaded)["ounce.model.name"] == "code"
    assert f'"trace_id":"{TRACE}"' in said


def test_the_environment_says_where_to(
    ounce_v1: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20of-the-collector")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "code-server")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # not for this machine
    server = start("--trace_sample", "0")
    monkeypatch.delenv("http_proxy")  # from here on it is the test's own
    generate(ounce_v1, server, ())  # left out
    generate(ounce_v1, server)
    said = stop(server)
    assert [span.name for span in collector.spans()] == [
        "ounce.v1.Inference/Generate",
        "queue",
        "prefill",
        "decode",
    ]
    (post,) = collector.posts
    assert post.headers["authorization"] == "Bearer of-the-collector"
    assert "of-the-collector" not in said
    resource = attributes(message(post).resource_spans[0].resource)
    assert resource["service.name"] == "code-server"
    assert resource["deployment.environment.name"] == "test"


def test_the_flag_goes_before_the_environment(
    ounce_v1: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")  # no URL
    server = start("--otlp_endpoint", collector.url)
    generate(ounce_v1, server)
    stop(server)
    assert collector.spans()


def test_a_load_that_fails_is_traced_too(collector: Collector) -> None:
    with pytest.raises(SystemExit):
        start("--model", "gone=embedded/gone", "--otlp_endpoint", collector.url)
    spans = [span for span in collector.spans() if span.name == "load_model"]
    loads = {attributes(span)["ounce.model.name"]: span for span in spans}
    assert loads["code"].status.code == trace_pb2.Status.STATUS_CODE_UNSET
    assert loads["gone"].status.code == trace_pb2.Status.STATUS_CODE_ERROR
    assert attributes(loads["gone"])["error.type"]


def test_without_a_collector_nothing_is_sent(
    ounce_v1: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team")  # wrong, and not used
    server = start()
    generate(ounce_v1, server)
    assert metric(server, "ounce_spans_sent_total") == 0
    stop(server)
    assert not collector.posts


def test_a_collector_that_is_down_harms_nobody(ounce_v1: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server = start("--otlp_endpoint", f"http://127.0.0.1:{unused.getsockname()[1]}")
        for _ in range(10):
            generate(ounce_v1, server)
        wait_until(lambda: "can't be reached" in server.said())
        generate(ounce_v1, server)
        said = stop(server)
    assert "spans: 0 sent, 48 dropped" in said


def test_a_collector_that_is_busy_gets_them_later(ounce_v1: Any, collector: Collector) -> None:
    collector.answers = [(503, {"Retry-After": "2"})]
    server = start("--otlp_endpoint", collector.url, "--trace_sample", "0")
    generate(ounce_v1, server)
    collector.wait_for_posts(2)
    first, second = collector.posts[:2]
    assert first.body == second.body
    assert second.time - first.time >= 1.9
    wait_until(lambda: metric(server, "ounce_spans_sent_total") == 4)
    said = stop(server)
    assert "HTTP 503" in said and "takes them again" in said


def test_a_collector_that_hangs_holds_up_neither_calls_nor_the_stop(
    ounce_v1: Any, collector: Collector
) -> None:
    collector.answers = [None] * 100
    server = start("--otlp_endpoint", collector.url, "--trace_sample", "0")
    generate(ounce_v1, server)
    collector.wait_for_posts(1)
    for _ in range(10):
        generate(ounce_v1, server)
    said = stop(server)
    assert "spans: 0 sent, 44 dropped since the start" in said


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", __file__]))
