// A weight matrix in the form in which kernels read it.
//
// W[rows, cols] is cut into tiles of 16 rows (output channels; a "panel") by 64
// cols (inputs; a "block"). All tiles of a matrix have the same size in bytes,
// and lie panel by panel, block by block within a panel:
//
//   tiles = [panel 0: block 0, block 1, ...][panel 1: block 0, ...] ...
//
// What is inside a tile is the business of the method that made it, which also
// supplies an unpacker per instruction set. An unpacker turns one tile into one
// of three forms that all kernels share:
//
//   kInt8   int8  [16 groups of 4 cols][16 rows][4 cols]   1,024 bytes
//           (the operand B of VPDPBUSD and of TDPBUSD); the float value is
//           code * scale[row]
//   kRuns   uint8 [16 groups of 4 cols][16 rows][4 cols]   1,024 bytes
//           with a scale for each run of columns of a row, and a zero or a
//           minimum where the matrix has any (RunGeometry); the float value is
//           scale * (level - zero) + minimum
//   kFloat  float [64 cols][16 rows]                        4,096 bytes
//
// Rows and cols past the matrix's end are zero: codes are 0 (kRuns, cols: any,
// since x is zero there), and rows past the end have scale and minimum 0. The
// packed form is made when a weight is loaded or quantized and never written to
// a file.
//
// Ownership: one mapping per weight, given back to the system when the last
//   shared_ptr<const PackedWeight> goes.
// Threads: const after Quantize, so any thread may read.
#ifndef OUNCE_QUANT_PACKED_WEIGHT_H_
#define OUNCE_QUANT_PACKED_WEIGHT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/cpu.h"
#include "base/mapped_memory.h"
#include "quant/dtype.h"
#include "quant/input_rounding.h"
#include "quant/run_numbers.h"

namespace ounce::quant {

inline constexpr int kPanelRows = 16;
inline constexpr int kBlockCols = 64;
inline constexpr int kTileElements = kPanelRows * kBlockCols;

enum class TileForm { kInt8, kRuns, kFloat };

// Returns the unpacked tile: either `packed` itself, where that is the packed
// form already, or `scratch` (64-byte aligned, 1,024 or 4,096 bytes) filled.
using UnpackTile = const void* (*)(const std::byte* packed, void* scratch);

// The unpacker of tiles that are packed in their unpacked form. Kernels know it
// and do not call it.
const void* TileAsIs(const std::byte* packed, void* scratch);

// How a method packs: filled in once, as a static constant of the method.
struct TileLayout {
  TileForm form;
  int tile_bytes;  // packed, a multiple of 64
  // By Isa; nullptr means: use the one of the next lower instruction set.
  // unpack[Isa::kPortable] is never nullptr.
  UnpackTile unpack[kNumIsas];
  // One row of the unpacked tile, in order: 64 bytes or floats. An embedding
  // looks up tokens, and has no use for the other fifteen.
  void (*unpack_row)(const std::byte* packed, int row, void* out);

  UnpackTile UnpackFor(Isa isa) const;
};

// Unpackers of rows where tiles lie as they are: of bytes, and of floats.
void RowOfBytes(const std::byte* packed, int row, void* out);
void RowOfFloats(const std::byte* packed, int row, void* out);

// Of kRuns. What an element is worth, rounded after each operation:
//
//   value = scale * ((level - zero) * factor) + minimum
//
// level: the unpacked code, or levels[code]
// zero:  shift; where runs have zeros, shift + zero_step * (byte & zero_mask)
//        with a byte for each run and row, of their own or the scales'
struct RunGeometry {
  enum class Zeros { kNone, kOwn, kInScales };

