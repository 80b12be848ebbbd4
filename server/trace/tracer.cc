#include "server/trace/tracer.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace ounce::server {
namespace {

// As OpenTelemetry's samplers: by the last 63 bits of the trace's id, so that
// all who take part in it, and have the same ratio, decide alike.
bool IsSampled(const TraceId& trace, double ratio) {
  if (ratio >= 1) return true;
  const uint64_t bound = static_cast<uint64_t>(std::ldexp(ratio, 63));
  return trace.low >> 1 < bound;
}

}  // namespace

uint64_t Tracer::DrawId() const {
  return std::max<uint64_t>(options_.draw(), 1);  // 0 is none
}

TraceContext Tracer::Begin(std::string_view traceparent,
                           std::string_view tracestate) const {
  TraceContext context;
  context.span = DrawId();
  const std::optional<TraceParent> parent = ParseTraceparent(traceparent);
  if (parent.has_value()) {
    context.trace = parent->trace;
    context.parent = parent->span;
    context.sampled = parent->sampled;
    if (IsTracestate(tracestate)) context.state = tracestate;
  } else {
    context.trace = {.high = DrawId(), .low = DrawId()};
    context.sampled = IsSampled(context.trace, options_.sample);
  }
  return context;
}

}  // namespace ounce::server
