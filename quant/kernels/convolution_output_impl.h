// The epilogue of convolutions. Included by the files that are compiled per
// instruction set.
#ifndef OUNCE_QUANT_KERNELS_CONVOLUTION_OUTPUT_IMPL_H_
#define OUNCE_QUANT_KERNELS_CONVOLUTION_OUTPUT_IMPL_H_

#include "quant/kernels/bfloat16_math.h"
#include "quant/kernels/convolution.h"
#include "quant/kernels/output_impl.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

inline constexpr int kPanelLanes = 16;

inline int64_t BytesOf(Compute type) {
  return type == Compute::kFloat32 ? 4 : 2;
}

// Asks for the inputs, residuals and outputs of positions that come soon, in
// the order of memory: kernels go through them in strides that the hardware's
// own prefetching does not follow.
inline void PrefetchPositions(const ConvolutionJob& job,
                              const ConvolutionMap& map, int64_t line,
                              int64_t first, int64_t end) {
  const int64_t run_bytes = job.run_length * BytesOf(job.x_type);
  const int64_t x_bytes =
      run_bytes < map.x_position_bytes ? run_bytes : map.x_position_bytes;
  const int64_t y_bytes = job.out_channels * BytesOf(job.y_type);
  const int64_t residual_bytes =
      map.residual == nullptr ? 0
                              : job.out_channels * BytesOf(map.residual_type);
  const std::byte* x = map.x + line * map.x_line_bytes +
                       (job.num_runs / job.runs_per_row - 1) * map.x_row_bytes +
                       first * map.x_position_bytes;
  int64_t row = line + first / map.row_positions;
  int64_t column = first % map.row_positions;
  for (int64_t i = first; i < end; ++i) {
    for (int64_t at = 0; at < x_bytes; at += 64) {
      __builtin_prefetch(x + at, 0, 2);
    }
    x += map.x_position_bytes;
    const std::byte* const residual =
        map.residual + row * map.residual_row_bytes + column * residual_bytes;
    for (int64_t at = 0; at < residual_bytes; at += 64) {
      __builtin_prefetch(residual + at, 0, 2);
    }
    const std::byte* const y = map.y + row * map.y_row_bytes + column * y_bytes;
    for (int64_t at = 0; at < y_bytes; at += 64) {
      __builtin_prefetch(y + at, 1, 2);
    }
    if (++column == map.row_positions) {
      column = 0;
      ++row;
    }
  }
}

// Calls block(weights, first_panel, num_panels, line, first, end) for the parts
// of a range that are multiplied at a time: at most kPanels panels by
// `positions` positions, [first, end). All panels that stay in cache pass by
// some positions before the next ones come, so that outputs are written, and
// residuals read, a few whole pixels at a time.
template <int kPanels, class Unpack, class Block>
inline void ForEachBlock(const ConvolutionJob& job, const ConvolutionMap& map,
                         const ConvolutionRange& range, int64_t positions,
                         int64_t tile_bytes, const Unpack& unpack,
                         const Block& block) {
  constexpr int64_t kPositions = 64;
  const int64_t step = (kPositions + positions - 1) / positions * positions;
  const int64_t at_once = PanelsAtOnce(job.blocks, tile_bytes);
  for (int64_t first_panel = range.first_panel; first_panel < range.end_panel;
       first_panel += at_once) {
    const int64_t end_panel = first_panel + at_once < range.end_panel
                                  ? first_panel + at_once
                                  : range.end_panel;
    const std::byte* const weights = unpack(first_panel, end_panel);
    for (int64_t line = range.first_line; line < range.end_line; ++line) {
      for (int64_t i = range.first_position; i < range.end_position;
           i += step) {
        const int64_t end =
            i + step < range.end_position ? i + step : range.end_position;
        for (int64_t panel = first_panel; panel < end_panel; panel += kPanels) {
          const int64_t left = end_panel - panel;
          const auto soon = [&](int64_t p) {
            const int64_t n =
                end + (p - first_panel) * step / (end_panel - first_panel);
            return n < range.end_position ? n : range.end_position;
          };
          PrefetchPositions(job, map, line, soon(panel),
                            soon(left < kPanels ? end_panel : panel + kPanels));
          block(weights + (panel - first_panel) * job.blocks * tile_bytes,
                panel, left < kPanels ? left : kPanels, line, i, end);
        }
      }
    }
  }
}

inline Floats LoadOutput(const float* from, int64_t count) {
  return LoadPart(from, count);
}
inline Floats LoadOutput(const uint16_t* from, int64_t count) {
  return LoadBFloat16Part(from, count);
}
inline void StoreOutput(Floats value, float* to, int64_t count) {
  StorePart(value, to, count);
}
inline void StoreOutput(Floats value, uint16_t* to, int64_t count) {
  StoreBFloat16Part(value, to, count);
}

// The first `count` numbers, or all.
template <int kVectors, bool kWhole, class Y>
inline void StoreOutputs(const Floats* values, int64_t count, Y* y) {
#if defined(__AVX512BF16__)
  if constexpr (kVectors == 2 && kWhole && sizeof(Y) == 2) {
    return StoreTwoBFloat16(values[0], values[1], y);
  }
#endif
  OUNCE_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const int64_t lanes = kWhole ? kLanes : count - v * kLanes;
    if (!kWhole && lanes <= 0) break;
    StoreOutput(values[v], y + v * kLanes, lanes);
  }
}

