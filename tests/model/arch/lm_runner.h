// Runs steps of a CausalLm on sequences, for tests.
#ifndef OUNCE_TESTS_MODEL_ARCH_LM_RUNNER_H_
#define OUNCE_TESTS_MODEL_ARCH_LM_RUNNER_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/thread_pool.h"
#include "model/causal_lm.h"

namespace ounce::testing {

// Ownership: the model must outlive it.
class LmRunner {
 public:
  static constexpr int64_t kBlocks = 96;
  static constexpr int64_t kMaxRows = 256;

  struct Sequence {
    std::vector<int32_t> blocks;
    int64_t position = 0;
  };
  struct Part {
    Sequence* sequence;
    std::vector<int32_t> tokens;
    int64_t num_logits;
  };

  // The cache begins with NaN everywhere, and its blocks are handed out in a
  // random order: whoever reads what nobody wrote, shows it.
  LmRunner(const model::CausalLm& lm, int threads) : lm_(lm), pool_(threads) {
    cache_.emplace(*model::KvCache::Create(lm.shape().kv, kBlocks));
    std::fill_n(reinterpret_cast<float*>(cache_->keys(0, 0, 0)),
                kBlocks * lm.shape().kv.bytes_per_block() / 4,
                std::numeric_limits<float>::quiet_NaN());
    for (int i = 0; i < kBlocks; ++i) free_.push_back(i);
    std::shuffle(free_.begin(), free_.end(), std::mt19937(7));
    scratch_.emplace(
        *quant::Scratch::Create(lm.ScratchBytes(kMaxRows, kMaxRows, threads)));
  }

  // Logits of all parts, [sum of num_logits, vocab].
  std::vector<float> Step(const std::vector<Part>& parts,
                          model::LinearObserver* observer = nullptr) {
    std::vector<model::SequenceSlice> slices;
    int64_t logit_rows = 0;
    for (const Part& part : parts) {
      const int64_t end =
          part.sequence->position + static_cast<int64_t>(part.tokens.size());
      while (static_cast<int64_t>(part.sequence->blocks.size()) *
                 model::kKvBlockTokens <
             end) {
        OUNCE_CHECK(!free_.empty(), "the test needs more blocks");
        part.sequence->blocks.push_back(free_.back());
        free_.pop_back();
      }
      slices.push_back({.token_ids = part.tokens,
                        .position = part.sequence->position,
                        .kv_blocks = part.sequence->blocks,
                        .num_logits = part.num_logits});
      part.sequence->position = end;
      logit_rows += part.num_logits;
    }
    const int64_t vocab = lm_.shape().vocab_size;
    std::vector<float> logits(logit_rows * vocab);
    lm_.Forward(slices, *cache_, lm_.RunOn(pool_, *scratch_, observer),
                {logits.data(), logit_rows, vocab, vocab});
    return logits;
  }

  void Free(const Sequence& sequence) {
    free_.insert(free_.end(), sequence.blocks.begin(), sequence.blocks.end());
  }

  // Logits of every position of `tokens`, fed in steps of these sizes.
  std::vector<float> AllLogits(const std::vector<int32_t>& tokens,
                               const std::vector<int64_t>& cuts) {
    Sequence sequence;
    std::vector<float> all;
    auto next = tokens.begin();
    for (int64_t cut : cuts) {
      const auto logits = Step({{&sequence, {next, next + cut}, cut}});
      all.insert(all.end(), logits.begin(), logits.end());
      next += cut;
    }
    Free(sequence);
    return all;
  }

  std::vector<int32_t> Greedy(const std::vector<int32_t>& prompt, int count) {
    Sequence sequence;
    std::vector<int32_t> tokens;
    std::vector<int32_t> next = prompt;
    while (static_cast<int>(tokens.size()) < count) {
      tokens.push_back(Best(Step({{&sequence, next, 1}}).data()));
      next = {tokens.back()};
    }
    Free(sequence);
    return tokens;
  }

  int32_t Best(const float* logits) const {
    return static_cast<int32_t>(
        std::max_element(logits, logits + lm_.shape().vocab_size) - logits);
  }

  model::KvCache& cache() { return *cache_; }
  quant::Scratch& scratch() { return *scratch_; }
  ThreadPool& pool() { return pool_; }

 private:
  const model::CausalLm& lm_;
  ThreadPool pool_;
  std::optional<model::KvCache> cache_;
  std::optional<quant::Scratch> scratch_;
  std::vector<int32_t> free_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_MODEL_ARCH_LM_RUNNER_H_
