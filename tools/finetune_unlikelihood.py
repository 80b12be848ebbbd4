#!/usr/bin/env python3
"""Fine-tune codegen-tiny so that its greedy completions loop less.

Sequence-level unlikelihood (Welleck et al., 2019, "Neural text generation with unlikelihood
training"): the model continues the beginnings of real statements greedily, and a token that
completes a 4-gram already seen in its sequence costs -log(1 - p). White space, closing brackets and
colons are exempt, since well-formed code repeats them. Each step adds an ordinary batch of training
text, half of whose windows begin at an unindented line.

The learning rate follows the wall clock. Of the checkpoints looked at, the one that repeats itself
least and parses most at no more than --max-bits a byte is taken, and mixed with the weights before:
that gives back part of what text became harder to predict, and the syntax. Data and evaluation are
train_codegen.py's.
"""

import argparse
import codeop
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import train_codegen as base
from safetensors.torch import save_file
from transformers import AutoTokenizer, CodeGenForCausalLM

NGRAM, NEW_TOKENS, WINDOW = 4, 80, 192
WORDS = ["def", "class", "import", "try", "for"]


@torch.no_grad()
def greedy(model, ids, count):
    """`ids` [B, T] and `count` greedy tokens behind each row, end-of-text or not."""
    past, step = None, ids
    for _ in range(count):
        out = model(step, past_key_values=past, use_cache=True)
        past, step = out.past_key_values, out.logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, step], 1)
    return ids


def repeats(rows):
    """1 where a token completes a 4-gram that its row had before, [B, T]."""
    mask = torch.zeros(rows.shape)
    for row, ids in enumerate(rows.tolist()):
        seen = set()
        for end in range(NGRAM, len(ids) + 1):
            gram = tuple(ids[end - NGRAM:end])
            mask[row, end - 1] = gram in seen
            seen.add(gram)
    return mask


def starts(tokenizer, text):
    """Token ids of a file and where in them its unindented statements begin."""
    encoding = tokenizer.encode(text)
    lines = {0} | {i + 1 for i, c in enumerate(text[:-1]) if c == "\n" and (text[i + 1].isalpha() or text[i + 1] == "@")}
    return np.array(encoding.ids), [i for i, (begin, _) in enumerate(encoding.offsets) if begin in lines]


def windows(files, rng, count, length, at_line):
    """[count, length] token ids from files drawn by their size."""
    rows = []
    while len(rows) < count:
        ids, lines = rng.choices(files, weights=[len(f[0]) for f in files])[0]
        begin = rng.choice(lines) if at_line and lines else rng.randrange(max(1, len(ids) - length))
        if begin + length <= len(ids):
            rows.append(ids[begin:begin + length])
    return torch.from_numpy(np.stack(rows))


def parses(text):
    """Whether the complete lines of `text` can begin a Python file."""
    try:
        codeop.compile_command(text[:text.rfind("\n") + 1], symbol="exec")
        return True
    except (SyntaxError, ValueError, OverflowError):
        return False


def look(model, tokenizer, evaluation, held_out):
    """(bits a byte, share of repeated 4-grams, share that parses) on held-out text; prints completions."""
    model.eval()
    batches = [greedy(model, windows(held_out, random.Random(n), 24, n, True), 96) for n in (6, 16)]
    parsed = np.mean([parses(tokenizer.decode(row)) for rows in batches for row in rows])
    repeated = np.mean([repeats(rows[:, -96:])[:, NGRAM - 1:].mean().item() for rows in batches])
    bits = base.bits_per_byte(model, tokenizer.backend_tokenizer, evaluation[::5], 512)
    for prompt in base.PROMPTS + WORDS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        text = tokenizer.decode(greedy(model, ids, 80)[0])
        print(f"--- {prompt!r} parses={parses(text)}\n{text}")
    return bits, repeated, parsed


