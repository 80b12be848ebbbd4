// A weight matrix as a file would hold it: integers or short floats, called
// codes, and beside them the numbers that say what a code is worth (fields:
// scales, minima, ...). It stands between meaning and packing: methods encode
// floats into codes, readers of quantized files produce them, errors and stored
// bytes are those of the codes, and pack.h turns them into the tiles that
// kernels read.
//
// An element's value, in float32 and rounded after each operation:
//
//   value = scale * (level - zero) + minimum
//
// `level` is the code itself or what a table has for it; scale, zero and
// minimum follow from the values of the fields at the element's place
// (CodeFormat::rule).
#ifndef OUNCE_QUANT_CODES_H_
#define OUNCE_QUANT_CODES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "quant/input_rounding.h"

namespace ounce::quant {

// The elements that share one value of a field: blocks of `rows` by `cols`,
// smaller at the matrix's end; or, where `flat` is not 0, so many elements of
// the matrix read row by row, across the ends of rows.
struct Reach {
  static constexpr int64_t kAll = INT64_MAX;
  int64_t rows = kAll;
  int64_t cols = kAll;
  int64_t flat = 0;

  static constexpr Reach Matrix() { return {}; }
  static constexpr Reach Row() { return {.rows = 1}; }
  static constexpr Reach Columns(int64_t cols) {
    return {.rows = 1, .cols = cols};
  }
  static constexpr Reach Flat(int64_t elements) { return {.flat = elements}; }

  // How many values a matrix of this shape has.
  int64_t Count(int64_t matrix_rows, int64_t matrix_cols) const;
  // Which of them is for an element; ascending in (row, col) for what reaches
  // over one row at most, and for flat runs.
  int64_t IndexOf(int64_t row, int64_t col, int64_t matrix_cols) const;
  // The first column after `col` whose element has another value; matrix_cols
  // if there is none in this row.
  int64_t EndOf(int64_t row, int64_t col, int64_t matrix_cols) const;
};

// A number stored beside the codes.
struct CodeField {
  enum class Type { kFloat32, kFloat16, kBFloat16, kSigned, kUnsigned };
  std::string_view name;  // "scale", "minimum", "absmax", ...
  Type type = Type::kFloat32;
  int bits = 32;
  Reach reach = {};

  bool is_integer() const {
    return type == Type::kSigned || type == Type::kUnsigned;
  }
  int64_t Bytes(int64_t rows, int64_t cols) const;
};

// How a number of a run follows from the values of fields at its place, in
// float32 and rounded after each operation:
//
//   number = f * (value of `times`) + (value of `plus`), negated if `negative`
//
// where f is `constant` if there is no `field`; map[value of `field`] if there
// is a map; else the field's value, of integer fields (value & mask) - bias.
// What is not there is left out. So a packer may keep what a file holds, a byte
// for each run and a float for many, where a function would be opaque to it.
struct RunNumber {
  static constexpr int kNone = -1;  // else an index in CodeFormat::fields
  float constant = 0;
  int field = kNone;
  int mask = -1;
  int bias = 0;
  absl::Span<const float> map = {};  // of unsigned fields; not owned
  int times = kNone;
  int plus = kNone;
  bool negative = false;

