#include "server/frontend/front_end.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/guard.h"
#include "base/status_macros.h"
#include "server/frontend/gave_up.h"
#include "server/frontend/request_checks.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {
namespace {

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

absl::Status Busy(absl::string_view what) {
  return Refusal(Reason::kWorkersBusy, what);
}

// Texts of one peer, short ones apart from very long ones.
std::string FlowOf(const std::string& peer, size_t text_bytes) {
  return absl::StrCat(peer, text_bytes > kVeryLongBytes ? " very long" : "");
}

absl::StatusOr<std::vector<int32_t>> PromptIds(
    const Prompt& prompt, int64_t max_tokens, const ModelInfo& info,
    const model::Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  const std::string* const text = std::get_if<std::string>(&prompt);
  const absl::string_view field =
      text != nullptr ? "prompt" : "prompt_token_ids.ids";
  if (text != nullptr) {
    ASSIGN_OR_RETURN(ids, tokenizer.Encode(*text));
  } else {
    ids = std::get<std::vector<int32_t>>(prompt);
  }
  RETURN_IF_ERROR(CheckPromptLength(field, static_cast<int64_t>(ids.size()),
                                    max_tokens, info.max_positions));
  if (text != nullptr) {
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
struct FrontEnd::TextJob {
  CallContext call;
  std::shared_ptr<Generation> generation;
  GenerateRequest request = {};
  std::shared_ptr<ServedModel> model = nullptr;
  std::shared_ptr<const TextGeneration> task = nullptr;  // the model's
};

// One Detect, until its model has it.
struct FrontEnd::PictureJob {
  CallContext call;
  std::shared_ptr<Detection> detection;
  DetectRequest request = {};
  std::shared_ptr<ServedModel> model = nullptr;
  std::shared_ptr<const ObjectDetection> task = nullptr;  // the model's
  DetectParams params = {};
  PictureMemory::Reservation memory = {};
};

FrontEnd::FrontEnd(Options options, ModelCatalog& catalog,
                   const PictureReader& pictures, const Clock& clock)
    : options_(std::move(options)),
      catalog_(catalog),
      pictures_(pictures),
      clock_(clock),
      long_texts_({.num_threads = options_.text_threads,
                   .max_waiting = kMaxLongTexts,
                   .max_waiting_per_flow = kMaxLongTextsOfAPeer,
                   .nice_levels = kTextNiceLevels,
                   .thread_name = "ounce-text",
                   .full = Busy("too many long texts wait to be tokenized")}),
      picture_workers_({.num_threads = options_.picture_threads,
                        .max_waiting = kMaxPictures,
                        .max_waiting_per_flow = kMaxPicturesOfAPeer,
                        .thread_name = "ounce-picture",
                        .full = Busy("too many pictures wait to be read")}) {}

absl::StatusOr<std::shared_ptr<ServedModel>> FrontEnd::FindModel(
    const std::string& name) const {
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

void FrontEnd::OnRefused(const ModelInfo& model,
                         const absl::Status& why) const {
  const bool text = CheckTask(model, Task::kGenerate).ok();
  (text ? options_.on_rejected : options_.on_detect_rejected)(model.name, why);
}

absl::StatusOr<std::vector<int32_t>> FrontEnd::Tokenize(
    const std::string& model, const std::string& text) {
  ASSIGN_OR_RETURN(const auto found, FindModel(model));
  ASSIGN_OR_RETURN(const auto generation, TaskOf<TextGeneration>(found));
  return generation->tokenizer->Encode(text);
}

absl::StatusOr<std::string> FrontEnd::Detokenize(
    const std::string& model, absl::Span<const int32_t> ids) {
  ASSIGN_OR_RETURN(const auto found, FindModel(model));
  ASSIGN_OR_RETURN(const auto generation, TaskOf<TextGeneration>(found));
  RETURN_IF_ERROR(
      CheckTokenIds("token_ids", ids, found->info().vocabulary_size));
  model::StreamDecoder decoder(*generation->tokenizer);
  std::string text;
  for (const int32_t id : ids) text += decoder.Push(id);
  text += decoder.Finish();
  return text;
}

void FrontEnd::RunOnTextThread(const std::string& peer, size_t text_bytes,
                               WorkerPool::Job job) {
  long_texts_.Run(FlowOf(peer, text_bytes), std::move(job));
}

absl::Status FrontEnd::CheckStillWanted(const CallContext& call) const {
  const absl::Time now = clock_.Now();
  const bool cancelled = call.cancelled();
  if (EndedByDeadline(cancelled, call.arrival, call.deadline, now)) {
    return DeadlinePassed(call.servers_deadline, "before the request began");
  }
  return cancelled ? absl::CancelledError("the client cancelled the call")
                   : absl::OkStatus();
}

CallContext FrontEnd::Limited(CallContext call) const {
  const absl::Time end = call.arrival + options_.max_request;
  if (end < call.deadline) {
    call.deadline = end;
    call.servers_deadline = true;
  }
  return call;
}

absl::Status FrontEnd::SeenByClient(const CallContext& call,
                                    const absl::Status& refusal) const {
  const absl::Status wanted = CheckStillWanted(call);
  return wanted.ok() ? refusal : wanted;
}

std::shared_ptr<Generation> FrontEnd::BeginGenerate(
    std::shared_ptr<GenerateSink> sink) {
  return std::make_shared<Generation>(std::move(sink), clock_, open_);
}

void FrontEnd::Generate(CallContext call,
                        absl::StatusOr<GenerateRequest> request,
                        std::shared_ptr<Generation> generation) {
  std::shared_ptr<TextJob> job;
  const absl::Status status = Guarded([&]() -> absl::Status {
    job = std::make_shared<TextJob>(
        TextJob{Limited(std::move(call)), generation});
    ASSIGN_OR_RETURN(job->request, std::move(request));
    return Accept(job);
  });
  if (status.ok()) return;
  if (job == nullptr) {
    generation->Refuse(status);
  } else {
    Refuse(*job, status);
  }
}

template <class Task, class Job>
absl::Status FrontEnd::FindTask(Job& job) const {
  absl::StatusOr<std::shared_ptr<ServedModel>> model =
      FindModel(job.request.model);
  if (model.ok()) job.model = *model;
  RETURN_IF_ERROR(CheckStillWanted(job.call));
  RETURN_IF_ERROR(model.status());
  ASSIGN_OR_RETURN(job.task, TaskOf<Task>(job.model));
  return absl::OkStatus();
}

absl::Status FrontEnd::Accept(const std::shared_ptr<TextJob>& job) {
  RETURN_IF_ERROR(FindTask<TextGeneration>(*job));
  const auto* const prompt = std::get_if<std::string>(&job->request.prompt);
  if (prompt == nullptr || prompt->size() <= kQuickBytes) return Begin(*job);
  RunOnTextThread(job->call.peer, prompt->size(),
                  [this, job](const absl::Status& room) {
                    const absl::Status status = Guarded([&]() -> absl::Status {
                      RETURN_IF_ERROR(room);
                      RETURN_IF_ERROR(CheckStillWanted(job->call));
                      return Begin(*job);
                    });
                    if (!status.ok()) Refuse(*job, status);
                  });
  return absl::OkStatus();
}

absl::Status FrontEnd::Begin(TextJob& job) {
  const GenerateRequest& request = job.request;
  const model::GenerationDefaults& defaults = *job.task->defaults;
  ASSIGN_OR_RETURN(GenerateParams params,
                   CheckGenerate(request, defaults, options_.max_new_tokens));
  const ModelInfo info = job.model->info();
  ASSIGN_OR_RETURN(params.prompt,
                   PromptIds(request.prompt, options_.max_prompt_tokens, info,
                             *job.task->tokenizer));
  const int64_t num_prompt = static_cast<int64_t>(params.prompt.size());
  ASSIGN_OR_RETURN(
      params.max_new_tokens,
      CheckNewTokens(request, defaults, options_.max_new_tokens, num_prompt));
  params.max_new_tokens =
      std::min(params.max_new_tokens, info.max_positions - num_prompt);
  if (!request.sampling.seed.has_value()) {
    params.sampling.seed = options_.draw_seed();
  }
  for (const std::string& stop : params.stop) {
    const auto id = job.task->tokenizer->SpecialTokenId(stop);
    if (id.has_value()) params.stop_token_ids.push_back(*id);
  }
  params.peer = job.call.peer;
  params.arrival = job.call.arrival;
  params.deadline = job.call.deadline;
  params.servers_deadline = job.call.servers_deadline;
  return job.generation->Submit(job.task, std::move(params));
}

void FrontEnd::Refuse(const TextJob& job, const absl::Status& refusal) {
  const absl::Status status = SeenByClient(job.call, refusal);
  options_.on_rejected(job.model == nullptr ? "" : job.request.model, status);
  job.generation->Refuse(status);
}

std::shared_ptr<Detection> FrontEnd::BeginDetect(
    std::shared_ptr<DetectSink> sink) {
  return std::make_shared<Detection>(std::move(sink), clock_, open_);
}

void FrontEnd::Detect(CallContext call, absl::StatusOr<DetectRequest> request,
                      std::shared_ptr<Detection> detection) {
  std::shared_ptr<PictureJob> job;
  reading_.Add();
  const absl::Status status = Guarded([&]() -> absl::Status {
    call = Limited(std::move(call));
    {
      MutexLock lock(&detection->mu_);
      detection->arrival_ = call.arrival;
      detection->deadline_ = call.deadline;
      detection->servers_deadline_ = call.servers_deadline;
    }
    job = std::make_shared<PictureJob>(PictureJob{std::move(call), detection});
    ASSIGN_OR_RETURN(job->request, std::move(request));
    return Accept(job);
  });
  if (status.ok()) return;
  if (job == nullptr) {
    detection->Refuse(status);
    reading_.Remove();
  } else {
    Refuse(*job, status);
  }
}

absl::Status FrontEnd::Accept(const std::shared_ptr<PictureJob>& job) {
  if (stopping_) return ShuttingDown();
  RETURN_IF_ERROR(FindTask<ObjectDetection>(*job));
  ASSIGN_OR_RETURN(job->params, CheckDetect(job->request));
  job->params.peer = job->call.peer;
  job->params.arrival = job->call.arrival;
  job->params.deadline = job->call.deadline;
  job->params.servers_deadline = job->call.servers_deadline;
  ASSIGN_OR_RETURN(job->memory,
                   pictures_.Open("image", job->request.image,
                                  *job->task->processor, job->call.peer));
  picture_workers_.Run(job->call.peer, [this, job](const absl::Status& room) {
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

absl::Status FrontEnd::ReadPicture(PictureJob& job) {
  RETURN_IF_ERROR(job.detection->CheckWanted());
  const absl::Time start = clock_.Now();
  ASSIGN_OR_RETURN(job.params.picture,
                   pictures_.Read("image", job.request.image,
                                  *job.task->processor, std::move(job.memory)));
  job.request.image = std::string();  // frees its bytes
  job.params.decode = clock_.Now() - start;
  return job.detection->Submit(job.task, std::move(job.params));
}

void FrontEnd::Refuse(PictureJob& job, const absl::Status& refusal) {
  job.memory = {};
  const absl::Status status = SeenByClient(job.call, refusal);
  options_.on_detect_rejected(job.model == nullptr ? "" : job.request.model,
                              status);
  job.detection->Refuse(status);
  reading_.Remove();
}

}  // namespace ounce::server
