// Reads the pickle of a PyTorch state dict. It is a machine of its own that
// knows the few opcodes torch.save writes, and a few constructors by name; it
// never imports or calls anything.
//
// Opcodes: PROTO FRAME STOP, MARK, NONE NEWTRUE NEWFALSE, BININT BININT1
// BININT2
//   LONG1, BINFLOAT, BINUNICODE SHORT_BINUNICODE BINUNICODE8, EMPTY_TUPLE TUPLE
//   TUPLE1 TUPLE2 TUPLE3, EMPTY_LIST APPEND APPENDS, EMPTY_DICT SETITEM
//   SETITEMS, BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET, GLOBAL
//   STACK_GLOBAL REDUCE BUILD BINPERSID.
// Globals: collections.OrderedDict, torch._utils._rebuild_tensor_v2,
//   torch._utils._rebuild_parameter, torch.Size, the storage classes. Of what
//   else may lie beside tensors (devices, dtypes, sparse and quantized tensors,
//   those of the newest dtypes) the names are known and the values left out.
//
// Source: pickletools of CPython; torch/serialization.py and torch/_utils.py.
#ifndef OUNCE_MODEL_CHECKPOINT_UNPICKLER_H_
#define OUNCE_MODEL_CHECKPOINT_UNPICKLER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "quant/dtype.h"

namespace ounce::model {

// Bytes. The pickle of a thousand tensors has some 100 kB.
inline constexpr int64_t kMaxPickleBytes = 32 << 20;
// Values made while it is read, about 64 bytes each.
inline constexpr int64_t kMaxPickleValues = 4'000'000;

// One tensor as the pickle describes it. Nothing is checked against a storage.
struct PickledTensor {
  std::string name;
  std::string storage_key;
  int64_t storage_elements = 0;
  quant::DType dtype = quant::DType::kF32;
  int64_t offset = 0;  // elements
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // elements; as many as `shape`
};

// The tensors of the dict that `pickle` holds, in its order. Values that are no
// tensors (a step counter, None, a nested dict) are left out: whoever needs a
// tensor asks for it by name and says so when it is missing.
// Errors: kInvalidArgument, with the byte's position, for any other opcode or
//   global (named), a malformed or truncated pickle, text that is not UTF-8, a
//   key that is no string or comes twice, more than the limits; kUnimplemented
//   for a training checkpoint (a dict without tensors that holds a `state_dict`
//   or `model`).
absl::StatusOr<std::vector<PickledTensor>> UnpickleStateDict(
    std::string_view pickle);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_UNPICKLER_H_
