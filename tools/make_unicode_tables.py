#!/usr/bin/env python3
"""Writes where the reference's Unicode differs from our libraries', and a golden.

Hugging Face tokenizers 0.22.2 has five versions of Unicode in it: its regular
expressions know Unicode 16, its lower case and numbers 17, its normal forms 9, its
punctuation and controls 8. utf8proc 2.8 knows 15 and PCRE2 10.42 knows 14. This
script asks all three for every code point, and writes what differs:

  model/tokenizer/unicode_tables.inc          included by unicode.cc and onig_set.cc
  tests/golden/tokenizer/unicode_properties.txt  the reference's answers, as ranges

Needs tokenizers 0.22.2 and Debian 12's libutf8proc2 and libpcre2-8-0.
"""

import collections
import ctypes
import pathlib
import sys

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
# Of the patterns that published tokenizers have.
SCRIPTS = ("Arabic Armenian Bengali Cyrillic Devanagari Georgian Greek Han Hangul Hebrew Hiragana Katakana Khmer Lao "
           "Latin Myanmar Tamil Thai Tibetan").split()
# All but Unknown, of which the reference has less than PCRE2: the name and its code.
ALL_SCRIPTS = dict(pair.split(":") for pair in (
    "adlam:adlm ahom:ahom anatolianhieroglyphs:hluw arabic:arab armenian:armn avestan:avst balinese:bali bamum:bamu "
    "bassavah:bass batak:batk bengali:beng bhaiksuki:bhks bopomofo:bopo brahmi:brah braille:brai buginese:bugi "
    "buhid:buhd canadianaboriginal:cans carian:cari caucasianalbanian:aghb chakma:cakm cham:cham cherokee:cher "
    "chorasmian:chrs common:zyyy coptic:copt cuneiform:xsux cypriot:cprt cyprominoan:cpmn cyrillic:cyrl deseret:dsrt "
    "devanagari:deva divesakuru:diak dogra:dogr duployan:dupl egyptianhieroglyphs:egyp elbasan:elba elymaic:elym "
    "ethiopic:ethi georgian:geor glagolitic:glag gothic:goth grantha:gran greek:grek gujarati:gujr gunjalagondi:gong "
    "gurmukhi:guru han:hani hangul:hang hanifirohingya:rohg hanunoo:hano hatran:hatr hebrew:hebr hiragana:hira "
    "imperialaramaic:armi inherited:zinh inscriptionalpahlavi:phli inscriptionalparthian:prti javanese:java "
    "kaithi:kthi kannada:knda katakana:kana kayahli:kali kharoshthi:khar khitansmallscript:kits khmer:khmr "
    "khojki:khoj khudawadi:sind lao:laoo latin:latn lepcha:lepc limbu:limb lineara:lina linearb:linb lisu:lisu lycian:lyci "
    "lydian:lydi mahajani:mahj makasar:maka malayalam:mlym mandaic:mand manichaean:mani marchen:marc "
    "masaramgondi:gonm medefaidrin:medf meeteimayek:mtei mendekikakui:mend meroiticcursive:merc "
    "meroitichieroglyphs:mero miao:plrd modi:modi mongolian:mong mro:mroo multani:mult myanmar:mymr nabataean:nbat "
    "nandinagari:nand newa:newa newtailue:talu nko:nkoo nushu:nshu nyiakengpuachuehmong:hmnp ogham:ogam olchiki:olck "
    "oldhungarian:hung olditalic:ital oldnortharabian:narb oldpermic:perm oldpersian:xpeo oldsogdian:sogo "
    "oldsoutharabian:sarb oldturkic:orkh olduyghur:ougr oriya:orya osage:osge osmanya:osma pahawhhmong:hmng "
    "palmyrene:palm paucinhau:pauc phagspa:phag phoenician:phnx psalterpahlavi:phlp rejang:rjng runic:runr "
    "samaritan:samr saurashtra:saur sharada:shrd shavian:shaw siddham:sidd signwriting:sgnw sinhala:sinh sogdian:sogd "
    "sorasompeng:sora soyombo:soyo sundanese:sund sylotinagri:sylo syriac:syrc tagalog:tglg tagbanwa:tagb taile:tale "
    "taitham:lana taiviet:tavt takri:takr tamil:taml tangsa:tnsa tangut:tang telugu:telu thaana:thaa thai:thai "
    "tibetan:tibt tifinagh:tfng tirhuta:tirh toto:toto ugaritic:ugar vai:vaii vithkuqi:vith wancho:wcho warangciti:wara "
    "yezidi:yezi yi:yiii zanabazarsquare:zanb ").split())
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
COMPAT, COMPOSE, DECOMPOSE, STABLE = 4, 8, 16, 2

