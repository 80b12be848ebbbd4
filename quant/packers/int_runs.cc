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

constexpr TileLayout kNibbles = {
    .form = TileForm::kRuns,
    .tile_bytes = 512,
    .unpack = {UnpackNibblesPortable, UnpackNibblesAvx2}};
constexpr TileLayout kBytes = {
    .form = TileForm::kRuns, .tile_bytes = 1024, .unpack = {TileAsIs}};

constexpr int kNibbleBits = 4;

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

// Columns after which some field may change; 0: none does within a row.
int64_t Period(const CodeFormat& format) {
  int64_t period = 0;
  for (const CodeField& field : format.fields) {
    if (field.reach.cols != Reach::kAll) {
      period = std::gcd(period, field.reach.cols);
    }
  }
  return period;
}

template <int kLeastBits, int kMostBits>
bool Takes(const CodeFormat& format) {
  const bool integers = format.kind == CodeFormat::Kind::kSigned ||
                        format.kind == CodeFormat::Kind::kUnsigned;
  if (!integers || !format.tables.empty() || format.bits < kLeastBits ||
      format.bits > kMostBits) {
    return false;
  }
  const bool flat =
      std::any_of(format.fields.begin(), format.fields.end(),
                  [](const CodeField& field) { return field.reach.flat != 0; });
  return !flat && Period(format) % 16 == 0 && Shift(format) >= 0 &&
         Shift(format) < 1 << kMostBits;
}

RunGeometry Runs(const CodeFormat& format, int64_t cols) {
  const int64_t padded_cols = (cols + kBlockCols - 1) / kBlockCols * kBlockCols;
  const int64_t period = Period(format);
  RunGeometry runs = {.cols = padded_cols,
                      .has_minima = !format.CommonZero().has_value(),
                      .shift = Shift(format)};
  // Of others than these, several runs have the same scale.
  if (period > 0 && period < cols) {
    runs.cols = std::min(padded_cols, period % kBlockCols == 0
                                          ? period
                                          : std::gcd(period, kBlockCols));
  }
  return runs;
}

// Where the code of a row's column is in a tile (kernels/panels.h).
struct Nibble {
  static void Put(std::byte* tile, int64_t channel, int64_t col, int code) {
    tile[col / 8 * 64 + channel * 4 + col % 4] |=
        static_cast<std::byte>(code << col / 4 % 2 * 4);
  }
};
struct Byte {
  static void Put(std::byte* tile, int64_t channel, int64_t col, int code) {
    tile[col / 4 * 64 + channel * 4 + col % 4] = static_cast<std::byte>(code);
  }
};

template <class Place>
void PackRuns(const CodeFormat& format, const CodeBand& band, int64_t first_row,
              PackedWeight& weight) {
  const int64_t cols = weight.cols();
  const RunGeometry& runs = weight.runs();
  const int offset = Offset(format);
  const bool is_signed = format.kind == CodeFormat::Kind::kSigned;
  for (int64_t i = 0; i < band.rows; ++i) {
    const int64_t row = first_row + i;
    const int64_t panel = row / kPanelRows;
    const int64_t channel = row % kPanelRows;
    const int64_t from = band.first_row + i;
    const int8_t* codes = band.signed_row(from, cols);
    const uint8_t* unsigned_codes = band.unsigned_row(from, cols);
    for (int64_t block = 0; block < weight.blocks(); ++block) {
      std::byte* const tile = weight.mutable_tile(panel, block);
      for (int64_t k = 0; k < kBlockCols; ++k) {
        const int64_t col = block * kBlockCols + k;
        const int code = col >= cols ? runs.shift
                         : is_signed ? codes[col] + offset
                                     : unsigned_codes[col];
        Place::Put(tile, channel, k, code);
      }
    }
    for (int64_t col = 0; col < cols; col += runs.cols) {
      const CodeRun run = RunAt(format, band, from, col, cols);
      const int64_t to =
          (panel * weight.runs_per_row() + col / runs.cols) * kPanelRows +
          channel;
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

constexpr Packer kNibblesPacker = {&kNibbles, Takes<1, kNibbleBits>, INT64_MAX,
                                   PackRuns<Nibble>, Runs};
constexpr Packer kBytesPacker = {&kBytes, Takes<1, 8>, INT64_MAX,
                                 PackRuns<Byte>, Runs};

}  // namespace

const Packer& NibbleRunsPacker() { return kNibblesPacker; }
const Packer& ByteRunsPacker() { return kBytesPacker; }

}  // namespace ounce::quant
