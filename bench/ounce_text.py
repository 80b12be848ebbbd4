"""Ounce as one of the engines: its real server, with a checkpoint in several plans."""

from rows import PLANS
from serving import Server, progress
from streams import prompt, run_streams


class OunceText:
    """A server with a model for each plan, quantized live, which tells its bytes."""

    def __init__(self, build, threads, checkpoint, plans, *flags, env=None):
        # Prompts are not put off for streams: all are to decode at the same time.
        self.server = Server(build, [f"{plans[0]}={checkpoint}"], threads, "--max_running_requests=64",
                             "--prompt_step_seconds=0", f"--kv_cache_bytes={2 << 30}", *flags, env=env)
        self.reports = {}
        for plan in plans:
            progress(f"quantizing: {PLANS[plan]}")
            if plan != plans[0]:
                self.server.admin.LoadModel(self.server.admin_messages.LoadModelRequest(
                    name=plan, path=str(checkpoint)))
            self.reports[plan] = quantize(self.server, plan, PLANS[plan])

    @property
    def pid(self):
        return self.server.pid

    def run(self, plan, streams, length, new_tokens):
        return run_streams(self.server, plan, [prompt(length, s) for s in range(streams)], new_tokens)

    def bytes_of_token(self, plan):
        """What a step reads of the weights: all but the embedding, whose row is nothing."""
        report, kinds = self.reports[plan], self.server.admin_messages
        has_head = any(tensor.kind == kinds.TENSOR_KIND_HEAD for tensor in report.tensors)
        return report.resident_bytes_after - sum(
            tensor.bytes_after for tensor in report.tensors
            if has_head and tensor.kind == kinds.TENSOR_KIND_EMBEDDING)

    def operations_of_token(self, plan):
        kind = self.server.admin_messages.TENSOR_KIND_LINEAR
        return sum(2 * tensor.shape[0] * tensor.shape[1]
                   for tensor in self.reports[plan].tensors if tensor.kind == kind)

    def close(self):
        self.server.close()


def quantize(server, model, plan):
    request = server.admin_messages.QuantizeRequest(model=model, plan=plan)
    return list(server.admin.Quantize(request))[-1].report
