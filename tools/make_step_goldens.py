#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/{steps,pipelines}.jsonl by Hugging Face tokenizers.

The same versions write the same bytes: all randomness comes from a fixed seed.

  steps.jsonl      a normalizer or a pre-tokenizer a line, and what it makes of texts:
                   the normalized text, with "</w>" behind each word
  pipelines.jsonl  a whole tokenizer a line, with texts, their ids, and what decoding
                   these gives with and without special tokens: the layouts of published
                   families, trained on the samples, and small random ones that are odd
"""

import argparse
import base64
import json
import pathlib
import random
import sys
import tempfile

import make_tokenizer_goldens as samples
import sentencepiece
import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers.utils import sentencepiece_model_pb2_new as sentencepiece_proto

CORPUS = samples.CODE + samples.PROSE
POOL = list("  \t\n▁▁.,!?'\"-_0123456789aAbBéÉßİıſKΣςﬁ①½٣中国日本語한국ا्́̀क") + [
    "<0x0A>", "<unk>", "<s>", "</s>", "<m>", " ' ", "n't", " do not", "'s", "\r\n", "\u200d", "👩‍👩‍👧‍👦", "\ufeff",
    "\u00ad", "e\u0301", "Å", "ｱﾞ", "\u1e9b\u0323", "ﷺ", "\u05bf\u0316\u0301", "\x00", "\x0b", "\x7f", "\u180e", "\U0001e08f"]

FALLBACK = [f"<0x{byte:02X}>" for byte in range(256)]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN = CL100K.replace("{1,3}", "")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
PATTERNS = [
    CL100K, O200K, BLOOM, DEEPSEEK, r"\d{1,3}(?=(?:\d{3})*(?!\d))", r"[\p{L}&&[^a-c]]+|[^\P{L}]", r"[^\S\r\n]+",
    r"(?i:abc)", r"^\s+|\s+$", r"\S+$", r".", r"(?m:.)+", r"[[a-c][^\s\w]]+", r"[^a[^b]]", r"\h+", r"[\w\-]+", r"\w+|\W",
    r"\p{Han}+|\p{^Han}", r"\P{M}\p{M}*", r"(?<=a)b|(?<!a)c", r"a{2}|b{,3}c|{x}", r"\x{4e00}-|\u00e9|\x41", r"[a-]|[\]^]",
    r"\p{Lu}|\p{Ll}+|\p{Nd}{1,3}|\p{P}|\p{S}|\p{Z}+|\p{Cc}", r"\p{Latin}+|\p{Cyrillic}+|\p{Hiragana}|\p{Thai}|\p{Arabic}+",
    r"(?i)HELLO|w", r"[^\r\n\p{L}\p{N}]?+\p{L}+|\s++$|\A.|.\z", r"(?>a+)b|\D+|\W", r"[^[a-z]&&[^aeiou]]", r"\t|\v|\f|\e|\a"]


def texts_for_steps():
    texts = ["", " ", "  a", "a  ", "Hello, World! 123", "it's  we'LL\n\nyes", "日本語 テキスト", "naïve café e\u0301"]
    texts += [samples.CODE[0], samples.CODE[9]] + [prose[:60] for prose in samples.PROSE] + samples.MARKS[:4] + samples.EMOJI[:5]
    texts += ["".join(random.choice(POOL) for _ in range(random.randint(1, 18))) for _ in range(90)]
    return list(dict.fromkeys(texts))


def describe(**parts):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": None, **parts}


def bpe(vocabulary, merges, **on):
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocabulary, "merges": merges, **on}


def load(description):
    return Tokenizer.from_str(json.dumps(description))


def words(part, step, texts):
    """The step's work, seen through a model that falls back to bytes and marks where words end."""
    model = bpe({token: byte for byte, token in enumerate(FALLBACK)}, [], end_of_word_suffix="</w>", byte_fallback=True)
    tokenizer = load(describe(model=model, **{part: step}))
    return [[text, bytes(tokenizer.encode(text).ids).decode()] for text in texts]


