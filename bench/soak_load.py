"""The load of bench/soak.py: what callers ask, and what they must hear."""

import itertools
import json
import os
import random
import socket
import threading
import time
import urllib.request

from google.protobuf import message_factory

from serving import ROOT
from soak_calls import (ADMIN, INFERENCE, PREDICT, SERVICES, Call, Connection, Fault, inference_pb2,
                        model_admin_pb2, predict_pb2)

PLANS = {  # the first one is the state in which memory is compared
    "code": ["keep", "linear", "linear:bits=4,granularity=group", "ks4",
             "lm_head=linear *.mlp.*=bnb-nf4 gguf-q6_k"],
    "shapes": ["keep", "linear", "@convolution=linear linear", "float32"],
}
PATHS = {"code": "embedded/codegen-tiny", "shapes": "embedded/detr-tiny"}
PICTURES = sorted((ROOT / PATHS["shapes"] / "examples").glob("shapes-*"))
TEXT = (ROOT / "tools/ounce_server.py").read_text()
PATIENCE = 120  # seconds, after which a call counts as lost

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def generate_cases():
    """Requests to the model "code" by name, each of which has one answer by each plan."""
    sampled = {"temperature": 0.8, "top_p": 0.95}
    cases = {
        "greedy": {"prompt": "def fibonacci(n):\n", "max_new_tokens": 48},
        "one token": {"prompt": "import", "max_new_tokens": 1},
        "seed 1": {"prompt": "import os\n", "max_new_tokens": 40, "sampling": sampled | {"seed": 1}},
        "seed 2": {"prompt": "import os\n", "max_new_tokens": 40, "sampling": sampled | {"seed": 2}},
        "filters": {"prompt": "class Server", "max_new_tokens": 32, "logprobs": 3, "sampling": {
            "temperature": 0.6, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1, "seed": 3}},
        "stop": {"prompt": "def add(a, b):\n", "max_new_tokens": 64, "stop": ["\n\n", "return"]},
        "ids": {"prompt_token_ids": {"ids": [7 * i % 4000 for i in range(33)]}, "max_new_tokens": 24},
        "long prompt": {"prompt": TEXT[:900], "max_new_tokens": 20},
        "longest prompt": {"prompt_token_ids": {"ids": [11 * i % 4000 for i in range(480)]},
                           "max_new_tokens": 32},  # up to the model's last position
    }
    return {name: inference_pb2.GenerateRequest(model="code", **fields)
            for name, fields in cases.items()}


def detect_cases():
    """The same for "shapes"."""
    return {f"{file.name} above {threshold}": inference_pb2.DetectObjectsRequest(
                model="shapes", image=file.read_bytes(), threshold=threshold, max_detections=best)
            for file in PICTURES for threshold, best in ((0.5, 0), (0.1, 20))}


def infer_request(model, fields, parameters, **more):
    """A ModelInferRequest; `fields` are inputs by name, of bytes or bool."""
    request = predict_pb2.ModelInferRequest(model_name=model, **more)
    for name, value in fields.items():
        kind = "BOOL" if isinstance(value, bool) else "BYTES"
        tensor = request.inputs.add(name=name, datatype=kind, shape=[1])
        getattr(tensor.contents, f"{kind.lower()}_contents").append(value)
    for name, value in parameters.items():
        kind = {int: "int64", str: "string"}[type(value)]
        setattr(request.parameters[name], f"{kind}_param", value)
    return request


def as_infer(request, stream=False, **more):
    """What asks for the same as a case of generate_cases with a text, or of detect_cases."""
    if isinstance(request, inference_pb2.DetectObjectsRequest):
        return infer_request("shapes", {"image": request.image}, {
            "threshold": str(request.threshold), "max_detections": request.max_detections or 100}, **more)
    parameters = {"max_tokens": request.max_new_tokens, "stop": list(request.stop)}
    for field, value in request.sampling.ListFields():
        parameters[field.name] = value
    return infer_request("code", {"text_input": request.prompt.encode(), "stream": stream,
                                  "sampling_parameters": json.dumps(parameters).encode()}, {}, **more)


