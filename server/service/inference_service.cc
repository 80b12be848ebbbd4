#include "server/service/inference_service.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/service/checks.h"
#include "server/service/deadline.h"
#include "server/service/grpc_status.h"
#include "server/service/wire.h"

namespace ounce::server {
namespace {

// Texts and requests longer than this leave gRPC's threads.
constexpr size_t kQuickBytes = 4096;
constexpr int kMaxLongTexts = 64;  // being tokenized or waiting for it
// Being read or waiting for it; their memory is bounded besides.
constexpr int kMaxPictures = 1024;

constexpr absl::Duration kRetryBusy = absl::Milliseconds(200);
constexpr absl::Duration kRetryLoading = absl::Seconds(1);

absl::Status Busy() {
  return WithRetryDelay(
      absl::ResourceExhaustedError(absl::StrCat(
          "at most ", kMaxLongTexts, " long texts wait to be tokenized")),
      kRetryBusy);
}

absl::Status TooManyPictures() {
  return WithRetryDelay(absl::ResourceExhaustedError(absl::StrCat(
                            "at most ", kMaxPictures, " pictures wait")),
                        kRetryBusy);
}

// An error when nobody wants the answer any more to a text that has waited.
absl::Status CheckStillWanted(const grpc::CallbackServerContext& context,
                              const Clock& clock) {
  if (clock.Now() + kDeadlineSlack >=
      FromGrpcDeadline(context.raw_deadline(), clock)) {
    return absl::DeadlineExceededError(
        "the deadline passed while the text waited to be tokenized");
  }
  if (context.IsCancelled()) return absl::CancelledError("the client is gone");
  return absl::OkStatus();
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
  RETURN_IF_ERROR(CheckTokenIds(field, ids, info.vocabulary_size));
  return ids;
}

}  // namespace

// One DetectObjects, until its model has it.
struct InferenceService::PictureJob {
  DetectCall* call;
  v1::DetectObjectsRequest request;
  std::shared_ptr<ServedModel> model;
  DetectParams params;
  PictureMemory::Reservation memory;
};

InferenceService::InferenceService(Options options, ModelCatalog& catalog,
                                   const PictureReader& pictures,
                                   const Clock& clock)
    : options_(std::move(options)),
      catalog_(catalog),
      pictures_(pictures),
      clock_(clock),
      long_texts_(/*num_threads=*/1, kMaxLongTexts),
      picture_workers_(options_.picture_threads, kMaxPictures) {}

InferenceService::~InferenceService() = default;

absl::StatusOr<std::shared_ptr<ServedModel>> InferenceService::FindModel(
    const std::string& name) {
  if (name.empty()) {
    return FieldError("model", "the name of a served model wanted, none found");
  }
  absl::StatusOr<std::shared_ptr<ServedModel>> model = catalog_.Find(name);
  if (absl::IsUnavailable(model.status()) && !stopping_) {
    return WithRetryDelay(model.status(), kRetryLoading);
  }
  return model;
}

absl::Status InferenceService::TokenizeNow(const v1::TokenizeRequest& request,
                                           v1::TokenizeResponse* response) {
  ASSIGN_OR_RETURN(const auto model, FindModel(request.model()));
  RETURN_IF_ERROR(CheckTask(model->info(), Task::kGenerate));
  RETURN_IF_ERROR(CheckText("text", request.text()));
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                   model->tokenizer()->Encode(request.text()));
  response->mutable_token_ids()->Add(ids.begin(), ids.end());
  return absl::OkStatus();
}

absl::Status InferenceService::DetokenizeNow(
    const v1::DetokenizeRequest& request, v1::DetokenizeResponse* response) {
  ASSIGN_OR_RETURN(const auto model, FindModel(request.model()));
  RETURN_IF_ERROR(CheckTask(model->info(), Task::kGenerate));
  if (request.token_ids_size() > kMaxDetokenizeIds) {
    return FieldError(
        "token_ids",
        absl::StrCat("at most ", kMaxDetokenizeIds, " ids wanted, ",
                     request.token_ids_size(), " found"));
  }
  RETURN_IF_ERROR(CheckTokenIds("token_ids", request.token_ids(),
                                model->info().vocabulary_size));
  model::StreamDecoder decoder(*model->tokenizer());
  std::string* text = response->mutable_text();
  for (const int32_t id : request.token_ids()) *text += decoder.Push(id);
  *text += decoder.Finish();
  return absl::OkStatus();
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  const absl::Time arrival = clock_.Now();
  auto* call = new GenerateCall(clock_, calls_);
  v1::GenerateRequest request;
  if (absl::Status status = ParseRequest(*bytes, &request); !status.ok()) {
    options_.on_rejected("", status);
    call->Refuse(status);
    return call;
  }
  if (request.prompt().size() <= kQuickBytes) {
    Begin(*context, request, arrival, call);
    return call;
  }
  if (!long_texts_.TryRun([this, context, request, arrival, call] {
        Begin(*context, request, arrival, call);
      })) {
    options_.on_rejected("", Busy());
    call->Refuse(Busy());
  }
  return call;
}

