#include "server/scheduler/generate_scheduler.h"

#include <algorithm>
#include <iterator>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/thread.h"
#include "server/scheduler/fair_queue.h"
#include "server/scheduler/not_finite.h"
#include "server/scheduler/refusal.h"
#include "server/scheduler/running_sequences.h"
#include "server/scheduler/sampler.h"
#include "server/scheduler/sequence.h"
#include "server/scheduler/step_pace.h"
#include "server/scheduler/work_speed.h"

namespace ounce::server {
namespace {

// Prompt tokens of one sequence in a step, if it has so many and the step too:
// fewer would not be worth a pass over the weights.
constexpr int64_t kMinPromptShare = 16;

// What options say in bytes, in blocks.
BlockAllocator::Options BlocksOf(const GenerateScheduler::Options& options,
                                 const EngineInfo& engine) {
  const int64_t block_bytes = engine.kv_block_bytes;
  BlockAllocator::Options blocks;
  blocks.num_blocks = engine.num_kv_blocks;
  blocks.block_tokens = engine.kv_block_tokens;
  blocks.max_kept = options.prefix_cache.max_bytes / block_bytes;
  if (options.may_hold_kv_bytes) {
    blocks.may_hold = [may_hold = options.may_hold_kv_bytes,
                       block_bytes](int64_t num_held) {
      return may_hold(num_held * block_bytes);
    };
  }
  if (options.prefix_cache.on_bytes) {
    blocks.on_kept = [on_bytes = options.prefix_cache.on_bytes,
                      block_bytes](int64_t num_more) {
      on_bytes(num_more * block_bytes);
    };
  }
  return blocks;
}

// Who shares with whom; peers' names begin otherwise.
std::string ScopeOf(const PrefixCacheOptions& options,
                    const std::string& peer) {
  return options.all_peers ? "all" : peer;
}

bool Contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

class Scheduler final : public GenerateScheduler {
 public:
  Scheduler(const Options& options, std::shared_ptr<Engine> engine,
            const model::Tokenizer& tokenizer, const Clock& clock,
            SchedulerObserver& observer);
  ~Scheduler() override;

  absl::Status Start();

  absl::StatusOr<RequestId> Submit(GenerateParams params,
                                   ResponseSink* sink) override;
  void Cancel(RequestId id, const absl::Status& why) override;
  void Wake() override;
  void SetEngine(std::shared_ptr<Engine> engine) override;
  bool Drain(absl::Time deadline) override;
  int64_t GiveUpCached(
      int64_t bytes,
      absl::FunctionRef<void(absl::Span<const int32_t>)> release) override;
  SchedulerStats stats() const override;

 private:
  // A sequence's part in the step that is being put together.
  struct Part {
    Sequence* sequence;
    int64_t num_tokens;
    bool has_blocks = false;
  };

  // Whether its first token can come before the deadline.
  absl::Status CheckTime(const Sequence& newcomer) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  void Loop();

  // Waits until there may be something to do; takes over what other threads
  // asked for. False at the end.
  bool TakeOrders();
  absl::Time NextDeadline() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndTheDead();
  void Admit();
  void NoteReaders();
  void ComposeStep();
  void ComposePrompts();
  void QueuePushedOut();
  void TellPrefixCache();
  void RunStep();
  void RunPartsOf(Engine& engine);  // which may end with its last sequence

  // Gives a sequence whose last token is now cached the token that `logits`
  // say, which may end it.
  void Advance(Sequence& sequence, absl::Span<const float> logits,
               absl::Time now);
  static void FlushText(Sequence& sequence, GenerateChunk* chunk);
  void EndRunning(const Sequence& sequence, const absl::Status& status,
                  FinishReason reason);
  void End(Sequence& sequence, const absl::Status& status, FinishReason reason);
  void UpdateStats() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PublishStats();

  // Constant.
  const Options options_;
  const model::Tokenizer& tokenizer_;
  const Clock& clock_;
  SchedulerObserver& observer_;
  const EngineInfo limits_;  // of the first engine; the same for later ones

