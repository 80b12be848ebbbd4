#include "server/service/wire.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "model/tokenizer/tokenizer.h"

namespace ounce::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

constexpr int kMaxDepth = 16;  // of messages in messages; ours are 3 deep

std::string Flatten(const grpc::ByteBuffer& bytes) {
  std::vector<grpc::Slice> slices;
  std::string flat;
  if (!bytes.Dump(&slices).ok()) return flat;
  flat.reserve(bytes.Length());
  for (const grpc::Slice& slice : slices) {
    flat.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return flat;
}

// The error that names the first string field in `wire` that is not UTF-8; OK
// if all are, or if the bytes before it are malformed.
absl::Status FindBadString(const std::string& wire, const Descriptor& type,
                           const std::string& path, int depth) {
  CodedInputStream input(reinterpret_cast<const uint8_t*>(wire.data()),
                         static_cast<int>(wire.size()));
  while (const uint32_t tag = input.ReadTag()) {
    const FieldDescriptor* field =
        type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    if (field == nullptr || WireFormatLite::GetTagWireType(tag) !=
                                WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      if (!WireFormatLite::SkipField(&input, tag)) return absl::OkStatus();
      continue;
    }
    uint32_t size = 0;
    std::string value;
    if (!input.ReadVarint32(&size) ||
        !input.ReadString(&value, static_cast<int>(size))) {
      return absl::OkStatus();
    }
    const std::string name = absl::StrCat(path, field->name());
    if (field->type() == FieldDescriptor::TYPE_STRING) {
      const size_t valid = model::ValidUtf8Prefix(value);
      if (valid < value.size()) {
        return FieldError(
            name,
            absl::StrCat("UTF-8 wanted, byte ", valid, " of ", value.size(),
                         " found to be no part of a character"));
      }
    } else if (field->type() == FieldDescriptor::TYPE_MESSAGE &&
               depth < kMaxDepth) {
      if (absl::Status status =
              FindBadString(value, *field->message_type(),
                            absl::StrCat(name, "."), depth + 1);
          !status.ok()) {
        return status;
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseRequest(const grpc::ByteBuffer& bytes,
                          google::protobuf::Message* request) {
  grpc::ByteBuffer copy = bytes;  // shares the slices; the reader consumes it
  grpc::ProtoBufferReader reader(&copy);
  if (reader.status().ok() && request->ParseFromZeroCopyStream(&reader)) {
    return absl::OkStatus();
  }
  const Descriptor& type = *request->GetDescriptor();
  if (absl::Status status = FindBadString(Flatten(bytes), type, "", 0);
      !status.ok()) {
    return status;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("a serialized ", type.full_name(), " wanted, ",
                   bytes.Length(), " bytes that are none found"));
}

grpc::ByteBuffer Serialize(const google::protobuf::Message& message) {
  grpc::ByteBuffer bytes;
  bool own_buffer = false;
  const grpc::Status status =
      grpc::SerializationTraits<google::protobuf::Message>::Serialize(
          message, &bytes, &own_buffer);
  OUNCE_CHECK(status.ok(), "a response is serializable");
  return bytes;
}

}  // namespace ounce::server
