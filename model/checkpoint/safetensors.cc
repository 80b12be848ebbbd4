#include "model/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/files/json_file.h"

namespace ounce::model {
namespace {

using nlohmann::json;

constexpr int64_t kLengthBytes = 8;
constexpr char kMetadata[] = "__metadata__";

constexpr std::pair<std::string_view, quant::DType> kDTypes[] = {
    {"F64", quant::DType::kF64},        {"F32", quant::DType::kF32},
    {"F16", quant::DType::kF16},        {"BF16", quant::DType::kBF16},
    {"I64", quant::DType::kI64},        {"I32", quant::DType::kI32},
    {"I16", quant::DType::kI16},        {"I8", quant::DType::kI8},
    {"U8", quant::DType::kU8},          {"BOOL", quant::DType::kBool},
    {"U64", quant::DType::kU64},        {"U32", quant::DType::kU32},
    {"U16", quant::DType::kU16},        {"C64", quant::DType::kC64},
    {"F8_E4M3", quant::DType::kF8E4M3}, {"F8_E5M2", quant::DType::kF8E5M2},
    {"F8_E8M0", quant::DType::kF8E8M0},
};
// In the format, of less than a byte each, and in no checkpoint that we load.
constexpr std::string_view kUnreadDTypes[] = {"F6_E2M3", "F6_E3M2", "F4"};

absl::StatusOr<quant::DType> ReadDType(const ByteSource& file,
                                       const std::string& name,
                                       const json& entry) {
  const auto field = entry.find("dtype");
  if (field == entry.end() || !field->is_string()) {
    return TensorError(file, name, "no dtype");
  }
  const auto& text = field->get_ref<const std::string&>();
  for (const auto& [known, dtype] : kDTypes) {
    if (text == known) return dtype;
  }
  for (const std::string_view unread : kUnreadDTypes) {
    if (text == unread) {
      return absl::UnimplementedError(absl::StrCat(
          file.name(), ": tensor ", Quoted(name), ": dtype ", text,
          " is not supported; save the model in F32, F16 or BF16"));
    }
  }
  return TensorError(file, name,
                     absl::StrCat("dtype ", Quoted(text), " is unknown"));
}

// An array of integers in [0, 2^63).
absl::StatusOr<std::vector<int64_t>> ReadIntegers(const ByteSource& file,
                                                  const std::string& name,
                                                  const json& entry,
                                                  const char* key) {
  const auto field = entry.find(key);
  if (field == entry.end() || !field->is_array()) {
    return TensorError(file, name, absl::StrCat("no array '", key, "'"));
  }
  std::vector<int64_t> values;
  values.reserve(field->size());
  for (const json& value : *field) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > INT64_MAX) {
      return TensorError(
          file, name,
          absl::StrCat("'", key,
                       "' must hold integers from 0 to 2^63 - 1, "
                       "holds ",
                       value.is_number() ? value.dump() : value.type_name()));
    }
    values.push_back(value.get<int64_t>());
  }
  return values;
}

absl::StatusOr<StoredTensor> ReadEntry(const ByteSource& file,
                                       const std::string& name,
                                       const json& entry, int64_t data_start) {
  if (!entry.is_object()) {
    return TensorError(
        file, name,
        absl::StrCat("its entry must be an object, is ", entry.type_name()));
  }
  StoredTensor tensor;
  ASSIGN_OR_RETURN(tensor.info.dtype, ReadDType(file, name, entry));
  ASSIGN_OR_RETURN(tensor.info.shape, ReadIntegers(file, name, entry, "shape"));
  ASSIGN_OR_RETURN(const std::vector<int64_t> offsets,
                   ReadIntegers(file, name, entry, "data_offsets"));
  const int64_t data_bytes = file.size() - data_start;
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    return TensorError(file, name,
                       absl::StrCat("data_offsets must be [begin, end], are ",
                                    ShapeText(offsets)));
  }
  if (offsets[1] > data_bytes) {
    return TensorError(file, name,
                       absl::StrCat("data_offsets ", ShapeText(offsets),
                                    " go beyond the ", data_bytes,
                                    " bytes of data: the file is too short; "
                                    "download it again"));
  }
  const absl::StatusOr<int64_t> bytes =
      CheckedBytes(tensor.info.shape, tensor.info.dtype);
  if (!bytes.ok())
    return TensorError(file, name, std::string(bytes.status().message()));
  if (offsets[1] - offsets[0] != *bytes) {
    return TensorError(
        file, name,
        absl::StrCat("data_offsets ", ShapeText(offsets), " span ",
                     offsets[1] - offsets[0], " bytes, shape ",
                     ShapeText(tensor.info.shape), " of ",
                     std::string(quant::Name(tensor.info.dtype)), " has ",
                     *bytes));
  }
  tensor.offset = data_start + offsets[0];
  return tensor;
}