  // The engine thread's own, but for what it says any may do.
  RunningSequences running_;
  Sampler sampler_;
  StepPace pace_;
  std::vector<Part> parts_;
  std::vector<Sequence*> prompts_;  // that may be in the step
  bool step_is_full_ = false;       // of prompts
  std::vector<StepSlice> slices_;
  std::vector<Part> slice_parts_;  // by slice
  std::vector<absl::Span<const float>> logits_;
  std::vector<std::pair<RequestId, absl::Status>> cancelled_;
  bool abort_ = false;
  bool look_again_ = false;  // the last round changed something
  int64_t num_left_ = 0;     // the queue, in this round
  int64_t prompt_tokens_in_step_ = 0;
  int64_t new_tokens_in_step_ = 0;
  int64_t started_tokens_ = 0;  // of prompts, since the observer was told
  int64_t found_tokens_ = 0;    // of these, in the prefix cache
  SchedulerStats told_;
  int64_t preempted_told_ = 0;
  int64_t evicted_told_ = 0;

  mutable Mutex mu_;
  CondVar work_;     // the engine thread waits here
  CondVar drained_;  // Drain waits here
  FairQueue<Sequence> queue_ ABSL_GUARDED_BY(mu_);
  // Out of the queue, for want of room in it.
  std::vector<std::unique_ptr<Sequence>> displaced_ ABSL_GUARDED_BY(mu_);
  std::vector<std::pair<RequestId, absl::Status>> cancel_orders_
      ABSL_GUARDED_BY(mu_);
  std::shared_ptr<Engine> engine_ ABSL_GUARDED_BY(mu_);
  RequestId next_id_ ABSL_GUARDED_BY(mu_) = 1;
  // What has left the queue while some waited for room, and steps that computed
  // prompts.
  WorkSpeed queue_speed_ ABSL_GUARDED_BY(mu_);
  WorkSpeed prompt_speed_ ABSL_GUARDED_BY(mu_);
  // When room was last looked for, if that left some waiting; requests from
  // `unseen_id_` on have come since.
  absl::Time crowded_at_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  RequestId unseen_id_ ABSL_GUARDED_BY(mu_) = 1;
  bool ordered_ ABSL_GUARDED_BY(mu_) = false;  // something happened: look again
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool abort_order_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool idle_ ABSL_GUARDED_BY(mu_) = true;      // every OnDone has returned
  SchedulerStats stats_ ABSL_GUARDED_BY(mu_);  // but for `queued`

