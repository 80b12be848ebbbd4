#include "server/service/message_judge.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "server/scheduler/refusal.h"
#include "server/service/request_limits.h"

namespace ounce::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

// Bytes of the longest tag or length that protobuf takes.
constexpr int kMaxTagBytes = 5;

// The wire type of one element of `field` by itself.
WireFormatLite::WireType ElementWireType(const FieldDescriptor& field) {
  return WireFormatLite::WireTypeForFieldType(
      static_cast<WireFormatLite::FieldType>(field.type()));
}

class Judge {
 public:
  Judge(google::protobuf::io::ZeroCopyInputStream* bytes, int size,
        const Descriptor& type)
      : input_(bytes), type_(type) {
    input_.PushLimit(size);
  }

  absl::Status Run() { return Message(type_, "", 0); }

 private:
  // What is known of one field, wherever in the message it occurs.
  struct Seen {
    FieldLimit limit;
    int count = 0;
  };

  absl::Status Message(const Descriptor& type, const std::string& path,
                       int depth);
  absl::Status Known(const FieldDescriptor& field, Seen& seen,
                     WireFormatLite::WireType wire_type,
                     const std::string& path, int depth);
  absl::Status Packed(const FieldDescriptor& field, Seen& seen, int size,
                      const std::string& path);
  absl::Status Unknown(uint32_t number, WireFormatLite::WireType wire_type);
  absl::Status Count(const FieldDescriptor& field, Seen& seen, int more,
                     const std::string& path);
  absl::Status Utf8(const FieldDescriptor& field, int size,
                    const std::string& path);
  absl::Status Malformed() const;

  bool ReadShortVarint(uint32_t* value);
  bool ReadSize(int* size);
  bool SkipVarint() {
    uint64_t ignored;
    return input_.ReadVarint64(&ignored);
  }

  CodedInputStream input_;
  const Descriptor& type_;
  std::map<const FieldDescriptor*, Seen> seen_;
  int num_unknown_ = 0;
  size_t unknown_bytes_ = 0;
  std::string joined_;  // a string that lies across slices
};

absl::Status Judge::Malformed() const {
  return Refusal(
      Reason::kRequestMalformed,
      absl::StrCat("the request is not a serialized ", type_.full_name(),
                   ": malformed at byte ", input_.CurrentPosition()));
}

bool Judge::ReadShortVarint(uint32_t* value) {
  const int start = input_.CurrentPosition();
  uint64_t wide;
  if (!input_.ReadVarint64(&wide)) return false;
  *value = static_cast<uint32_t>(wide);
  return input_.CurrentPosition() - start <= kMaxTagBytes;
}

bool Judge::ReadSize(int* size) {
  uint32_t value;
  if (!ReadShortVarint(&value)) return false;
  if (value > static_cast<uint32_t>(input_.BytesUntilLimit())) return false;
  *size = static_cast<int>(value);
  return true;
}

absl::Status Judge::Message(const Descriptor& type, const std::string& path,
                            int depth) {
  if (depth > kMaxDepth) {
    return Refusal(Reason::kRequestMalformed,
                   absl::StrCat("the request nests messages more than ",
                                kMaxDepth, " deep"));
  }
  while (input_.BytesUntilLimit() > 0) {
    uint32_t tag;
    if (!ReadShortVarint(&tag)) return Malformed();
    const auto number =
        static_cast<uint32_t>(WireFormatLite::GetTagFieldNumber(tag));
    const WireFormatLite::WireType wire_type =
        WireFormatLite::GetTagWireType(tag);
    if (number == 0) return Malformed();
    const FieldDescriptor* field =
        type.FindFieldByNumber(static_cast<int>(number));
    const bool known =
        field != nullptr &&
        (wire_type == ElementWireType(*field) ||
         (field->is_packable() &&
          wire_type == WireFormatLite::WIRETYPE_LENGTH_DELIMITED));
    if (!known) {
      RETURN_IF_ERROR(Unknown(number, wire_type));
      continue;
    }
    const auto [it, is_new] = seen_.try_emplace(field);
    if (is_new) it->second.limit = LimitOf(*field);
    RETURN_IF_ERROR(Known(*field, it->second, wire_type, path, depth));
  }
  return absl::OkStatus();
}

absl::Status Judge::Known(const FieldDescriptor& field, Seen& seen,
                          WireFormatLite::WireType wire_type,
                          const std::string& path, int depth) {
  switch (wire_type) {
    case WireFormatLite::WIRETYPE_VARINT:
      if (!SkipVarint()) return Malformed();
      return Count(field, seen, 1, path);
    case WireFormatLite::WIRETYPE_FIXED64:
      if (!input_.Skip(8)) return Malformed();
      return Count(field, seen, 1, path);
    case WireFormatLite::WIRETYPE_FIXED32:
      if (!input_.Skip(4)) return Malformed();
      return Count(field, seen, 1, path);
    default:
      break;
  }
  int size;
  if (!ReadSize(&size)) return Malformed();
  if (field.is_packable()) return Packed(field, seen, size, path);
  RETURN_IF_ERROR(Count(field, seen, 1, path));
  if (field.type() == FieldDescriptor::TYPE_MESSAGE) {
    const CodedInputStream::Limit outer = input_.PushLimit(size);
    RETURN_IF_ERROR(Message(*field.message_type(),
                            absl::StrCat(path, field.name(), "."), depth + 1));
    input_.PopLimit(outer);
    return absl::OkStatus();
  }
  const size_t max_bytes = seen.limit.max_bytes;
  if (max_bytes > 0 && static_cast<size_t>(size) > max_bytes) {
    return FieldError(
        absl::StrCat(path, field.name()),
        absl::StrCat("must be at most ", max_bytes, " bytes, is ", size));
  }
  if (field.type() == FieldDescriptor::TYPE_STRING) {
    return Utf8(field, size, path);
  }
  return input_.Skip(size) ? absl::OkStatus() : Malformed();
}

