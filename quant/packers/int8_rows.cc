// Signed integers with nothing but a scale for each row (or for all of them):
// the kernels add them up over all columns.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>

#include "quant/pack.h"

namespace ounce::quant {
namespace {

constexpr TileLayout kLayout = {.form = TileForm::kInt8,
                                .tile_bytes = 1024,
                                .unpack = {TileAsIs},
                                .unpack_row = RowOfBytes};

// Integer sums of 16-bit products must fit 32 bits (matmul.h).
constexpr int64_t kMaxCols = 65536;

std::optional<Tiles> TilesOf(const CodeFormat& format, int64_t /*cols*/) {
  if (format.kind != CodeFormat::Kind::kSigned || format.CommonZero() != 0 ||
      !format.tables.empty() || format.fields.size() != 1 ||
      format.fields[0].reach.cols != Reach::kAll ||
      format.fields[0].reach.flat != 0) {
    return std::nullopt;
  }
  return Tiles{&kLayout};
}

void PackRows(const CodeFormat& format, const CodeBand& band, int64_t first_row,
              PackedWeight& weight) {
  const int64_t cols = weight.cols();
  for (int64_t i = 0; i < band.rows;) {
    // Those of a panel side by side, so that its lines are written in order:
    // four columns of each row, one after another in all of the panel.
    const int64_t row = first_row + i;
    const int64_t count =
        std::min(band.rows - i, kPanelRows - row % kPanelRows);
    std::byte* to =
        weight.mutable_tile(row / kPanelRows, 0) + row % kPanelRows * 4;
    const int8_t* codes = band.signed_row(band.first_row + i, cols);
    const int64_t whole = cols / 4 * 4;
    for (int64_t col = 0; col < whole; col += 4, to += 64) {
      for (int64_t k = 0; k < count; ++k) {
        std::memcpy(to + k * 4, codes + k * cols + col, 4);
      }
    }
    for (int64_t k = 0; k < count && whole < cols; ++k) {
      std::memcpy(to + k * 4, codes + k * cols + whole, cols - whole);
    }
    i += count;
  }
  for (int64_t i = 0; i < band.rows; ++i) {
    const int8_t* codes = band.signed_row(band.first_row + i, cols);
    weight.mutable_scales()[first_row + i] =
        RunAt(format, band, band.first_row + i, 0, cols).scale;
    weight.mutable_code_sums()[first_row + i] =
        std::accumulate(codes, codes + cols, int32_t{0});
  }
}

constexpr Packer kPacker = {TilesOf, kMaxCols, PackRows};

}  // namespace

const Packer& Int8RowsPacker() { return kPacker; }

}  // namespace ounce::quant
