#include "quant/matmul.h"

#include <algorithm>
#include <type_traits>

#include "base/check.h"
#include "quant/convolution_tasks.h"
#include "quant/kernels/convolution.h"
#include "quant/kernels/for_isa.h"
#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

// Rows from which tiles beat VPDPBUSD (bench/kernels_bench.cc).
constexpr int64_t kMinAmxRows = 5;

// Rows of x that pass by a panel before the next panel comes: so many that
// their bytes stay in a core's L2 cache.
constexpr int64_t kRowChunkBytes = 1 << 20;

// Bytes of packed weight per task: small enough to balance threads when another
// process takes part of a core, large enough to stream. Below the least times
// rows (some microseconds) a task is not worth another thread's attention.
constexpr int64_t kTaskBytes = 128 << 10;
constexpr int64_t kLeastTaskBytes = 32 << 10;

Int8Panels* Int8PanelsFor(Isa isa, int64_t rows) {
  if (isa == Isa::kAmx && rows >= kMinAmxRows) return Int8PanelsAmx;
  return ForIsa(isa, Int8PanelsPortable, Int8PanelsAvx2, Int8PanelsAvx512);
}

// Calls prepare(row) for each row of x.
template <class PrepareRow>
void PrepareRows(const ConstMatrix& x, ThreadPool& pool,
                 const PrepareRow& prepare) {
  // Waking the others pays from some ten microseconds of work.
  constexpr int64_t kMinParallelElements = 32768;
  constexpr int64_t kTaskRows = 4;
  if (x.rows * x.cols < kMinParallelElements) {
    for (int64_t row = 0; row < x.rows; ++row) prepare(row);
    return;
  }
  pool.ParallelFor(
      (x.rows + kTaskRows - 1) / kTaskRows, [&](int64_t task, int) {
        const int64_t end = std::min((task + 1) * kTaskRows, x.rows);
        for (int64_t row = task * kTaskRows; row < end; ++row) {
          prepare(row);
        }
      });
}

// Cuts rows and panels into tasks, row chunks outermost: the chunk of x stays
// in cache while the weight passes by.
template <class Job>
void RunTasks(void (*kernel)(const Job&, int64_t, int64_t, int64_t, int64_t,
                             std::byte*),
              const Job& job, int64_t rows, int64_t bytes_per_row,
              const PackedWeight& w, ThreadPool& pool, Scratch& scratch) {
  const int64_t row_chunk = std::max<int64_t>(
      kRowChunkBytes / bytes_per_row / kRowGroup * kRowGroup, 2 * kRowGroup);
  const int64_t num_chunks = (rows + row_chunk - 1) / row_chunk;
  const int64_t panel_bytes = job.blocks * job.tile_bytes;
  // A multiple of what any kernel takes at once, and several tasks per thread.
  constexpr int64_t kStep = 4;
  const auto steps = [](int64_t panels) { return panels / kStep * kStep; };
  const int64_t least = steps(kLeastTaskBytes / (panel_bytes * rows));
  const int64_t most = steps(w.panels() / (int64_t{4} * pool.num_threads()));
  const int64_t panels_per_task =
      std::max({std::min(steps(kTaskBytes / panel_bytes), most), least, kStep});
  const int64_t panel_tasks =
      (w.panels() + panels_per_task - 1) / panels_per_task;
  const int64_t scratch_bytes = ScratchBytes(job.blocks);
  constexpr bool kRuns = std::is_same_v<Job, RunsJob>;  // unpack their scales
  std::byte* worker_scratch =
      job.unpack == nullptr && !kRuns
          ? nullptr
          : scratch.Take<std::byte>(scratch_bytes * pool.num_threads());
  pool.ParallelFor(num_chunks * panel_tasks, [&](int64_t task, int worker) {
    const int64_t first_row = task / panel_tasks * row_chunk;
    const int64_t first_panel = task % panel_tasks * panels_per_task;
    kernel(job, first_panel,
           std::min(first_panel + panels_per_task, w.panels()), first_row,
           std::min(first_row + row_chunk, rows),
           worker_scratch == nullptr ? nullptr
                                     : worker_scratch + worker * scratch_bytes);
  });
}

