// A line of traceparent, then tracestate, as callers send them.
#include <algorithm>
#include <string>
#include <string_view>

#include "base/check.h"
#include "server/trace/trace_context.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ounce::server;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  if (const auto parent = ParseTraceparent(line)) {
    OUNCE_CHECK(line.substr(3, 32) == Hex(parent->trace) &&
                    line.substr(36, 16) == Hex(parent->span),
                "ids are written as they were");
    OUNCE_CHECK(parent->span != 0 && parent->trace != TraceId(),
                "ids are not zero");
  }
  const std::string_view state = text.substr(std::min(end + 1, text.size()));
  if (IsTracestate(state)) {
    OUNCE_CHECK(state.size() <= 512, "states are short");
    // What may be passed on may have a member of ours before it.
    OUNCE_CHECK(state.size() > 500 ||
                    std::count(state.begin(), state.end(), ',') > 30 ||
                    IsTracestate("0ours0=1," + std::string(state)) ||
                    state.find("0ours0") != std::string_view::npos,
                "members stand for themselves");
  }
  return 0;
}
