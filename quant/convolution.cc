#include "quant/convolution.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace ounce::quant {
namespace {

int64_t RoundUpToBlock(int64_t cols) {
  return (cols + kBlockCols - 1) / kBlockCols * kBlockCols;
}

}  // namespace

int64_t ConvolutionShape::packed_cols() const {
  return dilation == 1 ? kernel * RoundUpToBlock(kernel * in_channels)
                       : kernel * kernel * RoundUpToBlock(in_channels);
}

ConvolutionRows::ConvolutionRows(const FloatRows& source,
                                 const ConvolutionShape& shape,
                                 std::vector<float> row_factors)
    : source_(source), shape_(shape), row_factors_(std::move(row_factors)) {
  OUNCE_CHECK(
      source.rows() == shape.out_channels &&
          source.cols() == shape.in_channels * shape.kernel * shape.kernel,
      "the source has the shape's rows and columns");
}

absl::Status ConvolutionRows::Read(int64_t first, int64_t count,
                                   float* out) const {
  const int64_t kernel = shape_.kernel;
  const int64_t channels = shape_.in_channels;
  const int64_t ky_stride = cols() / kernel;
  const int64_t kx_stride =
      shape_.dilation == 1 ? channels : RoundUpToBlock(channels);
  std::vector<float> row(source_.cols());
  for (int64_t i = 0; i < count; ++i) {
    RETURN_IF_ERROR(source_.Read(first + i, 1, row.data()));
    const float factor = row_factors_.empty() ? 1 : row_factors_[first + i];
    float* to = out + i * cols();
    std::fill_n(to, cols(), 0.0f);
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t ky = 0; ky < kernel; ++ky) {
        for (int64_t kx = 0; kx < kernel; ++kx) {
          to[ky * ky_stride + kx * kx_stride + c] =
              row[(c * kernel + ky) * kernel + kx] * factor;
        }
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace ounce::quant
