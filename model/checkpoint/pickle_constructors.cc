// What the allowed globals of a pickle stand for; nothing is ever called.
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/checkpoint/pickle_machine.h"
#include "model/files/byte_source.h"

namespace ounce::model {
namespace {

using Kind = PickleValue::Kind;
using Constructor = PickleValue::Constructor;

constexpr size_t kMaxRank = 64;

struct KnownGlobal {
  std::string_view module, name;
  Constructor constructor;
  quant::DType dtype = quant::DType::kF32;
};
constexpr KnownGlobal kKnownGlobals[] = {
    {"collections", "OrderedDict", Constructor::kOrderedDict},
    {"torch._utils", "_rebuild_tensor_v2", Constructor::kTensor},
    {"torch._utils", "_rebuild_parameter", Constructor::kParameter},
    {"torch", "Size", Constructor::kSize},
    {"torch", "device", Constructor::kUnneeded},
    // Tensors in forms that are not read: those of this kind are as if they
    // were not there.
    {"torch._utils", "_rebuild_sparse_tensor", Constructor::kUnneeded},
    {"torch._utils", "_rebuild_tensor_v3", Constructor::kUnneeded},
    {"torch._utils", "_rebuild_qtensor", Constructor::kUnneeded},
    {"torch.serialization", "_get_layout", Constructor::kUnneeded},
    {"torch", "DoubleStorage", Constructor::kStorage, quant::DType::kF64},
    {"torch", "FloatStorage", Constructor::kStorage, quant::DType::kF32},
    {"torch", "HalfStorage", Constructor::kStorage, quant::DType::kF16},
    {"torch", "BFloat16Storage", Constructor::kStorage, quant::DType::kBF16},
    {"torch", "LongStorage", Constructor::kStorage, quant::DType::kI64},
    {"torch", "IntStorage", Constructor::kStorage, quant::DType::kI32},
    {"torch", "ShortStorage", Constructor::kStorage, quant::DType::kI16},
    {"torch", "CharStorage", Constructor::kStorage, quant::DType::kI8},
    {"torch", "ByteStorage", Constructor::kStorage, quant::DType::kU8},
    {"torch", "BoolStorage", Constructor::kStorage, quant::DType::kBool},
    {"torch", "ComplexFloatStorage", Constructor::kStorage, quant::DType::kC64},
    {"torch", "QInt8Storage", Constructor::kStorage, quant::DType::kI8},
    {"torch", "QUInt8Storage", Constructor::kStorage, quant::DType::kU8},
    {"torch", "QInt32Storage", Constructor::kStorage, quant::DType::kI32},
    {"torch.storage", "UntypedStorage", Constructor::kStorage,
     quant::DType::kU8},
};

// Names of module torch that stand for a dtype or for how a tensor is
// quantized.
constexpr std::string_view kTorchNames[] = {"per_tensor_affine",
                                            "per_channel_affine",
                                            "float64",
                                            "float32",
                                            "float16",
                                            "bfloat16",
                                            "int64",
                                            "int32",
                                            "int16",
                                            "int8",
                                            "uint8",
                                            "bool",
                                            "uint16",
                                            "uint32",
                                            "uint64",
                                            "complex64",
                                            "float8_e4m3fn",
                                            "float8_e5m2"};

}  // namespace

absl::Status PickleMachine::PushGlobal(std::string_view module,
                                       std::string_view name) {
  for (const KnownGlobal& known : kKnownGlobals) {
    if (module == known.module && name == known.name) {
      PickleValue value;
      value.kind = Kind::kConstructor;
      value.constructor = known.constructor;
      value.dtype = known.dtype;
      return PushNew(std::move(value));
    }
  }
  for (const std::string_view known : kTorchNames) {
    if (module != "torch" || name != known) continue;
    PickleValue value;
    value.kind = Kind::kOpaque;
    return PushNew(std::move(value));
  }
  return Fail(absl::StrCat(
      "refuses to load ", Quoted(std::string(module) + "." + std::string(name)),
      ", which is not part of a state dict of tensors"));
}

// ("storage", type, key, location, elements) -> the storage
absl::Status PickleMachine::PushStorage() {
  ASSIGN_OR_RETURN(const PickleRef top, Pop());
  const std::vector<PickleRef>& id = values_[top].items;
  if (values_[top].kind != Kind::kTuple || id.size() != 5 ||
      values_[id[0]].text != "storage" ||
      values_[id[1]].kind != Kind::kConstructor ||
      values_[id[1]].constructor != Constructor::kStorage ||
      values_[id[2]].kind != Kind::kString ||
      values_[id[4]].kind != Kind::kInt || values_[id[4]].number < 0) {
    return Fail(
        "a persistent id that is not ('storage', type, key, location, size)");
  }
  PickleValue storage;
  storage.kind = Kind::kStorage;
  storage.dtype = values_[id[1]].dtype;
  storage.text = values_[id[2]].text;
  storage.number = values_[id[4]].number;
  return PushNew(std::move(storage));
}

bool PickleMachine::IsShape(PickleRef ref) const {
  const PickleValue& tuple = values_[ref];
  if (tuple.kind != Kind::kTuple || tuple.items.size() > kMaxRank) return false;
  for (const PickleRef item : tuple.items) {
    if (values_[item].kind != Kind::kInt) return false;
  }
  return true;
}

// (storage, offset, size, stride, requires_grad, hooks[, metadata])
absl::Status PickleMachine::PushTensor(const std::vector<PickleRef>& args) {
  if (args.size() < 6 || args.size() > 7 ||
      values_[args[0]].kind != Kind::kStorage ||
      values_[args[1]].kind != Kind::kInt || !IsShape(args[2]) ||
      !IsShape(args[3]) ||
      values_[args[2]].items.size() != values_[args[3]].items.size()) {
    return Fail(
        "a tensor that is not (storage, offset, size, stride, requires_grad, "
        "hooks)");
  }
  PickleValue tensor;
  tensor.kind = Kind::kTensor;
  tensor.number = values_[args[1]].number;
  tensor.items = {args[0], args[2], args[3]};
  return PushNew(std::move(tensor));
}

absl::Status PickleMachine::Reduce() {
  ASSIGN_OR_RETURN(const PickleRef args_ref, Pop());
  ASSIGN_OR_RETURN(const PickleRef function, Pop());
  if (values_[function].kind != Kind::kConstructor ||
      values_[args_ref].kind != Kind::kTuple) {
    return Fail("REDUCE of something that is not an allowed constructor");
  }
  const std::vector<PickleRef>& args = values_[args_ref].items;
  switch (values_[function].constructor) {
    case Constructor::kOrderedDict: {
      if (!args.empty()) break;
      PickleValue dict;
      dict.kind = Kind::kDict;
      return PushNew(std::move(dict));
    }
    case Constructor::kTensor:
      return PushTensor(args);
    case Constructor::kParameter:
      if (args.empty() || values_[args[0]].kind != Kind::kTensor) break;
      return Push(args[0]);
    case Constructor::kSize:
      if (args.size() != 1 || !IsShape(args[0])) break;
      return Push(args[0]);
    case Constructor::kUnneeded: {
      PickleValue unneeded;
      unneeded.kind = Kind::kOpaque;
      return PushNew(std::move(unneeded));
    }
    case Constructor::kStorage:
      break;
  }
  return Fail("arguments that its constructor does not take");
}

}  // namespace ounce::model
