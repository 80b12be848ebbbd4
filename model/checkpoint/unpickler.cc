#include "model/checkpoint/unpickler.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/checkpoint/pickle_machine.h"
#include "model/files/byte_source.h"

namespace ounce::model {
namespace {

using Kind = PickleValue::Kind;

}  // namespace

absl::StatusOr<std::vector<PickledTensor>> UnpickleStateDict(
    std::string_view pickle) {
  PickleMachine machine(pickle);
  ASSIGN_OR_RETURN(const PickleRef top, machine.Run());
  const PickleValue& dict = machine.value(top);
  if (dict.kind != Kind::kDict) {
    return machine.Fail("what it holds is not a dict");
  }
  std::vector<PickledTensor> tensors;
  std::set<std::string_view> names;
  std::string nested;
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    const PickleValue& key = machine.value(dict.items[i]);
    const PickleValue& item = machine.value(dict.items[i + 1]);
    if (key.kind != Kind::kString) {
      return machine.Fail("a key of the state dict is not a string");
    }
    if (!names.insert(key.text).second) {
      return machine.Fail(
          absl::StrCat("key ", Quoted(key.text), " comes twice"));
    }
    if (item.kind == Kind::kDict &&
        (key.text == "state_dict" || key.text == "model")) {
      nested = std::string(key.text);
    }
    if (item.kind != Kind::kTensor) continue;
    const PickleValue& storage = machine.value(item.items[0]);
    PickledTensor tensor;
    tensor.name = std::string(key.text);
    tensor.storage_key = std::string(storage.text);
    tensor.storage_elements = storage.number;
    tensor.dtype = storage.dtype;
    tensor.offset = item.number;
    for (const PickleRef extent : machine.value(item.items[1]).items) {
      tensor.shape.push_back(machine.value(extent).number);
    }
    for (const PickleRef stride : machine.value(item.items[2]).items) {
      tensor.strides.push_back(machine.value(stride).number);
    }
    tensors.push_back(std::move(tensor));
  }
  if (tensors.empty() && !nested.empty()) {
    return absl::UnimplementedError(absl::StrCat(
        "is a training checkpoint with the tensors under '", nested,
        "'; save the state dict alone, in Python: "
        "torch.save(torch.load(path)['",
        nested, "'], path)"));
  }
  return tensors;
}

}  // namespace ounce::model
