// How fast dense attention is: milliseconds of one layer for the shapes of
// DETR, and the 10^9 operations (a multiplication and an addition are two) of
// its products per second.
//
//   attention_bench [threads]
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "bench/machine_limits.h"
#include "bench/timing.h"
#include "model/layers/dense_attention.h"

namespace ounce::model {
namespace {

struct Shape {
  const char* name;
  int64_t rows;
  int64_t keys;
  int64_t heads;
  int64_t head_dim;
};

void Measure(const Shape& shape, quant::Compute compute, Isa isa,
             ThreadPool& pool) {
  const int64_t columns = shape.heads * shape.head_dim;
  std::vector<float> q(shape.rows * columns), y(shape.rows * columns);
  std::vector<float> k(shape.keys * columns), v(shape.keys * columns);
  for (size_t i = 0; i < q.size(); ++i) q[i] = std::sin(0.1f * i);
  for (size_t i = 0; i < k.size(); ++i) {
    k[i] = std::sin(0.7f * i);
    v[i] = std::sin(0.3f * i);
  }
  const DenseAttentionJob job = {.q = {q.data(), shape.rows, columns, columns},
                                 .k = {k.data(), shape.keys, columns, columns},
                                 .v = {v.data(), shape.keys, columns, columns},
                                 .y = {y.data(), shape.rows, columns, columns}};
  const auto attend = [&](ThreadPool& team, quant::Scratch& scratch) {
    DenseAttention(absl::MakeSpan(&job, 1), shape.heads, 0.2f, compute, team,
                   scratch, isa);
  };
  ThreadPool idle(ThreadPool::Idle{pool.num_threads()});
  auto counting = quant::Scratch::Counting();
  attend(idle, counting);
  auto scratch = quant::Scratch::Create(counting.peak());
  if (!scratch.ok()) std::exit(1);
  const double operations = 4.0 * shape.rows * shape.keys * columns;
  const auto calls = static_cast<int64_t>(
      std::fmin(2000.0, std::fmax(20.0, 1e10 / operations)));
  const double seconds =
      bench::FastSeconds(calls, [&](int64_t) { attend(pool, *scratch); });
  std::printf("%-16s %-8s %s  %7.3f ms  %6.0f GFLOPS\n", shape.name,
              std::string(IsaName(isa)).c_str(),
              compute == quant::Compute::kFloat32 ? "float32 " : "bfloat16",
              seconds * 1e3, operations / seconds / 1e9);
  std::fflush(stdout);
}

int Main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : NumCpus();
  ThreadPool pool(threads);
  std::printf("%d threads\n", threads);
  constexpr Shape kShapes[] = {
      {"encoder", 850, 850, 8, 32},      {"encoder, large", 1800, 1800, 8, 32},
      {"cross", 100, 850, 8, 32},        {"decoder", 100, 100, 8, 32},
      {"tiny encoder", 128, 128, 4, 32}, {"tiny cross", 12, 128, 4, 32}};
  for (const Shape& shape : kShapes) {
    for (int isa = 1; isa <= static_cast<int>(BestIsa()); ++isa) {
      for (const quant::Compute compute :
           {quant::Compute::kFloat32, quant::Compute::kBFloat16}) {
        if (compute == quant::Compute::kFloat32 &&
            static_cast<Isa>(isa) > Isa::kAvx512) {
          continue;  // as kAvx512
        }
        Measure(shape, compute, static_cast<Isa>(isa), pool);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace ounce::model

int main(int argc, char** argv) { return ounce::model::Main(argc, argv); }
