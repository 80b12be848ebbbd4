#include "tests/testing/fake_engine.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "tests/testing/id_decoding.h"

namespace ounce::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

// True when `condition` holds, false after kPatience.
template <class Condition>
bool Await(Mutex* mu, CondVar* changed,
           Condition condition) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  const absl::Time end = absl::Now() + kPatience;
  while (!condition()) {
    const absl::Duration left = end - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    changed->WaitFor(mu, left);
  }
  return true;
}

uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

std::vector<float> FakeLogits(absl::Span<const int32_t> tokens,
                              int64_t vocab_size, uint64_t salt) {
  uint64_t state = Mix(salt);
  for (const int32_t id : tokens)
    state = Mix(state ^ static_cast<uint64_t>(id));
  std::vector<float> logits(vocab_size);
  for (int64_t id = 0; id < vocab_size; ++id) {
    const uint64_t bits = Mix(state + static_cast<uint64_t>(id) * 7919);
    logits[id] = static_cast<float>(bits >> 40) * 0x1p-22f - 2.0f;
  }
  return logits;
}

std::vector<int32_t> FakeContinuation(std::vector<int32_t> prompt,
                                      int64_t num_new, int64_t num_tokens,
                                      uint64_t salt) {
  std::vector<int32_t> result;
  for (int64_t i = 0; i < num_new; ++i) {
    const std::vector<float> logits = FakeLogits(prompt, num_tokens, salt);
    const auto best = std::max_element(logits.begin(), logits.end());
    result.push_back(static_cast<int32_t>(best - logits.begin()));
    prompt.push_back(result.back());
  }
  return result;
}

server::EngineInfo FakeEngine::DefaultInfo() {
  server::EngineInfo info;
  info.model_version = 1;
  info.method = "fake";
  info.vocab_size = 64;
  info.max_positions = 100;
  info.kv_block_tokens = 4;
  info.kv_block_bytes = 100;
  info.num_kv_blocks = 64;
  info.max_step_tokens = 512;
  info.max_step_logits = 32;
  return info;
}

FakeEngine::FakeEngine(server::EngineInfo info, std::shared_ptr<FakeKv> kv,
                       uint64_t salt)
    : info_(std::move(info)), kv_(std::move(kv)), salt_(salt) {}

FakeEngine::~FakeEngine() {
  if (on_destroyed_) on_destroyed_();
}

absl::Status FakeEngine::Step(absl::Span<const server::StepSlice> slices,
                              std::vector<absl::Span<const float>>* logits) {
  SeenStep seen;
  for (const server::StepSlice& slice : slices) {
    const int64_t end =
        slice.position + static_cast<int64_t>(slice.token_ids.size());
    const int64_t num_blocks = static_cast<int64_t>(slice.kv_blocks.size());
    OUNCE_CHECK(!slice.token_ids.empty() &&
                    num_blocks == (end + info_.kv_block_tokens - 1) /
                                      info_.kv_block_tokens,
                "a slice has the blocks of its positions");
    const auto cell = [&](int64_t position) -> int32_t& {
      const int64_t block = slice.kv_blocks[position / info_.kv_block_tokens];
      OUNCE_CHECK(block >= 0 && block < info_.num_kv_blocks, "no such block");
      return kv_->ids[block * info_.kv_block_tokens +
                      position % info_.kv_block_tokens];
    };
    for (int64_t i = slice.position; i < end; ++i) {
      cell(i) = slice.token_ids[i - slice.position];
    }
    seen.push_back({cell(0),
                    slice.position,
                    static_cast<int64_t>(slice.token_ids.size()),
                    slice.wants_logits,
                    {slice.kv_blocks.begin(), slice.kv_blocks.end()}});
  }

  absl::Status outcome;
  std::optional<int32_t> poisoned;
  {
    MutexLock lock(&mu_);
    steps_.push_back(seen);
    poisoned = poisoned_;
    if (holding_) {
      waiting_ = true;
      changed_.SignalAll();
      OUNCE_CHECK(Await(&mu_, &changed_,
                        [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
                          return go_.has_value() || !holding_;
                        }),
                  "a test holds a step and forgets it");
      waiting_ = false;
      if (go_.has_value()) outcome = *std::exchange(go_, std::nullopt);
      changed_.SignalAll();
    }
  }
  if (!outcome.ok()) return outcome;

  // All rows first: spans into a vector that grows would dangle.
  rows_.clear();
  std::vector<int32_t> history;
  for (const server::StepSlice& slice : slices) {
    if (!slice.wants_logits) continue;
    const int64_t end =
        slice.position + static_cast<int64_t>(slice.token_ids.size());
    history.clear();
    for (int64_t i = 0; i < end; ++i) {
      history.push_back(kv_->ids[slice.kv_blocks[i / info_.kv_block_tokens] *
                                     info_.kv_block_tokens +
                                 i % info_.kv_block_tokens]);
    }
    std::vector<float> row = FakeLogits(history, info_.vocab_size, salt_);
    if (poisoned == history[0]) {
      row[7] = std::numeric_limits<float>::quiet_NaN();
    }
    rows_.insert(rows_.end(), row.begin(), row.end());
  }
  logits->clear();
  const size_t width = info_.vocab_size;
  for (size_t row = 0; row < rows_.size(); row += width) {
    logits->push_back(absl::MakeConstSpan(rows_).subspan(row, width));
  }
  return absl::OkStatus();
}