// The tensors must fill the data, each byte once. Numbers them in that order.
absl::Status CheckLayout(const ByteSource& file, int64_t data_start,
                         TensorTable& table) {
  std::vector<TensorTable::value_type*> order;
  order.reserve(table.size());
  for (auto& item : table) order.push_back(&item);
  const auto position = [](const auto* item) {
    return std::pair(item->second.offset, item->second.info.bytes());
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](auto* a, auto* b) { return position(a) < position(b); });
  int64_t end = data_start;
  int64_t next_id = 0;
  for (auto* item : order) {
    StoredTensor& tensor = item->second;
    if (tensor.offset != end) {
      return TensorError(
          file, item->first,
          absl::StrCat("must begin at byte ", end - data_start,
                       " of the data, begins at ", tensor.offset - data_start,
                       tensor.offset < end ? ": it overlaps another"
                                           : ": there is a hole"));
    }
    end += tensor.info.bytes();
    tensor.info.storage_id = next_id++;
  }
  if (end != file.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name(), ": has ", file.size() - data_start,
                     " bytes of data, its tensors ", end - data_start));
  }
  return absl::OkStatus();
}

absl::Status AddAliases(const ByteSource& file, const json& metadata,
                        TensorTable& table) {
  if (!metadata.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(file.name(), ": ", kMetadata,
                                                   " must be an object, is ",
                                                   metadata.type_name()));
  }
  TensorTable aliases;
  for (const auto& [name, target] : metadata.items()) {
    if (!target.is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.name(), ": ", kMetadata, ": ", Quoted(name),
                       " must be a string, is ", target.type_name()));
    }
    // Most entries say other things, such as {"format": "pt"}.
    const auto found = table.find(target.get_ref<const std::string&>());
    if (found != table.end() && name != "format") {
      aliases.emplace(name, found->second);
    }
  }
  table.merge(aliases);  // keeps what is stored under its own name
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TensorTable> ParseSafetensors(const ByteSource& file) {
  if (file.size() < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name(), ": has ", file.size(),
                     " bytes: the file is too short, or not a safetensors "
                     "file; download it again"));
  }
  std::array<unsigned char, kLengthBytes> raw;
  RETURN_IF_ERROR(file.Read(0, kLengthBytes, raw.data()));
  uint64_t length = 0;
  for (int i = kLengthBytes - 1; i >= 0; --i) length = length << 8 | raw[i];
  if (length > kMaxSafetensorsHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.name(), ": is not a safetensors file: its header would have ",
        length, " bytes, more than the format's ", kMaxSafetensorsHeaderBytes));
  }
  const int64_t header_bytes = static_cast<int64_t>(length);
  if (header_bytes > file.size() - kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.name(), ": has ", file.size(), " bytes, its header alone ",
        header_bytes, ": the file is too short; download it again"));
  }

  json header;
  {
    std::string text(header_bytes, '\0');
    RETURN_IF_ERROR(file.Read(kLengthBytes, header_bytes, text.data()));
    ASSIGN_OR_RETURN(
        header, ParseJsonObject(absl::StrCat(file.name(), ": header"), text));
  }
  const int64_t data_start = kLengthBytes + header_bytes;
  TensorTable table;
  for (const auto& [name, entry] : header.items()) {
    if (name == kMetadata) continue;
    ASSIGN_OR_RETURN(StoredTensor tensor,
                     ReadEntry(file, name, entry, data_start));
    table.emplace(name, std::move(tensor));
  }
  RETURN_IF_ERROR(CheckLayout(file, data_start, table));
  if (const auto metadata = header.find(kMetadata); metadata != header.end()) {
    RETURN_IF_ERROR(AddAliases(file, *metadata, table));
  }
  return table;
}

}  // namespace ounce::model
