// The obvious loops: what the other instruction sets are held to, bit by bit.
#include <cstdint>

#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

template <int kPlanes>
void OneRow(const Int8Job& job, int64_t panel, int64_t row,
            std::byte* scratch) {
  const int64_t start = PlaneStart(row, job.blocks);
  const int64_t stride = PlaneStride(row, job.rows);
  int32_t sums[kPlanes][16] = {};
  for (int64_t block = 0; block < job.blocks; ++block) {
    const std::byte* packed =
        job.tiles + (panel * job.blocks + block) * job.tile_bytes;
    const auto* tile = reinterpret_cast<const int8_t*>(
        job.unpack ? job.unpack(packed, scratch) : packed);
    for (int plane = 0; plane < kPlanes; ++plane) {
      const uint8_t* x = job.planes[plane] + start + block * stride;
      for (int group_col = 0; group_col < 64; group_col += 4) {
        for (int channel = 0; channel < 16; ++channel) {
          for (int i = 0; i < 4; ++i) {
            const int32_t code = tile[group_col * 16 + channel * 4 + i];
            sums[plane][channel] += x[group_col + i] * code;
          }
        }
      }
    }
  }
  vec::Floats products[vec::kPanelVectors];
  for (int i = 0; i < vec::kPanelVectors; ++i) {
    const int channel = i * vec::kLanes;
    vec::Ints of_planes[kPlanes];
    for (int plane = 0; plane < kPlanes; ++plane) {
      of_planes[plane] = vec::Load(sums[plane] + channel);
    }
    products[i] =
        vec::Int8Product<kPlanes>(job, row, panel * 16 + channel, of_planes);
  }
  vec::WriteRows<vec::kPanelVectors>(job, row, 1, panel * 16, products);
}

}  // namespace

void Int8PanelsPortable(const Int8Job& job, int64_t first_panel,
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
