#include "model/files/gguf_file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/json_fields.h"

namespace ounce::model {
namespace {

using nlohmann::json;

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr char kAlignment[] = "general.alignment";

// Types of values, by number.
enum ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};
// Bytes; 0: not the same for all.
constexpr int kBytesOf[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

class Reader {
 public:
  explicit Reader(const ByteSource& file) : file_(file) {}

  int64_t at() const { return at_; }
  int64_t left() const { return file_.size() - at_; }

  absl::Status Fail(const std::string& what) const {
    return absl::InvalidArgumentError(
        StrCat(file_.name(), ": byte ", at_, ": ", what));
  }
  absl::Status Unread(const std::string& what) const {
    return absl::UnimplementedError(StrCat(file_.name(), ": ", what));
  }

  absl::Status Take(int64_t bytes, void* out) {
    if (bytes > left()) {
      return Fail(StrCat("the file ends where ", bytes,
                         " more bytes must be; download it again"));
    }
    auto* to = static_cast<char*>(out);
    while (bytes > 0) {
      if (at_ < buffer_start_ ||
          at_ >= buffer_start_ + static_cast<int64_t>(buffer_.size())) {
        constexpr int64_t kAtOnce = 64 << 10;
        RETURN_IF_ERROR(file_.CheckProceed());
        buffer_.resize(std::min(kAtOnce, left()));
        buffer_start_ = at_;
        RETURN_IF_ERROR(file_.Read(at_, static_cast<int64_t>(buffer_.size()),
                                   buffer_.data()));
      }
      const int64_t from = at_ - buffer_start_;
      const int64_t n =
          std::min(bytes, static_cast<int64_t>(buffer_.size()) - from);
      std::memcpy(to, buffer_.data() + from, n);
      to += n;
      at_ += n;
      bytes -= n;
    }
    return absl::OkStatus();
  }

  absl::Status Skip(uint64_t bytes) {
    if (bytes > static_cast<uint64_t>(left())) {
      return Fail(StrCat("the file ends before ", bytes, " more bytes"));
    }
    at_ += static_cast<int64_t>(bytes);
    return absl::OkStatus();
  }

  template <class Number>
  absl::StatusOr<Number> TakeNumber() {
    Number number;
    RETURN_IF_ERROR(Take(sizeof number, &number));
    return number;
  }

  absl::StatusOr<std::string> TakeString(int64_t most = kMaxGgufString) {
    ASSIGN_OR_RETURN(const uint64_t length, TakeNumber<uint64_t>());
    most = std::min({most, left(), text_left_});
    if (length > static_cast<uint64_t>(most)) {
      return Fail(StrCat("a string of ", length, " bytes, where at most ", most,
                         " may be"));
    }
    text_left_ -= static_cast<int64_t>(length);
    std::string text(length, '\0');
    RETURN_IF_ERROR(Take(static_cast<int64_t>(length), text.data()));
    if (ValidUtf8Prefix(text) != text.size()) {
      return Fail("the string before is not UTF-8");
    }
    return text;
  }

 private:
  const ByteSource& file_;
  int64_t at_ = 0;
  int64_t text_left_ = kMaxGgufText;
  std::vector<char> buffer_;
  int64_t buffer_start_ = 0;
};

template <class Number>
absl::StatusOr<json> TakeJson(Reader& reader) {
  ASSIGN_OR_RETURN(const Number number, reader.TakeNumber<Number>());
  if constexpr (std::is_floating_point_v<Number>) {
    if (!std::isfinite(number)) {
      return reader.Fail("the number before must be finite");
    }
  }
  return json(number);
}

// Of anything but an array.
absl::StatusOr<json> TakeValue(Reader& reader, uint32_t type) {
  switch (type) {
    case kUint8:
      return TakeJson<uint8_t>(reader);
    case kInt8:
      return TakeJson<int8_t>(reader);
    case kUint16:
      return TakeJson<uint16_t>(reader);
    case kInt16:
      return TakeJson<int16_t>(reader);
    case kUint32:
      return TakeJson<uint32_t>(reader);
    case kInt32:
      return TakeJson<int32_t>(reader);
    case kFloat32:
      return TakeJson<float>(reader);
    case kUint64:
      return TakeJson<uint64_t>(reader);
    case kInt64:
      return TakeJson<int64_t>(reader);
    case kFloat64:
      return TakeJson<double>(reader);
    case kBool: {
      ASSIGN_OR_RETURN(const uint8_t byte, reader.TakeNumber<uint8_t>());
      if (byte > 1) return reader.Fail("the truth value before is neither");
      return json(byte == 1);
    }
    case kString: {
      ASSIGN_OR_RETURN(std::string text, reader.TakeString());
      return json(std::move(text));
    }
    default:
      return reader.Fail(
          StrCat("a value of type ", type, ", which is unknown"));
  }
}

absl::Status SkipArray(Reader& reader, uint32_t type, uint64_t count) {
  if (type > kFloat64 || type == kArray) {
    return reader.Fail(StrCat("an array of type ", type));
  }
  if (kBytesOf[type] > 0) {
    uint64_t bytes;
    if (__builtin_mul_overflow(count, uint64_t{1} * kBytesOf[type], &bytes)) {
      return reader.Fail(StrCat("an array of ", count, " elements"));
    }
    return reader.Skip(bytes);
  }
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const uint64_t length, reader.TakeNumber<uint64_t>());
    RETURN_IF_ERROR(reader.Skip(length));
  }
  return absl::OkStatus();
}

