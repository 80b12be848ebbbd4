// VDPBF16PS: up to 12 positions times two panels, whose sums are 24 of the 32
// vector registers. Of each pair of columns come two vectors of weights, and
// per position a broadcast of four bytes where they lie in the map.
//
// An output is one chain: pair by pair in ascending order, as the instruction
// sums a pair, whatever the number of positions beside it.
//
// Roofline: a pair of columns takes 24 VDPBF16PS, 12 cycles of two units; 14
// loads, 7 cycles; and 128 bytes of weights out of L2, 11 a cycle. So it is the
// units that bound it, 0.53 TFLOPS a core of Zen 5 at 4.2 GHz, of which 3 x 3
// layers and 1 x 1 ones of 256 channels and more reach 93 to 99 %. The least,
// 38 %, have 64 channels become 256 that a residual is added to: 128
// operations for 6 bytes that memory moves (residual, and y read and written).
// All of ResNet-50 at 800 x 1066: 303 ms of one thread, 0.46 TFLOPS, 87 %; as
// chains in float32 on the same core it was 600.
#include <immintrin.h>

#include <cstdint>

#include "quant/kernels/bfloat16_math.h"
#include "quant/kernels/bfloat16_panels.h"
#include "quant/kernels/convolution.h"
#include "quant/kernels/convolution_output_impl.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant {
namespace {

constexpr int kMaxPositions = 12;

template <int kPositions, int kPanels>
void ConvolveBlock(const ConvolutionJob& job, const ConvolutionMap& map,
                   const std::byte* weights, int64_t first_panel, int64_t line,
                   int64_t first) {
  // Three positions are within reach of one address and the distance.
  constexpr int kAddresses = (kPositions + 2) / 3;
  const int64_t distance = map.x_position_bytes;
  const int64_t panel_bytes = job.blocks * vec::kBFloat16TileBytes;
  const std::byte* row =
      map.x + line * map.x_line_bytes + first * map.x_position_bytes;
  __m512 sums[kPositions][kPanels];
  OUNCE_UNROLL
  for (int i = 0; i < kPositions; ++i) {
    OUNCE_UNROLL
    for (int p = 0; p < kPanels; ++p) sums[i][p] = _mm512_setzero_ps();
  }
  const auto multiply = [&](const std::byte* w, auto&& pair) {
    __m512i factors[kPanels];
    OUNCE_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      factors[p] = _mm512_loadu_si512(w + p * panel_bytes);
    }
    OUNCE_UNROLL
    for (int i = 0; i < kPositions; ++i) {
      const __m512i a = _mm512_set1_epi32(pair(i));
      OUNCE_UNROLL
      for (int p = 0; p < kPanels; ++p) {
        sums[i][p] = _mm512_dpbf16_ps(sums[i][p], reinterpret_cast<__m512bh>(a),
                                      reinterpret_cast<__m512bh>(factors[p]));
      }
    }
  };
  int64_t tap = 0;
  for (int64_t run = 0; run < job.num_runs; ++run) {
    const std::byte* x[kAddresses];
    OUNCE_UNROLL
    for (int j = 0; j < kAddresses; ++j) {
      x[j] = row + tap * map.x_tap_bytes + 3 * j * distance;
    }
    const std::byte* w = weights;
    for (int64_t k = 1; k < job.run_length; k += 2) {
      multiply(w, [&](int i) {
        int both;
        __builtin_memcpy(&both, x[i / 3] + i % 3 * distance, 4);
        return both;
      });
      w += 64;
      OUNCE_UNROLL
      for (int j = 0; j < kAddresses; ++j) x[j] += 4;
    }
    if (job.run_length % 2 != 0) {
      multiply(w, [&](int i) {
        uint16_t last;
        __builtin_memcpy(&last, x[i / 3] + i % 3 * distance, 2);
        return int{last};
      });
    }
    weights += job.run_blocks * vec::kBFloat16TileBytes;
    if (++tap == job.runs_per_row) {
      tap = 0;
      row += map.x_row_bytes;
    }
  }
  alignas(64) float stored[kPositions * kPanels * vec::kPanelLanes];
  OUNCE_UNROLL
  for (int i = 0; i < kPositions; ++i) {
    OUNCE_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      _mm512_store_ps(stored + (i * kPanels + p) * vec::kPanelLanes,
                      sums[i][p]);
    }
  }
  vec::WriteOutputs<kPanels>(job, map, line, first, first + kPositions,
                             first_panel * vec::kPanelLanes, stored);
}

template <int kPanels, int kPositions = kMaxPositions>
void ConvolveBlockOf(int64_t positions, const ConvolutionJob& job,
                     const ConvolutionMap& map, const std::byte* weights,
                     int64_t first_panel, int64_t line, int64_t first) {
  if constexpr (kPositions > 1) {
    if (positions < kPositions) {
      return ConvolveBlockOf<kPanels, kPositions - 1>(
          positions, job, map, weights, first_panel, line, first);
    }
  }
  ConvolveBlock<kPositions, kPanels>(job, map, weights, first_panel, line,
                                     first);
}

// Positions [first, end) of a line, in blocks of about equal size.
template <int kPanels>
void ConvolvePositions(const ConvolutionJob& job, const ConvolutionMap& map,
                       const std::byte* weights, int64_t first_panel,
                       int64_t line, int64_t first, int64_t end) {
  int64_t blocks = (end - first + kMaxPositions - 1) / kMaxPositions;
  for (; first < end; --blocks) {
    const int64_t positions = (end - first + blocks - 1) / blocks;
    ConvolveBlockOf<kPanels>(positions, job, map, weights, first_panel, line,
                             first);
    first += positions;
  }
}

}  // namespace

void ConvolutionAvx512Bf16(const ConvolutionJob& job, const ConvolutionMap& map,
                           const ConvolutionRange& range, std::byte* scratch) {
  vec::ForEachBlock<2>(
      job, map, range, kMaxPositions, vec::kBFloat16TileBytes,
      [&](int64_t first_panel, int64_t end_panel) {
        return vec::UnpackBFloat16Panels(job, first_panel,
                                         end_panel - first_panel, scratch);
      },
      [&](const std::byte* weights, int64_t panel, int64_t num_panels,
          int64_t line, int64_t first, int64_t end) {
        if (num_panels == 2) {
          ConvolvePositions<2>(job, map, weights, panel, line, first, end);
        } else {
          ConvolvePositions<1>(job, map, weights, panel, line, first, end);
        }
      });
}

}  // namespace ounce::quant
