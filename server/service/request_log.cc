#include "server/service/request_log.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/match.h"
#include "base/guard.h"
#include "server/service/call_record.h"

namespace ounce::server {
namespace {

using Json = nlohmann::ordered_json;

// Milliseconds to a thousandth.
double Milliseconds(absl::Duration duration) {
  return std::round(absl::ToDoubleMicroseconds(duration)) / 1000;
}

void SetText(const char* key, const std::string& text, Json* line) {
  if (!text.empty()) (*line)[key] = text;
}

void SetDuration(const char* key, const std::optional<absl::Duration>& duration,
                 Json* line) {
  if (duration.has_value()) (*line)[key] = Milliseconds(*duration);
}

void SetNumber(const char* key, const std::optional<int64_t>& number,
               Json* line) {
  if (number.has_value()) (*line)[key] = *number;
}

}  // namespace

void RequestLog::Write(const CallRecord& record, const End& end) {
  const bool failed = end.code != "OK" && end.code != "CANCELLED";
  if (!on() || (options_.mode == RequestLogMode::kErrors && !failed) ||
      absl::StartsWith(record.method(), "grpc.")) {
    return;
  }
  const std::optional<int64_t> left_out = lines_.Take(clock_.Now());
  if (!left_out.has_value()) return;
  // Without memory for a line there is none.
  (void)Guarded([&] {
    const CallFacts facts = record.facts();
    Json line;
    line["request_id"] = record.request_id();
    if (record.trace().has_value()) {
      line["trace_id"] = Hex(record.trace()->trace);
    }
    line["method"] = record.method();
    SetText("model", facts.model, &line);
    SetNumber("version", facts.version, &line);
    SetText("peer", record.peer(), &line);
    line["code"] = end.code;
    SetText("reason", end.reason, &line);
    SetDuration("queued_ms", facts.queued, &line);
    SetDuration("first_token_ms", facts.first_token, &line);
    SetDuration("total_ms", end.total, &line);
    SetNumber("tokens_in", facts.tokens_in, &line);
    SetNumber("tokens_cached", facts.tokens_cached, &line);
    SetNumber("tokens_out", facts.tokens_out, &line);
    if (*left_out > 0) line["left_out"] = *left_out;
    options_.write(line.dump(-1, ' ', false, Json::error_handler_t::replace));
    return absl::OkStatus();
  });
}

}  // namespace ounce::server
