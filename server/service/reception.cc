#include "server/service/reception.h"

#include <grpcpp/support/proto_buffer_reader.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/guard.h"
#include "base/status_macros.h"
#include "server/scheduler/refusal.h"
#include "server/service/message_judge.h"

namespace ounce::server {
namespace {

constexpr size_t kMaxShownBytes = 256;

// One line of a text that a client may have written.
std::string Shown(std::string_view text) {
  std::string result;
  for (const char c : text.substr(0, kMaxShownBytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_iscntrl(byte)) {
      absl::StrAppend(&result, "\\x", absl::Hex(byte, absl::kZeroPad2));
    } else {
      result += c;
    }
  }
  if (text.size() > kMaxShownBytes) result += "...";
  return result;
}

}  // namespace

absl::Status ReadRequest(const grpc::ByteBuffer& bytes,
                         google::protobuf::Message* request) {
  if (!bytes.Valid()) {
    return absl::CancelledError("the call ended before its message came");
  }
  grpc::ByteBuffer own;
  own.Swap(const_cast<grpc::ByteBuffer*>(&bytes));
  {
    grpc::ProtoBufferReader reader(&own);
    RETURN_IF_ERROR(
        JudgeMessage(&reader, own.Length(), *request->GetDescriptor()));
  }
  grpc::ProtoBufferReader reader(&own);
  if (!request->ParseFromZeroCopyStream(&reader)) {
    return Refusal(Reason::kRequestMalformed,
                   absl::StrCat("the request is not a serialized ",
                                request->GetDescriptor()->full_name()));
  }
  request->DiscardUnknownFields();
  return absl::OkStatus();
}

std::string CallerOf(const grpc::CallbackServerContext& context,
                     const PeerSet& trusted_proxies) {
  // Proxies append: the last entry of the last header is the nearest one's.
  absl::string_view forwarded_for;
  const auto [first, last] =
      context.client_metadata().equal_range("x-forwarded-for");
  for (auto entry = first; entry != last; ++entry) {
    forwarded_for = {entry->second.data(), entry->second.size()};
  }
  return PeerOf(context.peer(), forwarded_for, trusted_proxies);
}

absl::Status Reception::Read(const grpc::ByteBuffer& bytes,
                             google::protobuf::Message* request) {
  trimmer_.Note(bytes.Length());
  return ReadRequest(bytes, request);
}

int64_t Reception::TakeLine() {
  MutexLock lock(&mu_);
  if (!lines_.Take(clock_.Now())) {
    ++unwritten_;
    return -1;
  }
  return std::exchange(unwritten_, 0);
}

void Reception::LogFailure(std::string_view method, std::string_view peer,
                           std::string_view model, const absl::Status& status) {
  if (status.ok() || absl::IsCancelled(status)) return;
  const int64_t unwritten = TakeLine();
  if (unwritten < 0) return;
  // Without memory for a line there is none.
  (void)Guarded([&] {
    if (unwritten > 0) {
      spdlog::warn("{} more calls failed in the meantime", unwritten);
    }
    spdlog::warn("{} from {}{}{}: {}: {}", method,
                 peer.empty() ? "an unknown peer" : peer,
                 model.empty() ? "" : ", model ", Shown(model),
                 absl::StatusCodeToString(status.code()),
                 Shown(std::string(status.message())));
    return absl::OkStatus();
  });
}

}  // namespace ounce::server