utf8proc = ctypes.CDLL("libutf8proc.so.2")
utf8proc.utf8proc_category_string.restype = ctypes.c_char_p
utf8proc.utf8proc_unicode_version.restype = ctypes.c_char_p
utf8proc.utf8proc_map.restype = ctypes.c_ssize_t
utf8proc.utf8proc_map.argtypes = [ctypes.c_char_p, ctypes.c_ssize_t, ctypes.POINTER(ctypes.c_void_p), ctypes.c_int]
pcre2 = ctypes.CDLL("libpcre2-8.so.0")
pcre2.pcre2_compile_8.restype = ctypes.c_void_p
pcre2.pcre2_compile_8.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.POINTER(ctypes.c_int),
                                  ctypes.POINTER(ctypes.c_size_t), ctypes.c_void_p]
pcre2.pcre2_match_data_create_8.restype = ctypes.c_void_p
pcre2.pcre2_match_data_create_8.argtypes = [ctypes.c_uint32, ctypes.c_void_p]
pcre2.pcre2_match_8.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_uint32,
                                ctypes.c_void_p, ctypes.c_void_p]
libc = ctypes.CDLL(None)
libc.free.argtypes = [ctypes.c_void_p]


def ranges(code_points):
    """[first, last] of each run."""
    runs = []
    for c in sorted(code_points):
        if runs and runs[-1][1] == c - 1:
            runs[-1][1] = c
        else:
            runs.append([c, c])
    return runs


def mapped(text, options):
    data, out = text.encode(), ctypes.c_void_p()
    size = utf8proc.utf8proc_map(data, len(data), ctypes.byref(out), options | STABLE)
    assert size >= 0
    result = ctypes.string_at(out, size).decode()
    libc.free(out)
    return result


def by_regex(pattern):
    """The code points that a pattern of one character matches."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    found = set()
    for i in range(0, len(CODE_POINTS), 256):
        block = CODE_POINTS[i:i + 256]
        kept = {ord(c) for word, _ in split.pre_tokenize_str("".join(map(chr, block))) for c in word}
        found |= set(block) - kept
    return found


def by_pcre2(pattern):
    UTF, UCP = 0x00080000, 0x00020000
    error, offset = ctypes.c_int(), ctypes.c_size_t()
    code = pcre2.pcre2_compile_8(pattern.encode(), len(pattern), UTF | UCP, ctypes.byref(error), ctypes.byref(offset), None)
    assert code, pattern
    data = pcre2.pcre2_match_data_create_8(1, None)

    def matches(c):
        text = chr(c).encode()
        return pcre2.pcre2_match_8(code, text, len(text), 0, 0, data, None) > 0

    return {c for c in CODE_POINTS if matches(c)}


def cut_off(split):
    """Those that don't stay one word with a letter before them."""
    return {c for c in CODE_POINTS if [word for word, _ in split.pre_tokenize_str("a" + chr(c))] != ["a" + chr(c)]}


def removed(normalizer):
    return {c for c in CODE_POINTS if normalizer.normalize_str("a" + chr(c)) == "a"}


def unknown_to_normal_forms():
    """Code points that utf8proc orders, decomposes or composes and the reference doesn't."""
    forms = [(normalizers.NFD(), DECOMPOSE), (normalizers.NFC(), COMPOSE),
             (normalizers.NFKD(), DECOMPOSE | COMPAT), (normalizers.NFKC(), COMPOSE | COMPAT)]
    contexts = ["{}", "a\u0316{}", "a\u0345{}", "a{}\u0316", "{}\u0301", "\u1100{}", "a\u0301{}\u0315"]
    found = set()
    for form, options in forms:
        for context in contexts:
            for i in range(0, len(CODE_POINTS), 512):
                block = CODE_POINTS[i:i + 512]
                text = "|".join(context.format(chr(c)) for c in block)
                if form.normalize_str(text) == mapped(text, options):
                    continue
                found |= {c for c in block
                          if form.normalize_str(context.format(chr(c))) != mapped(context.format(chr(c)), options)}
    return found


