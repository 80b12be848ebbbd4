#!/usr/bin/env python3
"""Makes tests/golden/tokenizer: texts, and their ids by Hugging Face tokenizers.

The same versions of this script and of `tokenizers` write the same bytes: all
randomness comes from a fixed seed and all sample texts are below.

Written:
  small/               a byte-level BPE of 2,000 tokens with CodeGen's added
                       white-space tokens, trained on the samples: tokenizer.json
  small-files/         the same as vocab.json, merges.txt, added_tokens.json
  strings.jsonl        the texts, one JSON string a line
  small_ids.txt        their ids by small/, a line each
  codegen_ids.txt      their ids by CodeGen's published tokenizer, if its folder
                       is given; that tokenizer itself is not written
  variants.jsonl       odd tokenizers (flags of added tokens, missing bytes,
                       templates, merges that collide), each with cases
  unicode_classes.txt  which code points are letters, numbers, spaces and word
                       characters for the reference, as ranges
"""

import argparse
import json
import pathlib
import random
import sys

import tokenizers
from tokenizers import AddedToken, Tokenizer, models, trainers
from tokenizers import decoders, pre_tokenizers, processors

VOCABULARY = 2000
END_OF_TEXT = "<|endoftext|>"

CODE = [
    "def hello_world():\n    print(\"Hello World\")\n",
    "class Point:\n    def __init__(self, x=0, y=0):\n        self.x, self.y = x, y\n\n"
    "    def __repr__(self):\n        return f\"Point({self.x!r}, {self.y!r})\"\n",
    "import os\nimport sys\nfrom typing import Any, Optional\n\n\n@property\ndef name(self) -> str:\n"
    "    \"\"\"The name.\"\"\"\n    return self._name\n",
    "for i in range(10):\n    if i % 2 == 0:\n        continue\n    else:\n        yield i ** 2\n",
    "try:\n    value = int(text, 16)\nexcept (ValueError, TypeError) as error:\n"
    "    raise RuntimeError(\"not a number\") from error\nfinally:\n    stream.close()\n",
    "#include <cstdint>\n#include <vector>\n\nnamespace ounce {\n\ntemplate <class T>\nT Sum(const std::vector<T>& values) {\n"
    "  T sum{};\n  for (const T& value : values) sum += value;\n  return sum;\n}\n\n}  // namespace ounce\n",
    "int main(int argc, char **argv) {\n\tfor (int i = 0; i < argc; ++i) {\n\t\tprintf(\"%d: %s\\n\", i, argv[i]);\n\t}\n\treturn 0;\n}\n",
    "public static void main(String[] args) {\n    System.out.println(\"Hello, \" + args[0]);\n    int[] a = new int[]{1, 2, 3};\n}\n",
    "fn fibonacci(n: u64) -> u64 {\n    match n {\n        0 => 0,\n        1 => 1,\n        _ => fibonacci(n - 1) + fibonacci(n - 2),\n    }\n}\n",
    "func (s *Server) Serve(ctx context.Context) error {\n\tif err := s.listen(); err != nil {\n\t\treturn fmt.Errorf(\"listen: %w\", err)\n\t}\n\treturn nil\n}\n",
    "const add = (a, b) => a + b;\nasync function load(url) {\n  const res = await fetch(url);\n  return res.ok ? res.json() : null;\n}\n",
    "SELECT name, COUNT(*) AS n FROM users WHERE age >= 18 AND country = 'DE' GROUP BY name ORDER BY n DESC LIMIT 10;\n",
    "#!/bin/sh\nset -eu\nfor f in \"$@\"; do\n  [ -f \"$f\" ] && echo \"${f%.txt}\" || exit 1\ndone\n",
    "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Title</title></head>\n<body class=\"main\"><p>Text &amp; more</p></body></html>\n",
    "all: test\n\ntest:\n\t@echo running\n\t$(CC) -O2 -Wall -o $@ $<\n",
    "{\"id\": 17, \"tags\": [\"a\", \"b\"], \"ok\": true, \"ratio\": -1.5e-10, \"none\": null}\n",
    "    .globl main\nmain:\n    movq $0x3f, %rax\n    xorl %edi, %edi\n    ret\n",
    "main = do\n  let xs = [x * 2 | x <- [1 .. 10], odd x]\n  mapM_ print xs\n",
    "diff --git a/x.c b/x.c\n@@ -1,3 +1,4 @@\n-int x;\n+long x = 0;\n+\n unsigned y;\n",
    "\\begin{equation}\n  \\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}\n\\end{equation}\n",
]

