#include "quant/convolution.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"
#include "quant/kernels/convolution.h"
#include "quant/kernels/panels.h"

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

namespace {

// Several tasks per thread, for balance when another process takes part of a
// core; below the least (some microseconds) one is not worth a thread's
// attention.
constexpr int64_t kTasksPerThread = 8;
constexpr int64_t kLeastTaskProducts = 4 << 20;

// Chunks begin where a kernel's parts of a line do.
constexpr int64_t kPositionStep = 192;

// So much of x stays in a core's L2 cache beside weights.
constexpr int64_t kCachedInputBytes = 512 << 10;

Convolution* ConvolutionFor(Isa isa, Compute compute) {
  switch (isa) {
    case Isa::kPortable:
      return ConvolutionPortable;
    case Isa::kAvx2:
      return ConvolutionAvx2;
    case Isa::kAmx:
      if (compute == Compute::kBFloat16) return ConvolutionAmx;
      [[fallthrough]];
    default:
      return ConvolutionAvx512;
  }
}

RoundToBFloat16* RoundToBFloat16For(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return RoundToBFloat16Portable;
    case Isa::kAvx2:
      return RoundToBFloat16Avx2;
    default:
      return RoundToBFloat16Avx512;
  }
}

// What a job says of its weight.
ConvolutionJob JobOf(Isa isa, const PackedWeight& w) {
  const TileLayout& layout = w.layout();
  const UnpackTile unpack = layout.UnpackFor(isa);
  ConvolutionJob job = {};
  job.weight = layout.form == TileForm::kInt8 ? ConvolutionWeight::kInt8
               : layout.UnpackFor(Isa::kPortable) == UnpackBFloat16Portable
                   ? ConvolutionWeight::kBFloat16
                   : ConvolutionWeight::kFloat;
  job.tiles = w.panel(0);
  job.tile_bytes = layout.tile_bytes;
  job.blocks = w.blocks();
  job.unpack = unpack == TileAsIs ? nullptr : unpack;
  job.scales = layout.form == TileForm::kInt8 ? w.scales() : nullptr;
  job.out_channels = w.rows();
  return job;
}

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

// A map in chunks of about so many positions: either parts of its one line, or
// some of its lines.
struct Chunks {
  Chunks(const ConvolutionMap& map, int64_t chunk_positions) {
    const int64_t wanted =
        std::max<int64_t>(map.lines * map.positions / chunk_positions, 1);
    if (map.lines == 1) {
      lines = 1;
      positions = CeilDivide(CeilDivide(map.positions, wanted), kPositionStep) *
                  kPositionStep;
      count = CeilDivide(map.positions, positions);
    } else {
      lines = CeilDivide(map.lines, wanted);
      positions = map.positions;
      count = CeilDivide(map.lines, lines);
    }
  }
  // Sets lines and positions.
  void SetRange(const ConvolutionMap& map, int64_t chunk,
                ConvolutionRange* range) const {
    const bool one_line = map.lines == 1;
    range->first_line = one_line ? 0 : chunk * lines;
    range->end_line = std::min(range->first_line + lines, map.lines);
    range->first_position = one_line ? chunk * positions : 0;
    range->end_position =
        std::min(range->first_position + positions, map.positions);
  }

  int64_t lines;      // of a chunk
  int64_t positions;  // of a chunk's line
  int64_t count;
};

// How many tasks panels and positions are cut into.
struct Cut {
  int64_t groups;  // of panels
  int64_t chunks;  // of positions
};

