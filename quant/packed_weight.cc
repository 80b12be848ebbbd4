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
                                                    int64_t rows,
                                                    int64_t cols) {
  if (rows < 1 || cols < 1) {
    return absl::InvalidArgumentError(
        StrCat("a weight must be at least 1 by 1, is ", rows, " by ", cols));
  }
  PackedWeight weight;
  weight.rows_ = rows;
  weight.cols_ = cols;
  int64_t bytes = 0, tiles = 0;
  if (__builtin_mul_overflow(weight.panels(), weight.blocks(), &tiles) ||
      __builtin_mul_overflow(tiles, int64_t{layout.tile_bytes}, &bytes)) {
    return absl::ResourceExhaustedError(
        StrCat("a weight of ", rows, " by ", cols, " is too large"));
  }
  if (layout.form == TileForm::kInt8) {
    bytes += PaddedRows(weight) *
             static_cast<int64_t>(sizeof(float) + sizeof(int32_t));
  }
  return bytes;
}

absl::StatusOr<PackedWeight> PackedWeight::Create(const TileLayout& layout,
                                                  int64_t rows, int64_t cols) {
  OUNCE_CHECK(layout.tile_bytes % 64 == 0, "kernels load whole lines");
  ASSIGN_OR_RETURN(const int64_t bytes, ResidentBytes(layout, rows, cols));
  PackedWeight weight;
  weight.layout_ = &layout;
  weight.rows_ = rows;
  weight.cols_ = cols;
  ASSIGN_OR_RETURN(weight.memory_, MappedMemory::Create(bytes));
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
        if (layout_->form == TileForm::kFloat) {
          const float* from = static_cast<const float*>(tile) + channel;
          for (int64_t i = 0; i < num_cols; ++i) to[i] = from[i * kPanelRows];
        } else {
          const int8_t* from = static_cast<const int8_t*>(tile) + channel * 4;
          const float scale = scales()[r];
          for (int64_t i = 0; i < num_cols; ++i) {
            const int8_t code = from[i / 4 * 64 + i % 4];
            to[i] = static_cast<float>(code) * scale;
          }
        }
      }
    }
    row = end;
  }
}

}  // namespace ounce::quant
