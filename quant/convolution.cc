#include "quant/convolution.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "quant/convolution_tasks.h"
#include "quant/kernels/convolution.h"

namespace ounce::quant {
namespace {

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t RoundUpToBlock(int64_t cols) {
  return CeilDivide(cols, kBlockCols) * kBlockCols;
}

}  // namespace

int64_t ConvolutionShape::packed_cols() const {
  return dilation == 1 ? kernel * RoundUpToBlock(kernel * in_channels)
                       : kernel * kernel * RoundUpToBlock(in_channels);
}

ScaledRows::ScaledRows(const FloatRows& source, std::vector<float> row_factors)
    : source_(source), row_factors_(std::move(row_factors)) {
  OUNCE_CHECK(row_factors_.empty() ||
                  static_cast<int64_t>(row_factors_.size()) == source.rows(),
              "a factor for each row");
}

absl::Status ScaledRows::Read(int64_t first, int64_t count, float* out) const {
  RETURN_IF_ERROR(source_.Read(first, count, out));
  if (row_factors_.empty()) return absl::OkStatus();
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t col = 0; col < cols(); ++col)
      *out++ *= row_factors_[first + i];
  }
  return absl::OkStatus();
}

absl::Status ConvolutionCodes::Check(const CodeFormat& format) {
  if (format.input_rounding.bits != 16) {
    return absl::UnimplementedError(
        "a convolution multiplies activations as floats, so none of its "
        "methods can have activations in 8 bits");
  }
  bool whole_rows = format.tables.empty();
  for (const CodeField& field : format.fields) {
    whole_rows &= field.reach.flat == 0 && field.reach.cols == Reach::kAll;
  }
  if (whole_rows) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(
      "a convolution takes methods with one scale for each output channel or "
      "for all of them, and ",
      format.element,
      " as it is asked for has more; keep convolutions, or give them a method "
      "such as linear"));
}

ConvolutionCodes::ConvolutionCodes(const CodeRows& codes,
                                   const ConvolutionShape& shape)
    : codes_(codes), shape_(shape) {
  OUNCE_CHECK(Check(codes.format()).ok(), "codes that can be moved");
  OUNCE_CHECK(
      codes.rows() == shape.out_channels &&
          codes.cols() == shape.in_channels * shape.kernel * shape.kernel,
      "the codes have the shape's rows and columns");
}

absl::Status ConvolutionCodes::Read(int64_t first, int64_t count,
                                    CodeBand& out) const {
  CodeBand band;
  RETURN_IF_ERROR(codes_.Read(first, count, band));
  const int64_t bytes = format().element_bytes();
  const int64_t kernel = shape_.kernel;
  const int64_t channels = shape_.in_channels;
  const int64_t ky_stride = cols() / kernel;
  const int64_t kx_stride =
      shape_.dilation == 1 ? channels : RoundUpToBlock(channels);
  out.first_row = first;
  out.rows = count;
  out.elements.resize(count * cols() * bytes);
  const std::byte* from = band.elements.data();
  for (int64_t i = 0; i < count; ++i) {
    std::byte* const row = out.elements.data() + i * cols() * bytes;
    // Of floats all bits are zero; of integers this is one byte.
    float zero = 0;
    if (!format().is_float()) {
      const CodeRun run = RunAt(format(), band, first + i, 0, codes_.cols());
      const bool is_signed = format().kind == CodeFormat::Kind::kSigned;
      const float least = is_signed ? -128 : 0;
      zero = run.zero;
      if (run.minimum != 0 || std::floor(zero) != zero || zero < least ||
          zero > least + 255) {
        return absl::InvalidArgumentError(
            StrCat("tensor '", name(), "', row ", first + i,
                   ": a convolution needs a code that is worth exactly zero"));
      }
    }
    std::fill_n(row, cols() * bytes,
                static_cast<std::byte>(static_cast<int>(zero)));
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t ky = 0; ky < kernel; ++ky) {
        for (int64_t kx = 0; kx < kernel; ++kx, from += bytes) {
          std::copy_n(from, bytes,
                      row + (ky * ky_stride + kx * kx_stride + c) * bytes);
        }
      }
    }
  }
  out.fields = std::move(band.fields);
  return absl::OkStatus();
}

