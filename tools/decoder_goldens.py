"""What the makers of goldens of causal language models share."""

import json

import safetensors.torch
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

NEW_TOKENS = 64
# Greedy tokens must not hang on the last bits of a logit.
MIN_MARGIN = 1e-3
# Nor say little, by repeating a few.
MIN_DISTINCT = 6
VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__,
            "safetensors": safetensors.__version__}


def load(folder, attention="eager"):
    """As transformers does, in float32. But it leaves a tied weight out that
    stands under the head's name alone; then as safetensors does, which names
    the other in the file's metadata."""
    options = dict(dtype=torch.float32, attn_implementation=attention)
    file = folder / "model.safetensors"
    if not file.exists() or set(safetensors.safe_open(file, "pt").metadata()) == {"format"}:
        return AutoModelForCausalLM.from_pretrained(folder, **options).eval()
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), **options)
    safetensors.torch.load_model(model, file)
    return model.eval()


def greedy(model, prompt, new_tokens=NEW_TOKENS):
    """Tokens and the smallest lead that one had over the runner-up."""
    tokens, past, margin = [], None, float("inf")
    ids = torch.tensor([prompt])
    for _ in range(new_tokens):
        out = model(ids, past_key_values=past, use_cache=True)
        past = out.past_key_values
        top = out.logits[0, -1].topk(2)
        margin = min(margin, float(top.values[0] - top.values[1]))
        tokens.append(int(top.indices[0]))
        ids = top.indices[:1].reshape(1, 1)
    return tokens, margin


def write_expected(folder, model, seed, **more):
    """Writes expected.json and logits.bin for prompts of unequal length. False
    when the greedy tokens are not fit to test: the caller tries another seed."""
    generator = torch.Generator().manual_seed(seed)
    prompts = [
        torch.randint(0, model.config.vocab_size, (n,), generator=generator).tolist()
        for n in (1, 16, 7, 33)
    ]
    logits, continuations = [], []
    for prompt in prompts:
        logits.append(model(torch.tensor([prompt])).logits[0])
        tokens, margin = greedy(model, prompt)
        if margin < MIN_MARGIN or len(set(tokens)) < MIN_DISTINCT:
            return False
        continuations.append(tokens)
    (folder / "logits.bin").write_bytes(
        torch.cat(logits).to(torch.float32).contiguous().numpy().tobytes())
    (folder / "expected.json").write_text(json.dumps(
        {"prompts": prompts, "greedy": continuations, **more}) + "\n")
    print(f"{folder.name}: seed {seed}, distinct greedy tokens",
          [len(set(tokens)) for tokens in continuations],
          f"logits spread {float(torch.cat(logits).std()):.2f}")
    return True
