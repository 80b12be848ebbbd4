#include "server/service/inference_service.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/guard.h"
#include "base/status_macros.h"
#include "server/service/detect_call.h"
#include "server/service/generate_call.h"
#include "server/service/to_proto.h"

namespace ounce::server {
namespace {

SamplingRequest FromProto(const v1::Sampling& in) {
  SamplingRequest out;
  if (in.has_temperature()) out.temperature = in.temperature();
  if (in.has_top_k()) out.top_k = in.top_k();
  if (in.has_top_p()) out.top_p = in.top_p();
  if (in.has_min_p()) out.min_p = in.min_p();
  if (in.has_repetition_penalty()) {
    out.repetition_penalty = in.repetition_penalty();
  }
  if (in.has_seed()) out.seed = in.seed();
  return out;
}

// These move out of `in` what is long.
GenerateRequest FromProto(v1::GenerateRequest& in) {
  GenerateRequest out;
  out.model = in.model();
  if (in.has_prompt()) {
    out.prompt = std::move(*in.mutable_prompt());
  } else if (in.has_prompt_token_ids()) {
    const auto& ids = in.prompt_token_ids().ids();
    out.prompt = std::vector<int32_t>(ids.begin(), ids.end());
  }
  if (in.has_max_new_tokens()) out.max_new_tokens = in.max_new_tokens();
  out.sampling = FromProto(in.sampling());
  out.stop.assign(in.stop().begin(), in.stop().end());
  out.logprobs = in.logprobs();
  return out;
}

DetectRequest FromProto(v1::DetectObjectsRequest& in) {
  DetectRequest out;
  out.model = in.model();
  out.image = std::move(*in.mutable_image());
  if (in.has_threshold()) out.threshold = in.threshold();
  out.max_detections = in.max_detections();
  return out;
}

// What a Message asks for, or why it can't be read.
template <class Message, class Request>
absl::StatusOr<Request> Read(Reception& reception,
                             const grpc::CallbackServerContext& context,
                             const grpc::ByteBuffer& bytes) {
  Message message;
  RETURN_IF_ERROR(reception.Read(context, bytes, &message));
  return FromProto(message);
}

}  // namespace

absl::Status InferenceService::TokenizeNow(const v1::TokenizeRequest& request,
                                           v1::TokenizeResponse* response) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                   front_end_.Tokenize(request.model(), request.text()));
  response->mutable_token_ids()->Add(ids.begin(), ids.end());
  return absl::OkStatus();
}

absl::Status InferenceService::DetokenizeNow(
    const v1::DetokenizeRequest& request, v1::DetokenizeResponse* response) {
  ASSIGN_OR_RETURN(*response->mutable_text(),
                   front_end_.Detokenize(request.model(), request.token_ids()));
  return absl::OkStatus();
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  const std::shared_ptr<GenerateCall> call =
      GenerateCall::Create(front_end_, reception_.calls().Of(*context));
  CallContext caller;
  absl::StatusOr<GenerateRequest> request = Guarded([&] {
    caller = reception_.ContextOf(*context);
    return Read<v1::GenerateRequest, GenerateRequest>(reception_, *context,
                                                      *bytes);
  });
  front_end_.Generate(std::move(caller), std::move(request),
                      call->generation());
  return call.get();
}

grpc::ServerUnaryReactor* InferenceService::DetectObjects(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes,
    grpc::ByteBuffer* response) {
  const std::shared_ptr<DetectCall> call =
      DetectCall::Create(front_end_, response, reception_.calls().Of(*context));
  CallContext caller;
  absl::StatusOr<DetectRequest> request = Guarded([&] {
    caller = reception_.ContextOf(*context);
    return Read<v1::DetectObjectsRequest, DetectRequest>(reception_, *context,
                                                         *bytes);
  });
  front_end_.Detect(std::move(caller), std::move(request), call->detection());
  return call.get();
}

template <class Request, class Response>
grpc::ServerUnaryReactor* InferenceService::Answer(
    const UnaryCall& call,
    absl::Status (InferenceService::*method)(const Request&, Response*)) {
  const size_t size = call.in->Length();
  if (size <= FrontEnd::kQuickBytes) {
    return AnswerNow<Request, Response>(
        reception_, call,
        [this, method](const Request& request, Response* response) {
          return (this->*method)(request, response);
        });
  }
  return AnswerOn<Request, Response>(
      [this, size, context = call.context](WorkerPool::Job work) {
        front_end_.RunOnTextThread(reception_.calls().Of(*context)->peer(),
                                   size, std::move(work));
      },
      reception_, call,
      [this, context = call.context, method](
          const Request& request, Response* response) -> absl::Status {
        RETURN_IF_ERROR(
            front_end_.CheckStillWanted(reception_.ContextOf(*context)));
        return (this->*method)(request, response);
      });
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return Answer({context, request, response}, &InferenceService::TokenizeNow);
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return Answer({context, request, response}, &InferenceService::DetokenizeNow);
}

grpc::ServerUnaryReactor* InferenceService::ListModels(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerNow<v1::ListServedModelsRequest, v1::ListServedModelsResponse>(
      reception_, {context, request, response},
      [this](const v1::ListServedModelsRequest&,
             v1::ListServedModelsResponse* out) {
        // Nothing of where models come from, or of what the server carries.
        for (const ModelInfo& info : front_end_.ListModels()) {
          v1::ServedModel* const model = out->add_models();
          model->set_name(info.name);
          model->set_state(ToProto(info.state));
          for (const Task task : info.tasks) model->add_tasks(ToProto(task));
          model->set_version(info.version);
          model->set_method(info.method);
          model->set_architecture(info.architecture);
          model->set_max_positions(info.max_positions);
        }
        return absl::OkStatus();
      });
}

}  // namespace ounce::server
