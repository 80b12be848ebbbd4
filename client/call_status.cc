#include "client/call_status.h"

#include <grpcpp/support/error_details.h>

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/address.h"
#include "client/peer_names.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace ounce::client {
namespace {

// "last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host:
// Connection refused" -> "Connection refused".
std::string LastReason(absl::string_view message) {
  const size_t colon = message.rfind(": ");
  return std::string(
      colon == absl::string_view::npos ? message : message.substr(colon + 2));
}

// What a certificate that has other names than its server is for; empty if that
// can't be told.
std::string NamesAt(const Endpoint& endpoint) {
  constexpr absl::Duration kPatience = absl::Seconds(1);
  const absl::StatusOr<Address> address = ParseAddress(endpoint.address);
  if (endpoint.proxy.has_value() || !address.ok() || address->host.empty()) {
    return "";
  }
  return NamesOfPeer(address->host, address->port, kPatience);
}

// What is wrong with TLS when no connection comes about.
std::optional<std::string> TlsFailure(const std::string& message,
                                      const Endpoint& endpoint) {
  if (!endpoint.tls) {
    // Its first frame is a GOAWAY; HTTP/1 is said to be that.
    if (!absl::StrContains(message, "HTTP/2") ||
        absl::StrContains(message, "http1.x")) {
      return std::nullopt;
    }
    return absl::StrCat("what answers at ", endpoint.address,
                        " takes no connection without TLS, or is no "
                        "ounce-server; connect with --tls");
  }
  if (absl::StrContains(message, "certificate verify failed")) {
    return absl::StrCat("the certificate of ", endpoint.address,
                        " is not to be trusted: it has ended, or none of ",
                        endpoint.trusted,
                        " has signed it; --ca names those that are trusted");
  }
  if (absl::StrContains(message, "is not in peer certificate") ||
      absl::StrContains(message, "Hostname Verification")) {
    const std::string names = NamesAt(endpoint);
    return absl::StrCat("the certificate of ", endpoint.address,
                        " is for other names than '", endpoint.host, "'",
                        names.empty() ? "" : ": ", names,
                        "; call the server by a name of its certificate");
  }
  if (absl::StrContains(message, "wrong version number") ||
      absl::StrContains(message, "unexpected eof")) {
    return absl::StrCat("what answers at ", endpoint.address,
                        " speaks no TLS; leave --tls, --ca and --cert out");
  }
  if (absl::StrContains(message, "Ssl handshake failed") ||
      absl::StrContains(message, "SSL_ERROR")) {
    return absl::StrCat("the TLS handshake with ", endpoint.address,
                        " failed: ", LastReason(message));
  }
  return std::nullopt;
}

// What the gRPC library itself says about a connection, in our words; nothing
// for what a server says.
std::optional<std::string> ConnectionFailure(const grpc::Status& status,
                                             const Endpoint& endpoint) {
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) {
    return std::nullopt;
  }
  const std::string& message = status.error_message();
  const std::string reason = LastReason(message);
  const bool not_found = absl::StartsWith(message, "DNS resolution failed");
  if (!not_found && !absl::StartsWith(message, "failed to connect to all")) {
    for (const char* gone :
         {"Socket closed", "Connection reset", "Broken pipe", "recvmsg",
          "sendmsg", "Transport closed", "GOAWAY"}) {
      if (absl::StrContains(message, gone)) return "the server went away";
    }
    return std::nullopt;
  }
  if (endpoint.proxy.has_value()) {
    return absl::StrCat(
        "cannot reach ", endpoint.address, " through the proxy ",
        endpoint.proxy->shown, " (", endpoint.proxy->variable, "): ", reason,
        "; to go there directly, unset ", endpoint.proxy->variable, " or name ",
        endpoint.host, " in no_proxy");
  }
  if (not_found) {
    return absl::StrCat("no host '", endpoint.host, "' (", reason, "); check ",
                        endpoint.setting);
  }
  if (const auto failure = TlsFailure(message, endpoint); failure.has_value()) {
    return *failure;
  }
  if (absl::StrContains(message, "HTTP/2") ||
      absl::StrContains(message, "http1.x")) {
    return absl::StrCat(
        "what answers at ", endpoint.address,
        " does not speak gRPC; is it the port for metrics, which speaks HTTP? "
        "Say where the server is with ",
        endpoint.setting);
  }
  if (absl::StrContains(message, "Socket closed") ||
      absl::StrContains(message, "reset by peer") ||
      absl::StrContains(message, "Endpoint read failed")) {
    return absl::StrCat(
        "what listens at ", endpoint.address,
        " closes connections at once: it is stopping, has too many of them, ",
        endpoint.tls ? "wants a certificate that it trusts (--cert and --key), "
                     : "",
        "or is no ounce-server; say where the server is with ",
        endpoint.setting);
  }
  return absl::StrCat(
      "nothing answers at ", endpoint.address, " (", reason,
      "); start a server (ounce-server --model NAME=PATH) or say where it is "
      "with ",
      endpoint.setting);
}