  std::thread thread_;
};

Scheduler::Scheduler(const Options& options, std::shared_ptr<Engine> engine,
                     const model::Tokenizer& tokenizer, const Clock& clock,
                     SchedulerObserver& observer)
    : options_(options),
      tokenizer_(tokenizer),
      clock_(clock),
      observer_(observer),
      limits_(engine->info()),
      running_(options.max_running, BlocksOf(options, limits_)),
      sampler_(limits_.vocab_size, tokenizer.size(), limits_.suppressed_ids),
      pace_(options_.max_step_beside_decode),
      engine_(std::move(engine)) {
  OUNCE_CHECK(options_.max_running >= 1 && options_.max_queued >= 1 &&
                  options_.max_prefill_tokens_beside_decode >= 1 &&
                  options_.max_stalled >= 1 &&
                  options_.max_pause > absl::ZeroDuration(),
              "limits of a scheduler start at 1");
  OUNCE_CHECK(limits_.max_step_tokens >= options_.max_step_tokens &&
                  limits_.max_step_logits >= options_.max_running &&
                  options_.max_step_tokens >= options_.max_running,
              "the engine is too small for the steps of its scheduler");
  parts_.reserve(options_.max_running);
  prompts_.reserve(options_.max_running);
  slices_.reserve(options_.max_running);
  slice_parts_.reserve(options_.max_running);
  logits_.reserve(options_.max_running);
  told_.kv_capacity_bytes = limits_.num_kv_blocks * limits_.kv_block_bytes;
  stats_ = told_;
  observer_.OnStats(told_);
}

absl::Status Scheduler::Start() {
  ASSIGN_OR_RETURN(thread_, StartThread("ounce-generate", [this] { Loop(); }));
  return absl::OkStatus();
}

Scheduler::~Scheduler() {
  {
    MutexLock lock(&mu_);
    draining_ = true;
    abort_order_ = true;
    stopping_ = true;
    ordered_ = true;
  }
  work_.Signal();
  if (thread_.joinable()) thread_.join();
}

absl::StatusOr<GenerateScheduler::RequestId> Scheduler::Submit(
    GenerateParams params, ResponseSink* sink) {
  const int64_t num_prompt = static_cast<int64_t>(params.prompt.size());
  if (num_prompt == 0) {
    return AboutField(
        absl::InvalidArgumentError("the prompt is empty: it has no tokens"),
        "prompt");
  }
  for (const int32_t id : params.prompt) {
    if (id < 0 || id >= limits_.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("a token id must be from 0 to ", limits_.vocab_size - 1,
                       ", is ", id));
    }
  }
  if (params.max_new_tokens < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_new_tokens must be at least 1, is ", params.max_new_tokens));
  }
  if (num_prompt >= limits_.max_positions) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the prompt must have at most ", limits_.max_positions - 1,
        " tokens, has ", num_prompt, "; the model has ", limits_.max_positions,
        " positions, one of them for a new token"));
  }
  auto sequence =
      std::make_unique<Sequence>(std::move(params), sink, tokenizer_);
  sequence->prefix_scope = ScopeOf(options_.prefix_cache, sequence->peer());
  sequence->max_new_tokens = std::min(sequence->params.max_new_tokens,
                                      limits_.max_positions - num_prompt);
  // The last new token is never read again, so it needs no room.
  sequence->max_blocks =
      running_.BlocksFor(num_prompt + sequence->max_new_tokens - 1);
  if (sequence->max_blocks > limits_.num_kv_blocks) {
    return Refusal(Reason::kKvCacheTooSmall,
                   absl::StrCat("the prompt and ", sequence->max_new_tokens,
                                " new tokens need ",
                                sequence->max_blocks * limits_.kv_block_bytes,
                                " bytes of KV cache, --kv_cache_bytes allows ",
                                limits_.num_kv_blocks * limits_.kv_block_bytes,
                                ": ask for fewer new tokens"));
  }

  RequestId id;
  {
    MutexLock lock(&mu_);
    if (draining_) {
      return NotServedAnyMore();
    }
    RETURN_IF_ERROR(CheckTime(*sequence));
    id = next_id_++;
    sequence->id = id;
    // So that whoever is displaced is told, whatever memory there is.
    displaced_.reserve(displaced_.size() + 1);
    if (!queue_.PushWithin(
            options_.max_queued, sequence,
            [](const Sequence& youngest) { return !youngest.started(); })) {
      return Refusal(
          Reason::kQueueFull,
          absl::StrCat("the queue is full: ", queue_.size(), " requests wait"));
    }
    if (sequence != nullptr) displaced_.push_back(std::move(sequence));
    idle_ = false;
    ordered_ = true;
  }
  work_.Signal();
  return id;
}

absl::Status Scheduler::CheckTime(const Sequence& newcomer) const {
  const absl::Time deadline = newcomer.params.deadline;
  if (deadline == absl::InfiniteFuture()) return absl::OkStatus();
  const absl::Time now = clock_.Now();
  double ahead = 0;
  const Sequence* const first = queue_.FirstOf(newcomer.peer());
  if (first != nullptr && first->id < unseen_id_) {
    queue_.ForEachAhead(newcomer.peer(), [&](const Sequence&) { ++ahead; });
  }
  const auto found = running_.blocks().Find(newcomer.FirstTokens(
      newcomer.num_prompt - 1, engine_->info().model_version));
  const auto tokens = static_cast<double>(newcomer.num_prompt -
                                          static_cast<int64_t>(found.size()) *
                                              limits_.kv_block_tokens);
  const auto step = static_cast<double>(options_.max_step_tokens);
  return CheckInTime(
      "the first token",
      queue_speed_.AtLeast(ahead, ahead, now) +
          prompt_speed_.AtLeast(std::max(1.0, tokens / step), tokens, now),
      deadline - now);
}

