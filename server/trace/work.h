// What is told of one piece of work, a call or a load, when it is over: a span
// and a span below it for each of its phases. It knows no protocol, neither
// that of the call nor that by which spans travel.
#ifndef OUNCE_SERVER_TRACE_WORK_H_
#define OUNCE_SERVER_TRACE_WORK_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "server/trace/trace_context.h"

namespace ounce::server {

// Of a text of an attribute's, which a caller may have written. Tracer cuts.
inline constexpr size_t kMaxTextBytes = 256;

// By OpenTelemetry's semantic conventions, else "ounce.*". Never what was asked
// or answered.
struct Attribute {
  const char* key;  // lives for ever
  std::variant<int64_t, double, std::string, std::vector<std::string>> value;
};

struct Phase {
  const char* name;  // lives for ever
  absl::Time start;  // by base/clock.h, as all times here
  absl::Time end;
  std::vector<Attribute> attributes = {};
};

struct Work {
  enum class Kind { kInternal, kServer };

  TraceContext context;
  Kind kind = Kind::kInternal;
  std::string name = {};
  absl::Time start = {};
  absl::Time end = {};
  std::vector<Attribute> attributes = {};
  bool failed = false;  // by no fault of the caller's
  std::vector<Phase> phases = {};

  int64_t num_spans() const { return 1 + static_cast<int64_t>(phases.size()); }
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_TRACE_WORK_H_