  int64_t cols = 0;  // of a run: 16, 32, 64 or a multiple of 64; the last of a
                     // row ends with it
  NumberForm scale = {};
  std::optional<NumberForm> minimum = std::nullopt;
  std::optional<std::array<uint8_t, 16>> levels = std::nullopt;
  float factor = 1;  // others only without minima
  // |level - zero| is at most 511: sums of 64 products with integers up to
  // 32,639 fit 31 bits.
  int shift = 0;
  Zeros zeros = Zeros::kNone;
  int zero_mask = 255;
  int zero_step = 1;
};

class PackedWeight {
 public:
  // Zeroed tiles and, for kInt8 and kRuns, what stands beside them.
  // kInvalidArgument for an empty shape, kResourceExhausted when memory is
  // short.
  static absl::StatusOr<PackedWeight> Create(const TileLayout& layout,
                                             int64_t rows, int64_t cols,
                                             const RunGeometry& runs = {});

  // A weight that has a layout and a shape, and neither tiles nor anything
  // else: for passes that count what products take.
  static PackedWeight Outline(const TileLayout& layout, int64_t rows,
                              int64_t cols, const RunGeometry& runs = {});

  // What Create takes of memory. Errors: kInvalidArgument for an empty shape,
  // kResourceExhausted for one that is too large to count.
  static absl::StatusOr<int64_t> ResidentBytes(const TileLayout& layout,
                                               int64_t rows, int64_t cols,
                                               const RunGeometry& runs = {});

  const TileLayout& layout() const { return *layout_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  int64_t blocks() const { return (cols_ + kBlockCols - 1) / kBlockCols; }

  const std::byte* panel(int64_t panel_index) const {
    return memory_.data() + panel_index * blocks() * layout_->tile_bytes;
  }
  std::byte* mutable_tile(int64_t panel_index, int64_t block_index) {
    return memory_.data() +
           (panel_index * blocks() + block_index) * layout_->tile_bytes;
  }

  // kInt8 only, [panels * 16]: value = code * scale; code_sums[row] is the sum
  // of the row's codes (kernels take it off when they shift activations to
  // unsigned).
  const float* scales() const;
  float* mutable_scales();
  const int32_t* code_sums() const;
  int32_t* mutable_code_sums();

  // kRuns only.
  const RunGeometry& runs() const { return runs_; }
  int64_t runs_per_row() const { return RunsOf(runs_.cols); }
  RunNumbers run_scales() const;
  RunNumbers run_minima() const;  // without values if there are none
  // [panels][runs_per_row][16 rows], or null.
  const uint8_t* run_zeros() const;
  // For packers: what an accessor of this weight points to.
  template <class T>
  T* Mutable(const T* part) {
    return const_cast<T*>(part);
  }

  // What products with this weight round x to.
  const InputRounding& input_rounding() const { return input_rounding_; }
  void set_input_rounding(const InputRounding& rounding) {
    input_rounding_ = rounding;
  }

  bool is_outline() const { return memory_.size() == 0; }

  int64_t resident_bytes() const {
    return static_cast<int64_t>(memory_.size());
  }

  // Float32 values of rows [first, first + count), row-major [count, cols].
  // Exact: what kernels multiply by.
  void Dequantize(int64_t first, int64_t count, float* out) const;

 private:
  // Where parts begin in the mapping, each at a multiple of 64 bytes.
  struct NumberParts {
    int64_t values = 0, coarse = 0, plus = 0;
  };
  struct Parts {
    NumberParts scales, minima;
    int64_t zeros = 0;
    int64_t end = 0;
  };

  // Runs of a row, of so many columns each.
  int64_t RunsOf(int64_t run_cols) const {
    return (blocks() * kBlockCols + run_cols - 1) / run_cols;
  }
  absl::StatusOr<Parts> PlaceParts() const;
  RunNumbers NumbersAt(const NumberForm& form, const NumberParts& parts) const;
  // Values of `count` unpacked codes of a row, from a block's first column on.
  void ScaleRuns(int64_t row, int64_t col, int64_t count, const uint8_t* codes,
                 float* out) const;

  const TileLayout* layout_ = nullptr;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  RunGeometry runs_;
  InputRounding input_rounding_;
  Parts parts_;
  // Tiles, then scales, then code sums (kInt8) or minima and zeros (kRuns).
  MappedMemory memory_;
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_PACKED_WEIGHT_H_
