#!/usr/bin/env python3
"""Train codegen-tiny: a 4.2 M parameter CodeGen model of Python source, on one CPU core.

The script downloads the pure-Python sources it trains on (pip, pinned versions), trains a
byte-level BPE of 4,096 tokens and the model, and writes a Hugging Face folder that
transformers loads with AutoTokenizer and CodeGenForCausalLM. The learning rate follows the
wall clock, so a run of --minutes ends on time, fully decayed, however busy the machine is.

Held out: 50 whole files of the running interpreter's standard library, chosen by hash. A
training file that shares many lines with one of them is dropped.

Needs torch, transformers, tokenizers and safetensors, and a C++ compiler for torch.compile.
With glibc, MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 GLIBC_TUNABLES=glibc.malloc.hugetlb=1
in the environment makes a step about a fifth faster.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, CodeGenConfig, CodeGenForCausalLM, PreTrainedTokenizerFast

# Licence, as the METADATA of each wheel states it (read_wheel checks) -> name==version.
PACKAGES = {
    "Apache": "nltk==3.10.4",
    "Apache-2.0": "coverage==7.17.3 requests==2.34.2 tornado==6.6.1",
    "Apache-2.0 AND MIT": "aiohttp==3.14.5",
    "BSD": "cherrypy==18.10.0 jinja2==3.1.6 prompt_toolkit==3.0.53 scipy==1.17.1",
    "BSD-2-Clause": "pygments==2.21.0 sphinx==9.0.4 xlsxwriter==3.3.1",
    "BSD-3-Clause":
        "babel==2.18.0 celery==5.7.0 click==8.5.1 dask==2026.8.0 distributed==2026.8.0 django==5.2.19 "
        "flask==3.1.3 ipython==9.18.1 kombu==5.7.0 networkx==3.6.1 numpy==2.4.6 pandas==3.1.1 "
        "scrapy==2.19.0 werkzeug==3.1.9",
    "MIT":
        "attrs==26.1.0 black==26.10.1 bottle==0.13.4 jedi==0.20.1 libcst==1.9.0 mako==1.4.3 "
        "mitmproxy==11.0.2 mypy==2.4.1 parso==0.8.7 paste==3.10.1 pip==26.3 pydantic==2.14.3 "
        "pyparsing==3.3.3 pytest==9.2.0 rich==15.0.0 setuptools==84.2.1 sqlalchemy==2.1.9 textual==8.2.8 "
        "twisted==26.10.0 virtualenv==21.15.8",
    "Python Software Foundation": "matplotlib==3.11.2",
}
SKIP = re.compile(r"(^|/)(site-packages|__pycache__|_vendor|vendored|extern|externals|bad\w*|lib2to3/tests/data"
                  r"|encodings/(?!__init__|aliases|idna|punycode|utf)\w+\.py|pydoc_data|config-[^/]*|_sysconfigdata\w*"
                  r"|unicode\w*|_?builtins/\w+_builtins\.py|_mapping\.py|locale/.*)(/|$|\.py$)")
TESTS = re.compile(r"(^|/)(tests?|testing|idle_test|ctypes_test|conftest\.py|test_\w*\.py)(/|$)")
STDLIB_REPEATS = 4  # how often a pass over the data sees the standard library (its tests: once)
HELD_OUT_FILES = 50

EOT = "<|endoftext|>"
RUNS = [" " * n for n in range(2, 32)] + ["\t" * n for n in range(2, 10)]
PROMPTS = ["def read_lines(path):\n", "class Stack:\n", "import os\nimport sys\n\n", "try:\n", "for i in range("]
CONFIG = dict(
    vocab_size=4096, n_positions=512, n_ctx=512, n_embd=192, n_layer=6, n_head=4, rotary_dim=32,
    embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0, use_cache=True, torch_dtype="float16",
    architectures=["CodeGenForCausalLM"], tokenizer_class="CodeGenTokenizer",
)


# ---------------------------------------------------------------- data

def clean(data):
    """The text of a source file, or None where it is not ordinary code (tables, generated, not UTF-8)."""
    try:
        text = data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not 200 <= len(text) <= 400_000 or max(map(len, lines)) > 400 or EOT in text:
        return None
    letters = sum(c.isascii() and (c.isalpha() or c in " \n_") for c in text)
    if letters < 0.7 * len(text) or len(set(lines)) < 0.5 * len(lines):
        return None
    return text


def long_lines(text):
    return {hash(line.strip()) for line in text.splitlines() if len(line.strip()) >= 24}


def read_stdlib():
    """(path, text) of the running interpreter's standard library, sorted by path."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.py"))
    files = [(p, clean((root / p).read_bytes())) for p in paths if not SKIP.search(p)]
    return [(p, text) for p, text in files if text]