def generated(messages):
    """The answer in pieces of a Generate: it, its version and its number of tokens."""
    assert all(not message.finish_reason for message in messages[:-1]), "two last messages"
    last = messages[-1]
    ids = [id for message in messages for id in message.token_ids]
    answer = ("".join(message.text for message in messages), ids, last.finish_reason,
              last.usage.prompt_tokens,
              [log.SerializeToString(deterministic=True) for m in messages for log in m.logprobs])
    return answer, last.model_version, last.usage.new_tokens


def detected(response):
    return [item.SerializeToString(deterministic=True) for item in response.detections]


def texts_of(responses):
    """The text of the answers of one request of the Open Inference Protocol."""
    return b"".join(output.contents.bytes_contents[0] for response in responses
                    for output in response.outputs if output.name == "text_output").decode()


def boxes_of(response):
    """Those of a detection, and the same of a DetectObjectsResponse."""
    tensors = {output.name: output.contents for output in response.outputs}
    return (list(tensors["boxes"].fp32_contents), list(tensors["labels"].bytes_contents),
            list(tensors["scores"].fp32_contents))


def boxes_of_detected(answer):
    items = [inference_pb2.Detection.FromString(item) for item in answer]
    return ([side for item in items for side in
             (item.box.x_min, item.box.y_min, item.box.x_max, item.box.y_max)],
            [item.label.encode() for item in items], [item.score for item in items])


class Versions:
    """Which plan each version of a model is by; whoever changes a model says so."""

    def __init__(self):
        self._known = {}
        self._changed = threading.Condition()

    def note(self, model, version, plan):
        with self._changed:
            self._known[model, version] = plan
            self._changed.notify_all()

    def plan(self, model, version):
        """An answer may come sooner than the news of the version that gave it."""
        with self._changed:
            if not self._changed.wait_for(lambda: (model, version) in self._known, PATIENCE):
                raise Fault(f"{model}: an answer of a version that nobody made", str(version))
            return self._known[model, version]


