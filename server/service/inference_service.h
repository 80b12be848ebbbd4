// The Inference service of inference.proto: checks every field, turns text into
// ids and back, reads pictures, hands requests to the model's scheduler.
//
// Threads: gRPC's. Nothing blocks there: long texts are tokenized and pictures
//   read on threads of the service's own, fairly among peers (worker_pool.h).
#ifndef OUNCE_SERVER_SERVICE_INFERENCE_SERVICE_H_
#define OUNCE_SERVER_SERVICE_INFERENCE_SERVICE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "server/scheduler/model_catalog.h"
#include "server/service/call_count.h"
#include "server/service/detect_call.h"
#include "server/service/generate_call.h"
#include "server/service/picture_reader.h"
#include "server/service/reception.h"
#include "server/service/wire.h"
#include "server/service/worker_pool.h"

namespace ounce::server {

// All methods raw (wire.h).
using RawInference = v1::Inference::WithRawCallbackMethod_Generate<
    v1::Inference::WithRawCallbackMethod_Tokenize<
        v1::Inference::WithRawCallbackMethod_Detokenize<
            v1::Inference::WithRawCallbackMethod_DetectObjects<
                v1::Inference::WithRawCallbackMethod_ListModels<
                    v1::Inference::Service>>>>>;

class InferenceService final : public RawInference {
 public:
  struct Options {
    int64_t max_new_tokens = 4096;  // of one request, at most
    // Seeds for requests that bring none; called on any thread.
    std::function<uint64_t()> draw_seed;
    // Told of each Generate that no scheduler accepted, and why: refused, or
    // cancelled or too late before that. The model's name is empty when there
    // is no such model, or nothing was heard of it. Called on any thread.
    std::function<void(const std::string& model, const absl::Status& why)>
        on_rejected;
    // The same of each DetectObjects.
    std::function<void(const std::string& model, const absl::Status& why)>
        on_detect_rejected;
    int text_threads = 2;     // that tokenize long texts; at least 1
    int picture_threads = 2;  // that read pictures; at least 1
  };

  // `catalog`, `pictures`, `reception` and `clock` must outlive the service,
  // the service its server.
  InferenceService(Options options, ModelCatalog& catalog,
                   const PictureReader& pictures, Reception& reception,
                   const Clock& clock);
  ~InferenceService() override;

  // From now on no picture is taken, and nobody is told to come back for a
  // model that loads.
  void Stop() { stopping_ = true; }

  // After Stop: waits until every picture that was taken is with its model, or
  // `deadline` passes. To be called before the catalog is drained.
  void FinishReading(absl::Time deadline) {
    reading_.WaitForNone(deadline, clock_);
  }

  // Waits until no Generate or DetectObjects runs and the clients have been
  // told of the end of each, or `deadline` passes. To be called when the
  // catalog is drained.
  void Drain(absl::Time deadline) { calls_.WaitForNone(deadline, clock_); }

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* DetectObjects(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;

 private:
  struct TextJob;
  struct PictureJob;

  absl::StatusOr<std::shared_ptr<ServedModel>> FindModel(
      const std::string& name);
  absl::Status TokenizeNow(const v1::TokenizeRequest& request,
                           v1::TokenizeResponse* response);
  absl::Status DetokenizeNow(const v1::DetokenizeRequest& request,
                             v1::DetokenizeResponse* response);
  // At once if it is quick, else on long_texts_.
  template <class Request, class Response>
  grpc::ServerUnaryReactor* Answer(
      const UnaryCall& call,
      absl::Status (InferenceService::*method)(const Request&, Response*));

  // Reads a request; has it begun, at once or later.
  absl::Status Accept(std::unique_ptr<TextJob>* job,
                      const grpc::ByteBuffer& bytes);
  absl::Status Begin(TextJob& job);
  // What the client sees of a refusal: nothing when it has gone by then.
  absl::Status SeenByClient(const grpc::CallbackServerContext& context,
                            const absl::Status& refusal) const;
  // Tells everybody that no scheduler has it.
  void Refuse(const TextJob& job, const absl::Status& refusal);

  // Reads a request and has its picture read.
  absl::Status Accept(const std::shared_ptr<PictureJob>& job,
                      const grpc::ByteBuffer& bytes);
  absl::Status ReadPicture(PictureJob& job);
  void Refuse(PictureJob& job, const absl::Status& refusal);

  const Options options_;
  ModelCatalog& catalog_;
  const PictureReader& pictures_;
  Reception& reception_;
  const Clock& clock_;
  CallCount calls_;
  CallCount reading_;  // DetectObjects before its model has it
  std::atomic<bool> stopping_{false};
  WorkerPool long_texts_;
  WorkerPool picture_workers_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_INFERENCE_SERVICE_H_