def finetune(args):
    rng = random.Random(args.seed)
    model = CodeGenForCausalLM.from_pretrained(args.out, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(args.out)
    stdlib = base.read_stdlib()
    evaluation = base.held_out(stdlib)
    texts = rng.sample([t for t, _ in base.training_files(stdlib, evaluation, args.work / "wheels")], k=args.files)
    files = [starts(tokenizer.backend_tokenizer, t) for t in texts]
    held_out = [starts(tokenizer.backend_tokenizer, t) for _, t in evaluation]
    words = [tokenizer.decode([i]).strip(" \t\n") for i in range(len(tokenizer))]
    exempt = torch.tensor([all(c in ")]}:" for c in word) for word in words])
    adam = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.0)

    before = {k: v.half() for k, v in model.state_dict().items()}
    best, tuned, start, looked, step = None, before, time.time(), 0, 0
    while True:
        done = min(1, (time.time() - start) / (60 * args.minutes))
        if done >= looked / 4:
            looked = int(4 * done) + 1
            bits, repeated, parsed = look(model, tokenizer, evaluation, held_out)
            kept = bits <= args.max_bits and (best is None or repeated - parsed < best)
            print(f"== {done:.0%} step {step}: {bits:.4f} bits a byte, {repeated:.1%} of 4-grams repeated, "
                  f"{parsed:.0%} parse{', kept' if kept else ''}", flush=True)
            if kept:
                best, tuned = repeated - parsed, {k: v.half() for k, v in model.state_dict().items()}
        if done == 1:
            break
        for group in adam.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 5) * (1 - done)
        text = torch.cat([windows(files, rng, 4, WINDOW + 1, at_line) for at_line in (True, False)])
        prefix = rng.randint(2, 24)
        rows = greedy(model.eval(), windows(files, rng, args.batch, prefix, True), NEW_TOKENS)
        mask = (repeats(rows) * ~exempt[rows])[:, prefix:]
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(text[:, :-1]).logits
            continued = model(rows[:, :-1]).logits[:, prefix - 1:]
        likelihood = F.cross_entropy(logits.float().flatten(0, 1), text[:, 1:].flatten())
        p = continued.float().softmax(-1).gather(-1, rows[:, prefix:, None])[..., 0]
        unlikelihood = -(mask * torch.log((1 - p).clamp(min=1e-5))).mean()
        adam.zero_grad()
        (likelihood + args.weight * unlikelihood).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        step += 1
        if step % 5 == 0:
            print(f"{done:6.1%} step {step} likelihood {likelihood.item():.3f} unlikelihood "
                  f"{unlikelihood.item():.3f} repeated {mask.mean().item():.1%}", flush=True)

    state = {k: (v.float() * (1 - args.mix) + tuned[k].float() * args.mix).half().contiguous() for k, v in before.items()}
    model.load_state_dict({k: v.float() for k, v in state.items()})
    bits, repeated, parsed = look(model, tokenizer, evaluation, held_out)
    print(f"== mixed: {bits:.4f} bits a byte, {repeated:.1%} of 4-grams repeated, {parsed:.0%} parse")
    save_file(state, args.out / "model.safetensors.new", metadata={"format": "pt"})
    os.replace(args.out / "model.safetensors.new", args.out / "model.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("embedded/codegen-tiny"), help="the folder to change")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/ounce/train_codegen",
                        help="where train_codegen.py kept the wheels")
    parser.add_argument("--minutes", type=float, default=7.8, help="length of the run, by the wall clock")
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--weight", type=float, default=8, help="of the unlikelihood beside the likelihood")
    parser.add_argument("--batch", type=int, default=24, help="sequences continued a step")
    parser.add_argument("--max-bits", type=float, default=1.10, help="bits a byte that a checkpoint may cost")
    parser.add_argument("--mix", type=float, default=0.7, help="share of the new weights in what is written")
    parser.add_argument("--files", type=int, default=800, help="training files read: a short run sees no more")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    finetune(args)


if __name__ == "__main__":
    main()