// Empty if it is not wanted. `room` is what is left of kMaxGgufElements.
absl::StatusOr<json> TakeArray(Reader& reader, bool wanted, int64_t& room) {
  ASSIGN_OR_RETURN(const uint32_t type, reader.TakeNumber<uint32_t>());
  ASSIGN_OR_RETURN(const uint64_t count, reader.TakeNumber<uint64_t>());
  if (!wanted) {
    RETURN_IF_ERROR(SkipArray(reader, type, count));
    return json::array();
  }
  if (type == kArray) return reader.Fail("an array in an array");
  if (count > static_cast<uint64_t>(room)) {
    return reader.Fail(StrCat("an array of ", count,
                              " elements; all together "
                              "may have ",
                              kMaxGgufElements));
  }
  room -= static_cast<int64_t>(count);
  json array = json::array();
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(json value, TakeValue(reader, type));
    array.push_back(std::move(value));
  }
  return array;
}

absl::StatusOr<GgufTensor> TakeTensor(Reader& reader) {
  GgufTensor tensor;
  ASSIGN_OR_RETURN(const uint32_t axes, reader.TakeNumber<uint32_t>());
  if (axes > kMaxGgufAxes) {
    return reader.Fail(StrCat("a tensor of ", axes, " axes; at most ",
                              kMaxGgufAxes, " may be"));
  }
  int64_t elements = 1;
  for (uint32_t i = 0; i < axes; ++i) {
    ASSIGN_OR_RETURN(const uint64_t extent, reader.TakeNumber<uint64_t>());
    // No product of three that are left out overflows, either.
    if (extent == 0 || extent > INT64_MAX ||
        __builtin_mul_overflow(elements, static_cast<int64_t>(extent),
                               &elements) ||
        elements > INT64_MAX / 8) {
      return reader.Fail(StrCat("a tensor with an extent of ", extent));
    }
    tensor.shape.push_back(static_cast<int64_t>(extent));
  }
  std::reverse(tensor.shape.begin(), tensor.shape.end());
  ASSIGN_OR_RETURN(tensor.type, reader.TakeNumber<uint32_t>());
  ASSIGN_OR_RETURN(const uint64_t offset, reader.TakeNumber<uint64_t>());
  if (offset > INT64_MAX / 2) {
    return reader.Fail(StrCat("a tensor at byte ", offset, " of the data"));
  }
  tensor.offset = static_cast<int64_t>(offset);
  return tensor;
}