PROSE = [
    "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and should act towards one another in a spirit of brotherhood.",
    "The quick brown fox jumps over the lazy dog. It's 2024; we've seen 3,141,592 of them, and I'LL say they'd run -- wouldn't you?",
    "Once upon a time, there was a little girl who lived in a small house with her mother, her father and a very old cat.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Übergröße, Straßenbahnhöfe, ÄÖÜ.",
    "Tous les êtres humains naissent libres et égaux en dignité et en droits. L'été, c'est déjà passé ; où ça ?",
    "Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Qué? ¡Sí, mañana por la mañana!",
    "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Ação, coração, não.",
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Zażółć gęślą jaźń.",
    "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Příliš žluťoučký kůň.",
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İstanbul, ığdır.",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.",
    "Все люди рождаются свободными и равными в своём достоинстве и правах. Съешь же ещё этих мягких булок.",
    "Всі люди народжуються вільними і рівними у своїй гідності та правах. Їжак, ґанок.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. שָׁלוֹם",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. ٠١٢٣٤٥٦٧٨٩ السَّلَامُ",
    "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند. ۱۲۳",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। १२३",
    "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்; உரிமைகள் ௧௨௩",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ๑๒๓",
    "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու իրավունքներով։",
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "人人生而自由，在尊嚴和權利上一律平等。二〇二四年",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。カタカナ ﾊﾝｶｸ",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "ሰው ሁሉ ነፃ ሆኖ ይወለዳል፤ በክብርና በመብትም እኩል ነው።",
    "ᏂᎦᏓ ᎠᏂᏴᏫ ᎨᎫᏓᎸᎢ ᎨᎦᏕᏅ ᎠᎴ ᎤᏂᎶᏱ",
    "မြန်မာ အက္ခရာ ခမរ ភាសាខ្មែរ ພາສາລາວ བོད་ཡིག",
]

EMOJI = [
    "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪🇫🇷", "😀", "☃️", "👨🏿‍🚀", "❤️‍🔥", "1️⃣", "🧑🏻‍🤝‍🧑🏾", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🫠", "🪿",
]

MARKS = [
    "e\u0301", "a\u0308\u0323", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳", "n\u0303o", "\u0301alone", "क्षि", "각",
    "\u1100\u1161\u11a8", "Å Å Å", "ﬁ ﬂ ½ ² ⅷ Ⅷ ① ㊄", "ª º ʰ ˇ", "\u200dj\u200ci", "\ufeffbom",
]

SPACES = [" ", "\t", "\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\u1680", "\u180e",
          "\u2000", "\u2003", "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff"]

CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'x", "''s", "’s", "'", " 's", "'lll", "'rev"]

# Published with the reference's own tests, and the table of our test data.
KNOWN = [
    "Transformers (formerly known as pytorch-transformers and pytorch-pretrained-bert) provides general-purpose architectures (BERT, GPT-2, RoBERTa, XLM, DistilBert, XLNet...) for Natural Language Understanding (NLU) and Natural Language Generation (NLG) with over 32+ pretrained models in 100+ languages and deep interoperability between Jax, PyTorch and TensorFlow.",
    "BERT is designed to pre-train deep bidirectional representations from unlabeled text by jointly conditioning on both left and right context in all layers.",
    "The quick brown fox jumps over the lazy dog.",
    "Hello world",
    "def f(x):\n    return x\n",
    "def hello_world():\n    print(\"Hello World\")",
    "\tif a:\n\t\tb = 1\n",
    "a" + " " * 31 + "b",
    "a" + " " * 32 + "b",
    " " * 33 + "x",
    "x  y\n\n\n",
    "a\t\t b",
    "café ☃ 😀",
    "it's 2024, I'LL",
    END_OF_TEXT,
]


def valid_code_points(low, high):
    """Uniformly, without surrogates."""
    while True:
        code_point = random.randint(low, high)
        if not 0xD800 <= code_point <= 0xDFFF:
            return chr(code_point)


def utf8_from_random_bytes(count):
    """Random bytes, of which the parts that are UTF-8 stay."""
    return bytes(random.randrange(256) for _ in range(count)).decode("utf-8", "ignore")