def main():
    if tokenizers.__version__ != "0.22.2":
        sys.exit("tokenizers 0.22.2 wanted")
    if utf8proc.utf8proc_unicode_version() != b"15.0.0":
        sys.exit("utf8proc 2.8 wanted")
    root = pathlib.Path(__file__).resolve().parent.parent
    ours = collections.defaultdict(set)
    for c in CODE_POINTS:
        ours[utf8proc.utf8proc_category_string(c).decode()].add(c)
    group = lambda prefix: set().union(*(ours[name] for name in list(ours) if name.startswith(prefix)))
    ascii_punctuation = set(map(ord, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"))

    cleaned = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    plain = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    properties = {
        "Mark": (removed(normalizers.StripAccents()), group("M")),
        "NonspacingMark": (removed(plain), ours["Mn"]),
        "Control": (removed(cleaned) - {0xFFFD}, ours["Cc"] | ours["Cf"] | ours["Co"]),
        "Punctuation": (cut_off(pre_tokenizers.Punctuation()), group("P") | ascii_punctuation),
        "Number": (cut_off(pre_tokenizers.Digits(individual_digits=False)), group("N")),
    }
    # White space that the clean-up turns into a space is no control to it.
    properties["Control"][0].update({9, 10, 13})

    table = ["// Written by tools/make_unicode_tables.py; don't edit.\n"]

    def write(macro, name, code_points):
        for first, last in ranges(code_points):
            table.append(f"{macro}({name}, 0x{first:x}, 0x{last:x})\n")

    for name, (reference, known) in properties.items():
        write("REFERENCE_HAS", name, reference - known)
        write("REFERENCE_LACKS", name, known - reference)
    write("REFERENCE_HAS", "InertInNormalForms", unknown_to_normal_forms())
    for c in CODE_POINTS:
        lower = normalizers.Lowercase().normalize_str(chr(c))
        if lower != chr(utf8proc.utf8proc_tolower(c)) and c != 0x130:
            table.append(f"REFERENCE_LOWERS(0x{c:x}, 0x{ord(lower):x})\n")
    # What PCRE2 10.42 lacks of each category and script.
    for name in CATEGORIES:
        write("REGEX_HAS", name, by_regex(rf"\p{{{name}}}") - by_pcre2(rf"\p{{{name}}}"))
    for name in ("Alphabetic", "Lowercase", "Uppercase"):
        write("REGEX_HAS", name, by_regex(rf"\p{{{name}}}") - by_pcre2(rf"\p{{{name}}}"))
    for name, code in ALL_SCRIPTS.items():
        table.append(f"REGEX_SCRIPT({name}, {code})\n")
    for name in ALL_SCRIPTS:
        write("REGEX_HAS", name, by_regex(rf"\p{{{name}}}") - by_pcre2(rf"\p{{sc:{name}}}"))
    (root / "model/tokenizer/unicode_tables.inc").write_text("".join(table))

    golden = ["# property, first and last code point that has it by tokenizers 0.22.2\n"]
    for name, (reference, _) in properties.items():
        golden += [f"{name} {first:x} {last:x}\n" for first, last in ranges(reference)]
    for name in CATEGORIES + SCRIPTS:
        golden += [f"{name} {first:x} {last:x}\n" for first, last in ranges(by_regex(rf"\p{{{name}}}"))]
    golden += [f"w {first:x} {last:x}\n" for first, last in ranges(by_regex(r"\w"))]
    golden += [f"[w] {first:x} {last:x}\n" for first, last in ranges(by_regex(r"[\w]"))]
    golden += [f"s {first:x} {last:x}\n" for first, last in ranges(by_regex(r"\s"))]
    for c in CODE_POINTS:
        lower = normalizers.Lowercase().normalize_str(chr(c))
        if lower != chr(c):
            golden.append(f"lower {c:x} {' '.join(f'{ord(x):x}' for x in lower)}\n")
    (root / "tests/golden/tokenizer/unicode_properties.txt").write_text("".join(golden))


if __name__ == "__main__":
    main()
