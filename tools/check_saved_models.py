#!/usr/bin/env python3
"""Checks a model that Ounce saved in another tool's format with that tool's own
code, on a CPU:

  values  of each weight in codes, as the tool takes them apart, equal those of
          the same plan saved as format ounce, to the bit (of bitsandbytes: the
          tensors' names and bytes equal those that transformers writes when it
          quantizes the float checkpoint itself)
  model   transformers loads the folder (bitsandbytes, hqq, compressed-tensors)
          and gives the same greedy tokens, and the same perplexity within
          0.2 %, as it does with the floats that the codes stand for (of
          bitsandbytes: as the model that it quantized itself)

  pip install torch==2.13.0 transformers==4.57.6 safetensors==0.8.0 \\
      bitsandbytes==0.50.2 hqq==0.2.8.post1 compressed-tensors==0.20.1
  pip install --no-deps auto-gptq==0.7.1 autoawq==0.2.9

Usage: check_saved_models.py [--text FILE] FLOATS SAVED [OUNCE]
  FLOATS  the checkpoint that was quantized
  SAVED   what was saved of it in the format to check
  OUNCE   the same plan saved as format ounce (not for bitsandbytes)
  --text  what perplexity is measured on, with the checkpoint's tokenizer; else
          ids drawn at random
Prints what was the same, and fails where something was not.
"""

import argparse
import contextlib
import io
import json
import pathlib
import sys
import tempfile

import safetensors.torch
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from make_quantized_goldens import import_file

F32 = torch.float32


# Of checkpoints without a head, transformers puts one of these before names.
PREFIXES = ("", "transformer.", "model.", "gpt_neox.")


