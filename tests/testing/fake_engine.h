// An engine without a model: the next token is a known function of the
// sequence's tokens, which it reads back from the blocks that it was given, so
// a block in two hands or a position computed twice changes the output. Steps
// run freely, or one by one when the test says so.
#ifndef OUNCE_TESTS_TESTING_FAKE_ENGINE_H_
#define OUNCE_TESTS_TESTING_FAKE_ENGINE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "model/tokenizer/tokenizer.h"
#include "server/scheduler/engine.h"
#include "server/scheduler/request.h"

namespace ounce::testing {

// A slice of a step, as the engine saw it.
struct SeenSlice {
  int32_t first_id = 0;  // the sequence's first token: names it in tests
  int64_t position = 0;
  int64_t num_tokens = 0;
  bool wants_logits = false;
  std::vector<int32_t> blocks;
};
using SeenStep = std::vector<SeenSlice>;

// Blocks of keys and values, shared by the versions of a model: just token ids.
struct FakeKv {
  explicit FakeKv(const server::EngineInfo& info)
      : block_tokens(info.kv_block_tokens),
        ids(info.num_kv_blocks * block_tokens, -1) {}

  // Of blocks that nobody holds. Threads: any; several may release the same.
  void Release(absl::Span<const int32_t> blocks) {
    MutexLock lock(&mu);
    for (const int32_t block : blocks) {
      std::fill_n(ids.begin() + block * block_tokens, block_tokens, -1);
    }
  }

  const int64_t block_tokens;
  std::vector<int32_t> ids;
  Mutex mu;
};

class FakeEngine final : public server::Engine {
 public:
  // `salt` makes versions differ in what they say.
  FakeEngine(server::EngineInfo info, std::shared_ptr<FakeKv> kv,
             uint64_t salt = 0);
  ~FakeEngine() override;

  // 64 ids, no end-of-sequence, blocks of 4 tokens and 100 bytes, 64 of them,
  // 100 positions.
  static server::EngineInfo DefaultInfo();

  const server::EngineInfo& info() const override { return info_; }
  absl::Status Step(absl::Span<const server::StepSlice> slices,
                    std::vector<absl::Span<const float>>* logits) override;
  void ReleaseBlocks(absl::Span<const int32_t> blocks) override;

  // From now on every step waits for the test.
  void Hold();
  // The step that waits; waits for it.
  SeenStep AwaitStep();
  // Lets the step that waits go on, with this outcome.
  void Finish(absl::Status outcome = absl::OkStatus());
  // Undoes Hold.
  void Free();

  // All steps so far.
  std::vector<SeenStep> steps() const;
  std::vector<int32_t> released() const;  // blocks, in the order of release
  // Called in the destructor.
  void set_on_destroyed(std::function<void()> fn) {
    on_destroyed_ = std::move(fn);
  }
  // Rows of logits become NaN for sequences that begin with this id.
  void set_poisoned(int32_t first_id) {
    MutexLock lock(&mu_);
    poisoned_ = first_id;
  }

 private:
  const server::EngineInfo info_;
  const std::shared_ptr<FakeKv> kv_;
  const uint64_t salt_;
  std::vector<float> rows_;
  std::function<void()> on_destroyed_;

  mutable Mutex mu_;
  CondVar changed_;
  bool holding_ ABSL_GUARDED_BY(mu_) = false;
  bool waiting_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<absl::Status> go_ ABSL_GUARDED_BY(mu_);
  std::vector<SeenStep> steps_ ABSL_GUARDED_BY(mu_);
  std::vector<int32_t> released_ ABSL_GUARDED_BY(mu_);
  std::optional<int32_t> poisoned_ ABSL_GUARDED_BY(mu_);
};

// What FakeEngine's logits are after `tokens`: pseudo-random in [-2, 2).
std::vector<float> FakeLogits(absl::Span<const int32_t> tokens,
                              int64_t vocab_size, uint64_t salt = 0);

// Greedy continuation of `prompt` by those logits, ids below num_tokens.
std::vector<int32_t> FakeContinuation(std::vector<int32_t> prompt,
                                      int64_t num_new, int64_t num_tokens,
                                      uint64_t salt = 0);

// Ids are given texts; an id past the end has none.
class FakeTokenizer final : public model::Tokenizer {
 public:
  // 60 ids: "a" to "z", "A" to "Z", and 8 longer ones.
  FakeTokenizer();

  // By longest match; text that matches nothing is kInvalidArgument.
  absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text) const override;
  std::unique_ptr<Decoding> StartDecoding(bool skip_special) const override;
  std::optional<int32_t> SpecialTokenId(std::string_view) const override {
    return std::nullopt;
  }
  int64_t resident_bytes() const override { return 0; }
  int32_t size() const override { return static_cast<int32_t>(texts_.size()); }

 private:
  std::vector<std::string> texts_;
};

// Keeps what it is told.
class RecordingSink final : public server::ResponseSink {
 public:
  bool HasRoom() const override;
  void OnChunk(server::GenerateChunk chunk) override;
  void OnDone(const absl::Status& status,
              const server::GenerateResult& result) override;

  // It has room until it holds that many tokens; at first without end.
  void set_room(size_t tokens);
  void set_has_room(bool has_room) { set_room(has_room ? SIZE_MAX : 0); }
  // Called first thing in OnDone.
  void set_on_done(std::function<void()> fn) { on_done_ = std::move(fn); }

  // Waits for OnDone; false after 30 s.
  bool AwaitDone();
  // Waits until there are as many tokens; false after 30 s.
  bool AwaitTokens(size_t count);

  bool done() const;
  absl::Status status() const;
  server::GenerateResult result() const;
  std::string text() const;
  std::vector<int32_t> token_ids() const;
  std::vector<server::TokenLogprobs> logprobs() const;

 private:
  mutable Mutex mu_;
  CondVar changed_;
  std::function<void()> on_done_;
  size_t room_ ABSL_GUARDED_BY(mu_) = SIZE_MAX;  // tokens
  int times_done_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  server::GenerateResult result_ ABSL_GUARDED_BY(mu_);
  std::string text_ ABSL_GUARDED_BY(mu_);
  std::vector<int32_t> token_ids_ ABSL_GUARDED_BY(mu_);
  std::vector<server::TokenLogprobs> logprobs_ ABSL_GUARDED_BY(mu_);
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_FAKE_ENGINE_H_