// A row of x is a position of a map of height 1; one of y is a row of its own,
// since its stride is free.
void MultiplyBFloat16(Isa isa, const MatmulInput& x, const PackedWeight& w,
                      const Epilogue& epilogue, const Matrix& y,
                      ThreadPool& pool, Scratch& scratch) {
  ConvolutionJob job = JobOf(isa, w);
  job.num_runs = 1;
  job.runs_per_row = 1;
  job.run_length = w.cols();
  job.run_blocks = job.blocks;
  job.x_type = Compute::kBFloat16;
  job.y_type = Compute::kFloat32;
  job.epilogue = epilogue;
  if (epilogue.activation == Activation::kRelu &&
      epilogue.combine == Combine::kReplace) {
    // One that nothing follows is among the epilogues that maps have.
    job.epilogue.activation = Activation::kNone;
    job.relu_last = true;
  }
  auto* const y_bytes = reinterpret_cast<std::byte*>(y.data);
  const ConvolutionMap map = {
      .x = reinterpret_cast<const std::byte*>(x.bfloat16()),
      .x_line_bytes = 0,
      .x_position_bytes = x.padded_cols() * 2,
      .x_row_bytes = 0,
      .x_tap_bytes = 0,
      .lines = 1,
      .positions = y.rows,
      .row_positions = 1,
      .width = 1,
      .y = y_bytes,
      .y_row_bytes = y.stride * 4,
      .residual = epilogue.combine == Combine::kReplace ? nullptr : y_bytes,
      .residual_row_bytes = y.stride * 4,
      .residual_type = Compute::kFloat32,
  };
  RunConvolution(
      isa, job, 1, [&](int64_t) { return map; }, pool, scratch);
}

}  // namespace

InputForms FormsFor(const PackedWeight& w, Compute compute) {
  const bool in_bytes = w.input_rounding().bits == 8;
  switch (w.layout().form) {
    case TileForm::kInt8:
      if (in_bytes) return {.bytes = w.input_rounding().threshold};
      return {.integers = true};
    case TileForm::kRuns:
      return {.runs = !in_bytes, .run_bytes = in_bytes};
    case TileForm::kFloat:
      break;
  }
  return {.bfloat16 = compute == Compute::kBFloat16};
}

MatmulInput MatmulInput::Prepare(const ConstMatrix& x, const InputForms& forms,
                                 ThreadPool& pool, Scratch& scratch) {
  return PrepareOn(BestIsa(), x, forms, pool, scratch);
}

