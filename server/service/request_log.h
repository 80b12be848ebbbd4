// A line of JSON for each request: who asked what of which model, how it ended
// and how long it took. Never what was asked or answered, and no path.
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_SERVICE_REQUEST_LOG_H_
#define OUNCE_SERVER_SERVICE_REQUEST_LOG_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "base/clock.h"
#include "server/net/line_limit.h"
#include "server/net/token_bucket.h"

namespace ounce::server {

class CallRecord;

enum class RequestLogMode {
  kOff,
  kErrors,  // requests that end badly, unless the caller cancelled them
  kAll,
};

class RequestLog {
 public:
  struct Options {
    RequestLogMode mode = RequestLogMode::kOff;
    // Gets each line, an object without its newline; on any thread.
    std::function<void(const std::string& line)> write;
  };
  // How a call ended, as its caller sees it.
  struct End {
    std::string code;    // "OK", "NOT_FOUND"
    std::string reason;  // of ErrorInfo, or ""
    absl::Duration total;
  };

  // `clock` must outlive it.
  RequestLog(Options options, const Clock& clock)
      : options_(std::move(options)),
        clock_(clock),
        lines_(kLines, clock.Now()) {}

  // Whether Write writes at all.
  bool on() const { return options_.mode != RequestLogMode::kOff; }

  // Not for calls of health and reflection. Of more than a thousand lines a
  // second those above are left out, and the next line says how many
  // (`left_out`). Does not throw.
  void Write(const CallRecord& record, const End& end);

 private:
  static constexpr TokenBucket::Rate kLines = {.burst = 2000,
                                               .per_second = 1000};

  const Options options_;
  const Clock& clock_;
  LineLimit lines_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_REQUEST_LOG_H_