void InferenceService::Begin(const grpc::CallbackServerContext& context,
                             const v1::GenerateRequest& request,
                             absl::Time arrival, GenerateCall* call) {
  std::string known_model;
  const absl::Status status = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(std::shared_ptr<ServedModel> model,
                     FindModel(request.model()));
    known_model = request.model();
    if (request.prompt().size() > kQuickBytes) {
      RETURN_IF_ERROR(CheckStillWanted(context, clock_));
    }
    RETURN_IF_ERROR(CheckTask(model->info(), Task::kGenerate));
    ASSIGN_OR_RETURN(GenerateParams params,
                     CheckGenerate(request, options_.max_new_tokens));
    const ModelInfo info = model->info();
    ASSIGN_OR_RETURN(params.prompt,
                     PromptIds(request, info, *model->tokenizer()));
    params.max_new_tokens = std::min(
        params.max_new_tokens,
        info.max_positions - static_cast<int64_t>(params.prompt.size()));
    if (!request.sampling().has_seed()) {
      params.sampling.seed = options_.draw_seed();
    }
    params.arrival = arrival;
    params.deadline = FromGrpcDeadline(context.raw_deadline(), clock_);
    const absl::Status started = call->Start(model, std::move(params));
    if (!started.ok()) options_.on_rejected(known_model, started);
    return absl::OkStatus();
  }();
  if (status.ok()) return;
  options_.on_rejected(known_model, status);
  call->Refuse(status);
}

grpc::ServerUnaryReactor* InferenceService::DetectObjects(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes,
    grpc::ByteBuffer* response) {
  auto job = std::make_shared<PictureJob>();
  job->params.arrival = clock_.Now();
  job->params.deadline = FromGrpcDeadline(context->raw_deadline(), clock_);
  DetectCall* const call =
      new DetectCall(job->params.deadline, response, clock_, calls_);
  job->call = call;
  std::string known_model;
  absl::Status status = ParseRequest(*bytes, &job->request);
  // gRPC keeps the message until the call ends; a picture need not be there
  // twice.
  const_cast<grpc::ByteBuffer*>(bytes)->Clear();
  reading_.Add();
  if (status.ok()) status = BeginPicture(job, &known_model);
  if (!status.ok()) {
    reading_.Remove();
    options_.on_detect_rejected(known_model, status);
    call->Refuse(status);
  }
  return call;
}

absl::Status InferenceService::BeginPicture(
    const std::shared_ptr<PictureJob>& job, std::string* known_model) {
  const v1::DetectObjectsRequest& request = job->request;
  if (stopping_) return absl::UnavailableError("the server is shutting down");
  ASSIGN_OR_RETURN(job->model, FindModel(request.model()));
  *known_model = request.model();
  RETURN_IF_ERROR(CheckTask(job->model->info(), Task::kDetectObjects));
  ASSIGN_OR_RETURN(const DetectParams checked, CheckDetect(request));
  job->params.threshold = checked.threshold;
  job->params.max_detections = checked.max_detections;
  ASSIGN_OR_RETURN(job->memory, pictures_.Open("image", request.image(),
                                               *job->model->image_processor()));
  if (!picture_workers_.TryRun([this, job] { ReadPicture(*job); })) {
    return TooManyPictures();
  }
  return absl::OkStatus();
}

void InferenceService::ReadPicture(PictureJob& job) {
  const std::string name = job.request.model();
  const absl::Status status = [&]() -> absl::Status {
    RETURN_IF_ERROR(job.call->CheckWanted());
    const absl::Time start = clock_.Now();
    ASSIGN_OR_RETURN(
        job.params.picture,
        pictures_.Read("image", job.request.image(),
                       *job.model->image_processor(), std::move(job.memory)));
    job.request = v1::DetectObjectsRequest();  // frees the file's bytes
    job.params.decode = clock_.Now() - start;
    return job.call->Start(job.model, std::move(job.params));
  }();
  if (!status.ok()) {
    job.memory = {};
    options_.on_detect_rejected(name, status);
    job.call->Refuse(status);
  }
  reading_.Remove();
}

template <class Request, class Response>
grpc::ServerUnaryReactor* InferenceService::Answer(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer& in,
    grpc::ByteBuffer* out,
    absl::Status (InferenceService::*method)(const Request&, Response*)) {
  if (in.Length() <= kQuickBytes) {
    return AnswerNow<Request, Response>(
        context, in, out,
        [this, method](const Request& request, Response* response) {
          return (this->*method)(request, response);
        });
  }
  return AnswerOn<Request, Response>(
      long_texts_, Busy(), context, in, out,
      [this, context, method](const Request& request,
                              Response* response) -> absl::Status {
        RETURN_IF_ERROR(CheckStillWanted(*context, clock_));
        return (this->*method)(request, response);
      });
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return Answer(context, *request, response, &InferenceService::TokenizeNow);
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return Answer(context, *request, response, &InferenceService::DetokenizeNow);
}

}  // namespace ounce::server
