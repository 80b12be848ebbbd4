// Floats lie in tiles as they are: [64 / n cols][16 rows][n cols], n elements
// of a row side by side. What no other packer takes is decoded: codes of large
// tables, which mean short floats (float8), to bfloat16, which rounds a value
// by 2^-8 of it at most; all else to float32, exact and as large as that.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "quant/dtype.h"
#include "quant/kernels/panels.h"
#include "quant/pack.h"

namespace ounce::quant {
namespace {

constexpr TileLayout kFloat32 = {.form = TileForm::kFloat,
                                 .tile_bytes = 4096,
                                 .unpack = {TileAsIs},
                                 .unpack_row = RowOfFloats};
constexpr TileLayout kFloat16 = {
    .form = TileForm::kFloat,
    .tile_bytes = 2048,
    .unpack = {UnpackFloat16Portable, UnpackFloat16Avx2, UnpackFloat16Avx512},
    .unpack_row = RowOfFloat16};
constexpr TileLayout kBFloat16 = {
    .form = TileForm::kFloat,
    .tile_bytes = 2048,
    .unpack = {UnpackBFloat16Portable, UnpackBFloat16Avx2,
               UnpackBFloat16Avx512},
    .unpack_row = RowOfBFloat16};

template <class Element, int kGroup>
void Place(const Element* elements, int64_t rows, int64_t first_row,
           PackedWeight& weight) {
  const int64_t cols = weight.cols();
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = first_row + i;
    const Element* from = elements + i * cols;
    // Groups of a row lie one after another in all of the panel.
    auto* to =
        reinterpret_cast<Element*>(weight.mutable_tile(row / kPanelRows, 0)) +
        row % kPanelRows * kGroup;
    for (int64_t col = 0; col < cols;
         col += kGroup, to += kGroup * kPanelRows) {
      for (int64_t k = 0; k < kGroup && col + k < cols; ++k)
        to[k] = from[col + k];
    }
  }
}

void PlaceFloat32(const CodeFormat&, const CodeBand& band, int64_t first_row,
                  PackedWeight& weight) {
  Place<float, 1>(reinterpret_cast<const float*>(band.elements.data()),
                  band.rows, first_row, weight);
}

void PlaceHalves(const CodeFormat&, const CodeBand& band, int64_t first_row,
                 PackedWeight& weight) {
  Place<uint16_t, 2>(reinterpret_cast<const uint16_t*>(band.elements.data()),
                     band.rows, first_row, weight);
}

void PlaceDecoded(const CodeFormat& format, const CodeBand& band,
                  int64_t first_row, PackedWeight& weight) {
  std::vector<float> values(band.rows * weight.cols());
  Decode(format, band, weight.cols(), values.data());
  Place<float, 1>(values.data(), band.rows, first_row, weight);
}

void PlaceDecodedShort(const CodeFormat& format, const CodeBand& band,
                       int64_t first_row, PackedWeight& weight) {
  constexpr float kLargest = 0x1.FEp127f;
  std::vector<float> values(band.rows * weight.cols());
  Decode(format, band, weight.cols(), values.data());
  std::vector<uint16_t> rounded(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    rounded[i] =
        FloatToBFloat16(std::min(std::max(values[i], -kLargest), kLargest));
  }
  Place<uint16_t, 2>(rounded.data(), band.rows, first_row, weight);
}

template <CodeFormat::Kind kKind, const TileLayout& kLayout>
std::optional<Tiles> OfKind(const CodeFormat& format, int64_t /*cols*/) {
  if (format.kind != kKind) return std::nullopt;
  return Tiles{&kLayout};
}
std::optional<Tiles> OfLargeTables(const CodeFormat& format, int64_t /*cols*/) {
  if (format.tables.empty() || format.bits <= 4) return std::nullopt;
  return Tiles{&kBFloat16};
}
std::optional<Tiles> OfAny(const CodeFormat&, int64_t /*cols*/) {
  return Tiles{&kFloat32};
}

constexpr Packer kFloat32Packer = {OfKind<CodeFormat::Kind::kFloat32, kFloat32>,
                                   INT64_MAX, PlaceFloat32};
constexpr Packer kFloat16Packer = {OfKind<CodeFormat::Kind::kFloat16, kFloat16>,
                                   INT64_MAX, PlaceHalves};
constexpr Packer kBFloat16Packer = {
    OfKind<CodeFormat::Kind::kBFloat16, kBFloat16>, INT64_MAX, PlaceHalves};
constexpr Packer kDecodedShortPacker = {OfLargeTables, INT64_MAX,
                                        PlaceDecodedShort};
constexpr Packer kDecodedPacker = {OfAny, INT64_MAX, PlaceDecoded};

}  // namespace

const Packer& Float32Packer() { return kFloat32Packer; }
const Packer& Float16Packer() { return kFloat16Packer; }
const Packer& BFloat16Packer() { return kBFloat16Packer; }
const Packer& DecodedShortPacker() { return kDecodedShortPacker; }
const Packer& DecodedPacker() { return kDecodedPacker; }

}  // namespace ounce::quant
