// Says which work is traced, and passes on what is told of it. Where tracing is
// off there is none.
//
// Threads: any thread may call anything; nothing blocks.
#ifndef OUNCE_SERVER_TRACE_TRACER_H_
#define OUNCE_SERVER_TRACE_TRACER_H_

#include <cstdint>
#include <functional>
#include <string_view>

#include "server/trace/trace_context.h"
#include "server/trace/work.h"

namespace ounce::server {

class Tracer {
 public:
  struct Options {
    // Of the traces that begin here, the share that is kept: 0 to 1. Of those
    // that callers began, they say.
    double sample = 1;
    std::function<uint64_t()> draw;  // random bits; any thread
    std::function<void(Work)> record;
  };

  explicit Tracer(Options options) : options_(std::move(options)) {}

  // Of work that begins now. A bad `traceparent`, or an empty one, begins a
  // trace; a `tracestate` is left out if it is bad or nothing is recorded.
  TraceContext Begin(std::string_view traceparent = "",
                     std::string_view tracestate = "") const;

  // Of a context that is sampled. Texts of its attributes are cut to
  // kMaxTextBytes, and keep no more memory than that.
  void Record(Work work) const;

 private:
  uint64_t DrawId() const;

  const Options options_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_TRACE_TRACER_H_