def make_strings():
    """At least 3,000 different texts, short ones first."""
    texts = list(KNOWN)
    texts += [""] + [chr(c) for c in range(256)]
    texts += SPACES + EMOJI + MARKS + CONTRACTIONS
    # Runs, around the lengths that are tokens of their own.
    for run in [" ", "\t", "\n", "\r\n", "a", "A", "1", "!", "=", "-", "#", "é", "中", "😀", "\u3000", "\xa0", " \n", "\t ", "ab", "'s"]:
        lengths = [2, 3, 4, 7, 8, 9, 10, 15, 16, 17, 30, 31, 32, 33]
        lengths += [62, 63, 64, 65, 200] if len(run.encode()) == 1 else []
        for length in lengths:
            texts.append(run * length)
            if length in (3, 9, 31, 32):
                texts += [run * length + "x", "x" + run * length, "x " + run * length + " 1"]
    # White space of all kinds between words.
    for first in SPACES:
        for second in SPACES:
            texts.append("a" + first + second + "b")
        texts += ["x" + first * 3 + "1", first + "!" + first, "end" + first]
    for end in CONTRACTIONS:
        texts += ["I" + end, "you" + end + "x", end + " " + end, "9" + end + "\n"]
    # Added tokens, whole, cut and touching.
    for around in ["", " ", "a", "  ", "\t\t", "<", ">", "\n", "é"]:
        texts += [around + END_OF_TEXT, END_OF_TEXT + around, around + END_OF_TEXT + around + END_OF_TEXT,
                  around + END_OF_TEXT[:-1] + around, around + END_OF_TEXT[1:]]
    # Samples, whole and in pieces, with the line ends of others.
    for sample in CODE + PROSE:
        texts.append(sample)
        for _ in range(12):
            begin = random.randrange(len(sample))
            texts.append(sample[begin:begin + random.randint(1, 60)])
        crlf = sample[:120].replace("\n", "\r\n")
        texts += [crlf, sample[:60].upper(), sample[-40:].replace(" ", "  ")]
    # Words of several samples side by side.
    pieces = [word for sample in CODE + PROSE for word in sample.replace("\n", " \n").split(" ")]
    pieces += EMOJI + MARKS + SPACES + CONTRACTIONS + ["  ", "    ", "\t\t", "\n\n", END_OF_TEXT]
    for _ in range(350):
        texts.append("".join(random.choice(pieces) + random.choice(["", " ", "", "\n"])
                             for _ in range(random.randint(2, 9))))
    # Random text: the planes that have characters, all of Unicode, raw bytes.
    blocks = [(0, 0x7F), (0x80, 0x24F), (0x250, 0x7FF), (0x800, 0x1FFF), (0x2000, 0x2BFF), (0x2E80, 0xD7FF),
              (0xE000, 0xFFFF), (0x10000, 0x1FFFF), (0x1F300, 0x1FAFF), (0x20000, 0x323AF), (0xE0000, 0xE01EF),
              (0, 0x10FFFF)]
    for low, high in blocks:
        for _ in range(40):
            texts.append("".join(valid_code_points(low, high) for _ in range(random.randint(1, 12))))
    for _ in range(150):
        texts.append(utf8_from_random_bytes(random.randint(4, 40)))
    for _ in range(150):
        texts.append("".join(random.choice(" \t\n\r'aZ09_.é中") for _ in range(random.randint(2, 24))))
    texts = sorted(dict.fromkeys(texts), key=lambda text: (len(text.encode()), text))
    assert len(texts) >= 3000, len(texts)
    return texts


def end_of_text_token():
    return AddedToken(END_OF_TEXT, special=True, normalized=False)


def white_space_tokens():
    return [AddedToken(" " * n, normalized=True) for n in range(31, 1, -1)] + [
        AddedToken("\t" * n, normalized=True) for n in range(9, 1, -1)]


