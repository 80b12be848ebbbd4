#include "server/service/grpc_status.h"

#include <grpcpp/support/error_details.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "base/guard.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "model/tokenizer/tokenizer.h"

namespace ounce::server {
namespace {

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

// The message without the field that it begins with.
std::string DescriptionOf(const absl::Status& status,
                          const std::string& field) {
  return Printable(
      absl::StripPrefix(status.message(), absl::StrCat(field, ": ")));
}

google::rpc::ErrorInfo InfoOf(const ReasonRow& row) {
  google::rpc::ErrorInfo info;
  info.set_reason(row.name);
  info.set_domain(kErrorDomain);
  return info;
}

grpc::Status WithDetails(const absl::Status& status) {
  google::rpc::Status details;
  // absl's codes are gRPC's.
  details.set_code(status.raw_code());
  details.set_message(Printable(status.message()));
  const auto add = [&](const google::protobuf::Message& detail) {
    details.add_details()->PackFrom(detail);
  };
  const ReasonRow& row = RowOf(ReasonOf(status));
  add(InfoOf(row));
  if (const std::string field = FieldOf(status); !field.empty()) {
    google::rpc::BadRequest bad_request;
    google::rpc::BadRequest::FieldViolation* violation =
        bad_request.add_field_violations();
    violation->set_field(field);
    violation->set_description(DescriptionOf(status, field));
    add(bad_request);
  }
  if (*row.quota != '\0') {
    google::rpc::QuotaFailure quota;
    google::rpc::QuotaFailure::Violation* violation = quota.add_violations();
    violation->set_subject(row.quota);
    violation->set_description(details.message());
    add(quota);
  }
  if (const std::string model = ModelOf(status); !model.empty()) {
    google::rpc::ResourceInfo resource;
    resource.set_resource_type(kModelResource);
    resource.set_resource_name(Printable(model));
    add(resource);
  }
  if (row.retry_ms > 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(row.retry_ms / 1000);
    retry.mutable_retry_delay()->set_nanos(row.retry_ms % 1000 * 1'000'000);
    add(retry);
  }
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

grpc::Status WithRequestId(const grpc::Status& status,
                           const std::string& request_id) {
  google::rpc::Status details;
  if (status.error_details().empty() ||
      !grpc::ExtractErrorDetails(status, &details).ok()) {
    details.set_code(status.error_code());
    details.set_message(status.error_message());
    const absl::Status of_code(
        static_cast<absl::StatusCode>(status.error_code()), "");
    details.add_details()->PackFrom(InfoOf(RowOf(ReasonOf(of_code))));
  }
  google::rpc::RequestInfo info;
  info.set_request_id(request_id);
  details.add_details()->PackFrom(info);
  return grpc::Status(status.error_code(), status.error_message(),
                      details.SerializeAsString());
}

grpc::Status WithoutUnforeseenWords(const grpc::Status& status) {
  for (const Reason unforeseen :
       {Reason::kInternal, Reason::kUnknown, Reason::kDataLoss}) {
    const ReasonRow& row = RowOf(unforeseen);
    if (static_cast<int>(row.code) != static_cast<int>(status.error_code())) {
      continue;
    }
    const std::string reason = ReasonIn(status);
    if (!reason.empty() && reason != row.name) return status;
    return ToGrpcStatus(
        Refusal(unforeseen, "the server failed; its log says how"));
  }
  return status;
}

std::string ReasonIn(const grpc::Status& status) {
  google::rpc::Status details;
  if (status.error_details().empty() ||
      !grpc::ExtractErrorDetails(status, &details).ok()) {
    return "";
  }
  for (const google::protobuf::Any& detail : details.details()) {
    google::rpc::ErrorInfo info;
    if (detail.UnpackTo(&info)) return info.reason();
  }
  return "";
}

std::string CodeName(grpc::StatusCode code) {
  const std::string name =
      absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
  return name.empty() ? "UNKNOWN" : name;
}

}  // namespace ounce::server
