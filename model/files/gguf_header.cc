#include "model/files/gguf_header.h"

#include <string_view>

namespace ounce::model {
namespace {

using nlohmann::json;

// Types of values, by number.
constexpr uint32_t kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7;
constexpr uint32_t kString = 8, kArray = 9, kUint64 = 10;

template <class Number>
void Put(Number number, std::string& to) {
  const auto* bytes = reinterpret_cast<const char*>(&number);
  to.append(bytes, sizeof number);
}

void PutText(std::string_view text, std::string& to) {
  Put<uint64_t>(text.size(), to);
  to += text;
}

uint32_t TypeOf(const json& value, bool in_array) {
  if (value.is_array()) return kArray;
  if (value.is_string()) return kString;
  if (value.is_boolean()) return kBool;
  if (value.is_number_float()) return kFloat32;
  if (in_array || value < 0) return kInt32;
  return value > UINT32_MAX ? kUint64 : kUint32;
}

void PutValue(const json& value, uint32_t type, std::string& to) {
  switch (type) {
    case kUint32:
      return Put(value.get<uint32_t>(), to);
    case kInt32:
      return Put(value.get<int32_t>(), to);
    case kUint64:
      return Put(value.get<uint64_t>(), to);
    case kFloat32:
      return Put(value.get<float>(), to);
    case kBool:
      return Put<uint8_t>(value.get<bool>() ? 1 : 0, to);
    case kString:
      return PutText(value.get_ref<const std::string&>(), to);
    default:
      break;
  }
  const uint32_t inner = TypeOf(value.front(), /*in_array=*/true);
  Put(inner, to);
  Put<uint64_t>(value.size(), to);
  for (const json& one : value) PutValue(one, inner, to);
}

}  // namespace

std::string GgufHeader(const json& metadata,
                       const std::vector<GgufHeaderTensor>& tensors) {
  std::string header = "GGUF";
  Put<uint32_t>(3, header);
  Put<uint64_t>(tensors.size(), header);
  Put<uint64_t>(metadata.size(), header);
  for (const auto& [key, value] : metadata.items()) {
    PutText(key, header);
    const uint32_t type = TypeOf(value, /*in_array=*/false);
    Put(type, header);
    PutValue(value, type, header);
  }
  for (const GgufHeaderTensor& tensor : tensors) {
    PutText(tensor.name, header);
    Put(static_cast<uint32_t>(tensor.shape.size()), header);
    for (auto it = tensor.shape.rbegin(); it != tensor.shape.rend(); ++it) {
      Put(static_cast<uint64_t>(*it), header);
    }
    Put(tensor.type, header);
    Put(static_cast<uint64_t>(tensor.offset), header);
  }
  header.resize((header.size() + kGgufAlignment - 1) / kGgufAlignment *
                kGgufAlignment);
  return header;
}

}  // namespace ounce::model