  bool is_constant() const {
    return field == kNone && times == kNone && plus == kNone;
  }
};

struct RunRule {
  RunNumber scale = {.constant = 1};
  RunNumber zero = {};
  RunNumber minimum = {};
  RunNumber table = {};  // which of CodeFormat::tables
};

// What the elements of a run have in common.
struct CodeRun {
  float scale = 1;
  float zero = 0;
  float minimum = 0;
  int table = 0;
};

struct CodeFormat {
  // kSigned and kUnsigned are integers of `bits`, one to a byte in a band; the
  // others are floats, and a format of them has no table and no fields.
  enum class Kind { kSigned, kUnsigned, kFloat32, kFloat16, kBFloat16 };
  Kind kind = Kind::kSigned;
  int bits = 8;  // of a code in a file
  // Bytes of this matrix's codes in a file, where they are not `bits` each.
  std::optional<int64_t> packed_bytes = {};
  // Label of the elements in metrics and reports: "int8", "float16", "nf4".
  std::string_view element = {};
  // Tables of 2^bits levels, one behind the other; empty: a code is its level.
  absl::Span<const float> tables = {};
  std::vector<CodeField> fields = {};
  // What the fields' values at an element mean.
  RunRule rule = {};
  // Of products with these codes.
  InputRounding input_rounding = {};
  // Whether weights may lie beyond what codes reach, so that reports say how
  // many do. Of integers without tables.
  bool clamps = false;
  // What a file has beside for this matrix: tables of levels, an order of
  // columns, a number for the format.
  int64_t constant_bytes = 0;
  // For reports, if these are not the codes that the method's name stands for:
  // what they are instead, and why.
  std::string note = {};

  bool is_float() const { return kind >= Kind::kFloat32; }
  // The zero of all runs, if it is one integer and none has a minimum: then
  // packers need not keep it by the run.
  std::optional<int> CommonZero() const;
  int element_bytes() const;  // in a band: 1, 2 or 4

  // Codes (packed_bytes, or `bits` each without gaps), fields, and
  // constant_bytes.
  int64_t StoredBytes(int64_t rows, int64_t cols) const;
};

// Codes and fields of some rows. Reused from read to read.
struct CodeBand {
  struct Field {
    int64_t first = 0;  // index of values[0] among all of the field's
    std::vector<float> values;

    void Set(int64_t index, float value) { values[index - first] = value; }
  };
  int64_t first_row = 0;
  int64_t rows = 0;
  // [rows, cols] of CodeFormat::element_bytes, host's byte order.
  std::vector<std::byte> elements;
  // By field: at least the values that the rows' elements have.
  std::vector<Field> fields;
  // Room for what codes are made of, kept from read to read.
  std::vector<float> floats;

  const int8_t* signed_row(int64_t row, int64_t cols) const {
    return reinterpret_cast<const int8_t*>(elements.data()) +
           (row - first_row) * cols;
  }
  const uint8_t* unsigned_row(int64_t row, int64_t cols) const {
    return reinterpret_cast<const uint8_t*>(signed_row(row, cols));
  }
};

// A matrix of codes that is read a few rows at a time, as FloatRows is.
//
// Threads: const calls may run side by side, each with a band of its own.
// Errors: of Read, what the floats or the file behind it return.
class CodeRows {
 public:
  virtual ~CodeRows() = default;
  virtual const std::string& name() const = 0;  // for messages
  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  virtual const CodeFormat& format() const = 0;
  // The checkpoint's column that column i of the codes is; empty: i. (Methods
  // that sort columns so that those of one group lie side by side.)
  virtual absl::Span<const int32_t> order() const { return {}; }

  // Requires the range to lie within the matrix.
  virtual absl::Status Read(int64_t first, int64_t count,
                            CodeBand& out) const = 0;
};

// The value of a field (its index) at an element of a band.
float FieldAt(const CodeFormat& format, const CodeBand& band, int field,
              int64_t row, int64_t col, int64_t cols);

// The run of an element of a band, which begins with it or before, and the
// column where it ends.
CodeRun RunAt(const CodeFormat& format, const CodeBand& band, int64_t row,
              int64_t col, int64_t cols);
int64_t EndOfRun(const CodeFormat& format, int64_t row, int64_t col,
                 int64_t cols);

// Values of the band's rows, [band.rows, cols], in the order of the codes'
// columns. Slow and plain: the definition that everything else is held against.
void Decode(const CodeFormat& format, const CodeBand& band, int64_t cols,
            float* out);

// Values of rows [first, first + count), [count, cols] in the checkpoint's
// order of columns. Errors: those of `codes`.
absl::Status ReadValues(const CodeRows& codes, int64_t first, int64_t count,
                        float* out);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_CODES_H_
