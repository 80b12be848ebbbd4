#include "client/json.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/json_util.h>

#include <cstdint>
#include <cstdlib>

#include "base/check.h"

namespace ounce::client {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using nlohmann::ordered_json;

bool Is64Bits(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_INT64 ||
         field.cpp_type() == FieldDescriptor::CPPTYPE_UINT64;
}

// protobuf writes whole numbers of 64 bits as strings.
void MakeNumber(ordered_json& text) {
  constexpr int64_t kExact = int64_t{1} << 53;
  const int64_t number =  // saturates, which stays a string
      std::strtoll(text.get_ref<const std::string&>().c_str(), nullptr, 10);
  if (number > -kExact && number < kExact) text = number;
}

void MakeNumbers(const Descriptor& type, ordered_json& object) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const auto found = object.find(field.name());
    if (found == object.end()) continue;
    const auto change = [&](ordered_json& value) {
      if (Is64Bits(field)) {
        MakeNumber(value);
      } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        MakeNumbers(*field.message_type(), value);
      }
    };
    OUNCE_CHECK(!field.is_map(), "no message has a map");
    if (field.is_repeated()) {
      for (ordered_json& element : *found) change(element);
    } else {
      change(*found);
    }
  }
}

}  // namespace

ordered_json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  const auto status =
      google::protobuf::util::MessageToJsonString(message, &text, options);
  OUNCE_CHECK(status.ok(), "a received message has a JSON form");
  ordered_json json = ordered_json::parse(text);
  MakeNumbers(*message.GetDescriptor(), json);
  return json;
}

ordered_json ToJson(const absl::Status& error) {
  return {{"code", absl::StatusCodeToString(error.code())},
          {"message", std::string(error.message())}};
}

std::string JsonLine(const ordered_json& json) {
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) +
         "\n";
}

}  // namespace ounce::client