absl::Status Judge::Packed(const FieldDescriptor& field, Seen& seen, int size,
                           const std::string& path) {
  const WireFormatLite::WireType type = ElementWireType(field);
  if (type != WireFormatLite::WIRETYPE_VARINT) {
    const int width = type == WireFormatLite::WIRETYPE_FIXED64 ? 8 : 4;
    if (size % width != 0 || !input_.Skip(size)) return Malformed();
    return Count(field, seen, size / width, path);
  }
  const CodedInputStream::Limit outer = input_.PushLimit(size);
  while (input_.BytesUntilLimit() > 0) {
    if (!SkipVarint()) return Malformed();
    RETURN_IF_ERROR(Count(field, seen, 1, path));
  }
  input_.PopLimit(outer);
  return absl::OkStatus();
}

absl::Status Judge::Count(const FieldDescriptor& field, Seen& seen, int more,
                          const std::string& path) {
  const int max = field.is_repeated()
                      ? seen.limit.max_elements
                      : std::max(seen.limit.max_elements, kMaxOccurrences);
  if (more > max - seen.count) {
    return FieldError(
        absl::StrCat(path, field.name()),
        field.is_repeated()
            ? absl::StrCat("must have at most ", max, " elements, has more")
            : absl::StrCat("must be given once, is given more than ", max,
                           " times"));
  }
  seen.count += more;
  return absl::OkStatus();
}

absl::Status Judge::Utf8(const FieldDescriptor& field, int size,
                         const std::string& path) {
  const void* data = nullptr;
  int available = 0;
  std::string_view text;
  if (size > 0) {
    if (input_.GetDirectBufferPointer(&data, &available) && available >= size) {
      text = {static_cast<const char*>(data), static_cast<size_t>(size)};
    } else {
      if (!input_.ReadString(&joined_, size)) return Malformed();
      text = joined_;
      data = nullptr;
    }
  }
  if (const size_t valid = ValidUtf8Prefix(text); valid < text.size()) {
    return NotUtf8(absl::StrCat(path, field.name()), valid, text.size());
  }
  if (data != nullptr) input_.Skip(size);
  return absl::OkStatus();
}

absl::Status Judge::Unknown(uint32_t number,
                            WireFormatLite::WireType wire_type) {
  const int start = input_.CurrentPosition();
  switch (wire_type) {
    case WireFormatLite::WIRETYPE_VARINT:
      if (!SkipVarint()) return Malformed();
      break;
    case WireFormatLite::WIRETYPE_FIXED64:
      if (!input_.Skip(8)) return Malformed();
      break;
    case WireFormatLite::WIRETYPE_FIXED32:
      if (!input_.Skip(4)) return Malformed();
      break;
    case WireFormatLite::WIRETYPE_LENGTH_DELIMITED: {
      int size;
      if (!ReadSize(&size) || !input_.Skip(size)) return Malformed();
      break;
    }
    case WireFormatLite::WIRETYPE_START_GROUP:
    case WireFormatLite::WIRETYPE_END_GROUP:
      return Refusal(
          Reason::kRequestMalformed,
          absl::StrCat("the request contains a protobuf group (field ", number,
                       "); no request has any"));
    default:
      return Malformed();
  }
  unknown_bytes_ += static_cast<size_t>(input_.CurrentPosition() - start);
  if (++num_unknown_ > kMaxUnknownFields || unknown_bytes_ > kMaxUnknownBytes) {
    return Refusal(
        Reason::kRequestMalformed,
        absl::StrCat("the request contains more than ", kMaxUnknownFields,
                     " fields or ", kMaxUnknownBytes,
                     " bytes that are not part of ", type_.full_name(),
                     ": does the client use another version of the API?"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status NotUtf8(absl::string_view field, size_t valid, size_t size) {
  return FieldError(field, absl::StrCat("must be UTF-8; byte ", valid, " of ",
                                        size, " is not part of a character"));
}

absl::Status JudgeMessage(google::protobuf::io::ZeroCopyInputStream* bytes,
                          size_t size, const Descriptor& type) {
  const size_t max = MaxBytesOf(type);
  const absl::Status too_large =
      Refusal(Reason::kMessageTooLarge,
              absl::StrCat("a request of this kind must be at most ", max,
                           " bytes, is ", size));
  if (size > static_cast<size_t>(std::numeric_limits<int>::max())) {
    return too_large;
  }
  // Fields first: they can say more exactly what is too large.
  RETURN_IF_ERROR(Judge(bytes, static_cast<int>(size), type).Run());
  return max > 0 && size > max ? too_large : absl::OkStatus();
}

}  // namespace ounce::server
