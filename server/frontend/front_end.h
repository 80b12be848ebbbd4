// What the server does for whoever asks, whatever protocol he speaks: finds the
// model, checks every field, turns text into ids and back, reads pictures
// within limits, hands requests to the model's scheduler. Services that speak a
// protocol translate its messages into these calls and back.
//
// Threads: any thread may call anything. Nothing blocks there: long texts are
//   tokenized and pictures read on threads of the front end's own, fairly among
//   peers (worker_pool.h).
#ifndef OUNCE_SERVER_FRONTEND_FRONT_END_H_
#define OUNCE_SERVER_FRONTEND_FRONT_END_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "server/frontend/call_count.h"
#include "server/frontend/detection.h"
#include "server/frontend/generation.h"
#include "server/frontend/picture_reader.h"
#include "server/frontend/requests.h"
#include "server/frontend/worker_pool.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

class FrontEnd {
 public:
  // Texts and requests longer than this leave the threads of a protocol.
  static constexpr size_t kQuickBytes = 4096;

  struct Options {
    int64_t max_new_tokens = 4096;  // of one request, at most
    // Of one prompt, at most, where the model takes so many.
    int64_t max_prompt_tokens = std::numeric_limits<int64_t>::max();
    // From a request's arrival to its end, at most.
    absl::Duration max_request = absl::InfiniteDuration();
    // Seeds for requests that bring none; called on any thread.
    std::function<uint64_t()> draw_seed;
    // Told of each Generate that no scheduler accepted, and why: refused, or
    // cancelled or too late before that. The model's name is empty when there
    // is no such model, or nothing was heard of it. Called on any thread.
    std::function<void(const std::string& model, const absl::Status& why)>
        on_rejected;
    // The same of each Detect.
    std::function<void(const std::string& model, const absl::Status& why)>
        on_detect_rejected;
    int text_threads = 2;     // that tokenize long texts; at least 1
    int picture_threads = 2;  // that read pictures; at least 1
  };

  // `catalog`, `pictures` and `clock` must outlive it, and it all that it made.
  FrontEnd(Options options, ModelCatalog& catalog,
           const PictureReader& pictures, const Clock& clock);

  // From now on no picture is taken, and nobody is told to come back for a
  // model that loads.
  void Stop() { stopping_ = true; }

  // After Stop: waits until every picture that was taken is with its model, or
  // `deadline` passes. To be called before the catalog is drained.
  void FinishReading(absl::Time deadline) {
    reading_.WaitForNone(deadline, clock_);
  }

  // Waits until all that was begun below is released, which is when clients
  // have been told of its end, or `deadline` passes. To be called when the
  // catalog is drained.
  void Drain(absl::Time deadline) { open_.WaitForNone(deadline, clock_); }

  // First the one, which whoever asks keeps, then the other, which has `sink`
  // told how it ends, even before it returns. `request`: or why there is none.
  std::shared_ptr<Generation> BeginGenerate(std::shared_ptr<GenerateSink> sink);
  void Generate(CallContext call, absl::StatusOr<GenerateRequest> request,
                std::shared_ptr<Generation> generation);

  std::shared_ptr<Detection> BeginDetect(std::shared_ptr<DetectSink> sink);
  void Detect(CallContext call, absl::StatusOr<DetectRequest> request,
              std::shared_ptr<Detection> detection);

  // Tells of a request to a model whose protocol's service refused it itself:
  // counted as those that are refused here.
  void OnRefused(const ModelInfo& model, const absl::Status& why) const;

  // Text to ids and back, at once.
  absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& model,
                                                const std::string& text);
  absl::StatusOr<std::string> Detokenize(const std::string& model,
                                         absl::Span<const int32_t> ids);

  // A job on a text of so many bytes, on a thread for these.
  void RunOnTextThread(const std::string& peer, size_t text_bytes,
                       WorkerPool::Job job);
  // An error when nobody wants the answer any more.
  absl::Status CheckStillWanted(const CallContext& call) const;

  absl::StatusOr<std::shared_ptr<ServedModel>> FindModel(
      const std::string& name) const;
  std::vector<ModelInfo> ListModels() const { return catalog_.List(); }

 private:
  struct TextJob;
  struct PictureJob;

  // Sets a job's model, also where it is an error that the call is over or that
  // the model has no such task, and that task.
  template <class Task, class Job>
  absl::Status FindTask(Job& job) const;

  // Its deadline, if the server's comes before.
  CallContext Limited(CallContext call) const;

  // Has it begun, at once or later.
  absl::Status Accept(const std::shared_ptr<TextJob>& job);
  absl::Status Begin(TextJob& job);
  // What the client sees of a refusal: nothing when it has gone by then.
  absl::Status SeenByClient(const CallContext& call,
                            const absl::Status& refusal) const;
  // Tells everybody that no scheduler has it.
  void Refuse(const TextJob& job, const absl::Status& refusal);

  // Has its picture read.
  absl::Status Accept(const std::shared_ptr<PictureJob>& job);
  absl::Status ReadPicture(PictureJob& job);
  void Refuse(PictureJob& job, const absl::Status& refusal);

  const Options options_;
  ModelCatalog& catalog_;
  const PictureReader& pictures_;
  const Clock& clock_;
  CallCount open_;
  CallCount reading_;  // pictures before their model has them
  std::atomic<bool> stopping_{false};
  WorkerPool long_texts_;
  WorkerPool picture_workers_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_FRONTEND_FRONT_END_H_
