// The inner loops of quant/matmul.h, per instruction set: some rows of x times
// some panels of a weight, with the epilogue.
//
// Threads: calls on different panels or rows of x may run side by side, each
//   with a scratch of its own.
#ifndef OUNCE_QUANT_KERNELS_PANELS_H_
#define OUNCE_QUANT_KERNELS_PANELS_H_

#include <cstddef>
#include <cstdint>

#include "quant/epilogue.h"
#include "quant/outliers.h"
#include "quant/run_numbers.h"

namespace ounce::quant {

// Rows of x are kept in groups of 16 (the last one may be shorter), so that a
// group's 64 columns are one dense tile. A plane is
//   [group of up to 16 rows][block of 64 cols][row within the group][64 bytes]
// so that one row alone is simply its bytes in order.
inline constexpr int kRowGroup = 16;

// Where a row's bytes begin in a plane of so many blocks, and how far its
// blocks are apart if the plane has so many rows.
constexpr int64_t PlaneStart(int64_t row, int64_t blocks) {
  return row / kRowGroup * kRowGroup * blocks * 64 + row % kRowGroup * 64;
}
constexpr int64_t PlaneStride(int64_t row, int64_t rows) {
  const int64_t left = rows - row / kRowGroup * kRowGroup;
  return (left < kRowGroup ? left : kRowGroup) * 64;
}

// A tile has 1,024 codes.
inline constexpr int kBytesPerBit = 128;

// What the jobs share.
struct PanelJob {
  // Packed tiles; `unpack` is null where they need none.
  const std::byte* tiles;
  int64_t tile_bytes;
  int64_t blocks;  // tiles per panel
  const void* (*unpack)(const std::byte* packed, void* scratch);

  int64_t cols;         // inputs
  int64_t output_cols;  // rows of the weight
  float* y;             // [rows, output_cols]
  int64_t y_stride;
  Epilogue epilogue;
};

struct FloatJob : PanelJob {
  const float* x;
  int64_t x_stride;
};

struct Int8Job : PanelJob {
  // Planes of all rows: hi + 128 and lo, or x + 128 alone in the first.
  const uint8_t* planes[2];
  const float* row_scales;
  int64_t rows;  // of the planes
  const float* scales;
  const int32_t* code_sums;
  // One plane only: what is added to it from x itself.
  Outliers outliers;
  const float* x;
  int64_t x_stride;
};

struct RunsJob : PanelJob {
  int bits;  // of codes in tiles (PlaneOffset)
  // Planes of all rows: hi and lo, or x alone in the first.
  const int8_t* planes[2];
  const int32_t* sums;  // of x over 16 columns, [rows, 4 * blocks]
  const float* row_scales;
  int64_t rows;  // of the planes

