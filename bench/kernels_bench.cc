// How fast weights are read and multiplied, beside what the machine's memory
// gives: one line per method, bits of activations (a16, a8) and shape. A few
// rows are told in bytes and in weights per second, more of them in operations.
//
//   kernels_bench [threads] [megabytes of weights per line] [spec of any
//   method]
//
// The matrices of a line are as many as fill the given size, taken in turn, so
// that weights come from memory and not from a cache.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "bench/machine_limits.h"
#include "bench/random_rows.h"
#include "bench/timing.h"
#include "quant/matmul.h"
#include "quant/registry.h"

namespace ounce::quant {
namespace {

using bench::FastSeconds;
using bench::ReadGigabytesPerSecond;

// With activations in 8 bits, or as the method has them.
void Measure(std::string_view spec, bool in_8_bits, int64_t outputs,
             int64_t cols, int64_t total_bytes,
             const std::vector<int64_t>& row_counts, ThreadPool& pool) {
  const auto method = ParseMethodSpec(spec);
  const RandomRows random(outputs, cols);
  std::vector<PackedWeight> weights;
  int64_t bytes = 0;
  do {
    auto packed = method->method->Quantize(random, method->params);
    if (!packed.ok()) {
      std::printf("%s\n", packed.status().ToString().c_str());
      std::exit(1);
    }
    if (in_8_bits) packed->set_input_rounding({.bits = 8});
    bytes += packed->resident_bytes();
    weights.push_back(*std::move(packed));
  } while (bytes < total_bytes);
  const int64_t most = *std::max_element(row_counts.begin(), row_counts.end());
  std::vector<float> x(most * cols), y(most * outputs);
  const auto multiply = [&](const PackedWeight& w, int64_t rows,
                            ThreadPool& team, Scratch& scratch) {
    ScratchScope scope(scratch);
    const MatmulInput input =
        MatmulInput::Prepare({x.data(), rows, cols, cols},
                             FormsFor(w, Compute::kFloat32), team, scratch);
    Matmul(input, w, {}, {y.data(), rows, outputs, outputs}, team, scratch);
  };
  ThreadPool idle(ThreadPool::Idle{pool.num_threads()});
  Scratch counting = Scratch::Counting();
  multiply(weights[0], most, idle, counting);
  auto scratch = Scratch::Create(counting.peak());
  if (!scratch.ok()) std::exit(1);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  std::printf("%-32s a%-2d %6ld x %-5ld", std::string(spec).c_str(),
              weights[0].input_rounding().bits, static_cast<long>(outputs),
              static_cast<long>(cols));
  for (const int64_t rows : row_counts) {
    const double operations = 2.0 * rows * outputs * cols;
    const auto calls = static_cast<int64_t>(
        std::clamp(2e10 / operations, 20.0, 2.0 * weights.size()));
    const double per_call = FastSeconds(calls, [&](int64_t call) {
      multiply(weights[call % weights.size()], rows, pool, *scratch);
    });
    if (rows <= 8) {
      std::printf("  %ld: %5.1f GB/s %5.1f G/s", static_cast<long>(rows),
                  weights[0].resident_bytes() / per_call / 1e9,
                  outputs * cols / per_call / 1e9);
    } else {
      std::printf("  %ld: %5.2f TOPS", static_cast<long>(rows),
                  operations / per_call / 1e12);
    }
  }
  std::printf("\n");
  std::fflush(stdout);
}

int Main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : NumCpus();
  const int64_t bytes = (argc > 2 ? std::atoll(argv[2]) : 600) << 20;
  ThreadPool pool(threads);
  std::printf("%s, %d threads\n", std::string(IsaName(BestIsa())).c_str(),
              threads);
  std::printf("memory read: %.1f GB/s, int8 in registers: %.2f TOPS\n",
              ReadGigabytesPerSecond(pool),
              bench::MeasurePeaks(BestIsa(), pool).int8_tops);
  std::vector<std::string_view> specs = {
      "linear", "bnb-int8", "linear:granularity=group", "linear:bits=4",
      "linear:bits=4,granularity=group",
      "linear:bits=4,mode=asymmetric,granularity=group,group=32",
      // Planes of bits, tables, scales under scales.
      "linear:bits=3,granularity=group", "gguf-q4_k", "gguf-q6_k", "bnb-nf4",
      "bnb-nf4:double_quant=true", "ks4", "bfloat16", "float16", "float32"};
  if (argc > 3) specs = {argv[3]};
  for (const std::string_view spec : specs) {
    const std::vector<int64_t> row_counts = {1, 2, 4, 8, 16, 128, 512};
    for (const bool in_8_bits : {false, true}) {
      if (in_8_bits && !spec.starts_with("linear")) continue;
      Measure(spec, in_8_bits, 4096, 1024, bytes, row_counts, pool);
      Measure(spec, in_8_bits, 1024, 4096, bytes, row_counts, pool);
      Measure(spec, in_8_bits, 51200, 1024, bytes, {1, 2, 4, 8}, pool);
    }
  }
  std::printf("memory read: %.1f GB/s\n", ReadGigabytesPerSecond(pool));
  return 0;
}

}  // namespace
}  // namespace ounce::quant

int main(int argc, char** argv) { return ounce::quant::Main(argc, argv); }