// What the outputs of some channels have in common.
template <int kVectors>
struct Channels {
  Channels(const ConvolutionJob& job, int64_t first)
      : first(first),
        count(job.out_channels - first),
        activation(job.epilogue.activation),
        combine(job.epilogue.combine),
        lowest(job.relu_last ? Floats{} : Set(-__builtin_inff())) {
    const float* const biases = job.epilogue.bias;
    for (int v = 0; v < kVectors; ++v) {
      const int64_t c = first + v * kLanes;
      scale[v] = job.scales == nullptr || c >= job.out_channels
                     ? Set(1)
                     : Load(job.scales + c);
      bias[v] = biases == nullptr || c >= job.out_channels
                    ? NoBias()
                    : LoadPart(biases + c, job.out_channels - c);
    }
  }

  int64_t first;
  int64_t count;  // to the last channel of all
  Activation activation;
  Combine combine;
  Floats lowest;  // what is below becomes this
  Floats scale[kVectors];
  Floats bias[kVectors];
};

// The epilogues that maps have are known when kernels are compiled.
enum class Ending { kPlain, kResidual, kAny };

// `count` pixels side by side. kWhole: all channels exist.
template <int kVectors, bool kWhole, Ending kEnding, class Y, class Residual>
inline void WritePixels(const Channels<kVectors>& channels,
                        int64_t out_channels, const float* sums, int64_t count,
                        const Residual* residual, Y* y) {
  const Combine combine = kEnding == Ending::kAny     ? channels.combine
                          : kEnding == Ending::kPlain ? Combine::kReplace
                                                      : Combine::kAdd;
  for (int64_t i = 0; i < count; ++i) {
    Floats values[kVectors];
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      values[v] =
          Fma(Load(sums + v * kLanes), channels.scale[v], channels.bias[v]);
    }
    if constexpr (kEnding == Ending::kAny) {
      Activate(channels.activation, values, kVectors);
    }
    OUNCE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int64_t lanes = kWhole ? kLanes : channels.count - v * kLanes;
      if (!kWhole && lanes <= 0) break;
      values[v] = AtLeast(
          channels.lowest,
          Combined(
              combine, [&] { return LoadOutput(residual + v * kLanes, lanes); },
              values[v]));
    }
    StoreOutputs<kVectors, kWhole>(values, channels.count, y);
    sums += kVectors * kLanes;
    residual += out_channels;
    y += out_channels;
  }
}

template <int kVectors, Ending kEnding, class Y, class Residual>
void WriteTyped(const ConvolutionJob& job, const ConvolutionMap& map,
                int64_t line, int64_t first, int64_t end, int64_t channel,
                const float* sums) {
  const Channels<kVectors> channels(job, channel);
  int64_t row = line + first / map.row_positions;
  int64_t column = first % map.row_positions;
  for (int64_t i = first; i < end;) {
    const int64_t left = end - i;
    const int64_t in_row = map.row_positions - column;
    const int64_t positions = left < in_row ? left : in_row;
    const int64_t outputs =
        positions < map.width - column ? positions : map.width - column;
    const int64_t element = column * job.out_channels + channel;
    Y* const y = reinterpret_cast<Y*>(map.y + row * map.y_row_bytes) + element;
    const Residual* const residual =
        reinterpret_cast<const Residual*>(map.residual +
                                          row * map.residual_row_bytes) +
        element;
    if (channels.count >= kVectors * kLanes) {
      WritePixels<kVectors, true, kEnding>(channels, job.out_channels, sums,
                                           outputs, residual, y);
    } else {
      WritePixels<kVectors, false, kEnding>(channels, job.out_channels, sums,
                                            outputs, residual, y);
    }
    sums += positions * kVectors * kLanes;
    i += positions;
    column = 0;
    ++row;
  }
}

// Writes positions [first, end) of a line, kVectors * kLanes channels each from
// `channel` on; `sums` are theirs, one position after another.
template <int kVectors>
inline void WriteOutputs(const ConvolutionJob& job, const ConvolutionMap& map,
                         int64_t line, int64_t first, int64_t end,
                         int64_t channel, const float* sums) {
  const bool to_float = job.y_type == Compute::kFloat32;
  constexpr Ending kPlain = Ending::kPlain, kResidual = Ending::kResidual;
  const auto write =
      job.epilogue.activation != Activation::kNone ||
              job.epilogue.combine == Combine::kMultiply
          ? WriteTyped<kVectors, Ending::kAny, float, float>
      : map.residual == nullptr
          ? (to_float ? WriteTyped<kVectors, kPlain, float, float>
                      : WriteTyped<kVectors, kPlain, uint16_t, uint16_t>)
      : map.residual_type == Compute::kFloat32
          ? (to_float ? WriteTyped<kVectors, kResidual, float, float>
                      : WriteTyped<kVectors, kResidual, uint16_t, float>)
          : (to_float ? WriteTyped<kVectors, kResidual, float, uint16_t>
                      : WriteTyped<kVectors, kResidual, uint16_t, uint16_t>);
  write(job, map, line, first, end, channel, sums);
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_CONVOLUTION_OUTPUT_IMPL_H_
