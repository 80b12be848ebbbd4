#include "quant/packed_weight.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::quant {
namespace {

// Adds up sizes until they are too large to count.
class Sum {
 public:
  // Parts of [count][each] bytes, on lines of their own.
  int64_t Add(int64_t count, int64_t each) {
    const int64_t begin = bytes_;
    int64_t size = 0;
    too_large_ |= __builtin_mul_overflow(count, each, &size) ||
                  __builtin_add_overflow(size, 63, &size) ||
                  __builtin_add_overflow(bytes_, size / 64 * 64, &bytes_);
    return begin;
  }
  int64_t bytes() const { return bytes_; }
  bool too_large() const { return too_large_; }

 private:
  int64_t bytes_ = 0;
  bool too_large_ = false;
};

}  // namespace

const void* TileAsIs(const std::byte* packed, void* /*scratch*/) {
  return packed;
}

UnpackTile TileLayout::UnpackFor(Isa isa) const {
  int i = static_cast<int>(isa);
  while (unpack[i] == nullptr) --i;
  return unpack[i];
}

void RowOfBytes(const std::byte* packed, int row, void* out) {
  auto* to = static_cast<std::byte*>(out);
  for (int i = 0; i < 16; ++i) {
    std::memcpy(to + i * 4, packed + i * 64 + row * 4, 4);
  }
}

void RowOfFloats(const std::byte* packed, int row, void* out) {
  const auto* from = reinterpret_cast<const float*>(packed) + row;
  auto* to = static_cast<float*>(out);
  for (int i = 0; i < kBlockCols; ++i) to[i] = from[i * kPanelRows];
}

absl::StatusOr<PackedWeight::Parts> PackedWeight::PlaceParts() const {
  Sum sum;
  Parts parts;
  int64_t panel_tiles = 0, padded_rows = 0;
  const bool too_large =
      __builtin_mul_overflow(blocks(), int64_t{layout_->tile_bytes},
                             &panel_tiles) ||
      __builtin_mul_overflow(panels(), int64_t{kPanelRows}, &padded_rows);
  sum.Add(panels(), panel_tiles);
  const auto add_numbers = [&](const NumberForm& form) {
    NumberParts numbers;
    numbers.values = sum.Add(padded_rows, runs_per_row() * SizeOf(form.type));
    if (form.type == NumberType::kByte) {
      numbers.coarse = sum.Add(
          padded_rows, RunsOf(form.coarse_cols) * SizeOf(form.coarse_type));
    }
    if (form.has_plus) numbers.plus = sum.Add(padded_rows, sizeof(float));
    return numbers;
  };
  if (layout_->form == TileForm::kInt8) {
    sum.Add(padded_rows, sizeof(float) + sizeof(int32_t));
  } else if (layout_->form == TileForm::kRuns) {
    parts.scales = add_numbers(runs_.scale);
    if (runs_.minimum.has_value()) parts.minima = add_numbers(*runs_.minimum);
    if (runs_.zeros == RunGeometry::Zeros::kOwn) {
      parts.zeros = sum.Add(padded_rows, runs_per_row());
    }
  }
  parts.end = sum.bytes();
  if (too_large || sum.too_large()) {
    return absl::ResourceExhaustedError(
        StrCat("a weight of ", rows_, " by ", cols_, " is too large"));
  }
  return parts;
}

absl::StatusOr<int64_t> PackedWeight::ResidentBytes(const TileLayout& layout,
                                                    int64_t rows, int64_t cols,
                                                    const RunGeometry& runs) {
  if (rows < 1 || cols < 1) {
    return absl::InvalidArgumentError(
        StrCat("a weight must be at least 1 by 1, is ", rows, " by ", cols));
  }
  ASSIGN_OR_RETURN(const Parts parts,
                   Outline(layout, rows, cols, runs).PlaceParts());
  return parts.end;
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
  ASSIGN_OR_RETURN(weight.parts_, weight.PlaceParts());
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
  return reinterpret_cast<const float*>(panel(panels()));
}

float* PackedWeight::mutable_scales() { return const_cast<float*>(scales()); }

const int32_t* PackedWeight::code_sums() const {
  return reinterpret_cast<const int32_t*>(scales() + panels() * kPanelRows);
}

