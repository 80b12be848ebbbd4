// VPDPBUSD: some rows times a panel in registers, sums of each plane for each
// row.
#include <immintrin.h>

#include <cstdint>

#include "quant/kernels/integer_blocks_avx512.h"
#include "quant/kernels/output_impl.h"
#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

template <int kPlanesOfX>
struct Int8Block {
  static constexpr int kPlanes = kPlanesOfX;

  template <int kRows>
  static void Run(const Int8Job& job, int64_t panel, int64_t first_row,
                  std::byte* scratch) {
    constexpr int kChains = vec::kChains<kRows, kPlanes>;
    const int64_t start = PlaneStart(first_row, job.blocks);
    const int64_t stride = PlaneStride(first_row, job.rows);
    __m512i sums[kRows][kPlanes][kChains] = {};
    for (int64_t block = 0; block < job.blocks; ++block) {
      const std::byte* tile =
          job.tiles + (panel * job.blocks + block) * job.tile_bytes;
      const std::byte* soon = tile + vec::kPrefetchBytes;
      if (job.unpack != nullptr) {
        tile = static_cast<const std::byte*>(job.unpack(tile, scratch));
      }
      const uint8_t* planes[kPlanes];
      for (int k = 0; k < kPlanes; ++k) {
        planes[k] = job.planes[k] + start + block * stride;
      }
      for (int sixteen = 0; sixteen < 4; ++sixteen) {
        OUNCE_UNROLL
        for (int g = 0; g < 4; ++g) {
          const int col = sixteen * 16 + g * 4;
          const __m512i codes = _mm512_load_si512(tile + col * 16);
          __builtin_prefetch(soon + col * job.tile_bytes / 64);
          OUNCE_UNROLL
          for (int i = 0; i < kRows; ++i) {
            OUNCE_UNROLL
            for (int k = 0; k < kPlanes; ++k) {
              __m512i& sum = sums[i][k][g % kChains];
              sum = _mm512_dpbusd_epi32(
                  sum, vec::SpreadFour(planes[k] + i * 64 + col), codes);
            }
          }
        }
      }
    }
    vec::Floats products[kRows];
    OUNCE_UNROLL
    for (int i = 0; i < kRows; ++i) {
      vec::Ints of_planes[kPlanes];
      for (int k = 0; k < kPlanes; ++k) {
        of_planes[k] =
            reinterpret_cast<vec::Ints>(vec::AddUp<kChains>(sums[i][k]));
      }
      products[i] =
          vec::Int8Product<kPlanes>(job, first_row + i, panel * 16, of_planes);
    }
    vec::WriteRows<1>(job, first_row, kRows, panel * 16, products);
  }
};

}  // namespace

void Int8PanelsAvx512(const Int8Job& job, int64_t first_panel,
                      int64_t end_panel, int64_t first_row, int64_t end_row,
                      std::byte* scratch) {
  const auto run = job.planes[1] == nullptr
                       ? vec::RunBlocks<Int8Block<1>, Int8Job>
                       : vec::RunBlocks<Int8Block<2>, Int8Job>;
  run(job, first_panel, end_panel, first_row, end_row, scratch);
}

}  // namespace ounce::quant
