#include "server/service/call_trace.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/service/rpc_metrics.h"

namespace ounce::server {
namespace {

constexpr char kGenerate[] = "ounce.v1.Inference/Generate";

// Those that OpenTelemetry's conventions hold for the server's fault.
bool IsServersFault(grpc::StatusCode code) {
  switch (code) {
    case grpc::UNKNOWN:
    case grpc::DEADLINE_EXCEEDED:
    case grpc::UNIMPLEMENTED:
    case grpc::INTERNAL:
    case grpc::UNAVAILABLE:
    case grpc::DATA_LOSS:
      return true;
    default:
      return false;
  }
}

void AddServer(const std::string& authority,
               std::vector<Attribute>* attributes) {
  std::string host = authority;
  const size_t colon = host.rfind(':');
  int64_t port = 0;
  if (colon != std::string::npos &&
      absl::SimpleAtoi(host.substr(colon + 1), &port)) {
    host.resize(colon);
    attributes->push_back({"server.port", port});
  }
  if (!host.empty()) {
    attributes->push_back({"server.address", std::move(host)});
  }
}

// "token:ci" and "cert:NAME" are names, all else is an address.
Attribute Caller(const std::string& peer) {
  if (absl::StartsWith(peer, "token:") || absl::StartsWith(peer, "cert:")) {
    return {"user.name", peer};
  }
  return {"client.address", peer};
}

}  // namespace

TraceContext BeginTrace(
    const Tracer& tracer,
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata) {
  // Two of them are none.
  std::string parent;
  if (metadata.count("traceparent") == 1) {
    const grpc::string_ref text = metadata.find("traceparent")->second;
    parent.assign(text.data(), text.size());
  }
  std::string state;
  const auto [first, last] = metadata.equal_range("tracestate");
  for (auto part = first; part != last; ++part) {
    absl::StrAppend(
        &state, state.empty() ? "" : ",",
        absl::string_view(part->second.data(), part->second.size()));
  }
  return tracer.Begin(parent, state);
}

Work WorkOf(CallRecord& record, const CallEnd& end) {
  const CallFacts facts = record.facts();
  const std::string& method = record.method();
  const bool own = IsOwnRpc(method);
  Work work;
  work.context = *record.trace();
  work.kind = Work::Kind::kServer;
  work.name = own ? method : "other";
  work.start = end.start;
  work.end = end.start + end.words.total;
  work.attributes = record.TakeAttributes();
  work.failed = IsServersFault(end.code);
  work.phases = record.TakePhases();
  const auto add = [&](Attribute attribute) {
    work.attributes.push_back(std::move(attribute));
  };
  add({"rpc.system", "grpc"});
  if (own) {
    const size_t slash = method.rfind('/');
    add({"rpc.service", method.substr(0, slash)});
    add({"rpc.method", method.substr(slash + 1)});
  }
  add({"rpc.grpc.status_code", static_cast<int64_t>(end.code)});
  AddServer(end.authority, &work.attributes);
  if (!record.peer().empty()) add(Caller(record.peer()));
  if (end.code != grpc::OK) {
    add({"error.type",
         end.words.reason.empty() ? end.words.code : end.words.reason});
  }
  add({"ounce.request.id", record.request_id()});
  if (!facts.model.empty()) add({"ounce.model.name", facts.model});
  if (facts.version.has_value()) add({"ounce.model.version", *facts.version});
  if (facts.tokens_in.has_value() || method == kGenerate) {
    add({"gen_ai.operation.name", "text_completion"});
    add({"gen_ai.provider.name", "ounce"});
    if (!facts.model.empty()) add({"gen_ai.request.model", facts.model});
  }
  return work;
}

}  // namespace ounce::server
