// Which trace a piece of work belongs to, as callers say it in `traceparent`
// and `tracestate` (W3C Trace Context, level 2).
#ifndef OUNCE_SERVER_TRACE_TRACE_CONTEXT_H_
#define OUNCE_SERVER_TRACE_TRACE_CONTEXT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ounce::server {

struct TraceId {
  uint64_t high = 0;
  uint64_t low = 0;
  bool operator==(const TraceId&) const = default;
};
using SpanId = uint64_t;  // 0: none

// 32 and 16 lowercase digits.
std::string Hex(const TraceId& id);
std::string Hex(SpanId id);

struct TraceParent {
  TraceId trace;
  SpanId span = 0;
  bool sampled = false;
};

// Nothing of what the recommendation calls invalid. Of versions after 00 it
// reads the fields that 00 has.
std::optional<TraceParent> ParseTraceparent(std::string_view text);

// Whether it may be passed on: at most 512 bytes and 32 members, each well
// formed, no key twice.
bool IsTracestate(std::string_view text);

// Where one piece of work stands in its trace.
struct TraceContext {
  TraceId trace;
  SpanId span = 0;    // its own
  SpanId parent = 0;  // its caller's; 0: it is the first of the trace
  bool sampled = false;
  std::string state = {};  // the caller's tracestate
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_TRACE_TRACE_CONTEXT_H_
