// The Inference service of inference.proto: checks every field, turns text into
// ids and back, hands requests to the model's scheduler.
//
// Threads: gRPC's. Nothing blocks there: long texts are tokenized on a thread
//   of the service's own.
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
#include "server/service/generate_call.h"
#include "server/service/worker_pool.h"

namespace ounce::server {

// All methods raw (wire.h).
using RawInference = v1::Inference::WithRawCallbackMethod_Generate<
    v1::Inference::WithRawCallbackMethod_Tokenize<
        v1::Inference::WithRawCallbackMethod_Detokenize<
            v1::Inference::Service>>>;

class InferenceService final : public RawInference {
 public:
  struct Options {
    int64_t max_new_tokens = 4096;  // of one request, at most
    // Seeds for requests that bring none; called on any thread.
    std::function<uint64_t()> draw_seed;
    // Told of each Generate that no scheduler accepted: its model's name, or
    // empty when there is no such model. Called on any thread.
    std::function<void(const std::string& model)> on_rejected;
  };

  // `catalog` and `clock` must outlive the service, the service its server.
  InferenceService(Options options, ModelCatalog& catalog, const Clock& clock);
  ~InferenceService() override;

  // From now on nobody is told to come back for a model that loads.
  void Stop() { stopping_ = true; }

  // Waits until no Generate runs and the clients have been told of the end of
  // each, or `deadline` passes. To be called when the catalog is drained.
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

 private:
  absl::StatusOr<std::shared_ptr<ServedModel>> FindModel(
      const std::string& name);
  absl::Status TokenizeNow(const v1::TokenizeRequest& request,
                           v1::TokenizeResponse* response);
  absl::Status DetokenizeNow(const v1::DetokenizeRequest& request,
                             v1::DetokenizeResponse* response);
  // At once if it is quick, else on long_texts_.
  template <class Request, class Response>
  grpc::ServerUnaryReactor* Answer(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer& in,
      grpc::ByteBuffer* out,
      absl::Status (InferenceService::*method)(const Request&, Response*));
  void Begin(const grpc::CallbackServerContext& context,
             const v1::GenerateRequest& request, absl::Time arrival,
             GenerateCall* call);

  const Options options_;
  ModelCatalog& catalog_;
  const Clock& clock_;
  CallCount calls_;
  std::atomic<bool> stopping_{false};
  WorkerPool long_texts_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_INFERENCE_SERVICE_H_
