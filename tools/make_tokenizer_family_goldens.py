#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/families: tokenizers of every make, and what they do.

Each is small and trained here, in the layout that a published family has. The
texts are those of tests/golden/tokenizer/strings.jsonl (make_tokenizer_goldens.py)
and then those of strings.jsonl here. The same versions of this script, of
`tokenizers`, `sentencepiece` and `transformers` write the same bytes.

Written:
  strings.jsonl             more texts, one JSON string a line
  <family>/tokenizer.json   the tokenizer
  <family>/expected.txt     a line per text: a hash of its ids, then one of what
                            they decode to without special tokens and with
                            them, "=" if both are the text itself; of every
                            32nd text also the ids
  <family>/decode.jsonl     [ids, text without special tokens, text with them]
                            of ids that no text gives
  <name>/expected.txt, <name>/decode.jsonl
                            the same for a folder that is named on the command
                            line and not written
  sentencepiece/<name>.model, sentencepiece/cases.jsonl
                            tokenizer.model files, and by transformers what a
                            folder makes of one: {"name", "model",
                            "tokenizer_config", "size", "expected", "decode"},
                            and "family" if its tokenizer.json is there too
"""

import argparse
import collections
import io
import json
import pathlib
import random
import sys
import tempfile

import sentencepiece
import tokenizers
import transformers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, models, trainers
from tokenizers import decoders, normalizers, pre_tokenizers, processors
from transformers.convert_slow_tokenizer import convert_slow_tokenizer

import make_tokenizer_goldens as samples
from make_tokenizer_goldens import compact, write

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/tokenizer"
SAMPLES = samples.CODE + samples.PROSE
# Of few scripts, so that small vocabularies have words and texts have what is unknown.
FEW_SCRIPTS = samples.CODE + samples.PROSE[:14]
LINES = [line for sample in FEW_SCRIPTS for line in sample.split("\n") if line]

LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
                  r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
BLOOM_PATTERN = r" ?[^(\s|[.,!?…。，、।۔،])]+"


def special(content, **flags):
    return AddedToken(content, special=True, normalized=False, **flags)


def template(single, tokens):
    return processors.TemplateProcessing(single=single, pair=f"{single} $B:1", special_tokens=tokens)


def byte_level_model(pre_tokenizer, size=500, normalizer=None, **model):
    """A BPE over bytes, trained behind `pre_tokenizer`, that is part of the tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(SAMPLES, trainers.BpeTrainer(
        vocab_size=size, min_frequency=1, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    trained = json.loads(tokenizer.to_str())["model"]
    tokenizer.model = models.BPE(vocab=trained["vocab"], merges=[tuple(merge) for merge in trained["merges"]], **model)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def bytes_as_they_are():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def gpt2():
    tokenizer = byte_level_model(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([special("<|endoftext|>")])
    return tokenizer


def llama3():
    split = pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated", invert=False)
    tokenizer = byte_level_model(pre_tokenizers.Sequence([split, bytes_as_they_are()]), size=560, ignore_merges=True)
    # Tokens that no merge makes, which ignore_merges finds nonetheless.
    state = json.loads(tokenizer.to_str())
    for token in ["Ġbrotherhoods", "Ġ2024", "ÃŁÃŁ", "xyzzy"]:
        state["model"]["vocab"][token] = len(state["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens([special(f"<|{name}|>") for name in
                                  ["begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id"]])
    begin = "<|begin_of_text|>"
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False), template(f"{begin} $A", [(begin, tokenizer.token_to_id(begin))])])
    return tokenizer


def qwen2():
    split = pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated", invert=False)
    tokenizer = byte_level_model(pre_tokenizers.Sequence([split, bytes_as_they_are()]), normalizer=normalizers.NFC())
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([special(f"<|{name}|>") for name in ["endoftext", "im_start", "im_end"]])
    tokenizer.add_tokens([AddedToken(f"<{name}>", special=False, normalized=False) for name in ["think", "/think"]])
    return tokenizer


def roberta():
    tokenizer = byte_level_model(pre_tokenizers.ByteLevel(add_prefix_space=True, trim_offsets=True))
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", special("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(
        sep=("</s>", tokenizer.token_to_id("</s>")), cls=("<s>", tokenizer.token_to_id("<s>")),
        trim_offsets=True, add_prefix_space=True)
    return tokenizer


