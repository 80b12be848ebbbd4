"""Calls to an ounce-server by name, and the sums of how they ended."""

import array
import collections
import itertools
import sys
import threading
import time

import grpc
from google.protobuf import message_factory

from serving import ROOT

sys.path.insert(0, str(ROOT / "proto"))
inference_pb2 = grpc.protos("ounce/v1/inference.proto")
model_admin_pb2 = grpc.protos("ounce/v1/model_admin.proto")
predict_pb2 = grpc.protos("inference/grpc_predict_v2.proto")

SERVICES = {service.full_name: service
            for protos in (inference_pb2, model_admin_pb2, predict_pb2)
            for service in protos.DESCRIPTOR.services_by_name.values()}
INFERENCE, ADMIN = "ounce.v1.Inference", "ounce.v1.ModelAdmin"
PREDICT = "inference.GRPCInferenceService"
ADMINS = {ADMIN, f"{PREDICT}/RepositoryIndex", f"{PREDICT}/RepositoryModelLoad",
          f"{PREDICT}/RepositoryModelUnload"}  # services and calls of the admin listener


class Fault(Exception):
    """What must not be: args are what, and details."""


class Connection:
    """A connection of its own to each gRPC listener, until it is closed."""

    def __init__(self, server, **options):
        options = {"grpc.enable_http_proxy": 0, "grpc.use_local_subchannel_pool": 1} | options
        self._channels = [grpc.insecure_channel(address, list(options.items()))
                          for address in (server.inference, server.admin)]

    def method(self, rpc):
        """Whether the call `rpc`, "service/method", is unary, and what begins it; requests may be
        bytes."""
        service, name = rpc.split("/")
        known = SERVICES[service].methods_by_name.get(name) if service in SERVICES else None
        kind, read = "unary_unary", None
        if known is not None:
            kind = "_".join("stream" if streams else "unary" for streams in
                            (known.client_streaming, known.server_streaming))
            read = message_factory.GetMessageClass(known.output_type).FromString
        channel = self._channels[bool({service, rpc} & ADMINS)]
        method = getattr(channel, kind)(
            f"/{rpc}", response_deserializer=read, request_serializer=lambda request:
                request if isinstance(request, bytes) else request.SerializeToString())
        is_unary = kind == "unary_unary"
        return is_unary, method.future if is_unary else method

    def close(self):
        for channel in self._channels:
            channel.close()


class Call:
    """A call that has begun on a Connection."""

    def __init__(self, connection, rpc, id, request, timeout, kind, is_counted_as):
        self.rpc, self.id, self.kind, self.is_counted_as = rpc, id, kind, is_counted_as
        self.messages = []
        self._began = time.perf_counter()
        self._is_unary, begin = connection.method(rpc)
        self.rpc_call = begin(request, timeout=timeout, metadata=(("x-request-id", id),))

    def read(self, count):
        """At most so many messages of a stream; None: all."""
        try:
            self.messages.extend(itertools.islice(self.rpc_call, count))
        except grpc.RpcError:
            pass  # finish() tells

    def finish(self):
        """Reads the rest; its code."""
        try:
            if self._is_unary:
                self.messages.append(self.rpc_call.result())
            else:
                self.read(None)
        except grpc.RpcError:
            pass
        self.seconds = time.perf_counter() - self._began
        return self.rpc_call.code().name


class Tally:
    """What callers saw, added up. Any thread may call anything."""

    def __init__(self):
        self._lock = threading.Lock()
        self.codes = collections.Counter()  # by (rpc, code), as the server's metric has them
        self.open_ended = collections.Counter()  # of those: ended by the caller, by rpc
        self.answers = collections.Counter()  # that were checked, by model
        self.tokens = collections.Counter()  # in them
        self.runs = collections.Counter()  # quantizations by (model, outcome)
        self.scrapes = 0
        self.seconds = collections.defaultdict(lambda: array.array("d"))  # of calls that went well
        self.faults = collections.Counter()  # by words without numbers of a call
        self.first_faults = []

    def ended(self, rpc, code, by_caller):
        with self._lock:
            self.codes[rpc, code] += 1
            self.open_ended[rpc] += by_caller

    def took(self, kind, seconds):
        with self._lock:
            self.seconds[kind].append(seconds)

    def answered(self, model, tokens=0):
        with self._lock:
            self.answers[model] += 1
            self.tokens[model] += tokens

    def quantized(self, model, outcome):
        with self._lock:
            self.runs[model, outcome] += 1

    def scraped(self):
        with self._lock:
            self.scrapes += 1

    def fault(self, what, details=""):
        with self._lock:
            self.faults[what] += 1
            if len(self.first_faults) < 20:
                self.first_faults.append(f"{what}: {details}" if details else what)
                print(f"FAULT {self.first_faults[-1]}", file=sys.stderr, flush=True)