MatmulInput MatmulInput::PrepareOn(Isa isa, const ConstMatrix& x,
                                   const InputForms& forms, ThreadPool& pool,
                                   Scratch& scratch) {
  MatmulInput input;
  input.x_ = x;
  const int64_t blocks = (x.cols + kBlockCols - 1) / kBlockCols;
  const int64_t padded = blocks * kBlockCols;
  input.padded_cols_ = padded;
  if (forms.integers) {
    uint8_t* const hi = scratch.Take<uint8_t>(x.rows * padded);
    uint8_t* const lo = scratch.Take<uint8_t>(x.rows * padded);
    float* const row_scales = scratch.Take<float>(x.rows);
    input.hi_ = hi;
    input.lo_ = lo;
    input.row_scales_ = row_scales;
    QuantizeRow* const quantize =
        ForIsa(isa, QuantizeRowPortable, QuantizeRowAvx2, QuantizeRowAvx512);
    if (!scratch.counting()) {
      PrepareRows(x, pool, [&](int64_t row) {
        const int64_t start = PlaneStart(row, blocks);
        row_scales[row] = quantize(x.row(row), x.cols, PlaneStride(row, x.rows),
                                   hi + start, lo + start);
      });
    }
  }
  const auto prepare_runs = [&](int planes) -> RunsInput {
    const int64_t sums_stride = 4 * blocks;
    int8_t* const hi = scratch.Take<int8_t>(x.rows * padded);
    int8_t* const lo =
        planes == 1 ? nullptr : scratch.Take<int8_t>(x.rows * padded);
    int32_t* const sums = scratch.Take<int32_t>(x.rows * sums_stride);
    float* const row_scales = scratch.Take<float>(x.rows);
    QuantizeRunsRow* const quantize =
        ForIsa(isa, QuantizeRunsRowPortable, QuantizeRunsRowAvx2,
               QuantizeRunsRowAvx512);
    if (!scratch.counting()) {
      PrepareRows(x, pool, [&](int64_t row) {
        const int64_t start = PlaneStart(row, blocks);
        row_scales[row] = quantize(
            x.row(row), x.cols, PlaneStride(row, x.rows), hi + start,
            lo == nullptr ? nullptr : lo + start, sums + row * sums_stride);
      });
    }
    return {hi, lo, sums, row_scales};
  };
  if (forms.runs) input.runs_ = prepare_runs(2);
  if (forms.run_bytes) input.run_bytes_ = prepare_runs(1);
  if (forms.bytes.has_value()) {
    uint8_t* const plane = scratch.Take<uint8_t>(x.rows * padded);
    float* const row_scales = scratch.Take<float>(x.rows);
    OutlierBlock* found = nullptr;
    int32_t* num_found = nullptr;
    const float threshold = *forms.bytes;
    if (threshold > 0) {
      found = scratch.Take<OutlierBlock>(x.rows * blocks);
      num_found = scratch.Take<int32_t>(x.rows);
    }
    input.bytes_ = {plane, row_scales, threshold, {found, num_found}};
    QuantizeByteRow* const quantize =
        ForIsa(isa, QuantizeByteRowPortable, QuantizeByteRowAvx2,
               QuantizeByteRowAvx512);
    if (!scratch.counting()) {
      PrepareRows(x, pool, [&](int64_t row) {
        const bool find = threshold > 0;
        row_scales[row] = quantize(x.row(row), x.cols, PlaneStride(row, x.rows),
                                   threshold, plane + PlaneStart(row, blocks),
                                   find ? found + row * blocks : nullptr,
                                   find ? num_found + row : nullptr);
      });
    }
  }
  if (forms.bfloat16) {
    uint16_t* const rows = scratch.Take<uint16_t>(x.rows * padded);
    input.bfloat16_ = rows;
    RoundToBFloat16* const round =
        ForIsa(isa, RoundToBFloat16Portable, RoundToBFloat16Avx2,
               RoundToBFloat16Avx512);
    if (!scratch.counting()) {
      PrepareRows(x, pool, [&](int64_t row) {
        uint16_t* const to = rows + row * padded;
        round(x.row(row), x.cols, to);
        std::fill(to + x.cols, to + padded, uint16_t{0});
      });
    }
  }
  return input;
}

bool MatmulInput::Has(const InputForms& forms) const {
  const bool has_bytes =
      !forms.bytes.has_value() ||
      (bytes_.plane != nullptr && bytes_.threshold == *forms.bytes);
  return has_bytes && (!forms.integers || hi_ != nullptr) &&
         (!forms.runs || runs_.hi != nullptr) &&
         (!forms.run_bytes || run_bytes_.hi != nullptr) &&
         (!forms.bfloat16 || bfloat16_ != nullptr);
}