def held_out(stdlib):
    """The held-out files: no tests, 2 to 64 KB, the first by the hash of their path."""
    files = [(p, t) for p, t in stdlib if not TESTS.search(p) and 2_000 <= len(t) <= 64_000]
    return sorted(files, key=lambda f: hashlib.sha256(f[0].encode()).digest())[:HELD_OUT_FILES]


def read_wheel(requirement, licence, folder):
    """(path, text) of the modules of one package, without its tests and vendored copies."""
    name, version = requirement.split("==")
    pattern = re.sub("[-_]", "[-_]", name) + f"-{re.escape(version)}-.*\\.whl"
    find = lambda: [p for p in folder.iterdir() if re.fullmatch(pattern, p.name, re.I)]
    if not find():
        subprocess.check_call([sys.executable, "-m", "pip", "download", "-q", "--no-deps",
                               "--only-binary", ":all:", "-d", str(folder), requirement])
    with zipfile.ZipFile(find()[0]) as wheel:
        metadata = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        fields = [line for line in wheel.read(metadata).decode().split("\n\n")[0].splitlines()
                  if re.match(r"License|Classifier: License", line)]
        if not any(licence in line for line in fields):
            raise SystemExit(f"{requirement}: expected licence {licence}, METADATA says {fields}")
        names = sorted(n for n in wheel.namelist() if n.endswith(".py") and not SKIP.search(n) and not TESTS.search(n))
        files = [(n, clean(wheel.read(n))) for n in names]
    return [(n, text) for n, text in files if text]


def training_files(stdlib, evaluation, folder):
    """(text, repeats) of every training file, exact and near duplicates dropped."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = {p for p, _ in evaluation}
    candidates = [("stdlib", p, t, 1 if TESTS.search(p) else STDLIB_REPEATS) for p, t in stdlib if p not in taken]
    for requirement, licence in sorted((r, licence) for licence, rs in PACKAGES.items() for r in rs.split()):
        candidates += [(requirement, p, t, 1) for p, t in read_wheel(requirement, licence, folder)]
    secret = [long_lines(t) for _, t in evaluation]
    secret_lines = set().union(*secret)
    seen, kept, sizes = set(), [], {}
    for source, path, text, repeats in candidates:
        lines = long_lines(text)
        leaks = len(lines & secret_lines) > 0.25 * len(lines) or any(len(lines & s) > 0.25 * len(s) for s in secret)
        if not lines or leaks or len(lines & seen) > 0.7 * len(lines):
            if leaks:
                print(f"dropped, too like a held-out file: {source} {path}")
            continue
        seen |= lines
        kept.append((text, repeats))
        sizes[source] = sizes.get(source, 0) + len(text.encode())
    for source, size in sizes.items():
        print(f"{size / 1e6:7.2f} MB  {source}")
    print(f"{sum(sizes.values()) / 1e6:7.2f} MB in {len(kept)} files")
    return kept


# ---------------------------------------------------------------- tokenizer

def train_tokenizer(texts):
    """Byte-level BPE as CodeGen has it: GPT-2's, then runs of spaces and tabs as added tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(" {2,31}|\t{2,9}"), "removed"),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer = trainers.BpeTrainer(vocab_size=CONFIG["vocab_size"] - 1 - len(RUNS), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(texts, trainer)
    model = json.loads(bpe.to_str())["model"]
    model["vocab"][EOT] = len(model["vocab"])
    merges = [tuple(m) for m in model["merges"]]
    tokenizer = Tokenizer(models.BPE(model["vocab"], merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken(EOT, normalized=True, special=True)])
    tokenizer.add_tokens([AddedToken(run, normalized=True) for run in RUNS])
    assert tokenizer.get_vocab_size() == CONFIG["vocab_size"]
    return tokenizer


