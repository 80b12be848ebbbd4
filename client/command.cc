#include "client/command.h"

#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include "base/check.h"

namespace ounce::client {

int ExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
      return kRefused;
    default:
      return kFailed;
  }
}

int Report(const absl::Status& status) {
  if (!status.ok()) {
    const bool terminal = isatty(STDERR_FILENO);
    std::cerr << (terminal ? "\033[31m" : "")
              << "ounce: " << absl::StatusCodeToString(status.code()) << ": "
              << std::string(status.message()) << (terminal ? "\033[0m" : "")
              << std::endl;
  }
  return ExitCode(status);
}

std::string ToJson(const google::protobuf::Message& message, bool whole) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = whole;
  std::string json;
  const auto status =
      google::protobuf::util::MessageToJsonString(message, &json, options);
  OUNCE_CHECK(status.ok(), "a received message has a JSON form");
  return json;
}

}  // namespace ounce::client