void MatmulOn(Isa isa, const MatmulInput& x, const PackedWeight& w,
              const Epilogue& epilogue, const Matrix& y, ThreadPool& pool,
              Scratch& scratch) {
  OUNCE_CHECK(isa <= BestIsa(), "the CPU has this instruction set");
  OUNCE_CHECK(x.x().cols == w.cols(), "columns of x are the weight's");
  OUNCE_CHECK(y.cols == w.rows() && y.rows == x.x().rows,
              "y has the rows of x, and as columns the weight's rows");
  const int64_t rows = y.rows;
  if (rows == 0) return;
  const bool floats = w.layout().form == TileForm::kFloat;
  if (floats && x.bfloat16() != nullptr) {
    MultiplyBFloat16(isa, x, w, epilogue, y, pool, scratch);
    return;
  }
  const UnpackTile unpack = w.layout().UnpackFor(isa);
  const PanelJob common = {
      .tiles = w.panel(0),
      .tile_bytes = w.layout().tile_bytes,
      .blocks = w.blocks(),
      .unpack = unpack == TileAsIs ? nullptr : unpack,
      .cols = w.cols(),
      .output_cols = w.rows(),
      .y = y.data,
      .y_stride = y.stride,
      .epilogue = epilogue,
  };
  ScratchScope scope(scratch);
  if (floats) {
    const FloatJob job = {common, x.x().data, x.x().stride};
    RunTasks<FloatJob>(
        ForIsa(isa, FloatPanelsPortable, FloatPanelsAvx2, FloatPanelsAvx512),
        job, rows, w.cols() * 4, w, pool, scratch);
    return;
  }
  if (w.layout().form == TileForm::kRuns) {
    const RunsInput& runs =
        w.input_rounding().bits == 8 ? x.run_bytes() : x.runs();
    OUNCE_CHECK(runs.hi != nullptr, "x was prepared for weights of runs");
    RunsJob job{};
    static_cast<PanelJob&>(job) = common;
    job.bits = w.layout().tile_bytes / kBytesPerBit;
    job.planes[0] = runs.hi;
    job.planes[1] = runs.lo;
    job.sums = runs.sums;
    job.row_scales = runs.row_scales;
    job.rows = rows;
    const RunGeometry& geometry = w.runs();
    job.runs = w.runs_per_row();
    job.scales = w.run_scales();
    job.minima = w.run_minima();
    job.levels =
        geometry.levels.has_value() ? geometry.levels->data() : nullptr;
    job.zeros = w.run_zeros();
    job.shift = geometry.shift;
    job.zero_mask = geometry.zero_mask;
    job.zero_step = geometry.zero_step;
    job.factor = geometry.factor;
    job.step_cols =
        static_cast<int>(std::min<int64_t>(geometry.cols, kBlockCols));
    job.steps_per_run = geometry.cols / job.step_cols;
    const int64_t planes = runs.lo == nullptr ? 1 : 2;
    // Tiles of AMX would have to be stored and read again after every 64
    // columns.
    RunTasks<RunsJob>(
        ForIsa(isa, RunsPanelsPortable, RunsPanelsAvx2, RunsPanelsAvx512), job,
        rows, x.padded_cols() * planes, w, pool, scratch);
    return;
  }
  OUNCE_CHECK(w.cols() <= 65536, "integer sums fit 32 bits");
  Int8Job job{};
  static_cast<PanelJob&>(job) = common;
  job.rows = rows;
  job.scales = w.scales();
  job.code_sums = w.code_sums();
  if (w.input_rounding().bits == 8) {
    const BytesInput& bytes = x.bytes();
    OUNCE_CHECK(bytes.plane != nullptr &&
                    bytes.threshold == w.input_rounding().threshold,
                "x was prepared in 8 bits");
    job.planes[0] = bytes.plane;
    job.row_scales = bytes.row_scales;
    job.outliers = bytes.outliers;
    job.x = x.x().data;
    job.x_stride = x.x().stride;
  } else {
    OUNCE_CHECK(x.hi() != nullptr, "x was prepared with integer planes");
    job.planes[0] = x.hi();
    job.planes[1] = x.lo();
    job.row_scales = x.row_scales();
  }
  const int64_t planes = job.planes[1] == nullptr ? 1 : 2;
  RunTasks<Int8Job>(Int8PanelsFor(isa, rows), job, rows,
                    x.padded_cols() * planes, w, pool, scratch);
}

void Matmul(const MatmulInput& x, const PackedWeight& w,
            const Epilogue& epilogue, const Matrix& y, ThreadPool& pool,
            Scratch& scratch) {
  MatmulOn(BestIsa(), x, w, epilogue, y, pool, scratch);
}

void CountMatmul(const MatmulInput& x, int64_t outputs, const ThreadPool& pool,
                 Scratch& scratch) {
  {
    ScratchScope scope(scratch);
    const int64_t blocks = (x.x().cols + kBlockCols - 1) / kBlockCols;
    scratch.Take<std::byte>(ScratchBytes(blocks) * pool.num_threads());
  }
  if (x.bfloat16() != nullptr) {
    CountConvolution(outputs, x.x().cols, pool, scratch);
  }
}

}  // namespace ounce::quant
