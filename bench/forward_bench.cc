// Speed of a model's steps alone, without server, tokenizer or sampler.
//
// Usage: forward_bench CHECKPOINT [METHOD] [THREADS] [REPEATS]
// [prefill|decode|all]
//        [float32|bfloat16] [keys and values in: float32|bfloat16|int8]

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "base/mapped_memory.h"
#include "bench/timing.h"
#include "model/causal_lm.h"
#include "model/loader/loader.h"
#include "quant/registry.h"

namespace ounce {
namespace {

using bench::ProcessCpuSeconds;
using bench::Seconds;
using model::CausalLm;
using model::SequenceSlice;

struct Times {
  double wall;
  double cpu;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

[[noreturn]] void Die(const absl::Status& status) {
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

class Bench {
 public:
  Bench(const CausalLm& lm, model::KvType kv_type, int threads)
      : lm_(lm), kv_type_(kv_type), pool_(threads) {}

  // Median times of a step of `batch` sequences, each with `cached` tokens
  // and `tokens` new ones, which get one row of logits.
  Times Step(int64_t batch, int64_t cached, int64_t tokens, int repeats) {
    const int64_t blocks =
        (cached + tokens + model::kKvBlockTokens - 1) / model::kKvBlockTokens;
    model::KvShape kv = lm_.shape().kv;
    kv.type = kv_type_;
    auto cache = model::KvCache::Create(kv, batch * blocks);
    auto scratch = quant::Scratch::Create(
        lm_.ScratchBytes(batch * tokens, batch, pool_.num_threads()));
    if (!cache.ok()) Die(cache.status());
    if (!scratch.ok()) Die(scratch.status());
    // Small values in every page, whatever they are kept in.
    std::memset(cache->keys(0, 0, 0), 0x3C,
                batch * blocks * kv.bytes_per_block());
    std::vector<std::vector<int32_t>> ids, kv_blocks;
    std::vector<SequenceSlice> slices;
    for (int64_t s = 0; s < batch; ++s) {
      ids.emplace_back();
      for (int64_t i = 0; i < tokens; ++i) {
        ids.back().push_back(
            static_cast<int32_t>((s * 31 + i * 17) % lm_.shape().vocab_size));
      }
      kv_blocks.emplace_back();
      for (int64_t b = 0; b < blocks; ++b) {
        kv_blocks.back().push_back(static_cast<int32_t>(b * batch + s));
      }
    }
    for (int64_t s = 0; s < batch; ++s) {
      slices.push_back({.token_ids = ids[s],
                        .position = cached,
                        .kv_blocks = kv_blocks[s],
                        .num_logits = 1});
    }
    std::vector<float> logits(batch * lm_.shape().vocab_size);
    std::vector<double> wall, cpu;
    for (int i = 0; i <= repeats; ++i) {
      const double start = Seconds(), cpu_start = ProcessCpuSeconds();
      lm_.Forward(slices, *cache, lm_.RunOn(pool_, *scratch),
                  {logits.data(), batch, lm_.shape().vocab_size,
                   lm_.shape().vocab_size});
      if (i == 0) continue;  // warms up
      wall.push_back(Seconds() - start);
      cpu.push_back(ProcessCpuSeconds() - cpu_start);
    }
    return {Median(std::move(wall)), Median(std::move(cpu))};
  }

 private:
  const CausalLm& lm_;
  const model::KvType kv_type_;
  ThreadPool pool_;
};

void Run(const std::string& folder, const std::string& spec, int threads,
         int repeats, const std::string& only, quant::Compute compute,
         std::string_view keys) {
  auto checkpoint = model::Checkpoint::Open(folder);
  if (!checkpoint.ok()) Die(checkpoint.status());
  model::LoadOptions options;
  options.compute = compute;
  if (!spec.empty()) {
    auto plan = model::ParseMethodPlan(spec);
    if (!plan.ok()) Die(plan.status());
    options.plan = *std::move(plan);
  }
  const double start = Seconds();
  auto loaded = model::LoadModel(**checkpoint, options);
  if (!loaded.ok()) Die(loaded.status());
  const CausalLm& lm = *loaded->model->causal_lm();
  std::printf("%s, %s, %d threads, best instruction set %s\n", folder.c_str(),
              loaded->report.method.c_str(), threads,
              std::string(IsaName(BestIsa())).c_str());
  std::printf(
      "load %.2f s, stored %lld bytes, resident %lld bytes, RSS %lld MiB "
      "(peak %lld MiB)\n",
      Seconds() - start, static_cast<long long>(loaded->report.stored_bytes),
      static_cast<long long>(loaded->report.resident_bytes),
      static_cast<long long>(ResidentBytes() >> 20),
      static_cast<long long>(PeakResidentBytes() >> 20));

  const auto kv_type = model::ParseKvType(keys.empty() ? "float32" : keys);
  if (!kv_type.has_value()) {
    Die(absl::InvalidArgumentError(
        "keys and values are in float32, bfloat16 or int8"));
  }
  Bench bench(lm, *kv_type, threads);
  for (int64_t tokens : {32, 128, 512}) {
    if (only == "decode" || tokens > lm.shape().max_positions) continue;
    const Times times = bench.Step(1, 0, tokens, std::max(repeats / 8, 3));
    std::printf(
        "prefill %4lld tokens          %8.2f ms  %8.1f tok/s  cpu %8.2f ms\n",
        static_cast<long long>(tokens), times.wall * 1e3,
        static_cast<double>(tokens) / times.wall, times.cpu * 1e3);
  }
  for (int64_t context : {32, 512, 2000}) {
    if (only == "prefill" || context >= lm.shape().max_positions) continue;
    for (int64_t batch : {1, 8, 32}) {
      if (context == 2000 && batch == 32) continue;
      const Times times = bench.Step(batch, context, 1, repeats);
      std::printf(
          "decode context %4lld batch %2lld  %8.2f ms  %8.1f tok/s  cpu %8.2f "
          "ms\n",
          static_cast<long long>(context), static_cast<long long>(batch),
          times.wall * 1e3, static_cast<double>(batch) / times.wall,
          times.cpu * 1e3);
    }
  }
}

}  // namespace
}  // namespace ounce

int main(int argc, char** argv) {
  if (argc < 2 || argc > 8) {
    std::fprintf(stderr,
                 "usage: forward_bench CHECKPOINT [METHOD] [THREADS] "
                 "[REPEATS] [prefill|decode|all] [float32|bfloat16] "
                 "[keys in float32|bfloat16|int8]\n");
    return 2;
  }
  ounce::Run(argv[1], argc > 2 ? argv[2] : "linear",
             argc > 3 ? std::atoi(argv[3]) : ounce::NumCpus(),
             argc > 4 ? std::atoi(argv[4]) : 24, argc > 5 ? argv[5] : "",
             argc > 6 && std::string(argv[6]) == "bfloat16"
                 ? ounce::quant::Compute::kBFloat16
                 : ounce::quant::Compute::kFloat32,
             argc > 7 ? argv[7] : "");
  return 0;
}
