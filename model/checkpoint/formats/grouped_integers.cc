#include "model/checkpoint/formats/grouped_integers.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/formats/format_fields.h"
#include "model/files/byte_source.h"

namespace ounce::model {
namespace {

using quant::CodeBand;
using quant::CodeField;
using quant::CodeFormat;
using quant::DType;
using quant::ParamSpec;
using quant::Reach;

Reach ReachOf(int64_t group) {
  switch (group) {
    case GroupedIntegers::kMatrix:
      return Reach::Matrix();
    case GroupedIntegers::kRow:
      return Reach::Row();
    default:
      return Reach::Columns(group);
  }
}

}  // namespace

quant::MethodSpec GroupedIntegersMethod::SpecOf(
    const GroupedIntegers& integers) const {
  return {.method = this,
          .params = {
              {"bits", StrCat(integers.bits)},
              {"group", StrCat(integers.group)},
              {"mode", integers.symmetric ? "symmetric" : "asymmetric"},
              {"act_order", integers.ordered ? "true" : "false"},
              {"scales", std::string(quant::Name(integers.scales))},
          }};
}

std::string_view GroupedIntegersMethod::summary() const {
  return "Integers with scales for groups of columns, as another tool made "
         "them.";
}

absl::Span<const ParamSpec> GroupedIntegersMethod::params() const {
  static const std::vector<ParamSpec> params = {
      {.name = "bits",
       .default_value = "4",
       .min = 1,
       .max = 8,
       .help = "bits per weight"},
      {.name = "group",
       .default_value = "128",
       .min = GroupedIntegers::kRow,
       .max = INT64_MAX,
       .help = "columns that share a scale; -1: all of a row, 0: all of the "
               "matrix"},
      {.name = "mode",
       .type = ParamSpec::Type::kChoice,
       .default_value = "symmetric",
       .choices = {"symmetric", "asymmetric"},
       .help = "whether groups have a zero-point of their own"},
      {.name = "act_order",
       .type = ParamSpec::Type::kBoolean,
       .default_value = "false",
       .help = "groups are of columns that were sorted by importance"},
      ScalesParam("float16")};
  return params;
}

absl::StatusOr<CodeFormat> GroupedIntegersMethod::Format(
    int64_t rows, int64_t cols, DType, const quant::ParamValues& params) const {
  const auto bits = static_cast<int>(quant::IntegerOf(params, "bits"));
  const Reach reach = ReachOf(quant::IntegerOf(params, "group"));
  const bool symmetric = params.at("mode") == "symmetric";
  CodeFormat format = {
      .kind =
          symmetric ? CodeFormat::Kind::kSigned : CodeFormat::Kind::kUnsigned,
      .bits = bits,
      .element = IntegerName(bits, symmetric),
      .fields = {ScaleField("scale", params.at("scales"), reach)},
      .rule = {.scale = {.field = 0}},
      .constant_bytes =
          is_gptq_ ? cols * static_cast<int64_t>(sizeof(int32_t)) : 0};
  const CodeField zero = {.name = "zero",
                          .type = CodeField::Type::kUnsigned,
                          .bits = bits,
                          .reach = reach};
  if (symmetric) {
    if (is_gptq_) format.constant_bytes += zero.Bytes(rows, cols);
  } else {
    format.fields.push_back(zero);
    format.rule.zero = {.field = 1};
  }
  return format;
}

GroupedIntegerRows::GroupedIntegerRows(std::string name, int64_t rows,
                                       int64_t cols,
                                       const GroupedIntegers& integers,
                                       CodeFormat format,
                                       std::vector<int32_t> order)
    : name_(std::move(name)),
      rows_(rows),
      cols_(cols),
      integers_(integers),
      groups_(integers.groups(cols)),
      format_(std::move(format)),
      order_(std::move(order)) {}

absl::Status GroupedIntegerRows::Read(int64_t first, int64_t count,
                                      CodeBand& out) const {
  const auto middle = static_cast<uint8_t>(1 << (integers_.bits - 1));
  std::vector<uint8_t> codes(count * cols_), zeros(count * groups_, middle);
  out.first_row = first;
  out.rows = count;
  out.fields.resize(format_.fields.size());
  std::vector<float>& scales = out.fields[0].values;
  scales.resize(count * groups_);
  const absl::Status status =
      ReadNumbers(first, count, {codes.data(), scales.data(), zeros.data()});
  if (!status.ok()) return status;
  for (int64_t i = 0; i < count * groups_; ++i) {
    const auto problem = [&](const std::string& what) {
      return absl::InvalidArgumentError(
          StrCat("tensor ", Quoted(name_), ", row ", first + i / groups_,
                 ", group ", i % groups_, ": ", what));
    };
    if (!(std::abs(scales[i]) <= kLargestScale)) {
      return problem(
          StrCat("the scale must be a finite number, is ", scales[i]));
    }
    if (integers_.symmetric && zeros[i] != middle) {
      return problem(StrCat("the zero-point must be ", int{middle},
                            ", since config.json says that all are symmetric, "
                            "is ",
                            int{zeros[i]}));
    }
  }
  out.elements.resize(count * cols_);
  auto* to = reinterpret_cast<uint8_t*>(out.elements.data());
  const auto taken_off = integers_.symmetric ? middle : uint8_t{0};
  for (int64_t row = 0; row < count; ++row) {
    const uint8_t* from = codes.data() + row * cols_;
    for (int64_t i = 0; i < cols_; ++i) {
      const int64_t col = order_.empty() ? i : order_[i];
      *to++ = static_cast<uint8_t>(from[col] - taken_off);
    }
  }
  const bool of_rows = integers_.group != GroupedIntegers::kMatrix;
  out.fields[0].first = of_rows ? first * groups_ : 0;
  if (!integers_.symmetric) {
    out.fields[1].first = out.fields[0].first;
    out.fields[1].values.assign(zeros.begin(), zeros.end());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> OrderOfGroups(
    const QuantizedSource& source, const std::string& name, int64_t cols,
    int64_t group) {
  RETURN_IF_ERROR(source.Find(name, {DType::kI32}, {cols}).status());
  std::vector<int32_t> groups(cols), order(cols);
  RETURN_IF_ERROR(source.files.ReadElements(name, 0, cols, groups.data()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return groups[a] < groups[b]; });
  const int64_t of_each = group <= 0 ? cols : group;
  for (int64_t i = 0; i < cols; ++i) {
    if (groups[order[i]] != i / of_each) {
      return source.Problem(
          name,
          StrCat("must have each group ", of_each,
                 " times, the last perhaps fewer: column ", order[i],
                 " is of group ", groups[order[i]], ", not ", i / of_each));
    }
  }
  if (std::is_sorted(order.begin(), order.end())) order.clear();
  return order;
}

uint8_t NumberAtBit(const uint32_t* words, int64_t bit, int bits) {
  const auto shift = static_cast<int>(bit % 32);
  uint32_t number = words[bit / 32] >> shift;
  if (shift + bits > 32) number |= words[bit / 32 + 1] << (32 - shift);
  return static_cast<uint8_t>(number & ((1u << bits) - 1));
}

void PutNumberAtBit(uint8_t number, int64_t bit, int bits, uint32_t* words) {
  const auto shift = static_cast<int>(bit % 32);
  words[bit / 32] |= uint32_t{number} << shift;
  if (shift + bits > 32) words[bit / 32 + 1] |= number >> (32 - shift);
}

}  // namespace ounce::model
