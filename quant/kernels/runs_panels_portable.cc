// The obvious loops: what the other instruction sets are held to, bit by bit.
#include <cmath>
#include <cstdint>

#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

template <int kPlanes>
void OneRow(const RunsJob& job, int64_t panel, int64_t row,
            std::byte* scratch) {
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
      const int64_t run = panel * job.runs + step / job.steps_per_run;
      int32_t x_sum = 0;
      for (int col = first; col < first + job.step_cols; col += 16) {
        x_sum += sums[block * 4 + col / 16];
      }
      for (int channel = 0; channel < 16; ++channel) {
        int32_t sum = -job.shift * x_sum;
        for (int col = first; col < first + job.step_cols; ++col) {
          const int32_t code = tile[col / 4 * 64 + channel * 4 + col % 4];
          sum += x(col) * code;
        }
        float& output = outputs[channel];
        output = std::fma(job.scales[run * 16 + channel],
                          static_cast<float>(sum), output);
        if (job.minima != nullptr) {
          output = std::fma(job.minima[run * 16 + channel],
                            static_cast<float>(x_sum), output);
        }
      }
    }
  }
  vec::Floats products[vec::kPanelVectors];
  for (int i = 0; i < vec::kPanelVectors; ++i) {
    products[i] = vec::Load(outputs + i * vec::kLanes) * job.row_scales[row];
  }
  vec::WriteRows<vec::kPanelVectors>(job, row, 1, panel * 16, products);
}

}  // namespace

void RunsPanelsPortable(const RunsJob& job, int64_t first_panel,
                        int64_t end_panel, int64_t first_row, int64_t end_row,
                        std::byte* scratch) {
  for (int64_t panel = first_panel; panel < end_panel; ++panel) {
    for (int64_t row = first_row; row < end_row; ++row) {
      (job.planes[1] == nullptr ? OneRow<1> : OneRow<2>)(job, panel, row,
                                                         scratch);
    }
  }
}

}  // namespace ounce::quant