def train_small():
    """A byte-level BPE in the shape of CodeGen's: end of text last, then white space."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 1, min_frequency=1, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    trained.train_from_iterator(CODE + PROSE, trainer)
    model = json.loads(trained.to_str())["model"]
    vocabulary = dict(model["vocab"])
    assert len(vocabulary) == VOCABULARY - 1
    vocabulary[END_OF_TEXT] = len(vocabulary)
    merges = [tuple(merge) for merge in model["merges"]]
    small = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, continuing_subword_prefix="",
                                 end_of_word_suffix="", fuse_unk=False))
    small.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    small.decoder = decoders.ByteLevel()
    small.post_processor = processors.ByteLevel(trim_offsets=False)
    small.add_special_tokens([end_of_text_token()])
    small.add_tokens(white_space_tokens())
    return small, vocabulary, merges


def byte_level(vocabulary, merges, added=(), post_processor=None, add_prefix_space=False, use_regex=True, **model):
    """A tokenizer.json as an object."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [dict(token, id=i) for i, token in added],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True,
                          "use_regex": use_regex},
        "post_processor": post_processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocabulary, "merges": merges, **model},
    }


def flags(content, **on):
    token = {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": False}
    return {**token, **on}


def random_model():
    """Merges over three letters, of which some make the same token in two ways."""
    tokens = ["a", "b", "c", "Ġ"]
    merges = []
    for _ in range(random.randint(4, 14)):
        left, right = random.choice(tokens), random.choice(tokens)
        if len(left + right) > 6 or [left, right] in merges:
            continue
        merges.append([left, right])
        if left + right not in tokens:
            tokens.append(left + right)
    return {token: i for i, token in enumerate(tokens)}, merges


def make_variants():
    """(name, tokenizer.json, texts) of tokenizers that are unusual in one way each."""
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = dict(alphabet)
    merges = []
    for left, right in [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "b"), ("i", "n"), ("Ġ", "in"), ("e", "r")]:
        words[left + right] = len(words)
        merges.append([left, right])
    base = len(words)
    texts = ["", " ", "the", " the", "the the", "  the\n\nin there", "abab in ab", "é ther", "it's the 1st", "\tin"]
    variants = [
        ("legacy merges", byte_level(words, [" ".join(m) for m in merges]), texts),
        ("add_prefix_space", byte_level(words, merges, [(base, flags("<x>"))], add_prefix_space=True),
         texts + ["<x>the", "the<x>the <x> the", "<x><x>", "\u3000the"]),
        ("without regex", byte_level(words, merges, use_regex=False), texts),
        ("ignore_merges", byte_level({**words, "Ġwhole": base, "ber": base + 1}, merges, ignore_merges=True),
         texts + [" whole", "whole", " whole whole", "ber", "ber ber"]),
    ]
    for name, on in [("lstrip", {"lstrip": True}), ("rstrip", {"rstrip": True}),
                     ("both strips", {"lstrip": True, "rstrip": True}), ("single_word", {"single_word": True}),
                     ("special", {"special": True}), ("normalized", {"normalized": True}),
                     ("all flags", {"lstrip": True, "rstrip": True, "single_word": True, "special": True})]:
        added = [(base, flags("<m>", **on)), (base + 1, flags("<n>", normalized=True)), (words["the"], flags("the", **on))]
        cases = texts + ["a<m>b", "a <m> b", "a  <m>\t\n<m>  b", "<m>", " <m>", "<m> ", "<m><m>", "<m> <n> <m>", "x<n>",
                         "\u3000<m>\xa0the\u2028", "\u200b<m>\u200b", "é<m>", "<m>é", "_<m>", "1<m>", "<m>\u0301",
                         "-<m>-", "<<m>>", "中<m>", "other the theme", "(the)", "\u200d<m>", "\u2160<m>"]
        variants.append(("added token, " + name, byte_level(words, merges, added), cases))
    overlapping = [flags("ab"), flags("abc", normalized=True), flags("bcd"), flags("abcdef"), flags("  "),
                   flags("   ", normalized=True), flags(" ", rstrip=True, normalized=True)]
    ids = [words["ab"]] + list(range(base, base + 6))
    variants.append(("overlapping added tokens", byte_level(words, merges, list(zip(ids, overlapping))),
                     ["abcd", "abcdef", "abcdeg", "bcdef", "xabcabcd", "a  b", "a   b", "a    b", "a     b", "a b ", "ab  ab", " a"]))
    few = {c: i for i, c in enumerate("abcdeĠ")}
    few.update({"<unk>": 6, "ab": 7, "<unk>a": 8})
    for name, on in [("missing bytes dropped", {}), ("unk_token", {"unk_token": "<unk>"}),
                     ("fused unk_token", {"unk_token": "<unk>", "fuse_unk": True})]:
        variants.append((name, byte_level(few, [["a", "b"], ["<unk>", "a"]], [(6, flags("<unk>", special=True))], **on),
                         ["ab", "xab", "xxab", "xyzzy", "é a", "abxxxab x", "a<unk>b", "x<unk>x", "xa xa", "\n\n"]))
    template = {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                           {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [base], "tokens": ["<s>"]},
                                   "</s>": {"id": "</s>", "ids": [base + 1, 0], "tokens": ["</s>", "!"]}}}
    around = [(base, flags("<s>", special=True)), (base + 1, flags("</s>", special=True))]
    trim = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    variants.append(("template", byte_level(words, merges, around, template), texts + ["<s>the"]))
    variants.append(("sequence of post-processors",
                     byte_level(words, merges, around, {"type": "Sequence", "processors": [trim, template]}), texts))
    for i in range(40):
        vocabulary, merges = random_model()
        cases = ["".join(random.choice("aaabbcc ") for _ in range(random.randint(1, 14))) for _ in range(25)]
        variants.append((f"random merges {i}", byte_level(vocabulary, merges, use_regex=i % 2 == 0), cases))
    return variants


