// Integers with a scale, and perhaps a zero or minimum, for each run of columns
// of a row: codes become unsigned, u = level + offset, and
//
//   scale * (level - zero) + minimum  =  scale * (u - shift) + minimum'
//
// A zero that all runs have in common is in the shift, and nothing is rounded.
// Else minimum' = minimum - scale * (zero + offset - shift), rounded to float32
// once, so that a value is within 2^-22 * (|scale| * (2^bits + |zero|) +
// |minimum|) of what Decode says.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>

#include "base/check.h"
#include "quant/kernels/panels.h"
#include "quant/pack.h"

namespace ounce::quant {
namespace {

template <int kBits>
constexpr TileLayout kPlanes = {
    .form = TileForm::kRuns,
    .tile_bytes = kBits* kBytesPerBit,
    .unpack = {UnpackPlanesPortable<kBits>, UnpackPlanesAvx2<kBits>}};
constexpr TileLayout kBytes = {
    .form = TileForm::kRuns, .tile_bytes = 1024, .unpack = {TileAsIs}};

const TileLayout& LayoutOf(const CodeFormat& format) {
  constexpr const TileLayout* kLayouts[] = {
      &kPlanes<1>, &kPlanes<2>, &kPlanes<3>, &kPlanes<4>,
      &kPlanes<5>, &kPlanes<6>, &kPlanes<7>, &kBytes};
  return *kLayouts[format.bits - 1];
}

// What makes codes unsigned.
int Offset(const CodeFormat& format) {
  return format.kind == CodeFormat::Kind::kSigned ? 1 << (format.bits - 1) : 0;
}

// In the middle of the codes where each run has its own zero: the integers that
// kernels add up are smallest then.
int Shift(const CodeFormat& format) {
  if (const std::optional<int> zero = format.CommonZero()) {
    return Offset(format) + *zero;
  }
  return 1 << (format.bits - 1);
}

// Columns after which some field may change in a row; 0: none does.
int64_t Period(const CodeFormat& format, int64_t cols) {
  int64_t period = 0;
  for (const CodeField& field : format.fields) {
    const Reach& reach = field.reach;
    const int64_t of_field =
        reach.flat > 0 ? std::gcd(reach.flat, cols) : reach.cols;
    if (of_field < cols) period = std::gcd(period, of_field);
  }
  return period;
}

template <int kLeastBits, int kMostBits>
bool Takes(const CodeFormat& format, int64_t cols) {
  const bool integers = format.kind == CodeFormat::Kind::kSigned ||
                        format.kind == CodeFormat::Kind::kUnsigned;
  return integers && format.tables.empty() && format.bits >= kLeastBits &&
         format.bits <= kMostBits && Period(format, cols) % 16 == 0 &&
         Shift(format) >= 0 && Shift(format) < 256;
}

RunGeometry Runs(const CodeFormat& format, int64_t cols) {
  const int64_t padded_cols = (cols + kBlockCols - 1) / kBlockCols * kBlockCols;
  const int64_t period = Period(format, cols);
  RunGeometry runs = {.cols = padded_cols,
                      .has_minima = !format.CommonZero().has_value(),
                      .shift = Shift(format)};
  // Of others than these, several runs have the same scale.
  if (period > 0) {
    runs.cols =
        period % kBlockCols == 0 ? period : std::gcd(period, kBlockCols);
  }
  return runs;
}

// Adds unsigned codes, [16 groups of 4 cols][16 rows][4 cols] as packers fill
// them row by row, to the planes of a tile, or to its bytes (panels.h).
void AddToTile(int bits, const uint8_t* codes, std::byte* tile) {
  auto* const to = reinterpret_cast<uint8_t*>(tile);
  if (bits == 8) {
    for (int i = 0; i < kTileElements; ++i) to[i] |= codes[i];
    return;
  }
  int at = 0;  // of a code's bits
  for (const int plane : {4, 2}) {
    if ((bits & plane) == 0) continue;
    uint8_t* line = to + PlaneOffset(bits, plane);
    for (int group = 0; group < 16; ++group) {
      const uint8_t* from = codes + group * 64;
      const int place = group * plane % 8;
      for (int i = 0; i < 64; ++i) {
        line[i] |=
            static_cast<uint8_t>((from[i] >> at & ((1 << plane) - 1)) << place);
      }
      if (place + plane == 8) line += 64;
    }
    at += plane;
  }
  if ((bits & 1) == 0) return;
  uint8_t* last = to + PlaneOffset(bits, 1);
  for (int i = 0; i < kTileElements; ++i) {
    last[i / 8] |= static_cast<uint8_t>((codes[i] >> at & 1) << i % 8);
  }
}

// Rows of a band from `row` of it on, that belong to one panel.
void PackCodes(const CodeFormat& format, const CodeBand& band, int64_t row,
               int64_t count, int64_t to_row, PackedWeight& weight) {
  const int64_t cols = weight.cols();
  const int offset = Offset(format);
  for (int64_t block = 0; block < weight.blocks(); ++block) {
    alignas(64) uint8_t codes[kTileElements] = {};
    const int64_t first_col = block * kBlockCols;
    const int64_t num_cols = std::min<int64_t>(kBlockCols, cols - first_col);
    for (int64_t i = 0; i < count; ++i) {
      const uint8_t* from =
          band.unsigned_row(band.first_row + row + i, cols) + first_col;
      uint8_t* to = codes + (to_row + i) % kPanelRows * 4;
      // Signed ones are as many modulo 256.
      for (int64_t col = 0; col < num_cols; ++col) {
        to[col / 4 * 64 + col % 4] = static_cast<uint8_t>(from[col] + offset);
      }
    }
    AddToTile(weight.layout().tile_bytes / kBytesPerBit, codes,
              weight.mutable_tile(to_row / kPanelRows, block));
  }
}

void PackRuns(const CodeFormat& format, const CodeBand& band, int64_t first_row,
              PackedWeight& weight) {
  for (int64_t i = 0; i < band.rows;) {
    const int64_t to_row = first_row + i;
    const int64_t count =
        std::min(band.rows - i, kPanelRows - to_row % kPanelRows);
    PackCodes(format, band, i, count, to_row, weight);
    i += count;
  }
  const int64_t cols = weight.cols();
  const RunGeometry& runs = weight.runs();
  const int offset = Offset(format);
  for (int64_t i = 0; i < band.rows; ++i) {
    const int64_t row = first_row + i;
    const int64_t from = band.first_row + i;
    for (int64_t col = 0; col < cols; col += runs.cols) {
      const CodeRun run = RunAt(format, band, from, col, cols);
      const int64_t to =
          (row / kPanelRows * weight.runs_per_row() + col / runs.cols) *
              kPanelRows +
          row % kPanelRows;
      weight.mutable_run_scales()[to] = run.scale;
      if (runs.has_minima) {
        weight.mutable_run_minima()[to] = static_cast<float>(
            run.minimum -
            double{run.scale} * (double{run.zero} + offset - runs.shift));
      } else {
        OUNCE_CHECK(run.zero == static_cast<float>(*format.CommonZero()) &&
                        run.minimum == 0,
                    "runs have the zero that the format says");
      }
    }
  }
}

constexpr Packer kPlanesPacker = {LayoutOf, Takes<1, 7>, INT64_MAX, PackRuns,
                                  Runs};
constexpr Packer kBytesPacker = {LayoutOf, Takes<8, 8>, INT64_MAX, PackRuns,
                                 Runs};

}  // namespace

const Packer& PlaneRunsPacker() { return kPlanesPacker; }
const Packer& ByteRunsPacker() { return kBytesPacker; }

}  // namespace ounce::quant
