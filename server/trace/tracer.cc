#include "server/trace/tracer.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace ounce::server {
namespace {

// As OpenTelemetry's samplers: by the last 63 bits of the trace's id, so that
// all who take part in it, and have the same ratio, decide alike.
bool IsSampled(const TraceId& trace, double ratio) {
  if (ratio >= 1) return true;
  const uint64_t bound = static_cast<uint64_t>(std::ldexp(ratio, 63));
  return trace.low >> 1 < bound;
}

// Not within a character, if it is UTF-8.
void Cut(std::string& text) {
  if (text.capacity() <= kMaxTextBytes) return;
  size_t size = std::min(text.size(), kMaxTextBytes);
  const auto splits = [&](size_t at) {
    return at < text.size() && (text[at] & '\xc0') == '\x80';
  };
  while (size + 3 > kMaxTextBytes && splits(size)) --size;
  std::string(text, 0, size).swap(text);  // with a buffer of its size
}

void CutTexts(std::vector<Attribute>& attributes) {
  for (Attribute& attribute : attributes) {
    if (auto* const text = std::get_if<std::string>(&attribute.value)) {
      Cut(*text);
    } else if (auto* const texts =
                   std::get_if<std::vector<std::string>>(&attribute.value)) {
      for (std::string& each : *texts) Cut(each);
    }
  }
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
    if (context.sampled && IsTracestate(tracestate)) context.state = tracestate;
  } else {
    context.trace = {.high = DrawId(), .low = DrawId()};
    context.sampled = IsSampled(context.trace, options_.sample);
  }
  return context;
}

void Tracer::Record(Work work) const {
  CutTexts(work.attributes);
  for (Phase& phase : work.phases) CutTexts(phase.attributes);
  options_.record(std::move(work));
}

}  // namespace ounce::server