def code_point_classes():
    """L, N and s as the pre-tokenizer splits, w as single_word sees it."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    word = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    word.add_tokens([AddedToken("<m>", single_word=True, normalized=False)])
    marker = word.token_to_id("<m>")
    classes = []
    for code_point in range(0x110000):
        if 0xD800 <= code_point <= 0xDFFF:
            classes.append("")
            continue
        c = chr(code_point)
        found = [kind for kind, before in (("L", "a"), ("N", "1"), ("o", "!"))
                 if len(split.pre_tokenize_str(before + c)) == 1]
        assert len(found) <= 1
        kind = (found[0] if found else "s").replace("o", "")
        classes.append(kind + ("" if marker in word.encode("<m>" + c).ids else "w"))
    return classes


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    print(f"{path}: {path.stat().st_size} bytes")


def write_ids(path, tokenizer, texts):
    write(path, "".join(" ".join(map(str, tokenizer.encode(text).ids)) + "\n" for text in texts))


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/golden/tokenizer", help="default: %(default)s")
    parser.add_argument("--codegen", type=pathlib.Path, default=None,
                        help="folder with CodeGen's tokenizer.json; without it codegen_ids.txt is not written")
    args = parser.parse_args()
    if tokenizers.__version__ != "0.22.2":
        sys.exit(f"tokenizers {tokenizers.__version__} found, 0.22.2 wanted")
    random.seed(20240229)

    texts = make_strings()
    small, vocabulary, merges = train_small()
    write(args.out / "strings.jsonl", "".join(compact(text) + "\n" for text in texts))
    write(args.out / "small/tokenizer.json", small.to_str(pretty=False) + "\n")
    files = args.out / "small-files"
    write(files / "vocab.json", compact(vocabulary) + "\n")
    write(files / "merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    added = {END_OF_TEXT: vocabulary[END_OF_TEXT]}
    added.update({str(token.content): small.token_to_id(token.content) for token in white_space_tokens()})
    write(files / "added_tokens.json", json.dumps(added, indent=1) + "\n")
    write_ids(args.out / "small_ids.txt", small, texts)
    if args.codegen is not None:
        write_ids(args.out / "codegen_ids.txt", Tokenizer.from_file(str(args.codegen / "tokenizer.json")), texts)

    lines = []
    for name, description, cases in make_variants():
        tokenizer = Tokenizer.from_str(json.dumps(description))
        encoded = [[text, tokenizer.encode(text).ids] for text in cases]
        lines.append(compact({"name": name, "tokenizer": description, "cases": encoded}) + "\n")
    write(args.out / "variants.jsonl", "".join(lines))

    classes = code_point_classes() + [""]
    ranges = ["# first and last code point, classes: L letter, N number, s white space, w word character\n"]
    first = 0
    for code_point in range(1, len(classes)):
        if classes[code_point] != classes[first] or code_point == len(classes) - 1:
            if classes[first]:
                ranges.append(f"{first:x} {code_point - 1:x} {classes[first]}\n")
            first = code_point
    write(args.out / "unicode_classes.txt", "".join(ranges))


if __name__ == "__main__":
    main()