absl::StatusOr<int64_t> AlignmentOf(const Reader& reader,
                                    const json& metadata) {
  constexpr int64_t kMost = 1 << 20;
  const auto alignment = OptionalJsonInt(metadata, kAlignment, 1, kMost, 32);
  if (!alignment.ok() ||
      !std::has_single_bit(static_cast<uint64_t>(*alignment))) {
    return reader.Fail(StrCat("'", kAlignment,
                              "' must be a power of two, from "
                              "1 to ",
                              kMost));
  }
  return alignment;
}

}  // namespace

bool IsGgufFile(const std::string& path) {
  std::error_code ignored;
  return path.ends_with(".gguf") &&
         std::filesystem::is_regular_file(path, ignored);
}

absl::StatusOr<GgufFile> ReadGguf(
    const ByteSource& file,
    absl::FunctionRef<bool(std::string_view key)> wants) {
  Reader reader(file);
  ASSIGN_OR_RETURN(const uint32_t magic, reader.TakeNumber<uint32_t>());
  if (magic != kMagic) return reader.Fail("this is no GGUF file");
  ASSIGN_OR_RETURN(const uint32_t version, reader.TakeNumber<uint32_t>());
  if (version != 2 && version != 3) {
    return reader.Unread(
        version == __builtin_bswap32(2) || version == __builtin_bswap32(3)
            ? std::string("GGUF in big-endian order is not read; convert the "
                          "model again on a little-endian machine")
            : StrCat("GGUF version ", version,
                     " is not read; 2 and 3 are: convert the model again"));
  }
  ASSIGN_OR_RETURN(const uint64_t num_tensors, reader.TakeNumber<uint64_t>());
  ASSIGN_OR_RETURN(const uint64_t num_keys, reader.TakeNumber<uint64_t>());
  if (num_tensors > kMaxGgufTensors || num_keys > kMaxGgufKeys) {
    return reader.Fail(StrCat(num_keys, " keys and ", num_tensors,
                              " tensors; at most ", kMaxGgufKeys, " and ",
                              kMaxGgufTensors, " may be"));
  }
  GgufFile gguf;
  gguf.metadata = json::object();
  int64_t room = kMaxGgufElements;
  for (uint64_t i = 0; i < num_keys; ++i) {
    ASSIGN_OR_RETURN(std::string key, reader.TakeString());
    ASSIGN_OR_RETURN(const uint32_t type, reader.TakeNumber<uint32_t>());
    absl::StatusOr<json> value = type == kArray
                                     ? TakeArray(reader, wants(key), room)
                                     : TakeValue(reader, type);
    if (!value.ok()) {
      return WithContext(value.status(), StrCat("key ", Quoted(key)));
    }
    if (gguf.metadata.contains(key)) {
      return reader.Fail(StrCat("the key ", Quoted(key), " comes twice"));
    }
    gguf.metadata.emplace(std::move(key), *std::move(value));
  }
  for (uint64_t i = 0; i < num_tensors; ++i) {
    ASSIGN_OR_RETURN(std::string name, reader.TakeString(kMaxGgufName));
    ASSIGN_OR_RETURN(GgufTensor tensor, TakeTensor(reader));
    if (!gguf.tensors.try_emplace(name, std::move(tensor)).second) {
      return reader.Fail(StrCat("the tensor ", Quoted(name), " comes twice"));
    }
  }
  ASSIGN_OR_RETURN(const int64_t alignment, AlignmentOf(reader, gguf.metadata));
  gguf.data_start = (reader.at() + alignment - 1) / alignment * alignment;
  for (auto& [name, tensor] : gguf.tensors) {
    if (tensor.offset % alignment != 0) {
      return reader.Fail(StrCat("the tensor ", Quoted(name), " begins at byte ",
                                tensor.offset,
                                " of the data, not at a "
                                "multiple of ",
                                alignment));
    }
    tensor.offset += gguf.data_start;
  }
  return gguf;
}

}  // namespace ounce::model