void FakeEngine::ReleaseBlocks(absl::Span<const int32_t> blocks) {
  kv_->Release(blocks);
  MutexLock lock(&mu_);
  released_.insert(released_.end(), blocks.begin(), blocks.end());
}

void FakeEngine::Hold() {
  MutexLock lock(&mu_);
  holding_ = true;
}

SeenStep FakeEngine::AwaitStep() {
  MutexLock lock(&mu_);
  OUNCE_CHECK(Await(&mu_, &changed_,
                    [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
                      return waiting_ && !go_.has_value();
                    }),
              "no step came");
  return steps_.back();
}

void FakeEngine::Finish(absl::Status outcome) {
  MutexLock lock(&mu_);
  OUNCE_CHECK(waiting_ && !go_.has_value(), "no step waits");
  go_ = std::move(outcome);
  changed_.SignalAll();
}

void FakeEngine::Free() {
  MutexLock lock(&mu_);
  holding_ = false;
  changed_.SignalAll();
}

std::vector<SeenStep> FakeEngine::steps() const {
  MutexLock lock(&mu_);
  return steps_;
}

std::vector<int32_t> FakeEngine::released() const {
  MutexLock lock(&mu_);
  return released_;
}

FakeTokenizer::FakeTokenizer() {
  for (char c = 'a'; c <= 'z'; ++c) texts_.push_back(std::string(1, c));
  for (char c = 'A'; c <= 'Z'; ++c) texts_.push_back(std::string(1, c));
  // Among them the two halves of "é".
  for (const char* text :
       {"the", " ", "\n", "if ", "end", "\xc3", "\xa9", "\xe2\x82\xac"}) {
    texts_.push_back(text);
  }
}

absl::StatusOr<std::vector<int32_t>> FakeTokenizer::Encode(
    std::string_view text) const {
  std::vector<int32_t> ids;
  while (!text.empty()) {
    int32_t best = -1;
    for (int32_t id = 0; id < size(); ++id) {
      if (text.substr(0, texts_[id].size()) != texts_[id]) continue;
      if (best < 0 || texts_[id].size() > texts_[best].size()) best = id;
    }
    if (best < 0) return absl::InvalidArgumentError("no token for this text");
    ids.push_back(best);
    text.remove_prefix(texts_[best].size());
  }
  return ids;
}

std::unique_ptr<model::Tokenizer::Decoding> FakeTokenizer::StartDecoding(
    bool /*skip_special*/) const {
  return std::make_unique<IdDecoding>([this](int32_t id) {
    return id >= 0 && id < size() ? texts_[id] : std::string();
  });
}

bool RecordingSink::HasRoom() const {
  MutexLock lock(&mu_);
  return token_ids_.size() < room_;
}

void RecordingSink::OnChunk(server::GenerateChunk chunk) {
  MutexLock lock(&mu_);
  OUNCE_CHECK(times_done_ == 0, "a chunk after the end");
  text_ += chunk.text;
  token_ids_.insert(token_ids_.end(), chunk.token_ids.begin(),
                    chunk.token_ids.end());
  logprobs_.insert(logprobs_.end(), chunk.logprobs.begin(),
                   chunk.logprobs.end());
  changed_.SignalAll();
}

void RecordingSink::OnDone(const absl::Status& status,
                           const server::GenerateResult& result) {
  if (on_done_) on_done_();
  MutexLock lock(&mu_);
  OUNCE_CHECK(++times_done_ == 1, "a second end");
  status_ = status;
  result_ = result;
  changed_.SignalAll();
}

void RecordingSink::set_room(size_t tokens) {
  MutexLock lock(&mu_);
  room_ = tokens;
}

bool RecordingSink::AwaitDone() {
  MutexLock lock(&mu_);
  return Await(&mu_, &changed_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return times_done_ > 0;
  });
}

bool RecordingSink::AwaitTokens(size_t count) {
  MutexLock lock(&mu_);
  return Await(&mu_, &changed_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return token_ids_.size() >= count;
  });
}

bool RecordingSink::done() const {
  MutexLock lock(&mu_);
  return times_done_ > 0;
}
absl::Status RecordingSink::status() const {
  MutexLock lock(&mu_);
  return status_;
}
server::GenerateResult RecordingSink::result() const {
  MutexLock lock(&mu_);
  return result_;
}
std::string RecordingSink::text() const {
  MutexLock lock(&mu_);
  return text_;
}
std::vector<int32_t> RecordingSink::token_ids() const {
  MutexLock lock(&mu_);
  return token_ids_;
}
std::vector<server::TokenLogprobs> RecordingSink::logprobs() const {
  MutexLock lock(&mu_);
  return logprobs_;
}

}  // namespace ounce::testing
