#include "server/service/inference_service.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/guard.h"
#include "base/status_macros.h"
#include "server/scheduler/refusal.h"
#include "server/service/checks.h"
#include "server/service/deadline.h"
#include "server/service/to_proto.h"

namespace ounce::server {
namespace {

// Texts and requests longer than this leave gRPC's threads.
constexpr size_t kQuickBytes = 4096;
// Texts longer than this take turns with the shorter ones of the same peer.
constexpr size_t kVeryLongBytes = size_t{64} << 10;
// That wait for a thread, of all peers and of one.
constexpr int kMaxLongTexts = 64;
constexpr int kMaxLongTextsOfAPeer = 48;
constexpr int kMaxPictures = 1024;  // their memory is bounded besides
constexpr int kMaxPicturesOfAPeer = 896;
// Texts wait rather than the engines: with the CPUs full, a thread of this
// priority gets a third of what a normal one gets.
constexpr int kTextNiceLevels = 5;

// Texts and pictures of one peer, short texts apart from very long ones.
std::string FlowOf(const std::string& peer, size_t text_bytes) {
  return absl::StrCat(peer, text_bytes > kVeryLongBytes ? " very long" : "");
}

// An error when nobody wants the answer any more.
absl::Status CheckStillWanted(const grpc::CallbackServerContext& context,
                              const Clock& clock) {
  const absl::Duration left =
      FromGrpcDeadline(context.raw_deadline(), clock) - clock.Now();
  const bool cancelled = context.IsCancelled();
  if (left <= (cancelled ? kDeadlineSlack : absl::ZeroDuration())) {
    return absl::DeadlineExceededError(
        "the deadline passed before the request began");
  }
  return cancelled ? absl::CancelledError("the client cancelled the call")
                   : absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> PromptIds(
    const v1::GenerateRequest& request, const ModelInfo& info,
    const model::Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  absl::string_view field = "prompt";
  if (request.has_prompt()) {
    ASSIGN_OR_RETURN(ids, tokenizer.Encode(request.prompt()));
  } else {
    field = "prompt_token_ids.ids";
    ids.assign(request.prompt_token_ids().ids().begin(),
               request.prompt_token_ids().ids().end());
  }
  RETURN_IF_ERROR(CheckPromptLength(field, static_cast<int64_t>(ids.size()),
                                    info.max_positions));
  if (request.has_prompt()) {
    for (const int32_t id : ids) {
      if (id < info.vocabulary_size) continue;
      return FieldError(
          field, absl::StrCat("holds text that is token ", id,
                              " of the tokenizer, and the model has only ",
                              info.vocabulary_size, " tokens"));
    }
  }
  RETURN_IF_ERROR(CheckTokenIds(field, ids, info.vocabulary_size));
  return ids;
}

}  // namespace

// One Generate, until its scheduler has it.
struct InferenceService::TextJob {
  GenerateCall* call;
  const grpc::CallbackServerContext* context;
  absl::Time arrival;
  std::string peer;
  v1::GenerateRequest request;
  std::shared_ptr<ServedModel> model;
  std::shared_ptr<const TextGeneration> text;  // the model's
};

// One DetectObjects, until its model has it.
struct InferenceService::PictureJob {
  DetectCall* call;
  const grpc::CallbackServerContext* context;
  v1::DetectObjectsRequest request;
  std::shared_ptr<ServedModel> model;
  std::shared_ptr<const ObjectDetection> detection;  // the model's
  DetectParams params;
  PictureMemory::Reservation memory;
};

InferenceService::InferenceService(Options options, ModelCatalog& catalog,
                                   const PictureReader& pictures,
                                   Reception& reception, const Clock& clock)
    : options_(std::move(options)),
      catalog_(catalog),
      pictures_(pictures),
      reception_(reception),
      clock_(clock),
      long_texts_(
          {.num_threads = options_.text_threads,
           .max_waiting = kMaxLongTexts,
           .max_waiting_per_flow = kMaxLongTextsOfAPeer,
           .nice_levels = kTextNiceLevels,
           .thread_name = "ounce-text",
           .full = Refusal(Reason::kWorkersBusy,
                           "too many long texts wait to be tokenized")}),
      picture_workers_({.num_threads = options_.picture_threads,
                        .max_waiting = kMaxPictures,
                        .max_waiting_per_flow = kMaxPicturesOfAPeer,
                        .thread_name = "ounce-picture",
                        .full = Refusal(Reason::kWorkersBusy,
                                        "too many pictures wait to be read")}) {
}

InferenceService::~InferenceService() = default;

absl::StatusOr<std::shared_ptr<ServedModel>> InferenceService::FindModel(
    const std::string& name) {
  if (name.empty()) {
    return FieldError("model", "is empty; name a model that is served");
  }
  absl::StatusOr<std::shared_ptr<ServedModel>> model = catalog_.Find(name);
  // It will not be there before the server ends.
  if (absl::IsUnavailable(model.status()) && stopping_) {
    return WithReason(model.status(), Reason::kShuttingDown);
  }
  return model;
}

absl::Status InferenceService::TokenizeNow(const v1::TokenizeRequest& request,
                                           v1::TokenizeResponse* response) {
  ASSIGN_OR_RETURN(const auto model, FindModel(request.model()));
  ASSIGN_OR_RETURN(const auto text, TaskOf<TextGeneration>(model));
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                   text->tokenizer->Encode(request.text()));
  response->mutable_token_ids()->Add(ids.begin(), ids.end());
  return absl::OkStatus();
}

absl::Status InferenceService::DetokenizeNow(
    const v1::DetokenizeRequest& request, v1::DetokenizeResponse* response) {
  ASSIGN_OR_RETURN(const auto model, FindModel(request.model()));
  ASSIGN_OR_RETURN(const auto generation, TaskOf<TextGeneration>(model));
  RETURN_IF_ERROR(CheckTokenIds("token_ids", request.token_ids(),
                                model->info().vocabulary_size));
  model::StreamDecoder decoder(*generation->tokenizer);
  std::string* text = response->mutable_text();
  for (const int32_t id : request.token_ids()) *text += decoder.Push(id);
  *text += decoder.Finish();
  return absl::OkStatus();
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  auto* const call =
      new GenerateCall(clock_, calls_, reception_.calls().Of(*context));
  std::unique_ptr<TextJob> job;
  const absl::Status status = Guarded([&] {
    job = std::make_unique<TextJob>();
    job->call = call;
    job->context = context;
    job->arrival = clock_.Now();
    job->peer = reception_.PeerOf(*context);
    return Accept(&job, *bytes);
  });
  if (!status.ok()) {
    if (job == nullptr) {
      call->Refuse(status);
    } else {
      Refuse(*job, status);
    }
  }
  return call;
}

absl::Status InferenceService::Accept(std::unique_ptr<TextJob>* job,
                                      const grpc::ByteBuffer& bytes) {
  v1::GenerateRequest& request = (*job)->request;
  RETURN_IF_ERROR(reception_.Read(*(*job)->context, bytes, &request));
  absl::StatusOr<std::shared_ptr<ServedModel>> model =
      FindModel(request.model());
  if (model.ok()) (*job)->model = *std::move(model);
  RETURN_IF_ERROR(CheckStillWanted(*(*job)->context, clock_));
  RETURN_IF_ERROR(model.status());
  ASSIGN_OR_RETURN((*job)->text, TaskOf<TextGeneration>((*job)->model));
  if (request.prompt().size() <= kQuickBytes) return Begin(**job);
  const std::string flow = FlowOf((*job)->peer, request.prompt().size());
  long_texts_.Run(flow,
                  [this, job = std::move(*job)](const absl::Status& room) {
                    const absl::Status status = Guarded([&]() -> absl::Status {
                      RETURN_IF_ERROR(room);
                      RETURN_IF_ERROR(CheckStillWanted(*job->context, clock_));
                      return Begin(*job);
                    });
                    if (!status.ok()) Refuse(*job, status);
                  });
  return absl::OkStatus();
}

absl::Status InferenceService::SeenByClient(
    const grpc::CallbackServerContext& context,
    const absl::Status& refusal) const {
  const absl::Status wanted = CheckStillWanted(context, clock_);
  return wanted.ok() ? refusal : wanted;
}

absl::Status InferenceService::Begin(TextJob& job) {
  const v1::GenerateRequest& request = job.request;
  const model::GenerationDefaults& defaults = *job.text->defaults;
  ASSIGN_OR_RETURN(GenerateParams params,
                   CheckGenerate(request, defaults, options_.max_new_tokens));
  const ModelInfo info = job.model->info();
  ASSIGN_OR_RETURN(params.prompt,
                   PromptIds(request, info, *job.text->tokenizer));
  const int64_t num_prompt = static_cast<int64_t>(params.prompt.size());
  ASSIGN_OR_RETURN(
      params.max_new_tokens,
      CheckNewTokens(request, defaults, options_.max_new_tokens, num_prompt));
  params.max_new_tokens =
      std::min(params.max_new_tokens, info.max_positions - num_prompt);
  if (!request.sampling().has_seed()) {
    params.sampling.seed = options_.draw_seed();
  }
  for (const std::string& stop : params.stop) {
    const auto id = job.text->tokenizer->SpecialTokenId(stop);
    if (id.has_value()) params.stop_token_ids.push_back(*id);
  }
  params.peer = job.peer;
  params.arrival = job.arrival;
  params.deadline = FromGrpcDeadline(job.context->raw_deadline(), clock_);
  return job.call->Start(job.text, std::move(params));
}

void InferenceService::Refuse(const TextJob& job, const absl::Status& refusal) {
  const absl::Status status = SeenByClient(*job.context, refusal);
  const std::string model = job.model == nullptr ? "" : job.request.model();
  options_.on_rejected(model, status);
  job.call->Refuse(status);
}

grpc::ServerUnaryReactor* InferenceService::DetectObjects(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes,
    grpc::ByteBuffer* response) {
  const absl::Time deadline = FromGrpcDeadline(context->raw_deadline(), clock_);
  auto* const call = new DetectCall(deadline, response, clock_, calls_,
                                    reception_.calls().Of(*context));
  std::shared_ptr<PictureJob> job;
  reading_.Add();
  const absl::Status status = Guarded([&] {
    job = std::make_shared<PictureJob>();
    job->call = call;
    job->context = context;
    job->params.peer = reception_.PeerOf(*context);
    job->params.arrival = clock_.Now();
    job->params.deadline = deadline;
    return Accept(job, *bytes);
  });
  if (!status.ok()) {
    if (job == nullptr) {
      call->Refuse(status);
      reading_.Remove();
    } else {
      Refuse(*job, status);
    }
  }
  return call;
}

absl::Status InferenceService::Accept(const std::shared_ptr<PictureJob>& job,
                                      const grpc::ByteBuffer& bytes) {
  v1::DetectObjectsRequest& request = job->request;
  RETURN_IF_ERROR(reception_.Read(*job->context, bytes, &request));
  if (stopping_) return ShuttingDown();
  absl::StatusOr<std::shared_ptr<ServedModel>> model =
      FindModel(request.model());
  if (model.ok()) job->model = *std::move(model);
  RETURN_IF_ERROR(CheckStillWanted(*job->context, clock_));
  RETURN_IF_ERROR(model.status());
  ASSIGN_OR_RETURN(job->detection, TaskOf<ObjectDetection>(job->model));
  ASSIGN_OR_RETURN(const DetectParams checked, CheckDetect(request));
  job->params.threshold = checked.threshold;
  job->params.max_detections = checked.max_detections;
  ASSIGN_OR_RETURN(job->memory, pictures_.Open("image", request.image(),
                                               *job->detection->processor,
                                               job->params.peer));
  picture_workers_.Run(job->params.peer, [this, job](const absl::Status& room) {
    const absl::Status status = Guarded([&]() -> absl::Status {
      RETURN_IF_ERROR(room);
      return ReadPicture(*job);
    });
    if (!status.ok()) {
      Refuse(*job, status);
    } else {
      reading_.Remove();
    }
  });
  return absl::OkStatus();
}

absl::Status InferenceService::ReadPicture(PictureJob& job) {
  RETURN_IF_ERROR(job.call->CheckWanted());
  const absl::Time start = clock_.Now();
  ASSIGN_OR_RETURN(
      job.params.picture,
      pictures_.Read("image", job.request.image(), *job.detection->processor,
                     std::move(job.memory)));
  job.request.clear_image();
  job.request = v1::DetectObjectsRequest(job.request);  // frees its bytes
  job.params.decode = clock_.Now() - start;
  return job.call->Start(job.detection, std::move(job.params));
}

void InferenceService::Refuse(PictureJob& job, const absl::Status& refusal) {
  job.memory = {};
  const absl::Status status = SeenByClient(*job.context, refusal);
  const std::string model = job.model == nullptr ? "" : job.request.model();
  options_.on_detect_rejected(model, status);
  job.call->Refuse(status);
  reading_.Remove();
}

template <class Request, class Response>
grpc::ServerUnaryReactor* InferenceService::Answer(
    const UnaryCall& call,
    absl::Status (InferenceService::*method)(const Request&, Response*)) {
  const size_t size = call.in->Length();
  if (size <= kQuickBytes) {
    return AnswerNow<Request, Response>(
        reception_, call,
        [this, method](const Request& request, Response* response) {
          return (this->*method)(request, response);
        });
  }
  return AnswerOn<Request, Response>(
      long_texts_,
      [this, size, context = call.context] {
        return FlowOf(reception_.PeerOf(*context), size);
      },
      reception_, call,
      [this, context = call.context, method](
          const Request& request, Response* response) -> absl::Status {
        RETURN_IF_ERROR(CheckStillWanted(*context, clock_));
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
        for (const ModelInfo& info : catalog_.List()) {
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