def charsmap():
    """A small map in SentencePiece's form: full-width letters, ligatures, spaces, composed and dropped marks."""
    rules = {chr(0xFEE0 + c): chr(c) for c in range(0x21, 0x7F)}
    rules.update({"e\u0301": "é", "a\u0308": "ä", "ﬁ": "fi", "ﷺ": "صلى الله عليه وسلم", "\u3000": " ", "\xa0": " ", "\t": " ",
                  "\r": " ", "\n": " ", "\u200b": " ", "ｱ\uff9e": "ア゛", "½": "1/2", "日本": "にほん"})
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "corpus.txt").write_text("\n".join(text.replace("\n", " ") for text in CORPUS))
        codes = lambda text: " ".join(f"{ord(c):X}" for c in text)
        (folder / "rules.tsv").write_text("".join(f"{codes(old)}\t{codes(new)}\n" for old, new in rules.items()))
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "corpus.txt"), model_prefix=f"{folder}/model", vocab_size=800, hard_vocab_limit=False,
            normalization_rule_tsv=str(folder / "rules.tsv"), model_type="unigram", minloglevel=2)
        proto = sentencepiece_proto.ModelProto()
        proto.ParseFromString((folder / "model.model").read_bytes())
    return base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()


def steps():
    split = lambda pattern, behavior, invert=False, kind="Regex": {
        "type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}
    metaspace = lambda scheme, cut, mark="▁": {
        "type": "Metaspace", "replacement": mark, "prepend_scheme": scheme, "split": cut}
    replace = lambda kind, pattern, content: {"type": "Replace", "pattern": {kind: pattern}, "content": content}
    bert = lambda **on: {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                         "strip_accents": None, "lowercase": True, **on}
    sequence = lambda *normalizers: {"type": "Sequence", "normalizers": list(normalizers)}
    named = [{"type": name} for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel")]
    normalizers = named + [
        sequence({"type": "NFD"}, {"type": "Lowercase"}, sequence({"type": "StripAccents"})),
        {"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "Strip", "strip_left": False, "strip_right": True},
        {"type": "Prepend", "prepend": "▁x"}, replace("String", "  ", "_"), replace("Regex", " {2,}", "▁"),
        replace("Regex", "x*", "-"), replace("String", ".", ""), bert(), bert(lowercase=False),
        bert(clean_text=False, handle_chinese_chars=False, strip_accents=False),
        {"type": "Precompiled", "precompiled_charsmap": charsmap()}]
    yield from (("normalizer", step) for step in normalizers)
    yield from (("pre_tokenizer", {"type": name})
                for name in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer"))
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        yield "pre_tokenizer", {"type": "Punctuation", "behavior": behavior}
        for invert in (False, True):
            yield "pre_tokenizer", split(r"\s", behavior, invert)
            yield "pre_tokenizer", split(" ", behavior, invert, "String")
            yield "pre_tokenizer", split(r"\w+|,", behavior, invert)
            yield "pre_tokenizer", split("a*", behavior, invert)
    yield from (("pre_tokenizer", split(pattern, "Isolated")) for pattern in PATTERNS)
    yield "pre_tokenizer", split(CLIP, "Removed", True)
    for scheme in ("always", "first", "never"):
        yield "pre_tokenizer", metaspace(scheme, True)
        yield "pre_tokenizer", metaspace(scheme, False)
    yield "pre_tokenizer", metaspace("always", True, "x")
    yield "pre_tokenizer", {"type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": True}
    yield "pre_tokenizer", {"type": "Digits", "individual_digits": False}
    yield "pre_tokenizer", {"type": "Digits", "individual_digits": True}
    yield "pre_tokenizer", {"type": "CharDelimiterSplit", "delimiter": " "}
    yield "pre_tokenizer", {"type": "FixedLength", "length": 3}
    yield "pre_tokenizer", {**BYTE_LEVEL, "add_prefix_space": True}
    yield "pre_tokenizer", {**BYTE_LEVEL, "add_prefix_space": True, "use_regex": False}
    chain = lambda *pre_tokenizers_: {"type": "Sequence", "pretokenizers": list(pre_tokenizers_)}
    yield "pre_tokenizer", chain({"type": "WhitespaceSplit"}, metaspace("always", True),
                                 chain({"type": "Digits", "individual_digits": True}, {"type": "Punctuation", "behavior": "MergedWithNext"}))
    yield "pre_tokenizer", chain({"type": "Punctuation", "behavior": "Isolated"}, metaspace("first", True))
    yield "pre_tokenizer", chain(BYTE_LEVEL, {"type": "Digits", "individual_digits": True})


def trained(size, special, alphabet=(), normalizer=None, pre_tokenizer=None, **affixes):
    """Vocabulary and merges of a BPE that was trained on the samples."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", **affixes))
    parts = load(describe(normalizer=normalizer, pre_tokenizer=pre_tokenizer, model=bpe({}, [])))
    if normalizer is not None:
        tokenizer.normalizer = parts.normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = parts.pre_tokenizer
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, special_tokens=special, initial_alphabet=sorted(alphabet),
        limit_alphabet=120, **affixes))
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def special_tokens(vocabulary, *contents):
    return [{**samples.flags(content, special=True), "id": vocabulary[content]} for content in contents]


def template(before, after=()):
    pieces = [*before, None, *after]
    return {"type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}} if piece is None else
                       {"SpecialToken": {"id": piece[0], "type_id": 0}} for piece in pieces],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {piece[0]: {"id": piece[0], "ids": [piece[1]], "tokens": [piece[0]]}
                               for piece in pieces if piece is not None}}


def families():
    """(name, tokenizer.json) in the layouts of published families."""
    spaces = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    marks = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    names = ["<unk>", "<s>", "</s>"]
    vocabulary, merges = trained(700, names + FALLBACK, normalizer={"type": "Sequence", "normalizers": spaces},
                                 pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True})
    llama = describe(
        added_tokens=special_tokens(vocabulary, *names), normalizer={"type": "Sequence", "normalizers": spaces},
        post_processor=template([("<s>", 1)]),
        decoder={"type": "Sequence", "decoders": marks + [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        model=bpe(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    yield "llama 2", llama
    yield "llama 2, not legacy", {
        **llama, "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}}
    yield "gemma", {
        **llama, "normalizer": spaces[1], "decoder": {"type": "Sequence", "decoders": marks},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}}
    yield "metaspace", {
        **llama, "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Strip", "strip_left": False, "strip_right": True}]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": template([], [("</s>", 2)]), "model": bpe(vocabulary, merges, unk_token="<unk>")}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    for name, pattern, normalizer in [("llama 3", CL100K, None), ("qwen 2", QWEN, {"type": "NFC"}), ("bloom", BLOOM, None)]:
        pre_tokenizer = {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {**BYTE_LEVEL, "use_regex": False}]}
        vocabulary, merges = trained(600, ["<|begin|>", "<|end|>"], alphabet, pre_tokenizer=pre_tokenizer)
        yield name, describe(
            added_tokens=special_tokens(vocabulary, "<|begin|>", "<|end|>"), normalizer=normalizer,
            pre_tokenizer=pre_tokenizer, decoder=BYTE_LEVEL,
            post_processor={"type": "Sequence", "processors": [BYTE_LEVEL, template([("<|begin|>", 0)])]},
            model=bpe(vocabulary, merges, ignore_merges=name == "llama 3"))
    pre_tokenizer = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": CLIP}, "behavior": "Removed", "invert": True}, BYTE_LEVEL]}
    normalizer = {"type": "Sequence", "normalizers": [
        {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}, {"type": "Lowercase"}]}
    vocabulary, merges = trained(600, names, alphabet, normalizer, pre_tokenizer, end_of_word_suffix="</w>")
    yield "clip", describe(
        added_tokens=special_tokens(vocabulary, *names), normalizer=normalizer, pre_tokenizer=pre_tokenizer,
        decoder={"type": "BPEDecoder", "suffix": "</w>"},
        post_processor={"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1], "trim_offsets": False, "add_prefix_space": False},
        model=bpe(vocabulary, merges, unk_token="<unk>", end_of_word_suffix="</w>"))
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": True, "lowercase": True}
    vocabulary, merges = trained(500, names, (), normalizer, {"type": "BertPreTokenizer"}, continuing_subword_prefix="##")
    yield "prefixed", describe(
        added_tokens=special_tokens(vocabulary, *names), normalizer=normalizer, pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        post_processor={"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]},
        model=bpe(vocabulary, merges, unk_token="<unk>", continuing_subword_prefix="##"))


DECODERS = [
    None, {"type": "Fuse"}, {"type": "ByteFallback"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True}, {"type": "BPEDecoder", "suffix": "c"},
    {"type": "WordPiece", "prefix": "a", "cleanup": True}, {"type": "Strip", "content": "▁", "start": 1, "stop": 0},
    {"type": "Sequence", "decoders": [
        {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "ab"}, "content": "▁"},
        {"type": "Strip", "content": "▁", "start": 2, "stop": 1}]},
    {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"Regex": "[ab]+"}, "content": "Z"}, {"type": "Fuse"},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}]},
    {"type": "Sequence", "decoders": [BYTE_LEVEL, {"type": "Strip", "content": "a", "start": 1, "stop": 0}]},
]


def random_tokenizer():
    """Merges over few letters, with fallbacks, unknowns and added tokens that get in each other's way."""
    tokens, merges = list("abc▁é"), []
    for _ in range(random.randint(3, 14)):
        left, right = random.choice(tokens), random.choice(tokens)
        if len(left + right) <= 6 and [left, right] not in merges:
            merges.append([left, right])
            tokens.append(left + right)
    fallback = random.random() < 0.6
    if fallback:
        share = random.choice([1, 0.7])
        tokens += [token for token in FALLBACK if random.random() < share]
        if "<0x78>" in tokens and "<0x79>" in tokens and random.random() < 0.3:
            tokens.append("<0x78><0x79>")
            merges.append(["<0x78>", "<0x79>"])
    unknown = random.choice([None, "<unk>", "?", "ab"])
    if unknown is not None:
        tokens.append(unknown)
        if random.random() < 0.4:
            tokens.append(unknown + "a")
            merges.append([unknown, "a"])
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    added = [{**samples.flags(content), "id": len(vocabulary) + i,
              **{flag: random.random() < 0.35 for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")}}
             for i, content in enumerate(random.sample(["<m>", "ab", "É", "  ", " ", "bc▁", "A", "xy", "éa", "<S>"], random.randint(0, 5)))]
    return describe(
        added_tokens=added,
        normalizer=random.choice([None, None, {"type": "Prepend", "prepend": "▁"}, {"type": "Lowercase"}, {"type": "NFKD"},
                                  {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]),
        pre_tokenizer=random.choice([None, None, {"type": "WhitespaceSplit"},
                                     {"type": "Metaspace", "replacement": "▁", "split": random.random() < 0.5,
                                      "prepend_scheme": random.choice(["always", "first", "never"])}]),
        decoder=random.choice(DECODERS),
        model=bpe(vocabulary, merges, unk_token=unknown, fuse_unk=random.random() < 0.5, byte_fallback=fallback,
                  ignore_merges=random.random() < 0.3))


def cases(description, texts):
    tokenizer = load(description)
    rows = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        try:
            rows.append([text, ids, tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids)])
        except BaseException:  # a decoder that panics on this sequence
            rows.append([text, ids, None, None])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/golden/tokenizer", help="default: %(default)s")
    args = parser.parse_args()
    if tokenizers.__version__ != "0.22.2":
        sys.exit(f"tokenizers {tokenizers.__version__} found, 0.22.2 wanted")
    random.seed(20261128)
    compact = samples.compact
    texts = texts_for_steps()
    # Not every text for every step: the steps are many.
    lines = [compact({part: step, "cases": words(part, step, random.sample(texts, 30))}) for part, step in steps()]
    samples.write(args.out / "steps.jsonl", "".join(line + "\n" for line in lines))
    lines = []
    for name, description in families():
        lines.append(compact({"name": name, "tokenizer": description, "cases": cases(description, texts)}))
    letters = list("aaabbbccc▁▁  éÉAxy?<") + ["<m>", "\u0301", "中", "😀", "<S>", "ab"]
    for i in range(40):
        short = ["".join(random.choice(letters) for _ in range(random.randint(0, 20))) for _ in range(25)]
        description = random_tokenizer()
        lines.append(compact({"name": f"random {i}", "tokenizer": description, "cases": cases(description, short)}))
    samples.write(args.out / "pipelines.jsonl", "".join(line + "\n" for line in lines))


if __name__ == "__main__":
    main()
