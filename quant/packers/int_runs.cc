// Integers, or places in a table of few levels, with a scale for each run of
// columns of a row and perhaps a zero or a minimum. What a table or an offset
// makes of a code is an unsigned byte, u:
//
//   scale * (level - zero) + minimum
//     =  scale * ((u - zero') * factor) + minimum'
//
// - Integers: u = code + offset, so that it is not negative; factor = 1.
// - Tables of integers: u = level + 128; factor = 1. Where runs choose among
//   tables, those must be the first plus an integer, which goes into zero'.
// - A table of other levels: u = round(level * m) + 128 and factor = 1 / m, m
//   being the one of at most 127 / max|level| that makes the rounding smallest:
//   of NF4's levels, 0.3 % of the squared error that NF4 itself makes of normal
//   values in blocks of 64 (int_runs_test).
// - A zero that is an integer field is a byte for each run; one that all runs
//   have in common is in the shift. Nothing is rounded, nor is a minimum where
//   there is no zero beside it.
// - Other zeros: minimum' = minimum - scale * (zero + offset - shift), rounded
//   to float32 once, so that a value is within 2^-22 * (|scale| * (2^bits +
//   |zero|) + |minimum|) of what Decode says.
//
// Scales and minima lie in tiles as the format's rule says that a file has
// them: in float16 or bfloat16, or as bytes under a float of more columns where
// that is smaller than float32.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <utility>

#include "base/check.h"
#include "quant/dtype.h"
#include "quant/kernels/panels.h"
#include "quant/pack.h"

