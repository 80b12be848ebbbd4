#include "quant/convolution_tasks.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "quant/kernels/for_isa.h"
#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Several tasks per thread, for balance when another process takes part of a
// core; below the least (some microseconds) one is not worth a thread's
// attention.
constexpr int64_t kTasksPerThread = 8;
constexpr int64_t kLeastTaskProducts = 4 << 20;
// With few positions, reading weights is the work.
constexpr int64_t kLeastTaskBytes = 128 << 10;

// Chunks begin where a kernel's parts of a line do.
constexpr int64_t kPositionStep = 192;

// So much of x stays in a core's L2 cache beside weights.
constexpr int64_t kCachedInputBytes = 512 << 10;

Convolution* ConvolutionFor(Isa isa, Compute compute) {
  if (compute == Compute::kBFloat16 && isa >= Isa::kAvx512Bf16) {
    return isa == Isa::kAmx ? ConvolutionAmx : ConvolutionAvx512Bf16;
  }
  return ForIsa(isa, ConvolutionPortable, ConvolutionAvx2, ConvolutionAvx512);
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

}  // namespace

ConvolutionJob JobOf(Isa isa, const PackedWeight& w) {
  const TileLayout& layout = w.layout();
  OUNCE_CHECK(layout.form != TileForm::kRuns,
              "a convolution's weight has a scale per channel (pack.h)");
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

void RunConvolution(Isa isa, const ConvolutionJob& job, int64_t num_maps,
                    absl::FunctionRef<ConvolutionMap(int64_t)> map_at,
                    ThreadPool& pool, Scratch& scratch) {
  OUNCE_CHECK(isa <= BestIsa(), "the CPU has this instruction set");
  Convolution* const kernel = ConvolutionFor(isa, job.x_type);
  int64_t positions = 0;
  int64_t x_bytes = 0;
  for (int64_t i = 0; i < num_maps; ++i) {
    const ConvolutionMap map = map_at(i);
    positions += map.lines * map.positions;
    x_bytes += map.lines * map.positions * map.x_position_bytes;
  }
  const int64_t products =
      positions * job.num_runs * job.run_length * job.out_channels;
  const int64_t panels = CeilDivide(job.out_channels, kPanelRows);
  const int64_t tasks =
      std::max(products / kLeastTaskProducts,
               panels * job.blocks * job.tile_bytes / kLeastTaskBytes);
  const Cut cut = CheapestCut(
      job, positions, x_bytes,
      std::clamp<int64_t>(tasks, 1, kTasksPerThread * pool.num_threads()));
  const int64_t chunk_positions = std::max<int64_t>(positions / cut.chunks, 1);
  int64_t num_chunks = 0;
  for (int64_t i = 0; i < num_maps; ++i) {
    num_chunks += Chunks(map_at(i), chunk_positions).count;
  }
  // Maps and chunks outermost.
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

void CountConvolution(int64_t outputs, int64_t cols, const ThreadPool& pool,
                      Scratch& scratch) {
  ScratchScope scope(scratch);
  scratch.Take<std::byte>(
      ConvolutionScratchBytes(CeilDivide(cols, kBlockCols),
                              CeilDivide(outputs, kPanelRows)) *
      pool.num_threads());
}

}  // namespace ounce::quant