def opt():
    tokenizer = byte_level_model(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=True) for name in ["</s>", "<pad>"]])
    tokenizer.post_processor = template("</s> $A", [("</s>", tokenizer.token_to_id("</s>"))])
    return tokenizer


def gpt_neox():
    tokenizer = byte_level_model(pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True),
                                 normalizer=normalizers.NFC())
    tokenizer.add_special_tokens([special("<|endoftext|>"), special("<|padding|>")])
    tokenizer.add_tokens([AddedToken(" " * n, special=False, normalized=True) for n in range(24, 1, -1)])
    return tokenizer


def starcoder():
    tokenizer = byte_level_model(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    tokenizer.add_special_tokens([special(name) for name in
                                  ["<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<file_sep>"]])
    return tokenizer


def bloom():
    tokenizer = byte_level_model(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(BLOOM_PATTERN), "isolated", invert=False), bytes_as_they_are()]))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>", "<pad>"])
    return tokenizer


def falcon():
    tokenizer = byte_level_model(pre_tokenizers.Sequence([
        pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")]))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([special(name) for name in [">>TITLE<<", ">>ABSTRACT<<", "<|endoftext|>"]])
    return tokenizer


def word_pieces(tokenizer, size):
    """The pieces that save most characters. (WordPieceTrainer's depend on the run.)"""
    saved = collections.Counter()
    characters = set()
    for sample in FEW_SCRIPTS:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(sample)):
            characters |= {word[0]} | {"##" + c for c in word[1:]}
            for begin in range(len(word)):
                for end in range(begin + 2, len(word) + 1):
                    saved["##" * (begin > 0) + word[begin:end]] += end - begin - 1
    pieces = sorted(saved, key=lambda piece: (-saved[piece], piece))
    return sorted(characters) + pieces[:size - len(characters)]


def bert():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {piece: i for i, piece in enumerate(names + word_pieces(tokenizer, 800))}
    tokenizer.model = models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)
    tokenizer.add_special_tokens(names)
    tokenizer.post_processor = template("[CLS] $A [SEP]", [(name, vocabulary[name]) for name in ["[CLS]", "[SEP]"]])
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def bert_cased():
    """The same model behind other settings, without clean-up."""
    tokenizer = bert()
    tokenizer.normalizer = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False,
                                                      strip_accents=False, lowercase=False)
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    tokenizer.model = models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=12)
    tokenizer.post_processor = processors.BertProcessing(sep=("[SEP]", vocabulary["[SEP]"]),
                                                         cls=("[CLS]", vocabulary["[CLS]"]))
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return tokenizer


def word_level():
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(SAMPLES, trainers.WordLevelTrainer(
        vocab_size=600, min_frequency=1, show_progress=False, special_tokens=["[UNK]", "[SEP]"]))
    tokenizer.add_tokens([AddedToken("word", single_word=True, special=False, normalized=True),
                          AddedToken("<both>", lstrip=True, rstrip=True, special=True, normalized=False)])
    return tokenizer


def sentencepiece_model(model_type, size, **options):
    """The bytes of a tokenizer.model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=model, model_type=model_type, vocab_size=size, num_threads=1,
        hard_vocab_limit=False, minloglevel=2, **options)
    return model.getvalue()


LLAMA = dict(normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
             allow_whitespace_only_pieces=True, byte_fallback=True, character_coverage=0.98)


def llama_bpe_model():
    return sentencepiece_model("bpe", 256 + 620, **LLAMA)


def llama_unigram_model():
    return sentencepiece_model("unigram", 256 + 520, user_defined_symbols=["<user>", "    "], **LLAMA)


def gemma_model():
    return sentencepiece_model("bpe", 256 + 620, pad_id=0, eos_id=1, bos_id=2, unk_id=3, bos_piece="<bos>", eos_piece="<eos>",
                               add_dummy_prefix=False, control_symbols=["<start_of_turn>"],
                               user_defined_symbols=["<mask>", "<end_of_turn>", "\n\n", "\t", "▁▁", "▁▁▁▁"], **LLAMA)


def t5_model(**options):
    return sentencepiece_model("unigram", 480, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=0.98, **options)


def converted(slow_class, model, **options):
    """The fast form of a slow tokenizer of transformers."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "tokenizer.model"
        path.write_bytes(model)
        return convert_slow_tokenizer(slow_class(str(path), **options))