def save_tokenizer(tokenizer, folder):
    """tokenizer.json and the older vocab.json, merges.txt and added_tokens.json beside it."""
    model = json.loads(tokenizer.to_str())["model"]
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=EOT, eos_token=EOT, unk_token=EOT,
                                   model_max_length=CONFIG["n_positions"], clean_up_tokenization_spaces=False)
    fast.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "CodeGenTokenizer", "add_prefix_space": False, "add_bos_token": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in model["merges"]))
    added = {run: tokenizer.token_to_id(run) for run in RUNS}
    (folder / "added_tokens.json").write_text(json.dumps(added, indent=2) + "\n")


def encode(tokenizer, texts):
    """Token ids of the texts, each behind one end-of-text."""
    eot = tokenizer.token_to_id(EOT)
    return [[eot] + e.ids for e in tokenizer.encode_batch_fast(texts)]


class Batches:
    """Endless batches of 2,048 tokens and their successors, from passes over the files in a new order."""

    def __init__(self, documents, seed):
        self.documents, self.rng, self.length, self.queue = documents, np.random.default_rng(seed), 0, []

    def refill(self, length):
        order = self.rng.permutation(len(self.documents))
        self.stream = np.concatenate([self.documents[i] for i in order])
        starts = np.arange(self.rng.integers(length), len(self.stream) - length, length)
        self.length, self.queue = length, list(self.rng.permutation(starts))

    def next(self, length):
        count = 2048 // length
        if self.length != length or len(self.queue) < count:
            self.refill(length)
        rows = [self.stream[s:s + length + 1] for s in self.queue[-count:]]
        del self.queue[-count:]
        rows = torch.from_numpy(np.stack(rows).astype(np.int64))
        return rows[:, :-1], rows[:, 1:]


# ---------------------------------------------------------------- model

def gelu_new(x):
    """0.5 x (1 + tanh(y)), written as x sigmoid(2 y), which compiles to faster code."""
    u = x.float()
    return (u * torch.sigmoid(1.5957691216 * (u + 0.044715 * u ** 3))).to(x.dtype)


