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
  for (int64_t i = 0; i < band.rows; ++i) {
    const int64_t row = first_row + i;
    const int8_t* codes = band.signed_row(band.first_row + i, cols);
    // Four columns lie side by side, one after another in all of the panel.
    std::byte* to =
        weight.mutable_tile(row / kPanelRows, 0) + row % kPanelRows * 4;
    for (int64_t col = 0; col < cols; col += 4, to += 64) {
      std::memcpy(to, codes + col, std::min<int64_t>(4, cols - col));
    }
    weight.mutable_scales()[row] =
        RunAt(format, band, band.first_row + i, 0, cols).scale;
    weight.mutable_code_sums()[row] =
        std::accumulate(codes, codes + cols, int32_t{0});
  }
}

constexpr Packer kPacker = {TilesOf, kMaxCols, PackRows};

}  // namespace

const Packer& Int8RowsPacker() { return kPacker; }

}  // namespace ounce::quant
