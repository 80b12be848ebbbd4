// Batches of pictures for one served model.
//
//   Submit() --> [ queue, bounded ] --> batch --> DetectEngine::Run() --> sink
//
// A batch takes what waits, up to a number of pictures and of pixels: peers
// take turns, each one's pictures go in the order they came. Pictures of all
// sizes share one, because the result for a picture does not depend on the
// others. It starts when it is full, or when its oldest picture has waited for
// max_wait; what came while another batch ran has waited already.
//
// One thread per scheduler (the engine's thread) runs the batches.
//
// Threads: Submit, Cancel, SetEngine, Drain, stats: any thread; none waits for
//   a batch except Drain and the destructor.
// Ownership: engine versions are shared; a batch ends on the version it began
//   on, which is freed then if it is no longer served.
// When the queue is full, a newcomer takes the place of the last request of the
// peer that has most in it, if its own has fewer.
// A request with a deadline is refused when its answer can't come before it at
// the speed of late (work_speed.h): the batch that runs has to end, then come
// the pictures of its peer, and as many of each other one.
// Errors of Submit: kResourceExhausted when the queue is full (refusal.h; also
//   told to sinks of requests that have to leave it) or the deadline is too
//   soon; kUnavailable after Drain. `sink` is not called then.
// A deadline that passes, or Cancel, ends a queued request at once. A batch
// that runs is not interrupted: the answer to whoever no longer wants it is
// dropped.
#ifndef OUNCE_SERVER_SCHEDULER_DETECT_SCHEDULER_H_
#define OUNCE_SERVER_SCHEDULER_DETECT_SCHEDULER_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "server/scheduler/detect_engine.h"
#include "server/scheduler/detect_request.h"

namespace ounce::server {

class DetectScheduler {
 public:
  struct Options {
    int64_t max_queued = 256;
    int64_t max_batch_pictures = 8;
    // Of the prepared pictures of one batch, so that its duration and its
    // memory stay bounded; a larger picture goes alone.
    int64_t max_batch_pixels = 2'000'000;
    absl::Duration max_wait = absl::Milliseconds(2);  // of a batch's oldest
    // Without a picture for so long, the engine's memory goes back.
    absl::Duration max_idle = absl::Seconds(5);
  };

  using RequestId = uint64_t;

  // `clock` and `observer` must outlive it.
  // Errors: kResourceExhausted when there is no thread to be had.
  static absl::StatusOr<std::unique_ptr<DetectScheduler>> Create(
      const Options& options, std::shared_ptr<DetectEngine> engine,
      const Clock& clock, DetectObserver& observer);

  virtual ~DetectScheduler() = default;  // ends what waits: kUnavailable

  virtual absl::StatusOr<RequestId> Submit(DetectParams params,
                                           DetectSink* sink) = 0;

  // Ends a request with `why`. Unknown and finished ids are fine.
  virtual void Cancel(RequestId id, const absl::Status& why) = 0;

  // The next batch runs on `engine`. Returns at once.
  virtual void SetEngine(std::shared_ptr<DetectEngine> engine) = 0;

  // Refuses new requests, waits until accepted ones are done or `deadline`
  // passes, then ends the rest with kUnavailable. After it no engine is held
  // any more. Several may drain: the earliest deadline counts for all. False if
  // some were ended.
  virtual bool Drain(absl::Time deadline) = 0;

  virtual DetectStats stats() const = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_DETECT_SCHEDULER_H_