void Scheduler::Cancel(RequestId id, const absl::Status& why) {
  {
    MutexLock lock(&mu_);
    cancel_orders_.emplace_back(id, why);
    ordered_ = true;
  }
  work_.Signal();
}

void Scheduler::Wake() {
  {
    MutexLock lock(&mu_);
    ordered_ = true;
  }
  work_.Signal();
  drained_.SignalAll();
}

void Scheduler::SetEngine(std::shared_ptr<Engine> engine) {
  const EngineInfo& info = engine->info();
  OUNCE_CHECK(info.vocab_size == limits_.vocab_size &&
                  info.max_positions == limits_.max_positions &&
                  info.kv_block_tokens == limits_.kv_block_tokens &&
                  info.kv_block_bytes == limits_.kv_block_bytes &&
                  info.num_kv_blocks == limits_.num_kv_blocks &&
                  info.max_step_tokens >= options_.max_step_tokens &&
                  info.max_step_logits >= options_.max_running,
              "versions of a model share vocabulary and KV cache");
  MutexLock lock(&mu_);
  // The old one may be freed here, outside the engine thread and its steps:
  // `engine` holds it until the lock is gone.
  if (!(draining_ && queue_.empty())) engine_.swap(engine);
  ordered_ = true;  // what the prefix cache keeps is of no use any more
  work_.Signal();
}

bool Scheduler::Drain(absl::Time deadline) {
  std::shared_ptr<Engine> last;  // freed after the lock is
  MutexLock lock(&mu_);
  draining_ = true;
  while (!idle_) {
    const absl::Duration left = deadline - clock_.Now();
    if (left <= absl::ZeroDuration()) break;
    drained_.WaitFor(&mu_, left);
  }
  if (!idle_) {
    abort_order_ = true;
    ordered_ = true;
    work_.Signal();
  }
  while (!idle_) drained_.Wait(&mu_);
  last.swap(engine_);
  return !abort_order_;
}

int64_t Scheduler::GiveUpCached(
    int64_t bytes, absl::FunctionRef<void(absl::Span<const int32_t>)> release) {
  const int64_t block_bytes = limits_.kv_block_bytes;
  return running_.GiveUpKept((bytes + block_bytes - 1) / block_bytes,
                             block_bytes, release) *
         block_bytes;
}

SchedulerStats Scheduler::stats() const {
  MutexLock lock(&mu_);
  SchedulerStats result = stats_;
  result.queued = queue_.size();
  result.kv_cached_bytes =
      running_.blocks().num_kept() * limits_.kv_block_bytes;
  return result;
}

void Scheduler::Loop() {
  while (TakeOrders()) {
    EndTheDead();
    Admit();
    NoteReaders();
    ComposeStep();
    QueuePushedOut();
    TellPrefixCache();
    RunStep();
    PublishStats();
  }
}

bool Scheduler::TakeOrders() {
  MutexLock lock(&mu_);
  while (!ordered_ && !look_again_ && !stopping_) {
    const absl::Duration left = NextDeadline() - clock_.Now();
    if (left <= absl::ZeroDuration()) break;
    work_.WaitFor(&mu_, left);
  }
  ordered_ = false;
  look_again_ = false;
  cancelled_.clear();
  cancelled_.swap(cancel_orders_);
  abort_ = abort_order_;
  return !(stopping_ && queue_.empty() && displaced_.empty() &&
           running_.empty());
}

absl::Time Scheduler::NextDeadline() const {
  absl::Time next = absl::InfiniteFuture();
  queue_.ForEach([&](const Sequence& sequence) {
    next = std::min(next, sequence.params.deadline);
    return true;
  });
  for (const auto& sequence : running_) {
    next = std::min(
        {next, sequence->params.deadline,
         sequence->paused_since +
             (sequence->stalled ? options_.max_pause : options_.stall_after)});
  }
  return next;
}

