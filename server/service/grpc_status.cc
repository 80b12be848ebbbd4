#include "server/service/grpc_status.h"

#include <grpcpp/support/error_details.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "base/guard.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "model/tokenizer/tokenizer.h"
#include "server/scheduler/retry.h"

namespace ounce::server {
namespace {

// Payloads of the absl::Status, by the type URL of the message they hold.
constexpr char kBadRequest[] = "type.googleapis.com/google.rpc.BadRequest";
constexpr char kRetryInfo[] = "type.googleapis.com/google.rpc.RetryInfo";

// A status travels in HTTP/2 trailers, of which clients take 8 KiB, the message
// percent-encoded and once more in base64.
constexpr size_t kMaxMessageBytes = 1024;

// A message quotes what was found, and that may be anything: cut short where it
// is long, and '?' for what is not UTF-8.
std::string Printable(absl::string_view message) {
  const bool cut = message.size() > kMaxMessageBytes;
  std::string_view text(message.data(),
                        std::min(message.size(), kMaxMessageBytes));
  std::string result;
  while (true) {
    const size_t valid = model::ValidUtf8Prefix(text);
    result.append(text, 0, valid);
    if (valid == text.size()) break;
    result += '?';
    text.remove_prefix(valid + 1);
  }
  if (cut) result += " ...";
  return result;
}

}  // namespace

absl::Status FieldError(absl::string_view field,
                        absl::string_view description) {
  absl::Status status =
      absl::InvalidArgumentError(absl::StrCat(field, ": ", description));
  google::rpc::BadRequest details;
  google::rpc::BadRequest::FieldViolation* violation =
      details.add_field_violations();
  violation->set_field(std::string(field));
  violation->set_description(Printable(description));
  status.SetPayload(kBadRequest, absl::Cord(details.SerializeAsString()));
  return status;
}

absl::Status WithRetryDelay(absl::Status status, absl::Duration delay) {
  google::rpc::RetryInfo details;
  const int64_t nanos = absl::ToInt64Nanoseconds(delay);
  details.mutable_retry_delay()->set_seconds(nanos / 1'000'000'000);
  details.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(nanos % 1'000'000'000));
  status.SetPayload(kRetryInfo, absl::Cord(details.SerializeAsString()));
  return status;
}

absl::Status WithRetryInfo(const absl::Status& status) {
  const std::optional<absl::Duration> delay = RetryAfter(status);
  if (!delay.has_value()) return status;
  return WithRetryDelay(absl::Status(status.code(), status.message()), *delay);
}

namespace {

grpc::Status WithDetails(const absl::Status& status) {
  google::rpc::Status details;
  status.ForEachPayload([&](absl::string_view type, const absl::Cord& value) {
    google::protobuf::Any* any = details.add_details();
    any->set_type_url(std::string(type));
    any->set_value(std::string(value));
  });
  // absl's codes are gRPC's.
  const auto code = static_cast<grpc::StatusCode>(status.raw_code());
  if (details.details().empty()) {
    return grpc::Status(code, Printable(status.message()));
  }
  details.set_code(status.raw_code());
  details.set_message(Printable(status.message()));
  grpc::Status result;
  grpc::SetErrorDetails(details, &result);
  return result;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  grpc::Status result;
  const absl::Status made = Guarded([&] {
    result = WithDetails(status);
    return absl::OkStatus();
  });
  if (made.ok()) return result;
  return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "out of memory");
}

}  // namespace ounce::server
