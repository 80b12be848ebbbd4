#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/folders.jsonl: what transformers makes of a
tokenizer's files when they lie in one folder.

A line each: a name, the files, and texts with their ids and with what they
decode to when special tokens are left out. Needs transformers 4.57.6 and
tokenizers 0.22.2; the same versions write the same bytes.
"""

import argparse
import json
import pathlib
import tempfile

import tokenizers
import transformers

VOCABULARY = {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "<|endoftext|>": 4}
TEXTS = ["", "ab", " ab", "ab <x><y><z> a b<|endoftext|>", "<y>ab<x> <z>", "a  <x>  b", "<pad>a<m>b<x>a", "bab<z>"]

FILE, CONFIG, MAP, ADDED = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"


def token(content, **on):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": False, **on}


def byte_level(**on):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True, **on}


def tokenizer(**parts):
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [token("<x>", id=5, special=True)],
        "normalizer": None, "pre_tokenizer": byte_level(), "post_processor": None, "decoder": byte_level(),
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": VOCABULARY, "merges": ["a b"]},
        **parts}


def padding(pad_token):
    return {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 4,
            "pad_type_id": 0, "pad_token": pad_token}


def decoder(*tokens):
    return {"added_tokens_decoder": {str(i): t for i, t in tokens}}


def folders():
    """(name, files) of folders that are unusual in one way each."""
    cut = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    yield "plain", {FILE: tokenizer()}
    yield "truncation and padding", {FILE: tokenizer(truncation=cut, padding=padding("<|endoftext|>"))}
    yield "padding by a token of its own", {FILE: tokenizer(padding=padding("<pad>"))}
    yield "padding, and a pad token in the config", {FILE: tokenizer(padding=padding("<pad>")), CONFIG: {"pad_token": "<z>"}}
    yield "sequences of one, an empty normalizer", {FILE: tokenizer(
        normalizer={"type": "Sequence", "normalizers": []},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [byte_level(add_prefix_space=True)]},
        decoder={"type": "Sequence", "decoders": [byte_level()]},
        post_processor={"type": "Sequence", "processors": [byte_level()]})}
    yield "prefix space in the config", {FILE: tokenizer(), CONFIG: {"add_prefix_space": True}}
    yield "prefix space in the file alone", {FILE: tokenizer(pre_tokenizer=byte_level(add_prefix_space=True))}
    yield "prefix space in a sequence, not the config", {FILE: tokenizer(
        pre_tokenizer={"type": "Sequence", "pretokenizers": [byte_level()]}), CONFIG: {"add_prefix_space": True}}
    yield "added_tokens_decoder", {FILE: tokenizer(), CONFIG: decoder((6, token("<y>")), (7, token("<z>", special=True)))}
    yield "added_tokens_decoder with gaps", {FILE: tokenizer(), CONFIG: decoder((9, token("<y>")), (20, token("<z>")))}
    yield "added_tokens_decoder in disorder", {FILE: tokenizer(), CONFIG: decoder((7, token("<y>")), (6, token("<z>")))}
    yield "added_tokens_decoder, other flags", {FILE: tokenizer(), CONFIG: decoder((5, token("<x>", lstrip=True, rstrip=True)))}
    yield "added_tokens_decoder, another token of that id", {FILE: tokenizer(), CONFIG: decoder((5, token("<m>")))}
    yield "added_tokens_decoder before the other files", {
        FILE: tokenizer(), CONFIG: decoder((6, token("<y>"))), ADDED: {"<z>": 7}, MAP: {"pad_token": "<pad>"}}
    yield "added_tokens_decoder and a role", {
        FILE: tokenizer(), CONFIG: {**decoder((6, token("<y>")), (7, token("<pad>"))), "pad_token": "<pad>", "mask_token": "<m>"}}
    yield "added_tokens.json", {FILE: tokenizer(), ADDED: {"<y>": 6, "<z>": 7}}
    yield "added_tokens.json in disorder, with gaps", {FILE: tokenizer(), ADDED: {"<y>": 70, "<z>": 60}}
    yield "added_tokens.json with roles", {FILE: tokenizer(), ADDED: {"<y>": 6, "<z>": 7}, MAP: {"pad_token": "<z>"}}
    yield "roles over the config's", {
        FILE: tokenizer(), CONFIG: {"pad_token": "<y>", "sep_token": {"__type": "AddedToken", **token("<m>")}}, MAP: {"pad_token": "<z>"}}
    yield "roles and further special tokens", {
        FILE: tokenizer(), MAP: {"pad_token": "<z>", "additional_special_tokens": ["<y>", "<m>"]}}
    plain = tokenizer(added_tokens=[token("<x>", id=5), token("<y>", id=6), token("<z>", id=7)])
    yield "further special tokens that the file has", {FILE: plain, MAP: {"additional_special_tokens": ["<y>", token("<z>", rstrip=True)]}}
    yield "further special tokens that the decoder has", {
        FILE: plain, CONFIG: {**decoder((5, token("<x>")), (6, token("<y>", lstrip=True))), "additional_special_tokens": ["<y>", "<z>"]}}
    yield "extra_special_tokens", {FILE: tokenizer(), CONFIG: {"extra_special_tokens": {"image_token": "<z>"}}}
    yield "ids of the file with gaps", {FILE: tokenizer(added_tokens=[token("<x>", id=9), token("<y>", id=40)])}
    yield "ids of the file in disorder", {FILE: tokenizer(added_tokens=[token("<x>", id=6), token("<y>", id=5)])}
    yield "a token twice", {FILE: tokenizer(added_tokens=[token("<x>", id=5), token("<x>", id=6), token("<y>", id=7)])}
    prepend = {"type": "Prepend", "prepend": "b"}
    for name, before in [("", {}), (" of special ones", {"special": True}), (" of normalized ones", {"normalized": True})]:
        file = {FILE: tokenizer(normalizer=prepend, added_tokens=[
            token(content, id=i, **before) for i, content in enumerate(["<x>", "<y>", "<z>"], 5)])}
        yield "roles with flags" + name, {**file, MAP: {
            "pad_token": token("<x>", normalized=True), "sep_token": token("<y>", rstrip=True), "cls_token": "<z>"}}
        yield "added_tokens_decoder with flags" + name, {**file, CONFIG: decoder(
            (5, token("<x>", normalized=True, special=True)), (6, token("<y>", rstrip=True)), (7, token("<z>", normalized=True)))}
    yield "tokens that are the same when normalized", {FILE: tokenizer(
        normalizer={"type": "Lowercase"}, added_tokens=[
            token("<X>", id=5, normalized=True), token("<x>", id=6, normalized=True, special=True),
            token("<Y>", id=7, normalized=True), token("<y>", id=8, normalized=True)])}
    yield "a class without an end of text", {FILE: tokenizer(), CONFIG: {"tokenizer_class": "PreTrainedTokenizerFast"}}
    vocabulary = {"vocab.json": VOCABULARY}
    for name, merges in [("", "#version: 0.2\na b\n"), (" without a header", "a b\n"), (" without a header, two", "b a\na b\n"),
                         (" with a byte order mark", "\ufeff#version: 0.2\na b\n"), (" of Windows", "#version: 0.2\r\na b\r\n"),
                         (" without a last line end", "#version: 0.2\na b")]:
        yield "merges.txt" + name, {**vocabulary, "merges.txt": merges}
    old = {**vocabulary, "merges.txt": "#version: 0.2\na b\n"}
    yield "vocab.json and all others", {**old, ADDED: {"<y>": 6, "<z>": 7}, MAP: {"pad_token": "<z>"}, CONFIG: {"add_prefix_space": True}}
    yield "vocab.json and gaps", {**old, CONFIG: decoder((9, token("<y>")), (20, token("<z>", rstrip=True)))}
    # What a class sets before and after every text, whatever the file says.
    around = {"type": "TemplateProcessing",
              "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
              "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
              "special_tokens": {"<x>": {"id": "<x>", "ids": [5], "tokens": ["<x>"]}}}
    in_file = tokenizer(post_processor=around)
    roles = {"bos_token": "<y>", "eos_token": {"__type": "AddedToken", **token("<z>", normalized=True)}}
    for name in ["PreTrainedTokenizerFast", "GPT2Tokenizer", "GPT2TokenizerFast", "Qwen2Tokenizer", "GPTNeoXTokenizerFast",
                 "LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "GemmaTokenizerFast"]:
        config = {"tokenizer_class": name}
        yield f"{name} and a template", {FILE: in_file, CONFIG: config}
        yield f"{name}, told nothing", {FILE: tokenizer(), CONFIG: {**config, **roles}}
        yield f"{name}, told to begin and end", {
            FILE: in_file, CONFIG: {**config, **roles, "add_bos_token": True, "add_eos_token": True}}
        yield f"{name}, told neither to begin nor to end", {
            FILE: in_file, CONFIG: {**config, **roles, "add_bos_token": False, "add_eos_token": False}}
        yield f"{name}, told to begin with a token of the vocabulary", {
            FILE: tokenizer(), CONFIG: {**config, "add_bos_token": True, "bos_token": "<|endoftext|>"}}
        yield f"{name}, roles in their own file", {
            FILE: tokenizer(), CONFIG: {**config, "add_eos_token": True}, MAP: {**roles, "unk_token": "<m>"}}
    sequence = tokenizer(pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level()]})
    for name in ["BloomTokenizerFast", "GPT2TokenizerFast"]:
        yield f"{name}, prefix space and a sequence", {FILE: sequence, CONFIG: {"tokenizer_class": name, "add_prefix_space": True}}
    opt = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True}
    opt_roles = {role: token("</s>", normalized=True) for role in ["bos_token", "eos_token", "unk_token"]}
    yield "OPT as published", {
        "vocab.json": {"<s>": 6, "</s>": 4, "<pad>": 5, "a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges.txt": "#version: 0.2\na b\n",
        CONFIG: {**opt, **{role: {"__type": "AddedToken", **value} for role, value in opt_roles.items()}},
        MAP: {**opt_roles, "pad_token": "<pad>"}}
    yield "vocab.json and a token to begin with", {**old, CONFIG: opt}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/golden/tokenizer"))
    out = parser.parse_args().out
    assert (transformers.__version__, tokenizers.__version__) == ("4.57.6", "0.22.2")
    lines = []
    for name, files in folders():
        with tempfile.TemporaryDirectory() as folder:
            for file, content in files.items():
                text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
                files[file] = text
                pathlib.Path(folder, file).write_text(text, encoding="utf-8", newline="")
            name_of_class = json.loads(files.get(CONFIG, "{}")).get("tokenizer_class", "CodeGenTokenizer")
            loaded = getattr(transformers, name_of_class.removesuffix("Fast") + "Fast").from_pretrained(folder)
        cases = []
        for text in TEXTS:
            ids = loaded(text)["input_ids"]
            cases.append([text, ids, loaded.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)])
        lines.append(json.dumps({"name": name, "files": files, "cases": cases}, ensure_ascii=False, separators=(",", ":")))
    (out / "folders.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} folders")


if __name__ == "__main__":
    main()
