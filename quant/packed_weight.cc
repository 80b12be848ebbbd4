#include "quant/packed_weight.h"

#include <algorithm>

#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::quant {
namespace {

int64_t TileBytes(const PackedWeight& weight) {
  return weight.panels() * weight.blocks() * weight.layout().tile_bytes;
}

int64_t PaddedRows(const PackedWeight& weight) {
  return weight.panels() * kPanelRows;
}

}  // namespace

const void* TileAsIs(const std::byte* packed, void* /*scratch*/) {
  return packed;
}

UnpackTile TileLayout::UnpackFor(Isa isa) const {
  int i = static_cast<int>(isa);
  while (unpack[i] == nullptr) --i;
  return unpack[i];
}

absl::StatusOr<int64_t> PackedWeight::ResidentBytes(const TileLayout& layout,
                                                    int64_t rows, int64_t cols,
                                                    const RunGeometry& runs) {
  if (rows < 1 || cols < 1) {
    return absl::InvalidArgumentError(
        StrCat("a weight must be at least 1 by 1, is ", rows, " by ", cols));
  }
  const PackedWeight weight = Outline(layout, rows, cols, runs);
  int64_t panel_bytes = 0, bytes = 0;
  bool too_large = __builtin_mul_overflow(
      weight.blocks(), int64_t{layout.tile_bytes}, &panel_bytes);
  if (layout.form == TileForm::kInt8) {
    too_large |= __builtin_add_overflow(
        panel_bytes,
        kPanelRows * static_cast<int64_t>(sizeof(float) + sizeof(int32_t)),
        &panel_bytes);
  } else if (layout.form == TileForm::kRuns && !too_large) {
    const int64_t run_bytes = kPanelRows * static_cast<int64_t>(sizeof(float)) *
                              (runs.has_minima ? 2 : 1);
    int64_t all_runs_bytes = 0;
    too_large =
        __builtin_mul_overflow(weight.runs_per_row(), run_bytes,
                               &all_runs_bytes) ||
        __builtin_add_overflow(panel_bytes, all_runs_bytes, &panel_bytes);
  }
  if (too_large ||
      __builtin_mul_overflow(weight.panels(), panel_bytes, &bytes)) {
    return absl::ResourceExhaustedError(
        StrCat("a weight of ", rows, " by ", cols, " is too large"));
  }
  return bytes;
}

absl::StatusOr<PackedWeight> PackedWeight::Create(const TileLayout& layout,
                                                  int64_t rows, int64_t cols,
                                                  const RunGeometry& runs) {
  OUNCE_CHECK(layout.tile_bytes % 64 == 0, "kernels load whole lines");
  OUNCE_CHECK(layout.form != TileForm::kRuns ||
                  (runs.cols > 0 && (runs.cols == 16 || runs.cols == 32 ||
                                     runs.cols % kBlockCols == 0)),
              "runs fill groups of columns that kernels know");
  ASSIGN_OR_RETURN(const int64_t bytes,
                   ResidentBytes(layout, rows, cols, runs));
  PackedWeight weight = Outline(layout, rows, cols, runs);
  ASSIGN_OR_RETURN(weight.memory_, MappedMemory::Create(bytes));
  return weight;
}

PackedWeight PackedWeight::Outline(const TileLayout& layout, int64_t rows,
                                   int64_t cols, const RunGeometry& runs) {
  PackedWeight weight;
  weight.layout_ = &layout;
  weight.rows_ = rows;
  weight.cols_ = cols;
  weight.runs_ = runs;
  return weight;
}

const float* PackedWeight::scales() const {
  OUNCE_CHECK(layout_->form == TileForm::kInt8, "only int8 tiles have scales");
  return reinterpret_cast<const float*>(memory_.data() + TileBytes(*this));
}

float* PackedWeight::mutable_scales() { return const_cast<float*>(scales()); }

const int32_t* PackedWeight::code_sums() const {
  return reinterpret_cast<const int32_t*>(scales() + PaddedRows(*this));
}

int32_t* PackedWeight::mutable_code_sums() {
  return const_cast<int32_t*>(code_sums());
}

const float* PackedWeight::run_scales() const {
  OUNCE_CHECK(layout_->form == TileForm::kRuns, "only runs have scales");
  return reinterpret_cast<const float*>(memory_.data() + TileBytes(*this));
}

float* PackedWeight::mutable_run_scales() {
  return const_cast<float*>(run_scales());
}

const float* PackedWeight::run_minima() const {
  if (!runs_.has_minima) return nullptr;
  return run_scales() + PaddedRows(*this) * runs_per_row();
}

float* PackedWeight::mutable_run_minima() {
  return const_cast<float*>(run_minima());
}

void PackedWeight::Dequantize(int64_t first, int64_t count, float* out) const {
  OUNCE_CHECK(first >= 0 && count >= 0 && first + count <= rows_,
              "rows within the matrix");
  const UnpackTile unpack = layout_->UnpackFor(Isa::kPortable);
  alignas(64) std::byte scratch[kTileElements * sizeof(float)];
  for (int64_t row = first; row < first + count;) {
    const int64_t panel_index = row / kPanelRows;
    const int64_t end = std::min(first + count, (panel_index + 1) * kPanelRows);
    for (int64_t block = 0; block < blocks(); ++block) {
      const int64_t first_col = block * kBlockCols;
      const int64_t num_cols = std::min<int64_t>(kBlockCols, cols_ - first_col);
      const void* tile =
          unpack(panel(panel_index) + block * layout_->tile_bytes, scratch);
      for (int64_t r = row; r < end; ++r) {
        float* to = out + (r - first) * cols_ + first_col;
        const int64_t channel = r % kPanelRows;
        switch (layout_->form) {
          case TileForm::kFloat: {
            const float* from = static_cast<const float*>(tile) + channel;
            for (int64_t i = 0; i < num_cols; ++i) to[i] = from[i * kPanelRows];
            break;
          }
          case TileForm::kInt8: {
            const int8_t* from = static_cast<const int8_t*>(tile) + channel * 4;
            const float scale = scales()[r];
            for (int64_t i = 0; i < num_cols; ++i) {
              const int8_t code = from[i / 4 * 64 + i % 4];
              to[i] = static_cast<float>(code) * scale;
            }
            break;
          }
          case TileForm::kRuns: {
            const uint8_t* from =
                static_cast<const uint8_t*>(tile) + channel * 4;
            for (int64_t i = 0; i < num_cols;) {
              const int64_t run = (panel_index * runs_per_row() +
                                   (first_col + i) / runs_.cols) *
                                      kPanelRows +
                                  channel;
              const float scale = run_scales()[run];
              const float minimum = runs_.has_minima ? run_minima()[run] : 0;
              for (const int64_t end = std::min(num_cols, i + 16); i < end;
                   ++i) {
                const int code = from[i / 4 * 64 + i % 4];
                to[i] =
                    scale * static_cast<float>(code - runs_.shift) + minimum;
              }
            }
            break;
          }
        }
      }
    }
    row = end;
  }
}

}  // namespace ounce::quant