// About so many tasks, cut such that they read the least: each brings its
// weights into a core's cache (twice the work where they are to be unpacked),
// and x passes by once per group of panels, or per part of one that fits the
// cache.
Cut CheapestCut(const ConvolutionJob& job, int64_t positions, int64_t x_bytes,
                int64_t tasks) {
  const int64_t panels = CeilDivide(job.out_channels, kPanelRows);
  const int64_t tile_bytes = job.x_type == Compute::kFloat32 ? 4096 : 2048;
  const bool as_they_are =
      job.weight == ConvolutionWeight::kBFloat16 ||
      (job.weight == ConvolutionWeight::kFloat && job.unpack == nullptr);
  const int64_t weight_bytes =
      panels * job.blocks * tile_bytes * (as_they_are ? 1 : 2);
  const int64_t parts =
      CeilDivide(panels, PanelsAtOnce(job.blocks, tile_bytes));
  const int64_t most_groups = std::min(CeilDivide(panels, 2), tasks);
  Cut best = {1, 1};
  int64_t least = std::numeric_limits<int64_t>::max();
  for (int64_t groups = 1; groups <= most_groups; ++groups) {
    const int64_t chunks = std::clamp<int64_t>(
        tasks / groups, 1, CeilDivide(positions, kPositionStep));
    // Leaving threads without work costs more than any reading.
    if (2 * groups * chunks < tasks && groups < most_groups) continue;
    const int64_t passes = x_bytes / chunks <= kCachedInputBytes
                               ? groups
                               : std::max(groups, parts);
    const int64_t bytes = chunks * weight_bytes + passes * x_bytes;
    if (bytes < least) {
      least = bytes;
      best = {groups, chunks};
    }
  }
  return best;
}

// Maps and chunks outermost. `map_at(i)` gives map i.
template <class MapAt>
void RunTasks(Convolution* kernel, const ConvolutionJob& job, int64_t num_maps,
              const MapAt& map_at, ThreadPool& pool, Scratch& scratch) {
  int64_t positions = 0;
  int64_t x_bytes = 0;
  for (int64_t i = 0; i < num_maps; ++i) {
    const ConvolutionMap map = map_at(i);
    positions += map.lines * map.positions;
    x_bytes += map.lines * map.positions * map.x_position_bytes;
  }
  const int64_t products =
      positions * job.num_runs * job.run_length * job.out_channels;
  const Cut cut =
      CheapestCut(job, positions, x_bytes,
                  std::clamp<int64_t>(products / kLeastTaskProducts, 1,
                                      kTasksPerThread * pool.num_threads()));
  const int64_t chunk_positions = std::max<int64_t>(positions / cut.chunks, 1);
  int64_t num_chunks = 0;
  for (int64_t i = 0; i < num_maps; ++i) {
    num_chunks += Chunks(map_at(i), chunk_positions).count;
  }
  const int64_t panels = CeilDivide(job.out_channels, kPanelRows);
  const int64_t group_panels =
      CeilDivide(CeilDivide(panels, 2), cut.groups) * 2;
  const int64_t num_groups = CeilDivide(panels, group_panels);
  ScratchScope scope(scratch);
  const int64_t scratch_bytes = ConvolutionScratchBytes(job.blocks, panels);
  std::byte* const worker_scratch =
      scratch.Take<std::byte>(scratch_bytes * pool.num_threads());
  pool.ParallelFor(num_chunks * num_groups, [&](int64_t task, int worker) {
    int64_t chunk = task / num_groups;
    ConvolutionMap map;
    ConvolutionRange range;
    for (int64_t i = 0;; ++i) {
      map = map_at(i);
      const Chunks chunks(map, chunk_positions);
      if (chunk < chunks.count) {
        chunks.SetRange(map, chunk, &range);
        break;
      }
      chunk -= chunks.count;
    }
    range.first_panel = task % num_groups * group_panels;
    range.end_panel = std::min(range.first_panel + group_panels, panels);
    kernel(job, map, range, worker_scratch + worker * scratch_bytes);
  });
}

}  // namespace