int32_t* PackedWeight::mutable_code_sums() {
  return const_cast<int32_t*>(code_sums());
}

RunNumbers PackedWeight::NumbersAt(const NumberForm& form,
                                   const NumberParts& parts) const {
  OUNCE_CHECK(layout_->form == TileForm::kRuns, "only runs have such numbers");
  RunNumbers numbers = {.type = form.type,
                        .values = memory_.data() + parts.values,
                        .runs = runs_per_row(),
                        .mask = form.mask,
                        .bias = form.bias,
                        .map = form.map.empty() ? nullptr : form.map.data()};
  if (form.type == NumberType::kByte) {
    numbers.coarse_type = form.coarse_type;
    numbers.coarse = memory_.data() + parts.coarse;
    numbers.coarse_runs = RunsOf(form.coarse_cols);
    numbers.runs_per_coarse = form.coarse_cols / runs_.cols;
  }
  if (form.has_plus) {
    numbers.plus = reinterpret_cast<const float*>(memory_.data() + parts.plus);
  }
  return numbers;
}

RunNumbers PackedWeight::run_scales() const {
  return NumbersAt(runs_.scale, parts_.scales);
}

RunNumbers PackedWeight::run_minima() const {
  return runs_.minimum.has_value() ? NumbersAt(*runs_.minimum, parts_.minima)
                                   : RunNumbers{};
}

const uint8_t* PackedWeight::run_zeros() const {
  const std::byte* zeros = nullptr;
  switch (runs_.zeros) {
    case RunGeometry::Zeros::kNone:
      break;
    case RunGeometry::Zeros::kOwn:
      zeros = memory_.data() + parts_.zeros;
      break;
    case RunGeometry::Zeros::kInScales:
      zeros = memory_.data() + parts_.scales.values;
  }
  return reinterpret_cast<const uint8_t*>(zeros);
}

void PackedWeight::Dequantize(int64_t first, int64_t count, float* out) const {
  OUNCE_CHECK(first >= 0 && count >= 0 && first + count <= rows_,
              "rows within the matrix");
  alignas(64) std::byte elements[kBlockCols * sizeof(float)];
  for (int64_t row = first; row < first + count; ++row, out += cols_) {
    const std::byte* tile = panel(row / kPanelRows);
    for (int64_t col = 0; col < cols_;
         col += kBlockCols, tile += layout_->tile_bytes) {
      const int64_t num_cols = std::min<int64_t>(kBlockCols, cols_ - col);
      layout_->unpack_row(tile, static_cast<int>(row % kPanelRows), elements);
      switch (layout_->form) {
        case TileForm::kFloat:
          std::memcpy(out + col, elements, num_cols * sizeof(float));
          break;
        case TileForm::kInt8: {
          const auto* codes = reinterpret_cast<const int8_t*>(elements);
          const float scale = scales()[row];
          for (int64_t i = 0; i < num_cols; ++i) {
            out[col + i] = static_cast<float>(codes[i]) * scale;
          }
          break;
        }
        case TileForm::kRuns:
          ScaleRuns(row, col, num_cols,
                    reinterpret_cast<const uint8_t*>(elements), out + col);
          break;
      }
    }
  }
}

void PackedWeight::ScaleRuns(int64_t row, int64_t col, int64_t count,
                             const uint8_t* codes, float* out) const {
  const RunNumbers scales = run_scales(), minima = run_minima();
  const uint8_t* zeros = run_zeros();
  for (int64_t i = 0; i < count;) {
    const int64_t run = (col + i) / runs_.cols;
    const float scale = scales.At(row, run);
    const float minimum = minima.values == nullptr ? 0 : minima.At(row, run);
    int zero = runs_.shift;
    if (zeros != nullptr) {
      const int64_t at =
          (row / kPanelRows * runs_per_row() + run) * kPanelRows +
          row % kPanelRows;
      zero += runs_.zero_step * (zeros[at] & runs_.zero_mask);
    }
    const int64_t end = std::min(count, (run + 1) * runs_.cols - col);
    for (; i < end; ++i) {
      const int level =
          runs_.levels.has_value() ? (*runs_.levels)[codes[i]] : codes[i];
      out[i] =
          scale * (static_cast<float>(level - zero) * runs_.factor) + minimum;
    }
  }
}

}  // namespace ounce::quant
