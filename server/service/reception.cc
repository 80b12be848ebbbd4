#include "server/service/reception.h"

#include <google/protobuf/descriptor.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/guard.h"
#include "base/status_macros.h"
#include "server/frontend/gave_up.h"
#include "server/scheduler/refusal.h"
#include "server/service/deadline.h"
#include "server/service/grpc_status.h"
#include "server/service/message_judge.h"

namespace ounce::server {
namespace {

constexpr size_t kMaxShownBytes = 256;
constexpr size_t kMaxIdBytes = 64;

bool IsRequestId(std::string_view text) {
  return !text.empty() && text.size() <= kMaxIdBytes &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return c >= ' ' && c <= '~'; });
}

// Whether messages of a reason, by its name, may hold paths of files.
bool MayNameFiles(std::string_view reason) {
  for (const Reason of_files :
       {Reason::kCheckpointNotFound, Reason::kTensorNotFound,
        Reason::kCheckpointNotReadable, Reason::kPathNotAllowed,
        Reason::kCheckpointDamaged, Reason::kCheckpointInvalid,
        Reason::kCheckpointNotSupported, Reason::kCheckpointChanged,
        Reason::kFolderExists, Reason::kFolderNotWritable, Reason::kDiskFull}) {
    if (reason == RowOf(of_files).name) return true;
  }
  return false;
}

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

std::string ModelNamedIn(const google::protobuf::Message& request) {
  const google::protobuf::Descriptor& type = *request.GetDescriptor();
  for (const char* field_name : {"model", "name", "model_name"}) {
    const google::protobuf::FieldDescriptor* field =
        type.FindFieldByName(field_name);
    if (field != nullptr) {
      return request.GetReflection()->GetString(request, field);
    }
  }
  return "";
}

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

std::string CallerOf(const grpc::ServerContextBase& context,
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

std::string Reception::PeerOf(const grpc::ServerContextBase& context) const {
  if (options_.tokens != nullptr) {
    const auto header = context.client_metadata().find("authorization");
    const std::string name =
        header == context.client_metadata().end()
            ? ""
            : options_.tokens->NameOf(
                  {header->second.data(), header->second.size()});
    if (!name.empty()) return absl::StrCat("token:", name);
  }
  std::string peer = CallerOf(context, options_.trusted_proxies);
  if (options_.identities == nullptr) return peer;
  // A proxy's certificate says nothing about whom it asks for.
  const bool forwarded = peer != server::PeerOf(context.peer(), "", {});
  const std::string name =
      forwarded ? "" : options_.identities->Of(context.peer());
  return name.empty() ? peer : absl::StrCat("cert:", name);
}

absl::Status Reception::Read(const grpc::ServerContextBase& context,
                             const grpc::ByteBuffer& bytes,
                             google::protobuf::Message* request) {
  trimmer_.Note(bytes.Length());
  const absl::Status read = ReadRequest(bytes, request);
  if (absl::IsCancelled(read)) {
    const absl::Time now = clock_.Now();
    return WhyGivenUp(now, FromGrpcDeadline(context.raw_deadline(), clock_),
                      now);
  }
  RETURN_IF_ERROR(read);
  calls_.Of(context)->Add(
      [&](CallFacts& facts) { facts.model = ModelNamedIn(*request); });
  return absl::OkStatus();
}

std::string Reception::NewRequestId() const {
  std::string id;
  for (int i = 0; i < 2; ++i) {
    absl::StrAppend(
        &id, absl::Hex(options_.draw ? options_.draw() : 0, absl::kZeroPad16));
  }
  return id;
}

std::string Reception::RequestIdIn(
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata) const {
  const auto given = metadata.find(kRequestIdKey);
  if (given == metadata.end() ||
      !IsRequestId({given->second.data(), given->second.size()})) {
    return NewRequestId();
  }
  return {given->second.data(), given->second.size()};
}

CallContext Reception::ContextOf(const grpc::CallbackServerContext& context) {
  const std::shared_ptr<CallRecord> record = calls_.Of(context);
  const absl::Time now = clock_.Now();
  if (record->traced()) {
    record->Add([&](CallFacts& facts) { facts.arrival = now; });
  }
  return {.peer = record->peer(),
          .request_id = record->request_id(),
          .arrival = now,
          .deadline = FromGrpcDeadline(context.raw_deadline(), clock_),
          .cancelled = [&context] { return context.IsCancelled(); }};
}

void Reception::LogFailure(const CallRecord& call, const grpc::Status& status) {
  if (status.ok() || status.error_code() == grpc::StatusCode::CANCELLED) return;
  const std::optional<int64_t> unwritten = lines_.Take(clock_.Now());
  if (!unwritten.has_value()) return;
  // Without memory for a line there is none.
  (void)Guarded([&] {
    if (*unwritten > 0) {
      spdlog::warn("{} more calls failed in the meantime", *unwritten);
    }
    const std::string& peer = call.peer();
    const std::string model = call.facts().model;
    const std::string& method = call.method();
    const std::string reason = ReasonIn(status);
    std::string words =
        MayNameFiles(reason) ? reason : Shown(status.error_message());
    // gRPC has none for a method that no service of the port has.
    if (words.empty() &&
        status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
      words =
          "no such method at this port; Inference is at --listen, ModelAdmin "
          "at --admin_listen";
    }
    spdlog::warn("{} from {}{}{}: {}: {} (request {})",
                 Shown(method.substr(method.rfind('/') + 1)),
                 peer.empty() ? "an unknown peer" : peer,
                 model.empty() ? "" : ", model ", Shown(model),
                 CodeName(status.error_code()), words, call.request_id());
    return absl::OkStatus();
  });
}

}  // namespace ounce::server
