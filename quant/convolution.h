// Convolutions of feature maps, for every method.
//
//   y[p, o] = relu?( sum over taps (ky, kx) and channels c of
//                    x[p * stride + (ky, kx) * dilation - padding, c]
//                    * W[o, c, ky, kx]  + bias[o] + residual[p, o] )
//
// Implicit GEMM: nothing is copied. Because maps have a border of zeros and
// channels innermost, the inputs of one output under one row of the kernel are
// one run of numbers in memory (one under each tap, when dilated), and those of
// the next output lie at a constant distance. A weight is a matrix of
// out_channels rows whose columns are these runs, each filled up with zeros to
// a multiple of 64: PackedWeight's tiles as they are, so every method applies.
//
// Exactness: an output depends on its own inputs and W alone, to the last bit:
//   not on the other maps of the call, nor on the number of threads.
//   kFloat32:  chains of fused multiply-adds (portable: without FMA).
//   kBFloat16: factors rounded to bfloat16 (int8 codes are exact in it; their
//     scale is applied to the float32 sum), products and sums in float32, in an
//     order that differs between instruction sets (AVX-512 BF16, AMX: subnormal
//     numbers count as zero). With AMX a NaN or an infinity in x may also reach
//     neighbouring outputs of its map, where in_channels * kernel is no
//     multiple of 32.
#ifndef OUNCE_QUANT_CONVOLUTION_H_
#define OUNCE_QUANT_CONVOLUTION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "base/cpu.h"
#include "base/thread_pool.h"
#include "quant/codes.h"
#include "quant/feature_map.h"
#include "quant/float_rows.h"
#include "quant/packed_weight.h"
#include "quant/scratch.h"

namespace ounce::quant {

// Square kernels; the same stride, padding and dilation both ways.
struct ConvolutionShape {
  int64_t out_channels = 0;
  int64_t in_channels = 0;
  int64_t kernel = 1;
  int64_t stride = 1;
  int64_t padding = 0;
  int64_t dilation = 1;

  int64_t OutputExtent(int64_t input) const {
    return (input + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
  }
  // Columns of the packed weight, zeros included.
  int64_t packed_cols() const;
};

// The rows of another matrix, each times a factor (a batch norm folded in; no
// factors: 1).
//
// Ownership: `source` must outlive it.
class ScaledRows final : public FloatRows {
 public:
  ScaledRows(const FloatRows& source, std::vector<float> row_factors);

  const std::string& name() const override { return source_.name(); }
  std::string Place(int64_t row, int64_t col) const override {
    return source_.Place(row, col);
  }
  int64_t rows() const override { return source_.rows(); }
  int64_t cols() const override { return source_.cols(); }
  DType dtype() const override { return source_.dtype(); }
  absl::Status Read(int64_t first, int64_t count, float* out) const override;

 private:
  const FloatRows& source_;
  const std::vector<float> row_factors_;
};

// The codes of W[out, in * kernel * kernel] (PyTorch's order: channel, then ky,
// kx) as they are packed: columns in the order above, with zeros between. So
// neither order nor padding has a part in what a method makes of the weight.
//
// Ownership: `codes` must outlive it.
class ConvolutionCodes final : public CodeRows {
 public:
  // kInvalidArgument for codes that cannot be put in another order, or hold no
  // exact zero: a field must reach over rows as a whole. kUnimplemented for
  // activations in 8 bits.
  static absl::Status Check(const CodeFormat& format);
  // Requires that Check is OK, and the shape's rows and columns.
  ConvolutionCodes(const CodeRows& codes, const ConvolutionShape& shape);

  const std::string& name() const override { return codes_.name(); }
  int64_t rows() const override { return shape_.out_channels; }
  int64_t cols() const override { return shape_.packed_cols(); }
  const CodeFormat& format() const override { return codes_.format(); }
  // kInvalidArgument for a row in which no code is worth exactly zero.
  absl::Status Read(int64_t first, int64_t count, CodeBand& out) const override;

 private:
  const CodeRows& codes_;
  const ConvolutionShape shape_;
};

struct ConvolutionEpilogue {
  const float* bias = nullptr;  // [out_channels]
  bool relu = false;            // after bias and residual
  // One per map, of y's size (border and type may differ; may be y itself);
  // empty: none.
  absl::Span<const FeatureMap> residual;
};

// For each i: y[i] = convolution of x[i]. The outputs' borders stay zero.
//
// Requires: all x of one type, with a border of at least `padding` (0 will do
//   for a 1x1 kernel); y[i] of the extents that `shape` says, its type x's or
//   kFloat32; `w` packed from ConvolutionCodes of the same shape.
// Threads: any, with a pool that the caller leases. No allocation beyond
//   `scratch`.
void Convolve(absl::Span<const FeatureMap> x, const PackedWeight& w,
              const ConvolutionShape& shape,
              const ConvolutionEpilogue& epilogue,
              absl::Span<const FeatureMap> y, ThreadPool& pool,
              Scratch& scratch);

// The same on a given instruction set (at most BestIsa()), for tests.
void ConvolveOn(Isa isa, absl::Span<const FeatureMap> x, const PackedWeight& w,
                const ConvolutionShape& shape,
                const ConvolutionEpilogue& epilogue,
                absl::Span<const FeatureMap> y, ThreadPool& pool,
                Scratch& scratch);

// Takes what Convolve takes, whatever the weight, and gives it back: for
// counting passes, which have none.
void CountConvolve(const ConvolutionShape& shape, const ThreadPool& pool,
                   Scratch& scratch);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_CONVOLUTION_H_