def tensors_of(folder):
    tensors = {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        tensors.update(safetensors.torch.load_file(file))
    return tensors


def parts_of(tensors, module):
    prefix = module + "."
    return {name[len(prefix):]: tensor for name, tensor in tensors.items()
            if name.startswith(prefix)}


def modules_with(tensors, suffix):
    return [name[:-len(suffix)] for name in tensors if name.endswith(suffix)]


# Of each format: the values in codes, float32 [out, in], by module.


def values_of_hqq(tensors, config):
    from hqq.core.quantize import HQQLinear, Quantizer
    for module in modules_with(tensors, ".W_q"):
        layer = HQQLinear(None, None, compute_dtype=F32, device="cpu")
        layer.load_state_dict(parts_of(tensors, module))
        meta = dict(layer.meta, compute_dtype=F32)
        meta["scale"], meta["zero"] = meta["scale"].to(F32), meta["zero"].to(F32)
        yield module, Quantizer.dequantize(layer.W_q.data, meta)


def values_of_compressed(tensors, config):
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig
    from compressed_tensors.utils.match import match_targets
    schemes = QuantizationConfig.model_validate(config).config_groups.values()
    for module in modules_with(tensors, ".weight_scale"):
        scheme = next(scheme for scheme in schemes
                      if match_targets(module, torch.nn.Linear(1, 1), scheme.targets))
        compressor = BaseCompressor.get_value_from_registry(scheme.format or config["format"])
        parts = parts_of(tensors, module)
        parts["weight_scale"] = parts["weight_scale"].to(F32)
        yield module, compressor.decompress(parts, scheme)["weight"]


def values_of_gptq(tensors, config):
    layers = import_file("auto_gptq", "nn_modules.qlinear.qlinear_cuda")
    # AutoGPTQ reads the first version alone, and so takes off one too many of the
    # second's: with scales of 1 that is an integer, which is added again.
    for module in modules_with(tensors, ".qweight"):
        parts = parts_of(tensors, module)
        cols, rows = len(parts["g_idx"]), parts["scales"].shape[1]
        layer = layers.QuantLinear(config["bits"], config["group_size"], cols, rows, False)
        layer.load_state_dict({key: parts[key] for key in layer.state_dict()})
        layer.scales = torch.ones_like(layer.scales, dtype=F32)
        levels = layer(torch.eye(cols)).t() + (config["checkpoint_format"] == "gptq_v2")
        yield module, levels * parts["scales"].to(F32)[parts["g_idx"].long()].t()


def values_of_awq(tensors, config):
    packing = import_file("awq", "utils.packing_utils")
    for module in modules_with(tensors, ".qweight"):
        parts = parts_of(tensors, module)
        group = config["group_size"]
        yield module, packing.dequantize_gemm(
            parts["qweight"], parts["qzeros"], parts["scales"].to(F32), config["bits"],
            group if group > 0 else len(parts["qweight"])).t()


FORMATS = {"hqq": values_of_hqq,
           "compressed-tensors": values_of_compressed, "gptq": values_of_gptq,
           "awq": values_of_awq}


def can_be_loaded(config):
    """Whether transformers runs it on a CPU."""
    if config["quant_method"] != "compressed-tensors":
        return config["quant_method"] in ("bitsandbytes", "hqq")
    # compressed-tensors 0.20.1 expects packed zero-points unpacked when it makes
    # the model that tensors are loaded into, in files of its own too.
    return all(group["weights"]["symmetric"] for group in config["config_groups"].values())


def numbers(stream, bits, count, signed):
    ones = (stream[:, None] >> torch.arange(8, dtype=torch.uint8) & 1).flatten()
    read = (ones[:count * bits].reshape(count, bits).to(torch.int64) << torch.arange(bits)).sum(1)
    return torch.where(read >= 1 << bits - 1, read - (1 << bits), read) if signed else read


def values_of_ounce(folder):
    """By the description of the layout (docs/format.md)."""
    tensors = tensors_of(folder)
    config = json.loads(pathlib.Path(folder, "config.json").read_text())["quantization_config"]
    for name, weight in config["weights"].items():
        spec = weight["method"].split("+")[-1]
        method, _, params = spec.partition(":")
        params = dict(param.split("=") for param in params.split(",") if param)
        rows, cols = weight["shape"]
        scale = tensors[f"{name}.scale"].to(F32)
        group = -(-cols * rows // len(scale))
        bits = int(params.get("bits", {"linear": 8, "hqq": 4, "float8": 8}[method]))
        codes = numbers(tensors[f"{name}.codes"], bits, rows * cols, method == "linear")
        zero = torch.zeros(len(scale))
        if f"{name}.zero" in tensors:
            zero = tensors[f"{name}.zero"]
            zero = (numbers(zero, 8, len(scale), True) if method == "linear" else zero).to(F32)
        if method == "float8":
            codes = codes.to(torch.uint8).view(torch.float8_e4m3fn)
        if params.get("granularity") == "block":
            across = -(-cols // 128)
            place = (torch.arange(rows)[:, None] // 128 * across +
                     torch.arange(cols) // 128).flatten()
        else:
            place = torch.arange(rows * cols) // group
        yield name.removesuffix(".weight"), (
            scale[place] * (codes.to(F32) - zero[place])).reshape(rows, cols)


def same_values(values, ounce):
    expected = dict(values_of_ounce(ounce))
    if set(expected) != set(values):
        sys.exit(f"in codes: {sorted(set(expected) ^ set(values))} in one of the two alone")
    for module, value in values.items():
        if not torch.equal(value, expected[module]):
            worst = (value - expected[module]).abs().max()
            sys.exit(f"{module}: values differ, by up to {worst}")
    return f"{len(values)} weights equal"


def quantized_by_transformers(floats, config):
    asked = BitsAndBytesConfig(**{
        key: config[key] for key in
        ("load_in_8bit", "load_in_4bit", "llm_int8_threshold", "llm_int8_skip_modules",
         "bnb_4bit_compute_dtype", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant")})
    return AutoModelForCausalLM.from_pretrained(floats, quantization_config=asked, dtype="auto",
                                                device_map="cpu").eval()


def same_bytes(model, saved):
    """What transformers and bitsandbytes write themselves."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        theirs = tensors_of(folder)
    ours = tensors_of(saved)
    ours = {next((p + name for p in PREFIXES if p + name in theirs), name): tensor
            for name, tensor in ours.items()}
    rounded = 0
    if set(ours) != set(theirs):
        sys.exit(f"in one alone: {sorted(set(ours) ^ set(theirs))[:8]}")
    for name, tensor in theirs.items():
        if tensor.dtype != ours[name].dtype or (
                tensor.shape != ours[name].shape and ".quant_state." not in name):
            sys.exit(f"{name}: {ours[name].dtype} {tuple(ours[name].shape)}, theirs "
                     f"{tensor.dtype} {tuple(tensor.shape)}")
        if torch.equal(tensor.contiguous().flatten().view(torch.uint8),
                       ours[name].flatten().view(torch.uint8)):
            continue
        if not is_rounding(name, tensor, ours[name]):
            sys.exit(f"{name}: bytes differ from bitsandbytes' own")
        rounded += 1
    return (f"{len(theirs) - rounded} tensors equal" +
            (f", {rounded} but for roundings" if rounded else ""))


def is_rounding(name, theirs, ours):
    """Of double quantization, torch sums scales in float32, in an order of its own, and
    differences from that mean are small; of 4 bits, a weight may lie on a threshold."""
    if name.endswith(".nested_absmax"):
        return torch.allclose(theirs, ours, rtol=1e-4)
    if name.endswith(".absmax"):
        return (theirs != ours).float().mean() < 0.01
    if ".quant_state." in name:
        theirs, ours = (json.loads(bytes(state.tolist())) for state in (theirs, ours))
        near = abs(theirs.pop("nested_offset", 0) / ours.pop("nested_offset", 1) - 1) < 1e-6
        return near and theirs == ours
    return theirs.dtype == torch.uint8 and (theirs != ours).sum() <= 2


def ids_of(folder, config, text):
    if text is None:
        return torch.randint(3, config.vocab_size, (4, 64),
                             generator=torch.Generator().manual_seed(1))
    ids = AutoTokenizer.from_pretrained(folder)(pathlib.Path(text).read_text())["input_ids"]
    width = 256
    return torch.tensor(ids[:len(ids) // width * width][:8 * width]).reshape(-1, width)


def measure(model, ids):
    with torch.no_grad():
        logits = model(ids).logits.to(F32)[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        tokens = model.generate(ids[:1, :16], attention_mask=torch.ones(1, 16, dtype=torch.int64),
                                max_new_tokens=32, do_sample=False, pad_token_id=0)
    return loss.exp().item(), tokens[0, 16:].tolist()


def model_of_values(floats, saved, values):
    """The float model with what the codes, and other floats of the plan, are."""
    tied = AutoConfig.from_pretrained(saved).tie_word_embeddings
    model = AutoModelForCausalLM.from_pretrained(floats, dtype=F32,
                                                 tie_word_embeddings=tied).eval()
    weights = dict(model.named_parameters())
    stored = {name: tensor for name, tensor in tensors_of(saved).items()
              if tensor.is_floating_point() and name.removesuffix(".weight") not in values}
    stored.update({f"{module}.weight": value for module, value in values.items()})
    with torch.no_grad():
        for name, tensor in stored.items():
            name = next((p + name for p in PREFIXES if p + name in weights), None)
            if name is not None:  # no scale
                weights[name].copy_(tensor)
    return model


def same_model(saved, reference, text):
    loaded = AutoModelForCausalLM.from_pretrained(saved, dtype=reference.dtype).eval()
    ids = ids_of(saved, reference.config, text)
    try:
        wanted, wanted_tokens = measure(reference, ids)
    except (AssertionError, RuntimeError) as error:  # bitsandbytes' blocks, and tiny models
        return f"the tool runs no model of such shapes on a CPU: {error}"
    theirs, tokens = measure(loaded, ids)
    same = sum(a == b for a, b in zip(tokens, wanted_tokens))
    line = f"perplexity {theirs:.4f}, wanted {wanted:.4f}; {same} of {len(tokens)} tokens"
    if abs(theirs / wanted - 1) > 2e-3:
        sys.exit(line)
    return line


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("floats")
    parser.add_argument("saved")
    parser.add_argument("ounce", nargs="?")
    parser.add_argument("--text")
    args = parser.parse_args()
    config = json.loads(pathlib.Path(args.saved, "config.json").read_text())["quantization_config"]
    method = config["quant_method"]
    values = {}
    if method != "bitsandbytes":
        with contextlib.redirect_stdout(io.StringIO()):
            values = {module: value.to(F32)
                      for module, value in FORMATS[method](tensors_of(args.saved), config)}
    if method == "bitsandbytes":
        reference = quantized_by_transformers(args.floats, config)
        print(f"{method}: {same_bytes(reference, args.saved)}")
    else:
        print(f"{method}: {same_values(values, args.ounce)}")
    if can_be_loaded(config):
        if method != "bitsandbytes":
            reference = model_of_values(args.floats, args.saved, values)
        print(same_model(args.saved, reference, args.text))


if __name__ == "__main__":
    main()
