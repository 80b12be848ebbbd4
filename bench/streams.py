"""Streams of tokens from Ounce's server, and when each came."""

import threading
import time

VOCABULARY = 4000  # ids that every engine's tokenizer has


def prompt(length, stream=0):
    """Fixed ids, another start for each stream, so that nothing is shared."""
    return [(7919 * (i + 1) + 104729 * stream) % VOCABULARY for i in range(length)]


class Times:
    """When each token of each stream came, seconds from the request."""

    def __init__(self, streams):
        self.start = time.perf_counter()
        self.tokens = [[] for _ in range(streams)]

    def note(self, stream, count=1):
        now = time.perf_counter() - self.start
        self.tokens[stream].extend([now] * count)

    def rate(self, kind, prompt_length):
        first = max(times[0] for times in self.tokens)
        if kind == "prefill":
            return prompt_length / first
        # While all of them decode.
        last = min(times[-1] for times in self.tokens)
        if last <= first:
            raise RuntimeError("a stream ended before all had begun: more new tokens are needed")
        new = sum(sum(1 for t in times if first < t <= last) for times in self.tokens)
        return new / (last - first)


def run_streams(server, model, prompts, new_tokens):
    """Times of all prompts at once."""
    times = Times(len(prompts))

    def run(stream, ids):
        messages = server.inference_messages
        request = messages.GenerateRequest(
            model=model, prompt_token_ids=messages.TokenIds(ids=ids), max_new_tokens=new_tokens)
        for response in server.inference.Generate(request):
            if response.token_ids:
                times.note(stream, len(response.token_ids))

    threads = [threading.Thread(target=run, args=item) for item in enumerate(prompts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times
