// Sends spans to a collector from a thread of its own, in batches.
//
//   Add --> [ queue, bounded ] --> a batch of JSON --> poster
//
// What the collector does not take now (no connection, no answer, 429, 502, 503
// or 504) is sent again for a minute, with pauses that grow, or of the length
// that it asks for, to 30 s; meanwhile the queue fills, and beyond its bound
// spans are dropped.
//
// Threads: any thread may call Add and stats; one calls Stop. Nothing but Stop
//   waits.
#ifndef OUNCE_SERVER_TRACE_SPAN_EXPORTER_H_
#define OUNCE_SERVER_TRACE_SPAN_EXPORTER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/trace/otlp_json.h"
#include "server/trace/work.h"

namespace ounce::server {

struct HttpAnswer {
  int code = 200;
  std::string body = {};
  absl::Duration retry_after = absl::ZeroDuration();  // zero: it does not say
};

class HttpPoster {
 public:
  virtual ~HttpPoster() = default;
  // One call at a time. Errors: kUnavailable, with words for the log, when
  // there is no answer.
  virtual absl::StatusOr<HttpAnswer> Post(const std::string& body) = 0;
  // Posts, those that run too, end by then; any thread.
  virtual void EndBy(absl::Time deadline) = 0;
};

class SpanExporter {
 public:
  struct Options {
    Resource resource = {};
    std::function<uint64_t()> draw = nullptr;  // random bits
    std::function<absl::Time()> system_now = absl::Now;
    int64_t max_queued = 4096;  // spans, the batch that is sent apart
    int64_t batch = 512;        // spans, about
    absl::Duration delay = absl::Seconds(1);  // of a batch that is not full
    absl::Duration first_pause = absl::Seconds(1);
    absl::Duration longest_pause = absl::Seconds(30);
    absl::Duration patience = absl::Minutes(1);  // with one batch
  };
  // Spans since the start.
  struct Stats {
    int64_t sent = 0;
    int64_t queue_full = 0;   // dropped at once
    int64_t refused = 0;      // by the collector
    int64_t unreachable = 0;  // given up
  };

  // `clock` must outlive it. Errors: kResourceExhausted without a thread.
  static absl::StatusOr<std::unique_ptr<SpanExporter>> Start(
      Options options, std::unique_ptr<HttpPoster> poster, const Clock& clock);

  ~SpanExporter() { Stop(absl::InfinitePast()); }

  void Add(Work work);

  // Sends what is queued, each batch once, until `deadline` at most; what comes
  // from now on is dropped.
  void Stop(absl::Time deadline);

  Stats stats() const;

 private:
  SpanExporter(Options options, std::unique_ptr<HttpPoster> poster,
               const Clock& clock);

  void Run();
  // Empty: it is over.
  std::vector<Work> NextBatch();
  void Send(const std::vector<Work>& batch);
  // Whether to try again.
  bool Pause(absl::Duration duration);
  void CountSent(int64_t spans, int64_t rejected);
  void CountLost(int64_t Stats::*why, int64_t spans);
  bool stopping() const;
  // To the log, when it begins and when it ends.
  void TellTrouble(const std::string& why);

  const Options options_;
  const std::unique_ptr<HttpPoster> poster_;
  const Clock& clock_;

  bool in_trouble_ = false;  // the thread's own

  mutable Mutex mu_;
  CondVar changed_;
  std::deque<Work> queue_ ABSL_GUARDED_BY(mu_);
  int64_t queued_ ABSL_GUARDED_BY(mu_) = 0;  // spans of queue_
  absl::Time oldest_ ABSL_GUARDED_BY(mu_);   // of queue_, at the latest
  absl::Time end_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  Stats stats_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_TRACE_SPAN_EXPORTER_H_