namespace {

ConvolutionMap MapOf(const FeatureMap& x, const FeatureMap& y,
                     const FeatureMap* residual,
                     const ConvolutionShape& shape) {
  const int64_t pixel_bytes = x.channels * x.element_bytes();
  const int64_t row_bytes = x.pitch() * pixel_bytes;
  // Positions go on from row to row, if no output is lost.
  const bool one_line = shape.stride == 1 && y.width <= x.pitch();
  const int64_t row_positions = one_line ? x.pitch() : y.width;
  return {
      .x = x.pixel(-shape.padding, -shape.padding),
      .x_line_bytes = shape.stride * row_bytes,
      .x_position_bytes = shape.stride * pixel_bytes,
      .x_row_bytes = shape.dilation * row_bytes,
      .x_tap_bytes = shape.dilation * pixel_bytes,
      .lines = one_line ? 1 : y.height,
      .positions =
          one_line ? (y.height - 1) * row_positions + y.width : y.width,
      .row_positions = row_positions,
      .width = y.width,
      .y = y.pixel(0, 0),
      .y_row_bytes = y.pitch() * y.channels * y.element_bytes(),
      .residual = residual == nullptr ? nullptr : residual->pixel(0, 0),
      .residual_row_bytes = residual == nullptr
                                ? 0
                                : residual->pitch() * residual->channels *
                                      residual->element_bytes(),
      .residual_type = residual == nullptr ? y.type : residual->type,
  };
}

}  // namespace

void ConvolveOn(Isa isa, absl::Span<const FeatureMap> x, const PackedWeight& w,
                const ConvolutionShape& shape,
                const ConvolutionEpilogue& epilogue,
                absl::Span<const FeatureMap> y, ThreadPool& pool,
                Scratch& scratch) {
  OUNCE_CHECK(w.rows() == shape.out_channels && w.cols() == shape.packed_cols(),
              "the weight is packed for this shape");
  OUNCE_CHECK(x.size() == y.size() && (epilogue.residual.empty() ||
                                       epilogue.residual.size() == y.size()),
              "as many outputs, and residuals if any, as inputs");
  if (x.empty()) return;
  for (size_t i = 0; i < x.size(); ++i) {
    OUNCE_CHECK(x[i].type == x[0].type && y[i].type == y[0].type &&
                    (y[i].type == x[i].type || y[i].type == Compute::kFloat32),
                "maps are of one type");
    OUNCE_CHECK(x[i].channels == shape.in_channels &&
                    y[i].channels == shape.out_channels,
                "maps have the shape's channels");
    OUNCE_CHECK(x[i].border >= shape.padding, "the border covers the padding");
    OUNCE_CHECK(y[i].height == shape.OutputExtent(x[i].height) &&
                    y[i].width == shape.OutputExtent(x[i].width),
                "outputs have the extents that the shape gives");
    if (epilogue.residual.empty()) continue;
    const FeatureMap& residual = epilogue.residual[i];
    OUNCE_CHECK(residual.height == y[i].height &&
                    residual.width == y[i].width &&
                    residual.channels == y[i].channels,
                "residuals have the outputs' sizes");
  }
  ConvolutionJob job = JobOf(isa, w);
  const bool dilated = shape.dilation > 1;
  job.num_runs = shape.kernel * (dilated ? shape.kernel : 1);
  job.runs_per_row = dilated ? shape.kernel : 1;
  job.run_length = shape.in_channels * (dilated ? 1 : shape.kernel);
  job.run_blocks = job.blocks / job.num_runs;
  job.x_type = x[0].type;
  job.y_type = y[0].type;
  job.epilogue = {
      .bias = epilogue.bias,
      .combine = epilogue.residual.empty() ? Combine::kReplace : Combine::kAdd};
  job.relu_last = epilogue.relu;
  RunConvolution(
      isa, job, static_cast<int64_t>(x.size()),
      [&](int64_t i) {
        return MapOf(
            x[i], y[i],
            epilogue.residual.empty() ? nullptr : &epilogue.residual[i], shape);
      },
      pool, scratch);
}

void Convolve(absl::Span<const FeatureMap> x, const PackedWeight& w,
              const ConvolutionShape& shape,
              const ConvolutionEpilogue& epilogue,
              absl::Span<const FeatureMap> y, ThreadPool& pool,
              Scratch& scratch) {
  ConvolveOn(BestIsa(), x, w, shape, epilogue, y, pool, scratch);
}

void CountConvolve(const ConvolutionShape& shape, const ThreadPool& pool,
                   Scratch& scratch) {
  CountConvolution(shape.out_channels, shape.packed_cols(), pool, scratch);
}

}  // namespace ounce::quant
