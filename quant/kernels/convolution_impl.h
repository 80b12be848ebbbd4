// Convolutions in float32 arithmetic, written once for all instruction sets: a
// block of positions times a few panels in registers. Every output is one chain
// of Fma over its inputs in the order of the weight's columns.
#ifndef OUNCE_QUANT_KERNELS_CONVOLUTION_IMPL_H_
#define OUNCE_QUANT_KERNELS_CONVOLUTION_IMPL_H_

#include <type_traits>

#include "quant/kernels/bfloat16_math.h"
#include "quant/kernels/convolution.h"
#include "quant/kernels/convolution_output_impl.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

// Registers for sums: of 32 (AVX-512) or 16, some are left for operands.
inline constexpr int kVectorsPerPanel = kPanelLanes / kLanes;
inline constexpr int kPanelsAtOnce = kLanes == 16 ? 2 : 1;
inline constexpr int kPositionsAtOnce =
    (kLanes == 16 ? 24 : 12) / (kPanelsAtOnce * kVectorsPerPanel);

// A tile of codes as floats [64 cols][16 rows].
inline void CodesToFloats(const int8_t* codes, float* to) {
  for (int group = 0; group < 16; ++group) {
    for (int v = 0; v < kVectorsPerPanel; ++v) {
      Ints four;
      __builtin_memcpy(&four, codes + group * 64 + v * kLanes * 4, sizeof four);
      OUNCE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const Ints code = (four << (24 - 8 * i)) >> 24;
        Store(__builtin_convertvector(code, Floats),
              to + (group * 4 + i) * kPanelLanes + v * kLanes);
      }
    }
  }
}

// Panels as floats [64 * blocks][16], at `scratch` unless they are that
// already; rounded to bfloat16 where the job computes in it.
inline const std::byte* UnpackPanels(const ConvolutionJob& job,
                                     int64_t first_panel, int64_t num_panels,
                                     std::byte* scratch) {
  const std::byte* const packed =
      job.tiles + first_panel * job.blocks * job.tile_bytes;
  const bool round = job.x_type == Compute::kBFloat16 &&
                     job.weight == ConvolutionWeight::kFloat;
  if (job.weight == ConvolutionWeight::kFloat && job.unpack == nullptr &&
      !round) {
    return packed;
  }
  auto* const floats = reinterpret_cast<float*>(scratch);
  for (int64_t tile = 0; tile < num_panels * job.blocks; ++tile) {
    const std::byte* const from = packed + tile * job.tile_bytes;
    float* const to = floats + tile * 1024;
    if (job.weight == ConvolutionWeight::kInt8) {
      alignas(64) int8_t codes[1024];
      CodesToFloats(static_cast<const int8_t*>(
                        job.unpack == nullptr ? from : job.unpack(from, codes)),
                    to);
      continue;
    }
    const float* const values = static_cast<const float*>(
        job.unpack == nullptr ? static_cast<const void*>(from)
                              : job.unpack(from, to));
    if (round) {
      for (int i = 0; i < 1024; i += kLanes) {
        Store(reinterpret_cast<Floats>(RoundedToBFloat16(Load(values + i))),
              to + i);
      }
    }
  }
  return scratch;
}

