#include "quant/matmul.h"

#include <algorithm>

#include "base/check.h"
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

QuantizeRow* QuantizeRowFor(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return QuantizeRowPortable;
    case Isa::kAvx2:
      return QuantizeRowAvx2;
    default:
      return QuantizeRowAvx512;
  }
}

FloatPanels* FloatPanelsFor(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return FloatPanelsPortable;
    case Isa::kAvx2:
      return FloatPanelsAvx2;
    default:
      return FloatPanelsAvx512;
  }
}

Int8Panels* Int8PanelsFor(Isa isa, int64_t rows) {
  switch (isa) {
    case Isa::kPortable:
      return Int8PanelsPortable;
    case Isa::kAvx2:
      return Int8PanelsAvx2;
    case Isa::kAmx:
      if (rows >= kMinAmxRows) return Int8PanelsAmx;
      [[fallthrough]];
    default:
      return Int8PanelsAvx512;
  }
}

OutputFunction FunctionFor(Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return OutputFunction::kRelu;
    case Activation::kGeluNew:
      return OutputFunction::kGeluNew;
    default:
      return OutputFunction::kIdentity;
  }
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
  std::byte* worker_scratch =
      job.unpack == nullptr
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

}  // namespace

MatmulInput MatmulInput::Prepare(const ConstMatrix& x, bool integer_planes,
                                 ThreadPool& pool, Scratch& scratch) {
  return PrepareOn(BestIsa(), x, integer_planes, pool, scratch);
}

MatmulInput MatmulInput::PrepareOn(Isa isa, const ConstMatrix& x,
                                   bool integer_planes, ThreadPool& pool,
                                   Scratch& scratch) {
  MatmulInput input;
  input.x_ = x;
  if (!integer_planes) return input;
  const int64_t blocks = (x.cols + kBlockCols - 1) / kBlockCols;
  input.padded_cols_ = blocks * kBlockCols;
  uint8_t* hi = scratch.Take<uint8_t>(x.rows * input.padded_cols_);
  uint8_t* lo = scratch.Take<uint8_t>(x.rows * input.padded_cols_);
  float* row_scales = scratch.Take<float>(x.rows);
  QuantizeRow* const quantize = QuantizeRowFor(isa);
  const auto quantize_rows = [&](int64_t first, int64_t end) {
    for (int64_t row = first; row < end; ++row) {
      const int64_t group = row / kRowGroup * kRowGroup;
      const int64_t group_rows = std::min<int64_t>(kRowGroup, x.rows - group);
      const int64_t start =
          group * input.padded_cols_ + (row - group) * kBlockCols;
      row_scales[row] = quantize(x.row(row), x.cols, group_rows * kBlockCols,
                                 hi + start, lo + start);
    }
  };
  // Waking the others pays from some ten microseconds of work.
  constexpr int64_t kMinParallelElements = 32768;
  constexpr int64_t kTaskRows = 4;
  if (x.rows * x.cols < kMinParallelElements) {
    quantize_rows(0, x.rows);
  } else {
    pool.ParallelFor((x.rows + kTaskRows - 1) / kTaskRows, [&](int64_t task,
                                                               int) {
      quantize_rows(task * kTaskRows, std::min((task + 1) * kTaskRows, x.rows));
    });
  }
  input.hi_ = hi;
  input.lo_ = lo;
  input.row_scales_ = row_scales;
  return input;
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
      .bias = epilogue.bias,
      .function = FunctionFor(epilogue.activation),
      .accumulate = epilogue.accumulate,
  };
  ScratchScope scope(scratch);
  if (w.layout().form == TileForm::kFloat) {
    const FloatJob job = {common, x.x().data, x.x().stride};
    RunTasks<FloatJob>(FloatPanelsFor(isa), job, rows, w.cols() * 4, w, pool,
                       scratch);
    return;
  }
  OUNCE_CHECK(x.hi() != nullptr, "x was prepared with integer planes");
  OUNCE_CHECK(w.cols() <= 65536, "integer sums fit 32 bits");
  const Int8Job job = {common, x.hi(),     x.lo(),       x.row_scales(),
                       rows,   w.scales(), w.code_sums()};
  RunTasks<Int8Job>(Int8PanelsFor(isa, rows), job, rows, x.padded_cols() * 2, w,
                    pool, scratch);
}

void Matmul(const MatmulInput& x, const PackedWeight& w,
            const Epilogue& epilogue, const Matrix& y, ThreadPool& pool,
            Scratch& scratch) {
  MatmulOn(BestIsa(), x, w, epilogue, y, pool, scratch);
}

int64_t MatmulScratchBytes(int64_t max_rows, int64_t max_cols,
                           int num_threads) {
  const int64_t blocks = (max_cols + kBlockCols - 1) / kBlockCols;
  const int64_t planes = 2 * (max_rows * blocks * kBlockCols + 64);
  const int64_t row_scales = max_rows * 4 + 64;
  return planes + row_scales + ScratchBytes(blocks) * num_threads;
}

}  // namespace ounce::quant