void ConvolveOn(Isa isa, absl::Span<const FeatureMap> x, const PackedWeight& w,
                const ConvolutionShape& shape,
                const ConvolutionEpilogue& epilogue,
                absl::Span<const FeatureMap> y, ThreadPool& pool,
                Scratch& scratch) {
  OUNCE_CHECK(isa <= BestIsa(), "the CPU has this instruction set");
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
  job.bias = epilogue.bias;
  job.relu = epilogue.relu ? ReluPlace::kAfterResidual : ReluPlace::kNone;
  RunTasks(
      ConvolutionFor(isa, job.x_type), job, static_cast<int64_t>(x.size()),
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

int64_t ConvolveScratchBytes(const ConvolutionShape& shape, int num_threads) {
  return ConvolutionScratchBytes(shape.packed_cols() / kBlockCols,
                                 CeilDivide(shape.out_channels, kPanelRows)) *
         num_threads;
}

void LinearOn(Isa isa, const ConstMatrix& x, const PackedWeight& w,
              const Epilogue& epilogue, Compute compute, const Matrix& y,
              ThreadPool& pool, Scratch& scratch) {
  ScratchScope scope(scratch);
  const bool integers = w.layout().form == TileForm::kInt8;
  if (integers || compute == Compute::kFloat32) {
    const MatmulInput input =
        MatmulInput::PrepareOn(isa, x, integers, pool, scratch);
    MatmulOn(isa, input, w, epilogue, y, pool, scratch);
    return;
  }
  OUNCE_CHECK(isa <= BestIsa(), "the CPU has this instruction set");
  OUNCE_CHECK(x.cols == w.cols(), "columns of x are the weight's");
  OUNCE_CHECK(y.cols == w.rows() && y.rows == x.rows,
              "y has the rows of x, and as columns the weight's rows");
  OUNCE_CHECK(epilogue.activation != Activation::kGeluNew,
              "gelu_new is computed in float32 alone");
  if (x.rows == 0) return;
  // Rows end in zeros, so that kernels that take 32 numbers at once see no
  // other row.
  const int64_t stride = RoundUpToBlock(x.cols);
  auto* const rows = scratch.Take<uint16_t>(x.rows * stride);
  RoundToBFloat16* const round = RoundToBFloat16For(isa);
  constexpr int64_t kTaskElements = 32768;
  const int64_t task_rows = std::max<int64_t>(kTaskElements / stride, 1);
  pool.ParallelFor(CeilDivide(x.rows, task_rows), [&](int64_t task, int) {
    const int64_t end = std::min((task + 1) * task_rows, x.rows);
    for (int64_t row = task * task_rows; row < end; ++row) {
      round(x.row(row), x.cols, rows + row * stride);
      std::fill(rows + row * stride + x.cols, rows + (row + 1) * stride, 0);
    }
  });
  ConvolutionJob job = JobOf(isa, w);
  job.num_runs = 1;
  job.runs_per_row = 1;
  job.run_length = x.cols;
  job.run_blocks = job.blocks;
  job.x_type = Compute::kBFloat16;
  job.y_type = Compute::kFloat32;
  job.bias = epilogue.bias;
  job.relu = epilogue.activation == Activation::kRelu
                 ? ReluPlace::kBeforeResidual
                 : ReluPlace::kNone;
  // A row of x is a position of a map of height 1; one of y is a row of its
  // own, since its stride is free.
  const auto* const y_bytes = reinterpret_cast<std::byte*>(y.data);
  const ConvolutionMap map = {
      .x = reinterpret_cast<const std::byte*>(rows),
      .x_line_bytes = 0,
      .x_position_bytes = stride * 2,
      .x_row_bytes = 0,
      .x_tap_bytes = 0,
      .lines = 1,
      .positions = x.rows,
      .row_positions = 1,
      .width = 1,
      .y = reinterpret_cast<std::byte*>(y.data),
      .y_row_bytes = y.stride * 4,
      .residual = epilogue.accumulate ? y_bytes : nullptr,
      .residual_row_bytes = y.stride * 4,
      .residual_type = Compute::kFloat32,
  };
  RunTasks(
      ConvolutionFor(isa, Compute::kBFloat16), job, 1,
      [&](int64_t) { return map; }, pool, scratch);
}

void Linear(const ConstMatrix& x, const PackedWeight& w,
            const Epilogue& epilogue, Compute compute, const Matrix& y,
            ThreadPool& pool, Scratch& scratch) {
  LinearOn(BestIsa(), x, w, epilogue, compute, y, pool, scratch);
}

int64_t LinearScratchBytes(int64_t max_rows, int64_t max_cols,
                           int num_threads) {
  const int64_t cols = RoundUpToBlock(max_cols);
  // Of any number of outputs.
  constexpr int64_t kAnyPanels = std::numeric_limits<int64_t>::max();
  return std::max(
      MatmulScratchBytes(max_rows, max_cols, num_threads),
      max_rows * cols * 2 +
          ConvolutionScratchBytes(cols / kBlockCols, kAnyPanels) * num_threads);
}

}  // namespace ounce::quant
