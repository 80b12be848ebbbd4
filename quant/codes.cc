#include "quant/codes.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/status_macros.h"
#include "quant/dtype.h"

namespace ounce::quant {
namespace {

constexpr int64_t RoundUpDivide(int64_t a, int64_t b) {
  return a / b + (a % b != 0 ? 1 : 0);
}

// What codes are before they have a scale.
void ToLevels(const CodeFormat& format, const std::byte* codes, int64_t count,
              int table, float* out) {
  switch (format.kind) {
    case CodeFormat::Kind::kFloat32:
      return ToFloat(DType::kF32, codes, count, out);
    case CodeFormat::Kind::kFloat16:
      return ToFloat(DType::kF16, codes, count, out);
    case CodeFormat::Kind::kBFloat16:
      return ToFloat(DType::kBF16, codes, count, out);
    case CodeFormat::Kind::kSigned: {
      const auto* levels = reinterpret_cast<const int8_t*>(codes);
      std::copy(levels, levels + count, out);
      return;
    }
    case CodeFormat::Kind::kUnsigned:
      break;
  }
  const auto* levels = reinterpret_cast<const uint8_t*>(codes);
  if (format.tables.empty()) {
    std::copy(levels, levels + count, out);
    return;
  }
  const float* of_code =
      format.tables.data() + (static_cast<size_t>(table) << format.bits);
  for (int64_t i = 0; i < count; ++i) out[i] = of_code[levels[i]];
}

float Evaluate(const RunNumber& number, const CodeFormat& format,
               const float* values) {
  float result = number.constant;
  if (number.field != RunNumber::kNone) {
    const float value = values[number.field];
    result = !number.map.empty() ? number.map[static_cast<size_t>(value)]
             : format.fields[number.field].is_integer()
                 ? static_cast<float>((static_cast<int>(value) & number.mask) -
                                      number.bias)
                 : value;
  }
  if (number.times != RunNumber::kNone) result *= values[number.times];
  if (number.plus != RunNumber::kNone) result += values[number.plus];
  return number.negative ? -result : result;
}

}  // namespace

int64_t Reach::Count(int64_t matrix_rows, int64_t matrix_cols) const {
  if (flat > 0) return RoundUpDivide(matrix_rows * matrix_cols, flat);
  return RoundUpDivide(matrix_rows, rows) * RoundUpDivide(matrix_cols, cols);
}

int64_t Reach::IndexOf(int64_t row, int64_t col, int64_t matrix_cols) const {
  if (flat > 0) return (row * matrix_cols + col) / flat;
  return row / rows * RoundUpDivide(matrix_cols, cols) + col / cols;
}

int64_t Reach::EndOf(int64_t row, int64_t col, int64_t matrix_cols) const {
  if (flat > 0) {
    return std::min(matrix_cols, col + flat - (row * matrix_cols + col) % flat);
  }
  return cols >= matrix_cols ? matrix_cols
                             : std::min(matrix_cols, col + cols - col % cols);
}

int64_t CodeField::Bytes(int64_t rows, int64_t cols) const {
  return RoundUpDivide(reach.Count(rows, cols) * bits, 8);
}

int CodeFormat::element_bytes() const {
  switch (kind) {
    case Kind::kSigned:
    case Kind::kUnsigned:
      return 1;
    case Kind::kFloat16:
    case Kind::kBFloat16:
      return 2;
    case Kind::kFloat32:
      break;
  }
  return 4;
}

int64_t CodeFormat::StoredBytes(int64_t rows, int64_t cols) const {
  int64_t bytes = packed_bytes.value_or(RoundUpDivide(rows * cols * bits, 8)) +
                  constant_bytes;
  for (const CodeField& field : fields) bytes += field.Bytes(rows, cols);
  return bytes;
}

std::optional<int> CodeFormat::CommonZero() const {
  const auto zero = static_cast<int>(rule.zero.constant);
  if (!rule.zero.is_constant() || !rule.minimum.is_constant() ||
      rule.minimum.constant != 0 ||
      static_cast<float>(zero) != rule.zero.constant) {
    return std::nullopt;
  }
  return zero;
}

float FieldAt(const CodeFormat& format, const CodeBand& band, int field,
              int64_t row, int64_t col, int64_t cols) {
  const CodeBand::Field& values = band.fields[field];
  return values.values[format.fields[field].reach.IndexOf(row, col, cols) -
                       values.first];
}

CodeRun RunAt(const CodeFormat& format, const CodeBand& band, int64_t row,
              int64_t col, int64_t cols) {
  constexpr size_t kMaxFields = 8;
  float values[kMaxFields];
  OUNCE_CHECK(format.fields.size() <= kMaxFields, "a format has few fields");
  for (size_t i = 0; i < format.fields.size(); ++i) {
    values[i] = FieldAt(format, band, static_cast<int>(i), row, col, cols);
  }
  const RunRule& rule = format.rule;
  return {.scale = Evaluate(rule.scale, format, values),
          .zero = Evaluate(rule.zero, format, values),
          .minimum = Evaluate(rule.minimum, format, values),
          .table = static_cast<int>(Evaluate(rule.table, format, values))};
}

int64_t EndOfRun(const CodeFormat& format, int64_t row, int64_t col,
                 int64_t cols) {
  int64_t end = cols;
  for (const CodeField& field : format.fields) {
    end = std::min(end, field.reach.EndOf(row, col, cols));
  }
  return end;
}

void Decode(const CodeFormat& format, const CodeBand& band, int64_t cols,
            float* out) {
  const int64_t bytes = format.element_bytes();
  const std::byte* codes = band.elements.data();
  for (int64_t row = band.first_row; row < band.first_row + band.rows; ++row) {
    for (int64_t col = 0; col < cols;) {
      const CodeRun run = RunAt(format, band, row, col, cols);
      const int64_t count = EndOfRun(format, row, col, cols) - col;
      ToLevels(format, codes, count, run.table, out);
      // Floats are what they are, NaN's bits too.
      for (int64_t i = 0; i < count && !format.is_float(); ++i) {
        out[i] = run.scale * (out[i] - run.zero) + run.minimum;
      }
      col += count;
      codes += count * bytes;
      out += count;
    }
  }
}

absl::Status ReadValues(const CodeRows& codes, int64_t first, int64_t count,
                        float* out) {
  CodeBand band;
  RETURN_IF_ERROR(codes.Read(first, count, band));
  const int64_t cols = codes.cols();
  Decode(codes.format(), band, cols, out);
  const absl::Span<const int32_t> order = codes.order();
  if (order.empty()) return absl::OkStatus();
  std::vector<float> sorted(cols);
  for (float* row = out; row < out + count * cols; row += cols) {
    std::copy_n(row, cols, sorted.data());
    for (int64_t i = 0; i < cols; ++i) row[order[i]] = sorted[i];
  }
  return absl::OkStatus();
}

}  // namespace ounce::quant