// Cancelled, too late, without a reader, or the server is stopping: wherever a
// sequence is, it ends here, before the next step.
void Scheduler::EndTheDead() {
  const absl::Time now = clock_.Now();
  const auto verdict = [&](const Sequence& sequence) -> absl::Status {
    for (const auto& [id, why] : cancelled_) {
      if (id == sequence.id) return why;
    }
    if (sequence.params.deadline <= now) {
      return DeadlinePassed(
          sequence.params.servers_deadline,
          sequence.started()
              ? absl::StrCat("after ", sequence.num_new(), " new tokens")
              : "while the request waited");
    }
    if (abort_) return NotServedAnyMore();
    if (sequence.paused_since + options_.max_pause <= now &&
        !sequence.sink->HasRoom()) {
      return Refusal(
          Reason::kReaderGone,
          absl::StrCat("the client read nothing for ",
                       absl::FormatDuration(options_.max_pause), ", after ",
                       sequence.num_new(), " new tokens"));
    }
    return absl::OkStatus();
  };

  std::vector<absl::Status> why;
  const auto is_dead = [&](const Sequence& sequence) {
    absl::Status status = verdict(sequence);
    const bool dead = !status.ok();
    if (dead) why.push_back(std::move(status));
    return dead;
  };
  std::vector<std::unique_ptr<Sequence>> dead = running_.TakeIf(is_dead);
  {
    MutexLock lock(&mu_);
    std::vector<std::unique_ptr<Sequence>> queued = queue_.TakeIf(is_dead);
    num_left_ += static_cast<int64_t>(queued.size());
    std::move(queued.begin(), queued.end(), std::back_inserter(dead));
    why.resize(dead.size() + displaced_.size(),
               Refusal(Reason::kCallerShareFull,
                       "the queue is full, and this caller has most in it"));
    std::move(displaced_.begin(), displaced_.end(), std::back_inserter(dead));
    displaced_.clear();
  }
  for (size_t i = 0; i < dead.size(); ++i) {
    End(*dead[i], why[i], FinishReason::kLength);
  }
}

// Peers take turns. One that has to wait though others of its peer run lets the
// next peer's go first; one whose peer runs nothing does not, so that it gets
// its room some day.
void Scheduler::Admit() {
  MutexLock lock(&mu_);
  if (engine_ != nullptr) running_.BeginOn(engine_);
  const auto choose = [&](const Sequence& next) {
    if (running_.MakeRoomFor(next)) return Turn::kTake;
    return running_.Has(next.peer()) ? Turn::kPass : Turn::kWait;
  };
  while (std::unique_ptr<Sequence> next = queue_.TakeNext(choose)) {
    const bool is_new = !next->started();
    if (is_new) {
      next->engine = engine_;
      next->tokens.reserve(next->num_prompt + next->max_new_tokens);
      next->blocks.reserve(next->max_blocks);
    }
    Sequence& added = running_.Add(std::move(next));
    if (is_new) {
      added.num_prompt_found = added.num_cached;
      started_tokens_ += added.num_prompt;
      found_tokens_ += added.num_prompt_found;
    }
    ++num_left_;
  }
  const absl::Time now = clock_.Now();
  if (crowded_at_ <= now) {
    const auto left = static_cast<double>(num_left_);
    queue_speed_.Note(left, left, now - crowded_at_, now);
  }
  num_left_ = 0;
  crowded_at_ = queue_.empty() ? absl::InfiniteFuture() : now;
  unseen_id_ = next_id_;
  UpdateStats();
}

void Scheduler::NoteReaders() {
  const absl::Time now = clock_.Now();
  for (const auto& sequence : running_) {
    if (sequence->sink->HasRoom()) {
      sequence->paused_since = absl::InfiniteFuture();
      continue;
    }
    sequence->paused_since = std::min(sequence->paused_since, now);
    if (!sequence->stalled &&
        sequence->paused_since + options_.stall_after <= now) {
      sequence->stalled = true;
      look_again_ = true;  // its place is free
    }
  }
  running_.ResumeStalled();
  while (const Sequence* const one =
             running_.StalledTooMany(options_.max_stalled)) {
    EndRunning(
        *one,
        Refusal(Reason::kCallerTooSlow,
                absl::StrCat("the client is behind with reading, after ",
                             one->num_new(), " new tokens, and more than ",
                             options_.max_stalled, " others are")),
        FinishReason::kLength);
    look_again_ = true;
  }
}

