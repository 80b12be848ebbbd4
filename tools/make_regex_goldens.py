#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/regex.jsonl by Hugging Face tokenizers 0.22.2.

A pattern a line with texts, how Split cuts them at its matches, and what it leaves when
it removes these. The same versions write the same bytes: all randomness comes from a fixed seed.
"""

import json
import pathlib
import random

from tokenizers import Regex, pre_tokenizers

WORDS = ["a", "b", "c", "ab", "x", "aa", "abab", "z", " ", "  ", "\n", "\r\n", "\r", "\t", "\x0b", "\x0c", "\x85", "\u2028",
         "\u2029", "é", "e\u0301", "\u0301", "²", "½", "١", "_", "-", ".", "(", ")", "((", "))", "ß", "K", "ſ", "A", "B", "AB",
         "日本", "ｱﾞ", "\u200d", "👩‍👩‍👧", "\u00ad", "\u180e", "\u3000", "\u0378", "\U000110c2", "/*", "*/", "$", "+", "!", "0",
         "12", "\x00", "\x7f", "Ω", "я", "Ǆ", "ǅ", "Ⅷ", "\u1c89", "\ua7da", "\U00016d40", "\u0345", "א", "क्", "\ufeff", "\ue000"]
BOUNDARIES = [r"\b", r"\B", r"\b\w+\b", r"\bab", r"ab\b", r"\Ba\B", r"(?<=\b)a", r"\b|\s", r"(?:\b.)+", r"a\b\s*\b"]
LINES = [r"\R", r"\Ra", r"\r\R", r"\R\n", r"\R+", r"\R{2}", r"\N+", r"\O", r"\O{2,3}", r"(?m:\N)+", r"\r?\R", r"[^\R]+"]
REFERENCES = [
    r"(a)\1", r"(.)\1", r"(.)(.)\2\1", r"(\w)\k<1>", r"(a|b)\k<-1>", r"\k<+1>?(a)", r"(?<x>a|b)\k<x>", r"(?'x'.)\k'x'",
    r"(?<x>a)(?<x>b)\k<x>", r"(?<x>a)(b)\k<x>", r"(a)?\1b", r"(?:(a)|(b))\1", r"(?:(a)|b\1)+", r"(?=(a+))\1b", r"(?<=(a))b\1",
    r"(a\1?)b", r"(a)|\1", r"(a*)\1", r"(a+?)\1+", r"(?:(a|b)\1)+", r"(?<_1>\s)\k<_1>", r"(a)(b)(a)(b)\4\3"]
REPEATS = [
    r"a{1,2}+b", r"a{2}+", r"a{2}?", r"a{2}?b", r"a{2,3}?", r"a{,2}?b", r"a{3,2}", r"a{3,2}a", r"a{3,2}?", r"a{2}{3}",
    r"a{1,2}{2}", r"a**", r"a+?+", r"a??*", r"a?*?b", r"(?:a??)*b", r"(?:a??)*", r"(?:a+?)*", r"(?:a*?)+", r"(?:a?)+?b",
    r"(?:a+)??b", r"(?:a+){2,5}b", r"(?:a+){0,3}", r"(?:a{2}){3}", r"(?:a?)??", r"(?:a*)??b", r"(?:a??)+b",
    r"(a??)*b", r"(a*)*", r"(a|)*b", r"(?>a*)*b", r"(?:a{1}){1}b", r"a{1,1}?", r"(?i:a*)*", r"(?:ab)*+a", r"a?+a", r"(?:)*",
    r"a{0}b", r"(?:a|ab)(?:c|bcd)?", r"{x}", r"a{,}", r"a{1,2", r"(^)*a", r"(\b)*a", r"(?:^a)*", r"(|a)+b", r"a||b", r"()"]
GROUPS = [
    r"(?~ab)", r"(?~ab)b", r"/\*(?~\*/)\*/", r"(?~a|bb)c", r"(?~)", r"(?~\s)", r"(?~aa)a", r"(?~a{2})+", r"x(?~b\b)",
    r"(a)?(?(1)b|c)", r"(x)?(?(1))a", r"(x)?(?(1)|c)", r"(?<n>x)?(?(<n>)a|c|b)", r"(?<n>x)?(?('n')a|c)", r"(?(a)b|c)",
    r"(?(a|ab)b|c)", r"(x)?(?(-1)a|b)", r"(?((a))b|.)", r"(a)?(?(1)b|)c",
    r"(?<p>\((?:\g<p>|[^()])*\))", r"(\((?:\g<1>|[^()])*\))", r"a\g<0>?b", r"(?<a>x\g<a>y|z)", r"\g<w>(?<w>a|b)", r"(a)\g<-1>",
    r"\g<+1>(a|b)c", r"(?i:\g<a>)(?-i:(?<a>a)){0}", r"(?<a>a\g<b>?)(?<b>b\g<a>?)", r"(?<d>\d|a){0}\g<d>+",
    r"a\Kb", r"\w+\K\s", r"(?:a\Kb|ac)", r"a\K", r"(?#comment)a", r"a(?#\)x)*b", r"(?x) a b # c",
    r"(?x: a +)b c", r"(?x)[a ]\ b", r"(?im:A.)", r"(?mi)A.", r"(?i-m:AB)", r"(?i)a(?-i)b|c", r"(?-m:.)", r"(?i:\p{Lu})",
    r"(?i:\w+)", r"(?i:[a-z]+)", r"(?i:[^a-z])", r"(?i:[^k])", r"(?i:[\s\d]a)", r"(?i:s)", r"(?<=a|bc)x", r"(?<!a|\s)b", r"\p", r"\Q.\E",
    r"\pL", r"\i\l\_\<\g\k", r"\cA|\c?", r"\0|\011|\0101"]
SETS = [
    "[[:%s:]]" % name for name in "alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit".split()]
SETS += [
    r"[[:^alpha:]]", r"[^[:^alpha:]a]", r"[[:alpha:][:digit:]_]+", r"[]a]", r"[^]a]", r"[]-a]", r"[a&&]", r"[&&a]", r"[^&&a]",
    r"[a-&&-]", r"[a-c&&b&&[^x]]", r"[\b]", r"[\B\R\X\A]", r"[--a]", r"[a-b-c]", r"[a-b--]", r"[\d-]", r"[^[:graph:]]",
    r"[[:print:]&&[:^graph:]]", r"[a[:upper:]&&[^B]]", r"[\p{L}\p{Nd}]+", r"[\cA\0]", r"[\p{word}]+", r"[\pL]"]
PROPERTIES = [r"\p{%s}" % name for name in (
    "Letter", "uppercase letter", "Lowercase_Letter", "titlecase-letter", "M", "Combining_Mark", "Decimal Number", "digit", "punct",
    "Other_Punctuation", "Symbol", "Math_Symbol", "Space_Separator", "Cc", "cntrl", "Format", "Private_Use", "C", "Other", "Cn",
    "Unassigned", "Assigned", "Any", "ASCII", "LC", "Alphabetic", "alpha", "alnum", "blank", "graph", "print", "lower", "Uppercase",
    "White_Space", "space", "word", "XDigit", "Greek", "grek", "Common", "Inherited", "Han", "^Cyrillic", "Deva")]


def cut(pattern, behavior, text):
    """The matches and what lies between, or only the latter."""
    return [word for word, _ in pre_tokenizers.Split(Regex(pattern), behavior).pre_tokenize_str(text)]


def main():
    random.seed(7)
    lines = []
    for pattern in BOUNDARIES + LINES + REFERENCES + REPEATS + GROUPS + SETS + PROPERTIES:
        try:
            Regex(pattern)
        except Exception as error:
            raise SystemExit(f"{pattern}: {error}")
        # The letters of the pattern come more often, so that it matches here and there.
        own = [c for c in pattern if c.isalnum() or c in "()"] or ["a"]
        texts = ["", "aab ab\r\nab", "(a(b)c) ab " + "x" * 25 + "z" + "y" * 25]
        for _ in range(12):
            texts.append("".join(random.choice(random.choice([WORDS, WORDS, own, ["a", "b"]])) for _ in range(random.randint(2, 14))))
        cases = [[text, cut(pattern, "isolated", text), cut(pattern, "removed", text)] for text in texts]
        lines.append(json.dumps([pattern, cases]) + "\n")
    root = pathlib.Path(__file__).resolve().parent.parent
    (root / "tests/golden/tokenizer/regex.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
