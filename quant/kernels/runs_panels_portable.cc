// The obvious loops: what the other instruction sets are held to, bit by bit.
#include <cmath>
#include <cstdint>

#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"
#include "quant/kernels/run_numbers_impl.h"

namespace ounce::quant {
namespace {

// `scales` and `minima` of the panel.
template <int kPlanes>
void OneRow(const RunsJob& job, int64_t panel, int64_t row, const float* scales,
            const float* minima, std::byte* scratch) {
  const int64_t start = PlaneStart(row, job.blocks);
  const int64_t stride = PlaneStride(row, job.rows);
  const int32_t* sums = job.sums + row * job.blocks * 4;
  float outputs[16] = {};
  for (int64_t block = 0; block < job.blocks; ++block) {
    const std::byte* packed =
        job.tiles + (panel * job.blocks + block) * job.tile_bytes;
    const auto* tile = reinterpret_cast<const uint8_t*>(
        job.unpack ? job.unpack(packed, scratch) : packed);
    const int64_t at = start + block * stride;
    const auto x = [&](int col) -> int32_t {
      const int32_t first = job.planes[0][at + col];
      if constexpr (kPlanes == 1) return first;
      return 256 * first + job.planes[1][at + col];
    };
    for (int first = 0; first < 64; first += job.step_cols) {
      const int64_t step = (block * 64 + first) / job.step_cols;
      const int64_t run = step / job.steps_per_run;
      int32_t x_sum = 0;
      for (int col = first; col < first + job.step_cols; col += 16) {
        x_sum += sums[block * 4 + col / 16];
      }
      for (int channel = 0; channel < 16; ++channel) {
        int32_t zero = job.shift;
        if (job.zeros != nullptr) {
          const uint8_t byte =
              job.zeros[(panel * job.runs + run) * 16 + channel];
          zero += job.zero_step * (byte & job.zero_mask);
        }
        int32_t sum = -zero * x_sum;
        for (int col = first; col < first + job.step_cols; ++col) {
          const int32_t code = tile[col / 4 * 64 + channel * 4 + col % 4];
          sum += x(col) * (job.levels == nullptr ? code : job.levels[code]);
        }
        float& output = outputs[channel];
        output = std::fma(scales[run * 16 + channel], static_cast<float>(sum),
                          output);
        if (minima != nullptr) {
          output = std::fma(minima[run * 16 + channel],
                            static_cast<float>(x_sum), output);
        }
      }
    }
  }
  vec::Floats products[vec::kPanelVectors];
  for (int i = 0; i < vec::kPanelVectors; ++i) {
    products[i] = vec::Load(outputs + i * vec::kLanes) *
                  (job.row_scales[row] * job.factor);
  }
  vec::WriteRows<vec::kPanelVectors>(job, row, 1, panel * 16, products);
}

}  // namespace

void RunsPanelsPortable(const RunsJob& job, int64_t first_panel,
                        int64_t end_panel, int64_t first_row, int64_t end_row,
                        std::byte* scratch) {
  auto* const numbers = reinterpret_cast<float*>(scratch + 1024);
  const auto one_row = job.planes[1] == nullptr ? OneRow<1> : OneRow<2>;
  for (int64_t panel = first_panel; panel < end_panel; ++panel) {
    const float* scales =
        vec::NumbersOf(job.scales, panel, 0, job.runs, numbers);
    const float* minima =
        vec::NumbersOf(job.minima, panel, 0, job.runs, numbers + job.runs * 16);
    for (int64_t row = first_row; row < end_row; ++row) {
      one_row(job, panel, row, scales, minima, scratch);
    }
  }
}

}  // namespace ounce::quant