namespace ounce::quant {
namespace {

template <int kBits>
constexpr TileLayout kPlanes = {
    .form = TileForm::kRuns,
    .tile_bytes = kBits* kBytesPerBit,
    .unpack = {UnpackPlanesPortable<kBits>, UnpackPlanesAvx2<kBits>},
    .unpack_row = RowOfPlanes<kBits>};
constexpr TileLayout kBytes = {.form = TileForm::kRuns,
                               .tile_bytes = 1024,
                               .unpack = {TileAsIs},
                               .unpack_row = RowOfBytes};

const TileLayout& LayoutOf(const CodeFormat& format) {
  constexpr const TileLayout* kLayouts[] = {
      &kPlanes<1>, &kPlanes<2>, &kPlanes<3>, &kPlanes<4>,
      &kPlanes<5>, &kPlanes<6>, &kPlanes<7>, &kBytes};
  return *kLayouts[format.bits - 1];
}

bool IsWholeNumber(float value, float most) {
  return std::abs(value) <= most && value == std::round(value);
}

// What makes codes unsigned.
int Offset(const CodeFormat& format) {
  return format.kind == CodeFormat::Kind::kSigned ? 1 << (format.bits - 1) : 0;
}

// Columns after which a field may change in a row; at least cols: none does.
int64_t PeriodOf(const Reach& reach, int64_t cols) {
  return reach.flat > 0 ? std::gcd(reach.flat, cols) : reach.cols;
}

int64_t PaddedCols(int64_t cols) {
  return (cols + kBlockCols - 1) / kBlockCols * kBlockCols;
}

// Columns of a run; 0 where runs end between groups of 16.
int64_t RunCols(const CodeFormat& format, int64_t cols) {
  int64_t period = 0;
  for (const CodeField& field : format.fields) {
    const int64_t of_field = PeriodOf(field.reach, cols);
    if (of_field < cols) period = std::gcd(period, of_field);
  }
  if (period == 0) return PaddedCols(cols);
  if (period % 16 != 0) return 0;
  // Of others than these, several runs have the same scale.
  return period % kBlockCols == 0 ? period : std::gcd(period, kBlockCols);
}

// Half a line of codes at most, as unsigned bytes around 128.
using Levels = std::array<uint8_t, 16>;
constexpr int kLevelsZero = 128;

// Rounds table * m; returns the squared error of rounded / m.
double RoundLevels(absl::Span<const float> table, double m, Levels& levels) {
  double error = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    const double rounded = std::nearbyint(table[i] * m);
    levels[i] = static_cast<uint8_t>(kLevelsZero + static_cast<int>(rounded));
    const double difference = table[i] - rounded / m;
    error += difference * difference;
  }
  return error;
}

// 1 / m for the best m. Levels are not all zero.
float RoundBest(absl::Span<const float> table, Levels& levels) {
  constexpr int kTrials = 4096;
  float largest = 0;
  for (const float level : table) {
    largest = std::max(largest, std::abs(level));
  }
  double best_m = 0, least = HUGE_VAL;
  for (int i = kTrials / 2; i <= kTrials; ++i) {
    const double m = 127.0 / largest * i / kTrials;
    if (const double error = RoundLevels(table, m, levels); error < least) {
      least = error;
      best_m = m;
    }
  }
  RoundLevels(table, best_m, levels);
  return static_cast<float>(1 / best_m);
}

// Levels, factor and zero of a format with tables; false if bytes cannot stand
// for them.
bool SetTables(const CodeFormat& format, RunGeometry& runs) {
  const size_t size = size_t{1} << format.bits;
  const auto zero = format.CommonZero();
  if (format.bits > 4 || format.kind != CodeFormat::Kind::kUnsigned ||
      zero != 0) {
    return false;
  }
  const absl::Span<const float> first = format.tables.subspan(0, size);
  const int others = static_cast<int>(format.tables.size() / size) - 1;
  runs.shift = kLevelsZero;
  runs.levels.emplace();
  if (std::all_of(first.begin(), first.end(),
                  [](float level) { return IsWholeNumber(level, 127); })) {
    RoundLevels(first, 1, *runs.levels);
  } else if (others == 0) {
    runs.factor = RoundBest(first, *runs.levels);
  } else {
    return false;
  }
  if (others == 0) return true;
  const RunNumber& table = format.rule.table;
  const float step = format.tables[size] - first[0];
  if (table.field == RunNumber::kNone ||
      !format.fields[table.field].is_integer() ||
      format.fields[table.field].bits > 8 || table.bias != 0 ||
      !table.map.empty() || table.times != RunNumber::kNone ||
      table.plus != RunNumber::kNone || table.negative ||
      !IsWholeNumber(step, 127.0f / static_cast<float>(others))) {
    return false;
  }
  for (size_t i = size; i < format.tables.size(); ++i) {
    if (format.tables[i] !=
        first[i % size] + step * static_cast<float>(i / size)) {
      return false;
    }
  }
  runs.zero_step = -static_cast<int>(step);
  if (runs.scale.type == NumberType::kByte &&
      format.rule.scale.field == table.field) {
    runs.zeros = RunGeometry::Zeros::kInScales;
    runs.zero_mask = table.mask & 255;
  } else {
    runs.zeros = RunGeometry::Zeros::kOwn;
  }
  return true;
}

// The form of a number that tiles keep as the format has it.
NumberForm FormOf(const CodeFormat& format, const RunNumber& number,
                  int64_t cols, int64_t run_cols) {
  const auto float_type = [&](int field) {
    switch (format.fields[field].type) {
      case CodeField::Type::kFloat16:
        return NumberType::kFloat16;
      case CodeField::Type::kBFloat16:
        return NumberType::kBFloat16;
      default:
        return NumberType::kFloat32;
    }
  };
  constexpr int kNone = RunNumber::kNone;
  if (number.field == kNone) return {};
  const CodeField& field = format.fields[number.field];
  if (!field.is_integer()) {
    const bool alone =
        number.map.empty() && number.times == kNone && number.plus == kNone;
    return {.type = alone ? float_type(number.field) : NumberType::kFloat32};
  }
  const bool is_signed = field.type == CodeField::Type::kSigned;
  if (field.bits > 8 || number.times == kNone ||
      format.fields[number.times].is_integer() ||
      (is_signed && (!number.map.empty() || number.mask != -1)) ||
      (number.plus != kNone &&
       PeriodOf(format.fields[number.plus].reach, cols) < cols)) {
    return {};
  }
  NumberForm form = {.type = NumberType::kByte,
                     .mask = number.mask & 255,
                     .bias = number.bias + (is_signed ? 128 : 0),
                     .map = {number.map.begin(), number.map.end()},
                     .coarse_type = float_type(number.times),
                     .has_plus = number.plus != kNone};
  if (!form.map.empty()) form.map.resize(256);
  const int64_t coarse_cols = PeriodOf(format.fields[number.times].reach, cols);
  const int64_t whole_row =
      (PaddedCols(cols) + run_cols - 1) / run_cols * run_cols;
  form.coarse_cols = coarse_cols < cols ? coarse_cols : whole_row;
  const bool smaller = SizeOf(form.coarse_type) * run_cols <
                       (SizeOf(NumberType::kFloat32) - 1) * form.coarse_cols;
  return smaller ? form : NumberForm{};
}

// Zeros and minima of a format without tables.
void SetZeros(const CodeFormat& format, int64_t cols, RunGeometry& runs) {
  constexpr int kNone = RunNumber::kNone;
  const int offset = Offset(format);
  if (const std::optional<int> zero = format.CommonZero()) {
    runs.shift = offset + *zero;
    return;
  }
  const RunNumber& zero = format.rule.zero;
  const RunNumber& minimum = format.rule.minimum;
  if (zero.is_constant() && IsWholeNumber(zero.constant, 255)) {
    runs.shift = offset + static_cast<int>(zero.constant);
    runs.minimum = FormOf(format, minimum, cols, runs.cols);
    return;
  }
  const bool no_minimum = minimum.is_constant() && minimum.constant == 0;
  if (no_minimum && zero.field != kNone && zero.map.empty() &&
      zero.times == kNone && zero.plus == kNone && !zero.negative &&
      format.fields[zero.field].is_integer() &&
      format.fields[zero.field].bits <= 8) {
    const CodeField& field = format.fields[zero.field];
    const int least = field.type == CodeField::Type::kSigned && zero.mask == -1
                          ? -(1 << (field.bits - 1))
                          : 0;
    runs.shift = offset + least - zero.bias;
    runs.zeros = RunGeometry::Zeros::kOwn;
    return;
  }
  // In the middle of the codes: the integers that kernels add up are smallest
  // then.
  runs.shift = 1 << (format.bits - 1);
  runs.minimum.emplace();
}

// Nothing where tiles of runs cannot hold a format, or it has other bits.
template <int kLeastBits, int kMostBits>
std::optional<Tiles> TilesOf(const CodeFormat& format, int64_t cols) {
  if (format.is_float() || format.bits < kLeastBits ||
      format.bits > kMostBits) {
    return std::nullopt;
  }
  RunGeometry runs = {.cols = RunCols(format, cols)};
  if (runs.cols == 0) return std::nullopt;
  runs.scale = FormOf(format, format.rule.scale, cols, runs.cols);
  if (!format.tables.empty()) {
    if (!SetTables(format, runs)) return std::nullopt;
  } else {
    SetZeros(format, cols, runs);
  }
  // A zero may be far from all codes.
  constexpr int kMost = 255;
  if (std::abs(runs.shift) > kMost) return std::nullopt;
  return Tiles{&LayoutOf(format), std::move(runs)};
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

void PutFloat(NumberType type, float value, std::byte* floats, int64_t i) {
  if (type == NumberType::kFloat32) {
    std::memcpy(floats + i * 4, &value, sizeof value);
    return;
  }
  const uint16_t half = type == NumberType::kFloat16 ? FloatToHalf(value)
                                                     : FloatToBFloat16(value);
  std::memcpy(floats + i * 2, &half, sizeof half);
}

// A row of a band and of the weight.
struct RowOfBand {
  const CodeFormat& format;
  const CodeBand& band;
  int64_t from;
  int64_t to;
  PackedWeight& weight;

  float Field(int field, int64_t col) const {
    return FieldAt(format, band, field, from, col, weight.cols());
  }
  // Where a number of the row lies among [panels][per_row][16].
  int64_t Place(int64_t per_row, int64_t i) const {
    return (to / kPanelRows * per_row + i) * kPanelRows + to % kPanelRows;
  }
};

// The numbers of a row's runs: `value` of each, where they are no bytes.
template <class Value>
void PutNumbers(const RowOfBand& row, const RunNumber& number,
                const NumberForm& form, const RunNumbers& numbers,
                const Value& value) {
  PackedWeight& weight = row.weight;
  const int64_t cols = weight.cols();
  std::byte* const to = weight.Mutable(numbers.values);
  const int64_t run_cols = weight.runs().cols;
  for (int64_t col = 0, run = 0; col < cols; col += run_cols, ++run) {
    const int64_t place = row.Place(numbers.runs, run);
    if (form.type != NumberType::kByte) {
      PutFloat(form.type, value(col), to, place);
      continue;
    }
    const bool is_signed =
        row.format.fields[number.field].type == CodeField::Type::kSigned;
    to[place] = static_cast<std::byte>(
        static_cast<int>(row.Field(number.field, col)) + (is_signed ? 128 : 0));
  }
  if (form.type != NumberType::kByte) return;
  const float sign = number.negative ? -1 : 1;
  for (int64_t col = 0, i = 0; col < cols; col += form.coarse_cols, ++i) {
    PutFloat(form.coarse_type, sign * row.Field(number.times, col),
             weight.Mutable(numbers.coarse), row.Place(numbers.coarse_runs, i));
  }
  if (numbers.plus != nullptr) {
    weight.Mutable(numbers.plus)[row.to] = sign * row.Field(number.plus, 0);
  }
}

void PutZeros(const RowOfBand& row) {
  const RunGeometry& runs = row.weight.runs();
  const int64_t cols = row.weight.cols();
  uint8_t* const to = row.weight.Mutable(row.weight.run_zeros());
  for (int64_t col = 0, i = 0; col < cols; col += runs.cols, ++i) {
    const CodeRun run = RunAt(row.format, row.band, row.from, col, cols);
    to[row.Place(row.weight.runs_per_row(), i)] = static_cast<uint8_t>(
        runs.levels.has_value()
            ? run.table
            : static_cast<int>(run.zero) + Offset(row.format) - runs.shift);
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
  const RunGeometry& runs = weight.runs();
  for (int64_t i = 0; i < band.rows; ++i) {
    const RowOfBand row = {format, band, band.first_row + i, first_row + i,
                           weight};
    const auto run_at = [&](int64_t col) {
      return RunAt(format, band, row.from, col, weight.cols());
    };
    PutNumbers(row, format.rule.scale, runs.scale, weight.run_scales(),
               [&](int64_t col) { return run_at(col).scale; });
    if (runs.minimum.has_value()) {
      PutNumbers(row, format.rule.minimum, *runs.minimum, weight.run_minima(),
                 [&](int64_t col) {
                   const CodeRun run = run_at(col);
                   return static_cast<float>(
                       run.minimum -
                       double{run.scale} *
                           (double{run.zero} + Offset(format) - runs.shift));
                 });
    }
    if (runs.zeros == RunGeometry::Zeros::kOwn) PutZeros(row);
  }
}

constexpr Packer kPlanesPacker = {TilesOf<1, 7>, INT64_MAX, PackRuns};
constexpr Packer kBytesPacker = {TilesOf<8, 8>, INT64_MAX, PackRuns};

}  // namespace

const Packer& PlaneRunsPacker() { return kPlanesPacker; }
const Packer& ByteRunsPacker() { return kBytesPacker; }

}  // namespace ounce::quant