class Net(nn.Module):
    """CodeGen's maths, laid out for training.

    The matrices of all layers are two stacks, so that the optimizer orthogonalizes each in one batch.
    The rotary halves lie side by side instead of interleaved, which vectorizes; state() undoes both.
    """

    def __init__(self):
        super().__init__()
        V, D, L = CONFIG["vocab_size"], CONFIG["n_embd"], CONFIG["n_layer"]
        self.wte = nn.Parameter(torch.randn(V, D) * 0.02)
        self.square = nn.Parameter(torch.randn(L, 4, D, D) * 0.5 * D ** -0.5)  # query, value, key, out
        self.wide = nn.Parameter(torch.randn(L, 2, D, 4 * D) * 0.5 * D ** -0.5)  # fc_in transposed, fc_out
        self.square.data[:, 3] = 0
        self.wide.data[:, 1] = 0
        self.ln, self.ln_bias = nn.Parameter(torch.ones(L, D)), nn.Parameter(torch.zeros(L, D))
        self.fc_in_bias, self.fc_out_bias = nn.Parameter(torch.zeros(L, 4 * D)), nn.Parameter(torch.zeros(L, D))
        self.ln_f = nn.LayerNorm(D)
        self.lm_head = nn.Linear(D, V)
        self.lm_head.weight.data.normal_(0, 0.02)
        self.lm_head.bias.data.zero_()
        half = torch.arange(0, CONFIG["rotary_dim"], 2) / CONFIG["rotary_dim"]
        angle = torch.outer(torch.arange(CONFIG["n_positions"]).float(), 10000 ** -half)[:, None]
        self.register_buffer("sin", angle.sin())
        self.register_buffer("cos", angle.cos())
        self.register_buffer("mask", torch.full((CONFIG["n_positions"],) * 2, -1e9).triu(1))

    def rotate(self, x):
        T, half = x.shape[1], CONFIG["rotary_dim"] // 2
        a, b, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
        sin, cos = self.sin[:T], self.cos[:T]
        return torch.cat([(a * cos - b * sin).to(x.dtype), (b * cos + a * sin).to(x.dtype), rest], -1).transpose(1, 2)

    def logits(self, tokens):
        (B, T), D, H = tokens.shape, CONFIG["n_embd"], CONFIG["n_head"]
        x = F.embedding(tokens, self.wte)
        layers = zip(self.square[:, :3].reshape(-1, 3 * D, D).unbind(), self.square[:, 3].unbind(),
                     self.wide[:, 0].unbind(), self.wide[:, 1].unbind(), self.ln.unbind(), self.ln_bias.unbind(),
                     self.fc_in_bias.unbind(), self.fc_out_bias.unbind())
        for qvk, out, fc_in, fc_out, ln, ln_bias, in_bias, out_bias in layers:
            h = F.layer_norm(x, (D,), ln, ln_bias)
            q, v, k = F.linear(h, qvk).view(B, T, 3, H, D // H).unbind(2)
            scores = (self.rotate(q) @ self.rotate(k).transpose(-1, -2)).float() * (D // H) ** -0.5
            weights = (scores + self.mask[:T, :T]).softmax(-1).to(v.dtype)
            attended = F.linear((weights @ v.transpose(1, 2)).transpose(1, 2).reshape(B, T, D), out)
            x = x + attended + F.linear(gelu_new(F.linear(h, fc_in.T, in_bias)), fc_out, out_bias)
        return self.lm_head(self.ln_f(x))

    def forward(self, tokens, targets):
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.logits(tokens)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def state(self):
        """The state dict under the names and in the layouts of transformers, in float16."""
        D, H, R = CONFIG["n_embd"], CONFIG["n_head"], CONFIG["rotary_dim"]
        pairs = torch.arange(D // H)
        pairs[:R] = pairs[:R].view(2, -1).T.flatten()
        state = {"transformer.wte.weight": self.wte, "transformer.ln_f.weight": self.ln_f.weight,
                 "transformer.ln_f.bias": self.ln_f.bias, "lm_head.weight": self.lm_head.weight,
                 "lm_head.bias": self.lm_head.bias}
        for i in range(CONFIG["n_layer"]):
            qvk = self.square[i, :3].view(3, H, D // H, D).clone()
            qvk[0], qvk[2] = qvk[0][:, pairs], qvk[2][:, pairs]
            state |= {f"transformer.h.{i}.{name}": tensor for name, tensor in {
                "ln_1.weight": self.ln[i], "ln_1.bias": self.ln_bias[i],
                "attn.qkv_proj.weight": qvk.transpose(0, 1).reshape(3 * D, D),
                "attn.out_proj.weight": self.square[i, 3],
                "mlp.fc_in.weight": self.wide[i, 0].T, "mlp.fc_in.bias": self.fc_in_bias[i],
                "mlp.fc_out.weight": self.wide[i, 1], "mlp.fc_out.bias": self.fc_out_bias[i]}.items()}
        return {name: tensor.detach().half().contiguous() for name, tensor in state.items()}


class Muon:
    """Momentum whose update is orthogonalized by Newton-Schulz, for stacks of matrices (rows <= columns)."""

    def __init__(self, params, lr, momentum=0.95, decay=0.1):
        self.params, self.lr, self.momentum, self.decay = params, lr, momentum, decay
        self.buffers = [torch.zeros_like(p) for p in params]

    @torch.no_grad()
    def step(self, schedule):
        for p, buffer in zip(self.params, self.buffers):
            buffer.lerp_(p.grad, 1 - self.momentum)
            x = p.grad.lerp(buffer, self.momentum).flatten(0, 1).bfloat16()
            x /= x.norm(dim=(1, 2), keepdim=True) + 1e-7
            for _ in range(5):
                gram = x @ x.mT
                x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
            p.mul_(1 - schedule * self.lr * self.decay)
            p.add_(x.view_as(p), alpha=-schedule * self.lr * 0.2 * p.shape[-1] ** 0.5)


# ---------------------------------------------------------------- training

def save(net, tokenizer, out):
    """Writes the Hugging Face folder beside `out`, then moves each file into place."""
    folder = out.with_name(out.name + ".new")
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, folder)
    eot = tokenizer.token_to_id(EOT)
    config = json.loads(CodeGenConfig(**CONFIG, bos_token_id=eot, eos_token_id=eot).to_json_string())
    config["torch_dtype"] = config.pop("dtype")  # the name that older readers know, too
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {"bos_token_id": eot, "eos_token_id": eot, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    save_file(net.state(), folder / "model.safetensors", metadata={"format": "pt"})
    out.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        os.replace(file, out / file.name)
    folder.rmdir()


def train(args):
    stdlib = read_stdlib()
    evaluation = held_out(stdlib)
    files = training_files(stdlib, evaluation, args.work / "wheels")
    texts = [t for t, _ in files]
    tokenizer = train_tokenizer([t for t, repeats in files if repeats > 1] + texts[::3])
    documents = [np.array(ids, dtype=np.uint16) for ids in encode(tokenizer, texts)]
    documents = [d for d, (_, repeats) in zip(documents, files) for _ in range(repeats)]
    print(f"{sum(map(len, documents)) / 1e6:.1f} M tokens a pass", flush=True)

    torch.manual_seed(args.seed)
    net = Net()
    print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters")
    batches = Batches(documents, args.seed)
    step_loss = torch.compile(net, dynamic=False)
    for length in (128, 256, 512):  # compiled before the clock starts
        step_loss(*batches.next(length)).backward()
    muon = Muon([net.square, net.wide], lr=6e-3)
    tables = [net.wte, net.lm_head.weight]
    rest = [p for p in net.parameters() if all(p is not q for q in muon.params + tables)]
    adam = torch.optim.AdamW([{"params": tables, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
                             betas=(0.9, 0.95), fused=True)

    start, saved, step, losses = time.time(), 0, 0, []
    while (done := (time.time() - start) / (60 * args.minutes)) < 1:
        schedule = min(done / 0.02, (1 - done) / 0.98)
        length = 128 if done < 0.4 else 256 if done < 0.8 else 512
        net.zero_grad()
        loss = step_loss(*batches.next(length))
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for group in adam.param_groups:
            group["lr"] = 3e-3 * schedule
        adam.step()
        muon.step(schedule)
        step += 1
        losses.append(loss.item())
        if step % 200 == 0:
            print(f"{done:6.1%}  step {step}  {step * 2048 / 1e6:.2f} M tokens  length {length}  "
                  f"loss {np.mean(losses[-200:]):.4f}", flush=True)
        if time.time() - start > saved * 600 + 600:
            saved += 1
            save(net, tokenizer, args.out)
            bits = bits_per_byte(net, tokenizer, evaluation[::5], 512)
            print(f"saved; {bits:.4f} bits a byte on a fifth of the held-out files", flush=True)
    save(net, tokenizer, args.out)
    print(f"{step} steps, {step * 2048 / 1e6:.1f} M tokens, last losses {np.mean(losses[-200:]):.4f}")


# ---------------------------------------------------------------- evaluation

@torch.no_grad()
def bits_per_byte(model, tokenizer, files, stride):
    """Every byte of the files counts; windows of 512 tokens start every `stride` tokens of a file."""
    bits, size = 0.0, CONFIG["n_positions"]
    for (_, text), ids in zip(files, encode(tokenizer, [t for _, t in files])):
        scored = 0
        for begin in range(0, len(ids) - 1, stride):
            window = torch.tensor(ids[begin:begin + size + 1])
            logits = model.logits(window[None, :-1]) if isinstance(model, Net) else model(window[None, :-1]).logits
            nll = F.cross_entropy(logits[0].float(), window[1:], reduction="none")
            bits += nll[scored - begin:].sum().item() / np.log(2)
            scored = begin + len(window) - 1
            if scored == len(ids) - 1:
                break
    return bits / sum(len(t.encode()) for _, t in files)


def evaluate(folder):
    """Bits per byte and greedy completions of a folder as transformers loads it, in float32."""
    model = CodeGenForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    files = held_out(read_stdlib())
    print(f"{len(files)} files, {sum(len(t.encode()) for _, t in files)} bytes:", " ".join(p for p, _ in files))
    for stride in (512, 256):
        bits = bits_per_byte(model, tokenizer.backend_tokenizer, files, stride)
        print(f"{bits:.4f} bits a byte, windows of 512 tokens every {stride}", flush=True)
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        print(f"--- {prompt!r}\n" + tokenizer.decode(model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=96, do_sample=False,
            pad_token_id=tokenizer.eos_token_id)[0]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("embedded/codegen-tiny"), help="the folder to write or evaluate")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/ounce/train_codegen",
                        help="where the downloaded wheels are kept")
    parser.add_argument("--minutes", type=float, default=70, help="length of the training run, by the wall clock")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eval", action="store_true", help="only evaluate --out, in transformers and float32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not args.eval:
        train(args)
    evaluate(args.out)


if __name__ == "__main__":
    main()
