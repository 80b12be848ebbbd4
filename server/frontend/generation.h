// One text that is being generated: between whoever asked for it and the
// scheduler.
//
//   FrontEnd::Generate --> scheduler --OnChunk, OnDone--> sink
//   Cancel, Wake       -->
//
// Threads: any thread may call anything. The engine's calls the sink.
// Ownership: shared by whoever asked, and by the front end and the scheduler
//   until it has ended.
#ifndef OUNCE_SERVER_FRONTEND_GENERATION_H_
#define OUNCE_SERVER_FRONTEND_GENERATION_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/frontend/call_count.h"
#include "server/scheduler/model_catalog.h"
#include "server/scheduler/request.h"

namespace ounce::server {

// How it went, and what counted of request and defaults.
struct GenerateOutcome {
  GenerateResult result;
  SamplingParams sampling;
  int64_t max_new_tokens = 0;
};

// The reader of one text. Calls as of a ResponseSink, but for refusals, which
// come on the thread that asks or on one of the front end's.
class GenerateSink {
 public:
  virtual ~GenerateSink() = default;
  virtual bool HasRoom() const = 0;
  virtual void OnChunk(GenerateChunk chunk) = 0;
  // Exactly once, last, refusals too. `outcome` is meaningful if status is OK.
  virtual void OnDone(const absl::Status& status,
                      const GenerateOutcome& outcome) = 0;
};

class Generation final : public ResponseSink,
                         public std::enable_shared_from_this<Generation> {
 public:
  // Counts itself in `open` until Release; that and `clock` must outlive it.
  Generation(std::shared_ptr<GenerateSink> sink, const Clock& clock,
             CallCount& open)
      : clock_(clock), open_(open), sink_(std::move(sink)) {
    open_.Add();
  }

  // Nobody reads any more.
  void Cancel();
  // The sink has room again.
  void Wake();
  // Once, when all has been told to whoever asked, or nobody can be told. Gives
  // up the share of the model, whose last user joins the engine's thread: so
  // never on that thread.
  void Release();

  // ResponseSink
  bool HasRoom() const override { return sink_->HasRoom(); }
  void OnChunk(GenerateChunk chunk) override {
    sink_->OnChunk(std::move(chunk));
  }
  void OnDone(const absl::Status& status,
              const GenerateResult& result) override;

 private:
  friend class FrontEnd;

  // The scheduler's error when it refuses; then Refuse is to be called.
  absl::Status Submit(const std::shared_ptr<const TextGeneration>& model,
                      GenerateParams params);
  void Refuse(const absl::Status& status);

  const Clock& clock_;
  CallCount& open_;
  std::shared_ptr<GenerateSink> sink_;  // until its end

  Mutex mu_;
  // Written by Submit before the scheduler knows of it, or by Release.
  std::shared_ptr<const TextGeneration> model_ ABSL_GUARDED_BY(mu_);
  std::optional<GenerateScheduler::RequestId> id_ ABSL_GUARDED_BY(mu_);
  absl::Time arrival_ ABSL_GUARDED_BY(mu_);
  absl::Time deadline_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  GenerateOutcome outcome_ ABSL_GUARDED_BY(mu_);
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  std::shared_ptr<Generation> self_ ABSL_GUARDED_BY(mu_);  // the scheduler's
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_FRONTEND_GENERATION_H_