// All that decode, one token each; then prompts, and what was pushed out of the
// cache. They share the step's tokens, so that a short one does not wait for a
// long one to end; what the short ones leave goes to the others, oldest first.
// The oldest always gets a share.
void Scheduler::ComposeStep() {
  parts_.clear();
  prompts_.clear();
  for (const auto& sequence : running_) {
    if (sequence->paused()) continue;
    if (sequence->decoding()) {
      parts_.push_back({sequence.get(), 1});
    } else {
      prompts_.push_back(sequence.get());
    }
  }
  const bool without_prompts = !parts_.empty() && pace_.IsDecodingDue();
  if (!prompts_.empty() && !without_prompts) ComposePrompts();
  for (Part& part : parts_) {
    part.has_blocks = running_.Reserve(
        *part.sequence, part.sequence->num_cached + part.num_tokens);
  }
  std::erase_if(parts_, [&](const Part& part) {
    if (part.sequence->running && !part.has_blocks) {
      EndRunning(
          *part.sequence,
          Refusal(Reason::kKvCacheFull, "no memory is left for the KV cache"),
          FinishReason::kLength);
      look_again_ = true;
      return true;
    }
    return !part.sequence->running;
  });
}

void Scheduler::ComposePrompts() {
  const auto num_decoding = static_cast<int64_t>(parts_.size());
  int64_t budget = options_.max_step_tokens - num_decoding;
  if (num_decoding > 0) {
    budget = std::min(budget, options_.max_prefill_tokens_beside_decode);
    const absl::Time now = clock_.Now();
    absl::Time oldest = now;
    for (const Sequence* const prompt : prompts_) {
      oldest = std::min(oldest, prompt->first_step);
    }
    const int64_t paced = pace_.Tokens(num_decoding + kMinPromptShare,
                                       num_decoding + budget, now - oldest) -
                          num_decoding;
    budget = std::min(budget, std::max(kMinPromptShare, paced));
  }
  const auto num_prompts = static_cast<int64_t>(prompts_.size());
  const int64_t share = std::max(kMinPromptShare, budget / num_prompts);
  for (Sequence* const prompt : prompts_) {
    if (budget <= 0) break;
    parts_.push_back(
        {prompt, std::min({prompt->num_uncached(), share, budget})});
    budget -= parts_.back().num_tokens;
  }
  for (size_t i = num_decoding; i < parts_.size() && budget > 0; ++i) {
    Part& part = parts_[i];
    const int64_t more =
        std::min(part.sequence->num_uncached() - part.num_tokens, budget);
    part.num_tokens += more;
    budget -= more;
  }
  step_is_full_ = budget == 0;
}

void Scheduler::QueuePushedOut() {
  std::vector<std::unique_ptr<Sequence>> pushed_out = running_.TakePushedOut();
  if (!pushed_out.empty()) {
    look_again_ = true;
    MutexLock lock(&mu_);
    for (auto& sequence : pushed_out) queue_.Push(std::move(sequence));
  }
  running_.ReleaseFreed();
  if (running_.num_preempted() > preempted_told_) {
    observer_.OnPreempted(running_.num_preempted() - preempted_told_);
    preempted_told_ = running_.num_preempted();
  }
}

void Scheduler::TellPrefixCache() {
  const int64_t evicted = running_.blocks().num_evicted();
  if (options_.prefix_cache.max_bytes == 0 ||
      (started_tokens_ == 0 && evicted == evicted_told_)) {
    return;
  }
  observer_.OnPrefixCache(std::exchange(started_tokens_, 0),
                          std::exchange(found_tokens_, 0),
                          evicted - evicted_told_);
  evicted_told_ = evicted;
}

