// Work as OTLP's spans, in the JSON form of ExportTraceServiceRequest
// (opentelemetry.io/docs/specs/otlp): ids in hexadecimal, 64-bit integers as
// strings, enums as numbers.
#ifndef OUNCE_SERVER_TRACE_OTLP_JSON_H_
#define OUNCE_SERVER_TRACE_OTLP_JSON_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/trace/trace_context.h"
#include "server/trace/work.h"

namespace ounce::server {

// Who sends them.
struct Resource {
  std::string version;  // of Ounce
  std::vector<std::pair<std::string, std::string>> attributes;
};

// `to_system`: what the system's clock is ahead of base/clock.h. `new_id`: of
// each phase.
std::string OtlpJson(const Resource& resource, absl::Span<const Work> works,
                     absl::Duration to_system,
                     const std::function<SpanId()>& new_id);

// How many spans an ExportTraceServiceResponse says that it did not take; 0 of
// what is none.
int64_t RejectedSpans(const std::string& response);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_TRACE_OTLP_JSON_H_
