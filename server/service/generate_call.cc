#include "server/service/generate_call.h"

#include <iterator>
#include <utility>

#include "base/guard.h"
#include "ounce/v1/inference.pb.h"
#include "server/service/grpc_status.h"
#include "server/service/wire.h"

namespace ounce::server {
namespace {

// Of a pending message.
constexpr size_t kMaxPendingBytes = 64 << 10;
constexpr size_t kMaxPendingTokens = 256;

bool HasOutput(const GenerateChunk& chunk) {
  return !chunk.text.empty() || !chunk.token_ids.empty();
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEos:
      return v1::FINISH_REASON_EOS;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

v1::GenerateResponse ToProto(GenerateChunk chunk) {
  v1::GenerateResponse response;
  response.set_text(std::move(chunk.text));
  response.mutable_token_ids()->Add(chunk.token_ids.begin(),
                                    chunk.token_ids.end());
  for (TokenLogprobs& token : chunk.logprobs) {
    v1::TokenLogprobs* out = response.add_logprobs();
    out->set_logprob(token.logprob);
    for (TopLogprob& top : token.top) {
      v1::TopLogprob* out_top = out->add_top();
      out_top->set_token_id(top.id);
      out_top->set_logprob(top.logprob);
      out_top->set_token(std::move(top.token));
    }
  }
  return response;
}

void AddResult(const GenerateResult& result, v1::GenerateResponse* response) {
  response->set_finish_reason(ToProto(result.reason));
  v1::Usage* usage = response->mutable_usage();
  usage->set_prompt_tokens(result.prompt_tokens);
  usage->set_cached_tokens(result.cached_tokens);
  usage->set_new_tokens(result.new_tokens);
  usage->set_queue_seconds(absl::ToDoubleSeconds(result.queued));
  usage->set_time_to_first_token_seconds(
      absl::ToDoubleSeconds(result.time_to_first_token));
  usage->set_total_seconds(absl::ToDoubleSeconds(result.total));
  response->set_model_version(result.model_version);
  response->set_method(result.method);
}

void AddSampling(const SamplingParams& params, v1::GenerateResponse* response) {
  v1::Sampling* sampling = response->mutable_sampling();
  sampling->set_temperature(params.temperature);
  sampling->set_top_k(static_cast<uint32_t>(params.top_k));
  sampling->set_top_p(params.top_p);
  sampling->set_min_p(params.min_p);
  sampling->set_repetition_penalty(params.repetition_penalty);
  if (params.temperature == 0) return;
  sampling->set_seed(params.seed);
  response->set_seed(params.seed);
}

}  // namespace

std::shared_ptr<GenerateCall> GenerateCall::Create(
    FrontEnd& front_end, std::shared_ptr<CallRecord> record) {
  std::shared_ptr<GenerateCall> call(new GenerateCall(std::move(record)));
  call->generation_ = front_end.BeginGenerate(call);
  MutexLock lock(&call->mu_);
  call->self_ = call;
  return call;
}

bool GenerateCall::HasRoom() const {
  MutexLock lock(&mu_);
  paused_ = !gone_ && (pending_.text.size() >= kMaxPendingBytes ||
                       pending_.token_ids.size() >= kMaxPendingTokens);
  return !paused_;
}

void GenerateCall::OnChunk(GenerateChunk chunk) {
  {
    MutexLock lock(&mu_);
    if (gone_) return;
    const absl::Status kept = Guarded([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      if (!HasOutput(pending_)) {
        pending_ = std::move(chunk);
        return absl::OkStatus();
      }
      pending_.text += chunk.text;
      pending_.token_ids.insert(pending_.token_ids.end(),
                                chunk.token_ids.begin(), chunk.token_ids.end());
      pending_.logprobs.insert(pending_.logprobs.end(),
                               std::make_move_iterator(chunk.logprobs.begin()),
                               std::make_move_iterator(chunk.logprobs.end()));
      return absl::OkStatus();
    });
    if (!kept.ok()) Abandon();
  }
  Pump();
}

void GenerateCall::Abandon() {
  gone_ = true;
  pending_ = {};
  abandoned_ = true;
}

void GenerateCall::OnDone(const absl::Status& status,
                          const GenerateOutcome& outcome) {
  record_->AddResult(status, outcome);
  {
    MutexLock lock(&mu_);
    done_ = true;
    status_ = status;
    outcome_ = outcome;
  }
  Pump();
}

void GenerateCall::OnWriteDone(bool ok) {
  std::shared_ptr<Generation> waits_for_room;
  {
    MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) {
      gone_ = true;
      pending_ = {};
    }
    if (paused_) waits_for_room = generation_;
  }
  Pump();  // gRPC may let go of `this` now
  if (waits_for_room != nullptr) waits_for_room->Wake();
}

void GenerateCall::OnCancel() {
  {
    MutexLock lock(&mu_);
    gone_ = true;
    pending_ = {};
  }
  generation_->Cancel();
}

void GenerateCall::OnDone() {
  generation_->Release();
  std::shared_ptr<GenerateCall> self;  // freed after the lock is
  MutexLock lock(&mu_);
  self = std::move(self_);
}

bool GenerateCall::NextAction(Action* action, grpc::Status* status) {
  if (writing_ || finished_) return false;
  if (abandoned_) {
    *action = Action::kFinish;
    *status = ToGrpcStatus(OutOfMemory());
  } else if (done_ && status_.ok()) {
    *action = Action::kWriteAndFinish;
    v1::GenerateResponse response =
        ToProto(std::exchange(pending_, GenerateChunk()));
    AddResult(outcome_.result, &response);
    response.set_max_new_tokens(static_cast<uint32_t>(outcome_.max_new_tokens));
    AddSampling(outcome_.sampling, &response);
    outgoing_ = Serialize(response);
  } else if (HasOutput(pending_)) {
    *action = Action::kWrite;
    outgoing_ = Serialize(ToProto(std::exchange(pending_, GenerateChunk())));
  } else if (done_) {
    *action = Action::kFinish;
    *status = ToGrpcStatus(status_);
  } else {
    return false;
  }
  return true;
}

void GenerateCall::Pump() {
  Action action = Action::kFinish;
  grpc::Status status;
  {
    MutexLock lock(&mu_);
    bool any = false;
    const absl::Status made = Guarded([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      any = NextAction(&action, &status);
      return absl::OkStatus();
    });
    if (!made.ok()) {
      Abandon();
      any = NextAction(&action, &status);
    }
    if (!any) return;
    if (action == Action::kWrite) {
      writing_ = true;
    } else {
      finished_ = true;
    }
  }
  switch (action) {
    case Action::kWrite:
      StartWrite(&outgoing_);
      return;
    case Action::kWriteAndFinish:
      StartWriteAndFinish(&outgoing_, grpc::WriteOptions(), grpc::Status::OK);
      return;
    case Action::kFinish:
      Finish(status);
      return;
  }
}

}  // namespace ounce::server