class Load:
    """Callers of `server`, an OunceServer that serves "code", "shapes" and "long", which is
    "code" with 8,192 positions. Each method that CALLERS names is one caller's turn, and raises
    Fault for what must not be.

    Answers are compared to the bit with `learn`'s, which asked alone."""

    CALLERS = ("stream", "stream", "stream", "detect", "detect", "infer", "infer_stream", "cancel",
               "deadline", "slow_reader", "wrong", "come_and_go", "look", "scrape", "quantize_code",
               "quantize_shapes", "evaluate", "load_and_unload")

    def __init__(self, server, tally, plans=PLANS):
        self.server = server
        self.tally = tally
        self.plans = plans
        self.versions = Versions()
        self.generate = generate_cases()
        self.texts = {case: request for case, request in self.generate.items() if request.prompt}
        self.pictures = detect_cases()
        self.known = {}  # answers by (plan, name of a case), and what evaluations and reports say
        self.long_request = inference_pb2.GenerateRequest(
            model="long", prompt="def long(", max_new_tokens=4000)
        self.long_ids = []
        self._learns = False
        self._ids = itertools.count()
        self._turns = {model: itertools.cycle(plans[1:] + plans[:1]) for model, plans in plans.items()}
        self._local = threading.local()
        self._stop = threading.Event()
        self._connections = []
        self._threads = []

    # Calls.

    def connection(self):
        """The calling thread's own."""
        if not hasattr(self._local, "connection"):
            self._local.connection = Connection(self.server)
            self._connections.append(self._local.connection)
        return self._local.connection

    def begin(self, rpc, request, timeout=PATIENCE, connection=None, kind=None, is_counted_as=None):
        return Call(connection or self.connection(), rpc, f"soak-{next(self._ids)}", request, timeout,
                    kind or rpc.rsplit("/")[-1], is_counted_as or rpc)

    def finish(self, call, ends=("OK",)):
        """All messages of a call, and its code, which must be one of `ends`."""
        code = call.finish()
        by_caller = code in ("CANCELLED", "DEADLINE_EXCEEDED")
        self.tally.ended(call.is_counted_as, code, by_caller)
        if code not in ends:
            raise Fault(f"{call.rpc} ended with {code}", call.rpc_call.details())
        if not by_caller and dict(call.rpc_call.trailing_metadata()).get("x-request-id") != call.id:
            raise Fault(f"{call.rpc}: not the id of the request",
                        f"{call.id}: {call.rpc_call.trailing_metadata()}")
        if code == "OK":
            self.tally.took(call.kind, call.seconds)
        return call.messages, code

    def ask(self, rpc, request, ends=("OK",), **options):
        """The messages of a whole call."""
        return self.finish(self.begin(rpc, request, **options), ends)[0]

    def admin(self, rpc, /, **fields):
        """The last message of ModelAdmin's answer."""
        service = SERVICES[ADMIN].methods_by_name[rpc]
        request = message_factory.GetMessageClass(service.input_type)(**fields)
        return self.ask(f"{ADMIN}/{rpc}", request)[-1]

    def expect(self, key, answer):
        """The answer must be the known one; while it learns, the first one of a key is."""
        if self._learns:
            self.known.setdefault(key, answer)
        if answer != self.known[key]:
            raise Fault(f"another answer to {key}", f"{answer!r:.300}, not {self.known[key]!r:.300}")

    # How models get to a plan.

    def quantize(self, model, plan):
        report = self.admin("Quantize", model=model, plan=plan).report
        self.tally.quantized(model, "done")
        self.versions.note(model, report.version, report.plan)
        if report.plan != plan:
            raise Fault(f"{model}: another plan", f"{report.plan}, not {plan}")
        self.expect(("bytes", model, plan), report.stored_bytes_after)

    def restore(self):
        """Models as they were at first."""
        for model, plans in self.plans.items():
            self.quantize(model, plans[0])

    def learn(self):
        """Asks each case alone, by each plan."""
        self._learns = True
        for model, plans in self.plans.items():
            for plan in plans:
                self.quantize(model, plan)
                for case in self.generate if model == "code" else self.pictures:
                    self.stream(case) if model == "code" else self.detect(case)
                self.evaluate(model)
        self.long_ids = generated(self.ask(f"{INFERENCE}/Generate", self.long_request))[0][1]
        self.tally.answered("long", len(self.long_ids))
        self._learns = False
        self.restore()

    # Callers.

    def stream(self, case=None, model="code", **options):
        case = case or random.choice(list(self.generate))
        request = inference_pb2.GenerateRequest()
        request.CopyFrom(self.generate[case])
        request.model = model
        answer, version, tokens = generated(self.ask(f"{INFERENCE}/Generate", request, **options))
        if len(answer[1]) != tokens and answer[2] != inference_pb2.FINISH_REASON_STOP:
            raise Fault("usage.new_tokens is not what came", f"{tokens}, {len(answer[1])} ids")
        self.expect((self.versions.plan(model, version), case), answer)
        self.tally.answered(model, tokens)

    def detect(self, case=None, **options):
        case = case or random.choice(list(self.pictures))
        response, = self.ask(f"{INFERENCE}/DetectObjects", self.pictures[case], **options)
        plan = self.versions.plan("shapes", response.model_version)
        self.expect((plan, case), detected(response))
        self.tally.answered("shapes")

    def infer(self):
        cases = self.texts | self.pictures
        case = random.choice(list(cases))
        response, = self.ask(f"{PREDICT}/ModelInfer", as_infer(cases[case]))
        model = response.model_name
        known = self.known[self.versions.plan(model, int(response.model_version)), case]
        if model == "shapes":
            if boxes_of(response) != boxes_of_detected(known):
                raise Fault(f"ModelInfer: other boxes in {case}", str(response)[:300])
            self.tally.answered(model)
        else:
            if texts_of([response]) != known[0]:
                raise Fault(f"ModelInfer: another text for {case}", repr(texts_of([response])))
            self.tally.answered(model, self._tokens_of(response))

    @staticmethod
    def _tokens_of(response):
        return next(output.contents.uint_contents[0] for output in response.outputs
                    if output.name == "num_output_tokens")

    def infer_stream(self):
        requests = [as_infer(self.texts[case], stream=True, id=f"{index} {case}")
                    for index, case in enumerate(random.sample(list(self.texts), 3))]
        rpc = f"{PREDICT}/ModelStreamInfer"
        responses = [message.infer_response for message in self.ask(rpc, iter(requests))
                     if not message.error_message]
        parts = [(id, list(group)) for id, group in
                 itertools.groupby(responses, key=lambda response: response.id)]
        if [id for id, _ in parts] != [request.id for request in requests]:
            raise Fault("ModelStreamInfer: not each request in its order", str([id for id, _ in parts]))
        for id, group in parts:
            finals = [r.parameters["triton_final_response"].bool_param for r in group]
            if finals != [False] * (len(group) - 1) + [True]:
                raise Fault("ModelStreamInfer: not one last response", f"{id}: {finals}")
            plan = self.versions.plan("code", int(group[-1].model_version))
            if texts_of(group) != self.known[plan, id.split(" ", 1)[1]][0]:
                raise Fault("ModelStreamInfer: another text", f"{id}: {texts_of(group)!r}")
            self.tally.answered("code", self._tokens_of(group[-1]))

    def _expect_beginning(self, messages):
        ids = [id for message in messages for id in message.token_ids]
        if ids != self.long_ids[:len(ids)]:
            raise Fault("another beginning of the long answer", f"{len(ids)} tokens")
        return ids

    def cancel(self):
        call = self.begin(f"{INFERENCE}/Generate", self.long_request)
        call.read(random.randint(1, 40))
        call.rpc_call.cancel()
        messages, code = self.finish(call, ("CANCELLED", "OK"))
        self._expect_beginning(messages)
        if code == "OK":  # it was faster
            self.tally.answered("long", len(self.long_ids))

    def deadline(self):
        self._expect_beginning(self.ask(f"{INFERENCE}/Generate", self.long_request,
                                        ("DEADLINE_EXCEEDED",), timeout=random.uniform(0.1, 0.4)))

    def slow_reader(self):
        """Of more than the windows of a connection hold, so that the server waits for it."""
        connection = Connection(self.server, **{"grpc.http2.bdp_probe": 0})
        try:
            request = inference_pb2.GenerateRequest()
            request.CopyFrom(self.long_request)
            request.max_new_tokens, request.logprobs = 1000, 20
            call = self.begin(f"{INFERENCE}/Generate", request, connection=connection,
                              kind="Generate, read slowly")
            call.read(2)
            self._stop.wait(random.uniform(0.5, 3))
            ids = self._expect_beginning(self.finish(call)[0])
            if len(ids) != 1000:
                raise Fault("a slow reader read less", f"{len(ids)} tokens")
            self.tally.answered("long", len(ids))
        finally:
            connection.close()

    def wrong(self):
        """A request that is refused, by the code that docs/errors.md says."""
        picture = PICTURES[0].read_bytes()
        rpc, request, code = random.choice([
            ("Generate", {"prompt": "a", "sampling": {"top_p": 2}}, "INVALID_ARGUMENT"),
            ("Generate", {"prompt": "a", "model": "nobody"}, "NOT_FOUND"),
            ("Generate", {}, "INVALID_ARGUMENT"),
            ("Generate", {"prompt_token_ids": {"ids": [-1]}}, "INVALID_ARGUMENT"),
            ("Generate", {"prompt": "a", "model": "shapes"}, "FAILED_PRECONDITION"),
            ("Tokenize", b"\xff\xff\xff", "INVALID_ARGUMENT"),
            ("Tokenize", {"text": "a" * (3 << 20)}, "INVALID_ARGUMENT"),
            ("DetectObjects", {"image": picture, "model": "code"}, "FAILED_PRECONDITION"),
            ("DetectObjects", {"image": picture[:-99], "model": "shapes"}, "INVALID_ARGUMENT"),
            ("DetectObjects", {"image": b"no picture", "model": "shapes"}, "INVALID_ARGUMENT"),
            ("DetectObjects", {"image": bytes(5 << 20), "model": "shapes"}, "INVALID_ARGUMENT"),
            ("Nothing", b"", "UNIMPLEMENTED"),
            ("Quantize", {"method": "nonsense"}, "INVALID_ARGUMENT"),
            ("Quantize", {"method": "linear", "model": "nobody"}, "NOT_FOUND"),
            ("LoadModel", {"name": "other", "path": "/nowhere"}, "NOT_FOUND"),
            ("LoadModel", {"name": "code", "path": PATHS["code"]}, "ALREADY_EXISTS"),
            ("UnloadModel", {"name": "nobody"}, "NOT_FOUND"),
            ("ModelInfer", infer_request("code", {"text_input": b"a"}, {"wrong": 1}), "INVALID_ARGUMENT"),
            ("ModelInfer", infer_request("nobody", {"text_input": b"a"}, {}), "NOT_FOUND"),
        ])
        service = next((name for name, service in SERVICES.items()
                        if rpc in service.methods_by_name), INFERENCE)
        if isinstance(request, dict):
            method = SERVICES[service].methods_by_name[rpc]
            message = message_factory.GetMessageClass(method.input_type)
            model = {"model": "code"} if "model" in method.input_type.fields_by_name else {}
            request = message(**(model | request))
        self.ask(f"{service}/{rpc}", request, (code,),
                 is_counted_as="other" if rpc == "Nothing" else None)

    def come_and_go(self):
        """Connections that say nothing or nonsense, and one that asks once."""
        for address in (self.server.inference, self.server.admin, self.server.metrics):
            host, port = address.rsplit(":", 1)
            with socket.create_connection((host, int(port)), PATIENCE) as connection:
                said = random.choice([b"", b"PRI * HTTP/2.0\r\n\r\n", os.urandom(64)])
                connection.sendall(said)
        connection = Connection(self.server)
        try:
            self.stream("one token", kind="Generate, new connection", connection=connection)
        finally:
            connection.close()

    def look(self):
        tokens, = self.ask(f"{INFERENCE}/Tokenize",
                           inference_pb2.TokenizeRequest(model="code", text=TEXT))
        text, = self.ask(f"{INFERENCE}/Detokenize", inference_pb2.DetokenizeRequest(
            model="code", token_ids=tokens.token_ids))
        if text.text != TEXT:
            raise Fault("Detokenize gave another text than Tokenize was given")
        served, = self.ask(f"{INFERENCE}/ListModels", inference_pb2.ListServedModelsRequest())
        if not {"code", "long", "shapes"} <= {model.name for model in served.models}:
            raise Fault("ListModels lacks a model", str(served))
        self.admin("ListModels")
        self.admin("GetServer")
        self.ask(f"{PREDICT}/ModelMetadata", predict_pb2.ModelMetadataRequest(name="shapes"))
        self.ask(f"{PREDICT}/RepositoryIndex", predict_pb2.RepositoryIndexRequest())
        for ready in self.ask(f"{PREDICT}/ServerReady", predict_pb2.ServerReadyRequest()):
            if not ready.ready:
                raise Fault("the server says that it is not ready")
        self._stop.wait(0.2)

    def page(self, path):
        """The page of the metrics port; it must be there."""
        began = time.perf_counter()
        with _direct.open(f"http://{self.server.metrics}{path}", timeout=PATIENCE) as reply:
            text = reply.read().decode()
        if path == "/metrics":
            self.tally.scraped()
        self.tally.took(path, time.perf_counter() - began)
        return text

    def scrape(self):
        for path in ("/metrics", "/healthz", "/readyz", "/"):
            self.page(path)
        status = json.loads(self.page("/status.json"))
        if status["server"]["phase"] != "serving":
            raise Fault("status.json says that it does not serve", status["server"]["phase"])
        self._stop.wait(0.2)

    def quantize_code(self):
        self._quantize_somehow("code")

    def quantize_shapes(self):
        self._quantize_somehow("shapes")

    def _quantize_somehow(self, model):
        """Mostly to the next plan; sometimes to nothing."""
        rpc = f"{ADMIN}/Quantize"
        how = random.random()
        if how < 0.7:
            self.quantize(model, next(self._turns[model]))
        elif how < 0.8:
            self.admin("Quantize", model=model, method="linear", dry_run=True)
            self.tally.quantized(model, "done")
        elif how < 0.9:
            self.ask(rpc, model_admin_pb2.QuantizeRequest(
                model=model, method="binary", probe=True,
                **({"max_kl": 0} if model == "code" else {"max_box_drift": 0})),
                ("FAILED_PRECONDITION",))
            self.tally.quantized(model, "refused_quality")
        else:
            request = model_admin_pb2.QuantizeRequest(model=model, plan="linear")
            call = self.begin(rpc, request)
            call.read(1)
            call.rpc_call.cancel()
            self.finish(call, ("CANCELLED", "OK"))
            while True:
                now = self.admin("GetModel", name=model)
                if now.state == inference_pb2.MODEL_STATE_READY:
                    break
            self.versions.note(model, now.version, now.plan)  # the cancellation may have come too late
            self.tally.quantized(model, "done or cancelled")
        self._stop.wait(random.uniform(0, 0.3))

    def evaluate(self, model=None):
        model = model or random.choice(list(self.plans))
        if model == "code":
            report = self.admin("Evaluate", model=model, text=TEXT[:1200], window=128,
                                compare_with_floats=True).report.quality
            figures = (report.perplexity, report.floats.mean_kl_divergence, report.floats.perplexity)
        else:
            report = self.admin("Evaluate", model=model, pictures=[PICTURES[0].read_bytes()],
                                compare_with_floats=True).report.detection
            figures = (report.matched, report.mean_score_drift, report.mean_box_drift)
        self.expect(("quality", model, self.versions.plan(model, report.version)), figures)
        self._stop.wait(0.2)

    def load_and_unload(self):
        """Another name comes, is asked, and goes, sometimes while it is asked."""
        plan = random.choice(self.plans["code"])
        if random.random() < 0.7:
            self.admin("LoadModel", name="second", path=PATHS["code"], plan=plan)
        else:
            request = predict_pb2.RepositoryModelLoadRequest(model_name="second")
            request.parameters["path"].string_param = PATHS["code"]
            request.parameters["plan"].string_param = plan
            self.ask(f"{PREDICT}/RepositoryModelLoad", request)
        self.versions.note("second", 1, plan)
        self.stream(model="second")
        if random.random() < 0.5:
            call = self.begin(f"{INFERENCE}/Generate", inference_pb2.GenerateRequest(
                model="second", prompt="import os", max_new_tokens=400))
            call.read(1)
            self.admin("UnloadModel", name="second", force=True)
            self.finish(call, ("UNAVAILABLE", "OK"))
        else:
            self.admin("UnloadModel", name="second")
        self._stop.wait(0.2)

    # Threads.

    def start(self):
        self._stop.clear()
        self._threads = [threading.Thread(target=self._run, args=(getattr(self, name),), name=name)
                         for name in self.CALLERS]
        for thread in self._threads:
            thread.start()

    def _run(self, turn):
        while not self._stop.is_set() and self.server.process.poll() is None:
            try:
                turn()
            except Fault as fault:
                self.tally.fault(*fault.args)
            except Exception as error:  # of this program, or of what came
                self.tally.fault(f"{turn.__name__}: {type(error).__name__}", str(error))

    def stop(self):
        """Returns when the last answer is there and all connections are closed."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.disconnect()

    def disconnect(self):
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._local = threading.local()