template <class X, int kPositions, int kPanels>
void ConvolveBlock(const ConvolutionJob& job, const ConvolutionMap& map,
                   const float* weights, int64_t first_panel, int64_t line,
                   int64_t first, int64_t first_written) {
  constexpr int kVectors = kPanels * kVectorsPerPanel;
  const int64_t distance =
      map.x_position_bytes / static_cast<int64_t>(sizeof(X));
  const int64_t panel_floats = job.blocks * 1024;
  const std::byte* const start =
      map.x + line * map.x_line_bytes + first * map.x_position_bytes;
  Floats sums[kPositions][kVectors] = {};
  const auto multiply = [&](const float* w, auto&& input) {
    Floats factors[kVectors];
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      factors[v] = Load(w + v / kVectorsPerPanel * panel_floats +
                        v % kVectorsPerPanel * kLanes);
    }
    OUNCE_UNROLL
    for (int i = 0; i < kPositions; ++i) {
      const Floats a = input(i);
      OUNCE_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        sums[i][v] = Fma(a, factors[v], sums[i][v]);
      }
    }
  };
  for (int64_t run = 0; run < job.num_runs; ++run) {
    const X* const x = reinterpret_cast<const X*>(
        start + run / job.runs_per_row * map.x_row_bytes +
        run % job.runs_per_row * map.x_tap_bytes);
    const float* const w = weights + run * job.run_blocks * 1024;
    if constexpr (std::is_same_v<X, float>) {
      for (int64_t k = 0; k < job.run_length; ++k) {
        multiply(w + k * kPanelLanes,
                 [&](int i) { return Set(x[i * distance + k]); });
      }
    } else {
      int64_t k = 0;
      for (; k + 1 < job.run_length; k += 2) {
        // Both numbers of a pair come in one broadcast.
        const auto pair = [&](int i) {
          uint32_t bits;
          __builtin_memcpy(&bits, x + i * distance + k, 4);
          return Words{} + bits;
        };
        multiply(w + k * kPanelLanes, [&](int i) {
          return reinterpret_cast<Floats>(pair(i) << 16);
        });
        multiply(w + (k + 1) * kPanelLanes, [&](int i) {
          return reinterpret_cast<Floats>(pair(i) & 0xFFFF0000u);
        });
      }
      if (k < job.run_length) {
        multiply(w + k * kPanelLanes, [&](int i) {
          const uint32_t bits = x[i * distance + k];
          return reinterpret_cast<Floats>(Words{} + (bits << 16));
        });
      }
    }
  }
  alignas(64) float stored[kPositions * kVectors * kLanes];
  for (int i = 0; i < kPositions; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      Store(sums[i][v], stored + (i * kVectors + v) * kLanes);
    }
  }
  WriteOutputs<kVectors>(job, map, line, first_written, first + kPositions,
                         first_panel * kPanelLanes,
                         stored + (first_written - first) * kVectors * kLanes);
}

// Positions [first, end) of a line.
template <class X, int kPanels>
void ConvolvePositions(const ConvolutionJob& job, const ConvolutionMap& map,
                       const float* weights, int64_t first_panel, int64_t line,
                       int64_t first, int64_t end) {
  // The last block begins early enough to be a whole one.
  const int64_t whole = end - kPositionsAtOnce;
  for (int64_t i = first; i < end;) {
    if (whole >= 0) {
      const int64_t start = i < whole ? i : whole;
      ConvolveBlock<X, kPositionsAtOnce, kPanels>(job, map, weights,
                                                  first_panel, line, start, i);
      i = start + kPositionsAtOnce;
    } else {
      ConvolveBlock<X, 1, kPanels>(job, map, weights, first_panel, line, i, i);
      ++i;
    }
  }
}

template <class X>
void ConvolveRange(const ConvolutionJob& job, const ConvolutionMap& map,
                   const ConvolutionRange& range, std::byte* scratch) {
  ForEachBlock<kPanelsAtOnce>(
      job, map, range, kPositionsAtOnce, 4096,
      [&](int64_t first_panel, int64_t end_panel) {
        return UnpackPanels(job, first_panel, end_panel - first_panel, scratch);
      },
      [&](const std::byte* tiles, int64_t panel, int64_t num_panels,
          int64_t line, int64_t first, int64_t end) {
        const auto* const weights = reinterpret_cast<const float*>(tiles);
        if (num_panels == kPanelsAtOnce) {
          ConvolvePositions<X, kPanelsAtOnce>(job, map, weights, panel, line,
                                              first, end);
        } else {
          ConvolvePositions<X, 1>(job, map, weights, panel, line, first, end);
        }
      });
}

inline void Convolve(const ConvolutionJob& job, const ConvolutionMap& map,
                     const ConvolutionRange& range, std::byte* scratch) {
  if (job.x_type == Compute::kFloat32) {
    ConvolveRange<float>(job, map, range, scratch);
  } else {
    ConvolveRange<uint16_t>(job, map, range, scratch);
  }
}

inline void RoundRow(const float* from, int64_t count, uint16_t* to) {
  for (int64_t i = 0; i < count; i += kLanes) {
    StoreBFloat16Part(LoadPart(from + i, count - i), to + i, count - i);
  }
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_CONVOLUTION_IMPL_H_