// Sequences of different versions of the model go through their engines one
// after the other.
void Scheduler::RunStep() {
  if (parts_.empty()) return;
  look_again_ = true;
  prompt_tokens_in_step_ = 0;
  new_tokens_in_step_ = 0;
  while (!parts_.empty()) RunPartsOf(*parts_.front().sequence->engine);
  if (prompt_tokens_in_step_ > 0 || new_tokens_in_step_ > 0) {
    observer_.OnTokens(prompt_tokens_in_step_, new_tokens_in_step_);
    MutexLock lock(&mu_);
    stats_.generated_tokens += new_tokens_in_step_;
  }
}

void Scheduler::RunPartsOf(Engine& engine) {
  const absl::Time start = clock_.Now();
  slices_.clear();
  slice_parts_.clear();
  logits_.clear();
  int64_t num_tokens = 0;
  bool has_prompts = false;
  bool has_decoding = false;
  for (const Part& part : parts_) {
    Sequence& sequence = *part.sequence;
    if (sequence.engine.get() != &engine) continue;
    num_tokens += part.num_tokens;
    (sequence.decoding() ? has_decoding : has_prompts) = true;
    sequence.first_step = std::min(sequence.first_step, start);
    const int64_t end = sequence.num_cached + part.num_tokens;
    slices_.push_back(
        {absl::MakeConstSpan(sequence.tokens)
             .subspan(sequence.num_cached, part.num_tokens),
         sequence.num_cached,
         absl::MakeConstSpan(sequence.blocks).first(running_.BlocksFor(end)),
         end == sequence.num_tokens()});
    slice_parts_.push_back(part);
  }
  std::erase_if(parts_, [&](const Part& part) {
    return part.sequence->engine.get() == &engine;
  });

  const absl::Status status = engine.Step(slices_, &logits_);
  const absl::Time now = clock_.Now();
  if (status.ok() && has_prompts) {
    if (has_decoding && step_is_full_) pace_.NoteMixed(num_tokens, now - start);
    MutexLock lock(&mu_);
    prompt_speed_.Note(1, static_cast<double>(num_tokens), now - start, now);
  } else if (status.ok()) {
    pace_.NoteDecoding(now - start);
  }
  size_t next_logits = 0;
  for (size_t i = 0; i < slice_parts_.size(); ++i) {
    Sequence& sequence = *slice_parts_[i].sequence;
    if (!status.ok()) {
      EndRunning(sequence, status, FinishReason::kLength);
      continue;
    }
    sequence.num_cached += slice_parts_[i].num_tokens;
    running_.Publish(sequence);
    const int64_t prompt = std::min(sequence.num_cached, sequence.num_prompt);
    if (prompt > sequence.num_prompt_told) {
      prompt_tokens_in_step_ += prompt - sequence.num_prompt_told;
      sequence.num_prompt_told = prompt;
    }
    if (slices_[i].wants_logits) Advance(sequence, logits_[next_logits++], now);
  }
}