def llama2():
    tokenizer = converted(transformers.LlamaTokenizer, llama_bpe_model(), legacy=True)
    tokenizer.post_processor = template("<s> $A", [("<s>", 1)])
    return tokenizer


def llama2_metaspace():
    return converted(transformers.LlamaTokenizer, llama_bpe_model(), legacy=False)


def unigram_bytes():
    return converted(transformers.LlamaTokenizer, llama_unigram_model(), legacy=True)


def gemma():
    tokenizer = converted(transformers.GemmaTokenizer, gemma_model())
    tokenizer.post_processor = template("<bos> $A", [("<bos>", 2)])
    return tokenizer


def t5():
    tokenizer = converted(transformers.T5Tokenizer, t5_model(), extra_ids=3)
    tokenizer.add_special_tokens(["<extra_id_0>", "<extra_id_1>"])
    return tokenizer


# A few rules, because the usual table alone has 300 kB.
ALBERT_RULES = "".join(f"{before}\t{after}\n" for before, after in [
    ("41", "61"), ("C4", "61 65"), ("41 308", "E4"), ("FF21 FF22", "78"), ("3000", "20"), ("9", "20"), ("200B", ""),
    ("1F600", "3A 29"), ("2460", "31"), ("FB01", "66 69"), ("65 301", "E9"), ("2028", "20")])


def albert():
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write(ALBERT_RULES)
        rules.flush()
        model = sentencepiece_model("unigram", 480, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, character_coverage=0.98,
                                    control_symbols=["[CLS]", "[SEP]"], user_defined_symbols=["(", ")", '"', "-"],
                                    normalization_rule_tsv=rules.name)
    tokenizer = converted(transformers.AlbertTokenizer, model, do_lower_case=True, keep_accents=False)
    tokenizer.add_special_tokens([special("[MASK]", lstrip=True)])
    return tokenizer


def xlm_roberta():
    """WhitespaceSplit before Metaspace, and NFKC where the family has a table."""
    tokenizer = converted(transformers.T5Tokenizer, t5_model(normalization_rule_name="identity"), extra_ids=0)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")])
    return tokenizer


FAMILIES = [gpt2, llama3, qwen2, roberta, opt, gpt_neox, starcoder, bloom, falcon, bert, bert_cased, word_level,
            llama2, llama2_metaspace, unigram_bytes, gemma, t5, albert, xlm_roberta]

NAMED_TOKENS = [
    "<|endoftext|>", "<|begin_of_text|>", "<|im_start|>", "<think>", "</think>", "<s>", "</s>", "<unk>", "<pad>", "<mask>",
    "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<user>", "<fim_prefix>", ">>TITLE<<", "[CLS]", "[SEP]",
    "[MASK]", "[UNK]", "<extra_id_0>", "<both>", "word", "<0x0A>", "<0xE2>", "▁", "▁▁",
]


