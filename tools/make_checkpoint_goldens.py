#!/usr/bin/env python3
"""Makes tests/golden/checkpoint: small model folders as the Python libraries
write them, for the readers of model/checkpoint.

  bin/                pytorch_model.bin: three float types, tied and strided
                      tensors, a parameter, integers, things that are no tensor
  bin_unneeded/       a float tensor and an expanded one beside entries of forms
                      that are not read
  bin_protocol4/      the same by pickle protocol 4
  bin_sharded/        two files and pytorch_model.bin.index.json
  safetensors/        model.safetensors: all dtypes that are read, a scalar, an
                      empty tensor, an alias in __metadata__
  safetensors_sharded/
  legacy/, tar/, training/, script/   forms that are refused
  malicious/          NAME.bin: pickles that would run something

The value of element i (row-major) of every float tensor is (i + k) / 8, which
every float type holds exactly; k is 0 unless said. Versions: torch 2.13.0,
safetensors 0.8.0.

Usage: make_checkpoint_goldens.py [OUT]   (default: tests/golden/checkpoint)
"""

import builtins
import io
import json
import os
import pathlib
import pickle
import shutil
import sys
import tarfile
import zipfile

import safetensors.torch
import torch


def ramp(*shape, k=0, dtype=torch.float32):
    count = torch.Size(shape).numel()
    return ((torch.arange(count) + k) / 8).to(dtype).reshape(shape)


def state_dict():
    base = ramp(4, 6)
    module = torch.nn.Linear(3, 2)
    with torch.no_grad():
        module.weight.copy_(ramp(2, 3))
    state = module.state_dict()  # an OrderedDict with _metadata
    del state["bias"]
    state.update(
        f64=ramp(3, dtype=torch.float64), f32=base, f16=ramp(2, 2, 2, dtype=torch.float16),
        bf16=ramp(5, dtype=torch.bfloat16),
        tied=base,                 # the same elements: one storage_id
        transposed=base.t(),       # element [j, i] is (6 i + j) / 8
        middle=base[1:3, 2:5],     # element [i, j] is (6 (i + 1) + j + 2) / 8
        every_other=base[::2, ::2],
        parameter=torch.nn.Parameter(ramp(3)),
        scalar=ramp(1, k=28).reshape(()), empty=torch.zeros(0, 3),
        mask=torch.tril(torch.ones(3, 3, dtype=torch.bool)), ids=torch.arange(5),
        i32=torch.arange(2, dtype=torch.int32), i16=torch.arange(2, dtype=torch.int16),
        i8=torch.arange(2, dtype=torch.int8), u8=torch.arange(2, dtype=torch.uint8),
        steps=1234567890123, nothing=None, rate=0.5, nested={"x": base}, yes=True)
    return state


def unneeded():
    return {
        "w": ramp(2, 3), "expanded": ramp(2).unsqueeze(1).expand(2, 3),
        "u16": torch.arange(2).to(torch.uint16), "f8": ramp(2).to(torch.float8_e4m3fn),
        "c64": ramp(2).to(torch.complex64), "sparse": torch.eye(3).to_sparse(), "csr": torch.eye(3).to_sparse_csr(),
        "q8": torch.quantize_per_tensor(ramp(2), 0.125, 0, torch.qint8), "dtype": torch.float16,
        "device": torch.device("cpu")}


def folder(out, name):
    path = out / name
    path.mkdir(parents=True)
    (path / "config.json").write_text('{"model_type": "test"}\n')
    return path


def make_shards(path, pattern, save):
    tensors = {"a": ramp(2, 3), "b": ramp(4, k=1), "c": ramp(2, k=2)}
    files = {"a": pattern.format(1), "b": pattern.format(1), "c": pattern.format(2)}
    for file in sorted(set(files.values())):
        save({name: tensors[name] for name in tensors if files[name] == file}, path / file)
    return {"metadata": {"total_size": 48}, "weight_map": files}


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def make_zip(path, data):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in [("data.pkl", data), ("byteorder", b"little"), ("version", b"3\n")]:
            info = zipfile.ZipInfo(f"archive/{name}")  # of 1980: the same bytes each time
            archive.writestr(info, content)


def make_refused(out):
    torch.save({"a": ramp(2)}, folder(out, "legacy") / "pytorch_model.bin",
               _use_new_zipfile_serialization=False)
    with tarfile.open(folder(out, "tar") / "pytorch_model.bin", "w") as archive:
        for name in ["storages", "tensors", "pickle"]:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    torch.save({"model": {"a": ramp(2)}, "epoch": 3},
               folder(out, "training") / "pytorch_model.bin")
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), folder(out, "script") / "pytorch_model.bin")

    malicious = out / "malicious"
    malicious.mkdir()
    getattr_call = Call(builtins.getattr, Call(__import__, "os"), "system")
    for name, value in [("system", Call(os.system, "true")), ("eval", Call(builtins.eval, "1")),
                        ("getattr", {"a": [getattr_call]}), ("exec", {"a": Call(exec, "pass")})]:
        make_zip(malicious / f"{name}.bin", pickle.dumps(value, protocol=2))
        make_zip(malicious / f"{name}_protocol4.bin", pickle.dumps(value, protocol=4))


def main():
    default = pathlib.Path(__file__).parent.parent / "tests/golden/checkpoint"
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    shutil.rmtree(out, ignore_errors=True)

    torch.save(state_dict(), folder(out, "bin") / "pytorch_model.bin")
    torch.save(state_dict(), folder(out, "bin_protocol4") / "pytorch_model.bin", pickle_protocol=4)
    torch.save(unneeded(), folder(out, "bin_unneeded") / "pytorch_model.bin")
    path = folder(out, "bin_sharded")
    index = make_shards(path, "pytorch_model-{:05}-of-00002.bin", torch.save)
    (path / "pytorch_model.bin.index.json").write_text(json.dumps(index) + "\n")

    path = folder(out, "safetensors")
    (path / "generation_config.json").write_text('{"eos_token_id": 7}\n')
    tensors = {name: value.contiguous().clone() for name, value in state_dict().items()
               if isinstance(value, torch.Tensor)}
    safetensors.torch.save_file(tensors, path / "model.safetensors",
                                metadata={"format": "pt", "alias": "f32"})
    path = folder(out, "safetensors_sharded")
    index = make_shards(path, "model-{:05}-of-00002.safetensors",
                        lambda part, file: safetensors.torch.save_file(part, file, {"format": "pt"}))
    (path / "model.safetensors.index.json").write_text(json.dumps(index) + "\n")
    make_refused(out)
    for file in out.rglob("*"):
        if file.is_file():
            file.chmod(0o644)


if __name__ == "__main__":
    main()
