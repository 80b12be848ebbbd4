#include "model/layers/max_pool.h"

#include "base/check.h"
#include "base/cpu.h"
#include "model/layers/kernels/max_pool_kernels.h"

namespace ounce::model {
namespace {

const MaxPoolKernels& KernelsFor(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::kAvx512) return kMaxPoolKernelsAvx512;
  if (isa >= Isa::kAvx2) return kMaxPoolKernelsAvx2;
#endif
  return kMaxPoolKernelsPortable;
}

}  // namespace

void MaxPool3x3Stride2(absl::Span<const quant::FeatureMap> x,
                       absl::Span<const quant::FeatureMap> y,
                       ThreadPool& pool) {
  int64_t rows = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    OUNCE_CHECK(x[i].border >= 1 && y[i].height == (x[i].height + 1) / 2 &&
                    y[i].width == (x[i].width + 1) / 2 &&
                    y[i].channels == x[i].channels && y[i].type == x[i].type,
                "maps do not fit a pooling");
    rows += y[i].height;
  }
  const MaxPoolKernels& kernels = KernelsFor(BestIsa());
  pool.ParallelFor(rows, [&](int64_t task, int) {
    size_t i = 0;
    for (; task >= y[i].height; ++i) task -= y[i].height;
    const MaxPoolRow row = {.x = x[i].pixel(2 * task - 1, -1),
                            .row_pitch = x[i].pitch() * x[i].channels,
                            .y = y[i].pixel(task, 0),
                            .width = y[i].width,
                            .channels = x[i].channels};
    const bool floats = x[i].type == quant::Compute::kFloat32;
    (floats ? kernels.float32 : kernels.bfloat16)(row);
  });
}

}  // namespace ounce::model