def json_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def more_strings(known):
    texts = []
    for token in NAMED_TOKENS:
        texts += [token, f"a{token}b", f"a {token} b", f"{token}{token}", f" {token}  ", f"\n{token}\té", f"({token})",
                  token.upper(), token[:-1], f"Hello {token}\u3000world"]
    # Case and forms of characters.
    texts += ["ẞ ß SS ŉ ǰ ΐ", "İstanbul ISPARTA ıI", "ΣΑΣ ΟΔΟΣ σς Σ", "Ǆ ǅ ǆ Ǉ", "ÀÉÎÕÜ àéîõü", "A\u030a\u0323 a\u0323\u030a",
              "\u1e9b\u0323", "ﬁﬂﬃ ŀ Ĳ ĳ", "ＡＢＣ１２３！～", "①②③ ⅷ Ⅻ ½ ¾ x² H₂O", "㍿ ㎞ ㌀ ㏒", "가각힣 \u1112\u1161\u11ab \u1100\u1161",
              "\u0958 \u0915\u093c", "ｶﾞｷﾞｸﾞ ガギグ カ\u3099", "豈 更 \ufa0e 樂 \U0002f800", "Ω Ω K K Å Å", "\u0344 \u0340 \u0341 \u0374",
              "q\u0307\u0323 q\u0323\u0307", "a" + "\u0300\u0316" * 20, "\u0f71\u0f72\u0f74 \u0f73", "\u2126\u212a\u212b",
              "e\u0301\u0301\u0301", "\u00ad soft\u00adhyphen", "a\u200bb\u200cc\u200dd\u2060e\ufefff", "\u202eRTL\u202c \u2066x\u2069",
              "\ue000\uf8ff\U000f0000", "\ufffd \ufffe \uffff", "\u0378 \U0001fffe \U000e0001", "\x00a\x00", "\x7f\x80\x9f",
              "ｱｲｳ\uff9e", "\u0e33 \u0eb3", "\u1c89\u1c8a \ua7da", "𝐀𝕭𝒞 𝟘𝟙", "🅰🆎 ㊗ ㊙", "\u3392 \u33c2"]
    # Words of many lengths; WordPiece gives up on the longest.
    for length in [11, 12, 13, 50, 99, 100, 101, 300]:
        texts += ["a" * length, "the" * (length // 3) + "x", "é" * length, "中" * (length // 2), "ab1_" * (length // 4),
                  "Aa" * (length // 2) + " " + "!" * length]
    # Numbers and punctuation.
    texts += ["0", "12", "123", "1234", "12345", "1234567890123", "1,234,567.89", "-3.5e-10", "3,14", "v1.2.3", "0x3fA", "٣٤٥٦٧",
              "१२३४५", "１２３４５", "½1²2", "1a2b3c", "2024-02-29T12:34:56Z", "$1,000.00", "50%", "1/2", "A1B22C333", "100,", "7,8,", "x9,"]
    texts += ["it's IT'S It'S I'LL i'Ll WE'RE we've we'VE'd", "don't can't won't DON'T", "''quoted'' ``quoted``", "“curly” ‘quotes’ «g»",
              "a.b,c!d?e;f:g", "wait...what?!?!", "a--b---c", "(a)[b]{c}<d>", "#hash @at $dollar %per ^hat &and *star", "~`|\\/",
              "http://example.org/a/b?c=d&e=f#g", "user.name+tag@example.co.uk", "C:\\Users\\x", "…。，、।۔،", "a…b。c，d", "中文,中文。Mixed混合text文字",
              "hello(world) a(b|c) x)y", "||| (( ))", "a|b (c) |", "¿Qué? ¡Sí!", "– — ― ‐ ‑", "′ ″ ‴", "© ® ™ € £ ¥", "±×÷≠≤≥∞∑∫√", "←↑→↓⇒",
              "．．．！？", "،؟؛", "।॥", "՝՞", "־׀׃", "\u2e3a\u2e3b", "$+<=>^`|~", " . , ! ? n't 's 'm 're 've do not", "a , b . c ! d ?"]
    # White space in every place.
    for run in ["  ", "   ", "\t", "\n\n", "\r\n\r\n", " \n ", "\u3000", "\xa0\xa0", "\u2003 ", "\x0b", "\x85", "\u200b "]:
        texts += [run + "a b" + run, "a" + run + "b" + run + "c", run, "a" + run, run + "a", "!" + run + "1" + run + "é"]
    # Prompts as models get them.
    texts += ["<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n",
              "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhat's 2+2? [/INST] 4 </s><s>[INST] And 3+3? [/INST]",
              "<bos><start_of_turn>user\nWrite a poem<end_of_turn>\n<start_of_turn>model\n",
              "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>", "The capital of France is [MASK].",
              "translate English to German: That is good.</s>", "<fim_prefix>def f():\n    <fim_suffix>\n<fim_middle>return 1"]
    emoji = samples.EMOJI
    texts += ["".join(emoji), " ".join(emoji), "x".join(emoji), emoji[0] * 5]
    # Mixtures of all that.
    pieces = texts + [word for sample in SAMPLES for word in sample.split(" ")]
    pieces = [piece for piece in pieces if len(piece) < 24]
    for _ in range(200):
        texts.append("".join(random.choice(pieces) + random.choice(["", " ", "", "\n", "  "])
                             for _ in range(random.randint(2, 7))))
    return [text for text in dict.fromkeys(texts) if text not in known]


def short_hash(text):
    """The upper 24 of 32 bits of FNV-1a."""
    value = 0x811C9DC5
    for byte in text.encode("utf-8"):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{value >> 8:06x}"


def expected_lines(tokenizer, texts):
    lines = []
    for i, text in enumerate(texts):
        ids = tokenizer.encode(text).ids
        shown = " ".join(map(str, ids))
        decoded = [tokenizer.decode(ids, skip_special_tokens=skip) for skip in (True, False)]
        back = "=" if decoded == [text, text] else short_hash("\0".join(decoded))
        lines.append(f"{short_hash(shown)} {back}" + (f" {shown}" if i % 32 == 0 else ""))
    return lines


def decode_cases(tokenizer, count):
    """Any ids beside each other; half of the time those that stand for bytes."""
    size = tokenizer.get_vocab_size()
    vocabulary = tokenizer.get_vocab()
    byte_ids = sorted(i for token, i in vocabulary.items() if len(token) == 1 or token.startswith("<0x"))
    added = sorted(tokenizer.get_added_tokens_decoder())
    cases = []
    for _ in range(count):
        from_bytes = bool(byte_ids) and random.random() < 0.4
        ids = [random.choice(byte_ids) if from_bytes and random.random() < 0.9 else
               random.choice(added) if added and random.random() < 0.1 else random.randrange(size + 1)
               for _ in range(random.randint(1, 12))]
        cases.append([ids] + [tokenizer.decode(ids, skip_special_tokens=skip) for skip in (True, False)])
    return cases


def write_expected(folder, tokenizer, texts):
    write(folder / "expected.txt", "".join(line + "\n" for line in expected_lines(tokenizer, texts)))
    write(folder / "decode.jsonl", "".join(compact(case) + "\n" for case in decode_cases(tokenizer, 100)))


# (name, tokenizer.model, tokenizer_config.json) and a family whose tokenizer.json is there as well, if any.
SENTENCEPIECE_CASES = [
    ("llama", "llama_bpe", {"tokenizer_class": "LlamaTokenizer"}),
    ("no config", "llama_bpe", None),
    ("llama, new form", "llama_bpe", {"tokenizer_class": "LlamaTokenizer", "legacy": False}),
    ("llama, without bos, with eos", "llama_bpe",
     {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": False, "add_eos_token": True}),
    ("llama, no space before", "llama_bpe",
     {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_prefix_space": False, "add_eos_token": True}),
    ("llama, old form, no space before", "llama_bpe",
     {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_prefix_space": False}),
    ("llama, further tokens", "llama_bpe",
     {"tokenizer_class": "LlamaTokenizer", "legacy": False, "pad_token": "<pad>", "unk_token": "<unk>", "added_tokens_decoder": {
         **{str(i): {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                     "special": True} for i, token in enumerate(["<unk>", "<s>", "</s>"])},
         "1000": {"content": "<|end|>", "lstrip": False, "normalized": False, "rstrip": True, "single_word": False,
                  "special": True},
         "1001": {"content": "<think>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False,
                  "special": False}}}),
    ("llama, tokens as objects", "llama_bpe",
     {"tokenizer_class": "LlamaTokenizer",
      "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": True, "rstrip": False,
                    "single_word": False},
      "eos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": True, "rstrip": False,
                    "single_word": False},
      "unk_token": {"__type": "AddedToken", "content": "<unk>", "lstrip": False, "normalized": True, "rstrip": False,
                    "single_word": False}}),
    ("llama, unigram", "llama_unigram", {"tokenizer_class": "LlamaTokenizer"}),
    ("llama, unigram, new form", "llama_unigram", {"tokenizer_class": "LlamaTokenizerFast", "legacy": False}),
    ("gemma", "gemma", {"tokenizer_class": "GemmaTokenizer"}),
    ("gemma, with eos", "gemma", {"tokenizer_class": "GemmaTokenizerFast", "add_bos_token": False, "add_eos_token": True}),
    ("gemma, old file without a tab", "gemma_tabless", {"tokenizer_class": "GemmaTokenizer"}),
    ("llama, flags by the decoder alone", "llama_bpe",
     {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "additional_special_tokens": ["the", "<|end|>"],
      "added_tokens_decoder": {
          str(i): {"content": token, "lstrip": True, "normalized": i == 1, "rstrip": True, "single_word": False, "special": i < 3}
          for i, token in [(0, "<unk>"), (1, "<s>"), (2, "</s>"), (876, "the")]}}),
    ("gemma, flags by the decoder alone", "gemma",
     {"tokenizer_class": "GemmaTokenizer", "unk_token": "<unk>", "added_tokens_decoder": {
         str(i): {"content": token, "lstrip": True, "normalized": False, "rstrip": True, "single_word": False, "special": True}
         for i, token in enumerate(["<pad>", "<eos>", "<bos>", "<unk>"])}}),
    ("llama, made anew for the space before", "llama_bpe",
     {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False, "added_tokens_decoder": {}}, "llama2"),
    ("llama, not made anew", "llama_bpe", {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": None}, "llama2_metaspace"),
]


def write_sentencepiece(folder, texts):
    files = {"llama_bpe": llama_bpe_model(), "llama_unigram": llama_unigram_model(), "gemma": gemma_model()}
    tabless = sentencepiece_model_pb2.ModelProto.FromString(files["gemma"])
    for piece in tabless.pieces:
        if piece.piece == "\t":
            piece.piece = "<no tab>"
    files["gemma_tabless"] = tabless.SerializeToString(deterministic=True)
    for name, content in files.items():
        path = folder / f"{name}.model"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        print(f"{path}: {path.stat().st_size} bytes")
    lines = []
    for name, model, config, *family in SENTENCEPIECE_CASES:
        with tempfile.TemporaryDirectory() as temp:
            temp = pathlib.Path(temp)
            (temp / "tokenizer.model").write_bytes(files[model])
            (temp / "config.json").write_text('{"model_type": "llama"}')
            if config is not None:
                (temp / "tokenizer_config.json").write_text(json.dumps(config))
            for file in family:
                (temp / "tokenizer.json").write_bytes((folder.parent / file / "tokenizer.json").read_bytes())
            tokenizer = transformers.AutoTokenizer.from_pretrained(temp)
        assert tokenizer.is_fast
        backend = tokenizer.backend_tokenizer
        lines.append(compact({"name": name, "model": model, "tokenizer_config": config,
                              **{"family": file for file in family}, "size": backend.get_vocab_size(), "expected": expected_lines(backend, texts),
                              "decode": decode_cases(backend, 40)}) + "\n")
    write(folder / "cases.jsonl", "".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=GOLDEN / "families", help="default: %(default)s")
    parser.add_argument("--only", nargs="*", default=None, help="names of families, or sentencepiece; default: all")
    parser.add_argument("folders", nargs="*", metavar="NAME=FOLDER", help="a folder with a tokenizer.json that is not written")
    args = parser.parse_args()
    for module, wanted in [(tokenizers, "0.22.2"), (sentencepiece, "0.2.3"), (transformers, "4.57.6")]:
        if module.__version__ != wanted:
            sys.exit(f"{module.__name__} {module.__version__} found, {wanted} wanted")
    known = json_lines(GOLDEN / "strings.jsonl")
    random.seed(20240301)
    more = more_strings(frozenset(known))
    write(args.out / "strings.jsonl", "".join(compact(text) + "\n" for text in more))
    texts = known + more

    def wanted(name):
        return args.only is None or name in args.only

    for family in FAMILIES:
        if not wanted(family.__name__):
            continue
        random.seed(family.__name__)
        tokenizer = family()
        folder = args.out / family.__name__
        write(folder / "tokenizer.json", tokenizer.to_str(pretty=False) + "\n")
        # What the file says, not what this process holds.
        write_expected(folder, Tokenizer.from_file(str(folder / "tokenizer.json")), texts)
    for name_and_folder in args.folders:
        name, folder = name_and_folder.split("=", 1)
        random.seed(name)
        write_expected(args.out / name, Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json")), texts)
    if wanted("sentencepiece"):
        random.seed("sentencepiece")
        write_sentencepiece(args.out / "sentencepiece", texts[:600:3] + more)


if __name__ == "__main__":
    main()