  // As RunGeometry says; runs of a row.
  int64_t runs;
  RunNumbers scales;
  RunNumbers minima;
  const uint8_t* levels;  // 16, or null: codes are levels
  const uint8_t* zeros;   // [panels][runs][16], or null
  int shift;
  int zero_mask;
  int zero_step;
  float factor;
  // What enters the chain at once: 16, 32 or 64 columns, so many times a run.
  int step_cols;
  int64_t steps_per_run;
};

// Rows [first_row, end_row) times panels [first_panel, end_panel). For integers
// first_row is a multiple of kRowGroup, and end_row is one too or the end.
// `scratch` holds ScratchBytes(job.blocks) bytes, 64-byte aligned.
using FloatPanels = void(const FloatJob& job, int64_t first_panel,
                         int64_t end_panel, int64_t first_row, int64_t end_row,
                         std::byte* scratch);
using Int8Panels = void(const Int8Job& job, int64_t first_panel,
                        int64_t end_panel, int64_t first_row, int64_t end_row,
                        std::byte* scratch);
using RunsPanels = void(const RunsJob& job, int64_t first_panel,
                        int64_t end_panel, int64_t first_row, int64_t end_row,
                        std::byte* scratch);

// At most so many panels are unpacked at a time: either kMaxTiles tiles of one
// block or two whole panels. (Kernels for runs need less: a tile of bytes, and
// scales and minima of a panel, kRunsAhead of each at a time or all.)
inline constexpr int kMaxTiles = 8;
inline constexpr int kRunsAhead = 32;
inline int64_t ScratchBytes(int64_t blocks) {
  const int64_t panels = 2 * blocks;
  return (panels > kMaxTiles ? panels : kMaxTiles) * 4096;
}

// Tiles from the one at `block` to the one to ask memory for: `tiles` further
// in the panel or, at its end, at the start of the next group of `panels`. (The
// hardware's own prefetching ends with each page.)
inline int64_t PrefetchDistance(int64_t tiles, int64_t block, int64_t blocks,
                                int64_t panels) {
  return block + tiles < blocks ? tiles : tiles + (panels - 1) * blocks;
}

FloatPanels FloatPanelsPortable, FloatPanelsAvx2, FloatPanelsAvx512;
Int8Panels Int8PanelsPortable, Int8PanelsAvx2, Int8PanelsAvx512, Int8PanelsAmx;
RunsPanels RunsPanelsPortable, RunsPanelsAvx2, RunsPanelsAvx512;

// Rounds a row to 16-bit integers, as bytes: hi + 128 and lo; blocks of 64
// columns `block_stride` bytes apart, columns past `cols` as zeros. Returns sx:
// 0 for a row below 2^-100, NaN for a row that holds NaN or infinity (its
// planes are zeros then). Bit-equal on all instruction sets.
using QuantizeRow = float(const float* x, int64_t cols, int64_t block_stride,
                          uint8_t* hi, uint8_t* lo);
QuantizeRow QuantizeRowPortable, QuantizeRowAvx2, QuantizeRowAvx512;

// The same to 8-bit integers, as bytes q + 128. Outliers, numbers of a
// magnitude of `threshold` and more where that is not 0, count as zeros and are
// noted: what `found` has room for is one block of them after the other, and
// *num_found how many there are.
using QuantizeByteRow = float(const float* x, int64_t cols,
                              int64_t block_stride, float threshold,
                              uint8_t* bytes, OutlierBlock* found,
                              int32_t* num_found);
QuantizeByteRow QuantizeByteRowPortable, QuantizeByteRowAvx2,
    QuantizeByteRowAvx512;

// The same for RunsJob: integers up to 127 * 256 + 127 in magnitude, or,
// without lo, up to 127, as signed bytes; and their sums over each 16 columns,
// of all blocks.
using QuantizeRunsRow = float(const float* x, int64_t cols,
                              int64_t block_stride, int8_t* hi, int8_t* lo,
                              int32_t* sums);
QuantizeRunsRow QuantizeRunsRowPortable, QuantizeRunsRowAvx2,
    QuantizeRunsRowAvx512;

// Tiles of 16-bit floats, [32 pairs of cols][16 rows][2 cols], to
// float [64 cols][16 rows]; and one row of them.
using UnpackFloats = const void*(const std::byte* packed, void* scratch);
UnpackFloats UnpackBFloat16Portable, UnpackBFloat16Avx2, UnpackBFloat16Avx512;
UnpackFloats UnpackFloat16Portable, UnpackFloat16Avx2, UnpackFloat16Avx512;
using UnpackRow = void(const std::byte* packed, int row, void* out);
UnpackRow RowOfBFloat16, RowOfFloat16;

// Tiles of codes of 1 to 7 bits, in planes of 4, 2 and 1 bits (7 = 4 + 2 + 1),
// one behind another from the lowest bits up, to
// uint8 [16 groups of 4 cols][16 rows][4 cols]. Planes of 4 and 2 bits have two
// and four neighbouring groups in the bits of each byte of [16 rows][4 cols],
// the first group lowest; a plane of 1 bit has [16 groups][16 rows][4 bits].
constexpr int PlaneOffset(int bits, int plane) {  // in bytes
  return (bits & ~(2 * plane - 1)) * kBytesPerBit;
}
using UnpackCodes = const void*(const std::byte* packed, void* scratch);
template <int kBits>
const void* UnpackPlanesPortable(const std::byte* packed, void* scratch);
template <int kBits>
void RowOfPlanes(const std::byte* packed, int row, void* out);  // UnpackRow
template <int kBits>
const void* UnpackPlanesAvx2(const std::byte* packed, void* scratch);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_KERNELS_PANELS_H_