// google.rpc's, if the status has any.
google::rpc::Status DetailsOf(const grpc::Status& status) {
  google::rpc::Status details;
  if (status.error_details().empty() ||
      !grpc::ExtractErrorDetails(status, &details).ok()) {
    return {};
  }
  return details;
}

absl::Duration DelayOf(const google::rpc::RetryInfo& retry) {
  return absl::Seconds(retry.retry_delay().seconds()) +
         absl::Nanoseconds(retry.retry_delay().nanos());
}

// A fault of the server's, for whoever looks after it.
bool IsServersFault(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::INTERNAL ||
         status.error_code() == grpc::StatusCode::UNKNOWN ||
         status.error_code() == grpc::StatusCode::DATA_LOSS;
}

// When to try again, of which the message may speak already.
void AppendDelay(absl::Duration delay, std::string* message) {
  const std::string kAgain = "try again ";
  const std::string kLater = "try again later";
  const std::string after = absl::FormatDuration(delay);
  if (const size_t at = message->rfind(kLater); at != std::string::npos) {
    message->replace(at, kLater.size(), absl::StrCat(kAgain, "in ", after));
  } else if (absl::StrContains(*message, kAgain)) {
    absl::StrAppend(message, " (in about ", after, ")");
  } else {
    absl::StrAppend(message, "; ", kAgain, "in ", after);
  }
}

// What google.rpc's details say that the message does not: which field is
// wrong, when to try again, and of a fault of the server's which request it
// was.
void AppendDetails(const grpc::Status& status,
                   const google::rpc::Status& details, std::string* message) {
  for (const google::protobuf::Any& detail : details.details()) {
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    google::rpc::RequestInfo request;
    if (detail.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        if (absl::StrContains(*message, violation.field())) continue;
        absl::StrAppend(message, "; field ", violation.field(), ": ",
                        violation.description());
      }
    } else if (detail.UnpackTo(&retry)) {
      AppendDelay(DelayOf(retry), message);
    } else if (IsServersFault(status) && detail.UnpackTo(&request)) {
      absl::StrAppend(message, "; request ", request.request_id(),
                      " in the server's log");
    }
  }
}

}  // namespace

std::optional<absl::Duration> RetryDelay(const grpc::Status& status) {
  google::rpc::RetryInfo retry;
  const google::rpc::Status details = DetailsOf(status);
  for (const google::protobuf::Any& detail : details.details()) {
    if (detail.UnpackTo(&retry)) return DelayOf(retry);
  }
  return std::nullopt;
}

absl::Status ToAbslStatus(const grpc::Status& status,
                          const Endpoint& endpoint) {
  if (status.ok()) return absl::OkStatus();
  if (const auto failure = ConnectionFailure(status, endpoint);
      failure.has_value()) {
    return absl::UnavailableError(*failure);
  }
  std::string message = status.error_message();
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED &&
      message.empty()) {
    message = absl::StrCat(
        "what answers at ", endpoint.address,
        " does not know this call; are --server (Inference) and --admin "
        "(ModelAdmin) swapped, or is the server older than this program?");
  } else if (absl::StrContains(message, "larger than max")) {
    absl::StrAppend(&message,
                    "; ounce-server's --max_message_bytes is the limit");
  } else if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED &&
             message == "Deadline Exceeded") {
    message = "the deadline has passed";
  }
  const google::rpc::Status details = DetailsOf(status);
  AppendDetails(status, details, &message);
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()),
                      message);
  for (const google::protobuf::Any& detail : details.details()) {
    result.SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
  return result;
}

}  // namespace ounce::client