void Scheduler::Advance(Sequence& sequence, absl::Span<const float> logits,
                        absl::Time now) {
  const GenerateParams& params = sequence.params;
  const absl::StatusOr<SampledToken> sampled =
      sampler_.Sample(logits, params.sampling, sequence.tokens,
                      sequence.num_new(), params.num_logprobs);
  if (!sampled.ok()) {
    EndRunning(
        sequence,
        NotFinite(absl::StrCat("the logits of new token ", sequence.num_new()),
                  sequence.engine->info().method),
        FinishReason::kLength);
    return;
  }
  if (sequence.first_token == absl::InfiniteFuture()) {
    sequence.first_token = now;
    observer_.OnFirstToken(now - params.arrival);
  }

  GenerateChunk chunk;
  const bool at_stop_token = Contains(params.stop_token_ids, sampled->id);
  if (!at_stop_token &&
      Contains(sequence.engine->info().eos_ids, sampled->id)) {
    FlushText(sequence, &chunk);
    if (!chunk.text.empty()) sequence.sink->OnChunk(std::move(chunk));
    // The last bytes of a broken character may complete a stop string.
    EndRunning(sequence, absl::OkStatus(),
               sequence.stop_matcher.stopped() ? FinishReason::kStop
                                               : FinishReason::kEos);
    return;
  }

  sequence.tokens.push_back(sampled->id);
  ++new_tokens_in_step_;
  chunk.token_ids.push_back(sampled->id);
  if (params.num_logprobs > 0) {
    TokenLogprobs& logprobs = chunk.logprobs.emplace_back();
    logprobs.logprob = sampled->logprob;
    logprobs.top.reserve(sampled->top.size());
    for (const IdLogprob& top : sampled->top) {
      logprobs.top.push_back(
          {top.id, top.logprob,
           tokenizer_.Decode({&top.id, 1}, /*skip_special=*/false)});
    }
  }
  if (!at_stop_token) {
    chunk.text = sequence.stop_matcher.Push(sequence.decoder.Push(sampled->id));
  }
  const bool full = sequence.num_new() >= sequence.max_new_tokens;
  if ((full || at_stop_token) && !sequence.stop_matcher.stopped()) {
    FlushText(sequence, &chunk);
  }
  sequence.sink->OnChunk(std::move(chunk));

  if (at_stop_token || sequence.stop_matcher.stopped()) {
    EndRunning(sequence, absl::OkStatus(), FinishReason::kStop);
  } else if (full) {
    EndRunning(sequence, absl::OkStatus(), FinishReason::kLength);
  }
}

void Scheduler::FlushText(Sequence& sequence, GenerateChunk* chunk) {
  chunk->text += sequence.stop_matcher.Push(sequence.decoder.Finish());
  if (!sequence.stop_matcher.stopped()) {
    chunk->text += sequence.stop_matcher.Finish();
  }
}

void Scheduler::EndRunning(const Sequence& sequence, const absl::Status& status,
                           FinishReason reason) {
  End(*running_.Take(sequence), status, reason);
}

// Blocks, counts and metrics first, so that whoever hears of the end sees it
// everywhere.
void Scheduler::End(Sequence& sequence, const absl::Status& status,
                    FinishReason reason) {
  GenerateResult result;
  result.reason = reason;
  result.prompt_tokens = sequence.num_prompt;
  result.cached_tokens = sequence.num_prompt_found;
  const absl::Time now = clock_.Now();
  const absl::Time arrival = sequence.params.arrival;
  result.queued = std::min(sequence.first_step, now) - arrival;
  result.time_to_first_token = std::min(sequence.first_token, now) - arrival;
  result.total = now - arrival;
  if (sequence.started()) {
    result.new_tokens = sequence.num_new();
    result.model_version = sequence.engine->info().model_version;
    result.method = sequence.engine->info().method;
    running_.Free(sequence);
    sequence.engine = nullptr;
    MutexLock lock(&mu_);
    UpdateStats();
  }
  observer_.OnDone(status, reason, result);
  sequence.sink->OnDone(status, result);
}

void Scheduler::UpdateStats() {
  stats_.running = running_.size();
  stats_.kv_used_bytes = running_.blocks().num_held() * limits_.kv_block_bytes;
}

void Scheduler::PublishStats() {
  SchedulerStats now;
  {
    MutexLock lock(&mu_);
    UpdateStats();
    now = stats_;
    now.queued = queue_.size();
  }
  if (now.queued != told_.queued || now.running != told_.running ||
      now.kv_used_bytes != told_.kv_used_bytes) {
    told_ = now;
    observer_.OnStats(now);
  }
  MutexLock lock(&mu_);
  if (running_.empty() && queue_.empty() && displaced_.empty()) {
    idle_ = true;
    drained_.SignalAll();
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<GenerateScheduler>> GenerateScheduler::Create(
    const Options& options, std::shared_ptr<Engine> engine,
    const model::Tokenizer& tokenizer, const Clock& clock,
    SchedulerObserver& observer) {
  auto scheduler = std::make_unique<Scheduler>(options, std::move(engine),
                                               tokenizer, clock, observer);
  RETURN_IF_ERROR(scheduler->Start());
  return scheduler;
}

}  // namespace ounce::server
