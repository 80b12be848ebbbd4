#include "model/saver/integer_codes.h"

#include "model/checkpoint/formats/ounce_layout.h"

namespace ounce::model {
namespace {

using quant::CodeBand;
using quant::CodeFormat;

constexpr int64_t kRowsAtOnce = 32;

// What signed numbers lack to be from 0 on.
int ShiftOf(bool is_signed, int bits) {
  return is_signed ? 1 << (bits - 1) : 0;
}

void TakeBand(const StoredTensorView& tensor, const GroupedIntegers& integers,
              const CodeBand& band, IntegerBand& out) {
  const CodeFormat& format = tensor.format;
  const int64_t cols = tensor.cols(), groups = integers.groups(cols);
  const int shift =
      ShiftOf(format.kind == CodeFormat::Kind::kSigned, integers.bits);
  out.first_row = band.first_row;
  out.rows = band.rows;
  out.codes.resize(band.rows * cols);
  for (size_t i = 0; i < out.codes.size(); ++i) {
    out.codes[i] =
        static_cast<uint8_t>(static_cast<uint8_t>(band.elements[i]) + shift);
  }
  out.scales.resize(band.rows * groups);
  out.zeros.assign(band.rows * groups,
                   static_cast<uint8_t>(1 << (integers.bits - 1)));
  const int64_t group = integers.group <= 0 ? cols : integers.group;
  for (int64_t i = 0; i < band.rows * groups; ++i) {
    const int64_t row = band.first_row + i / groups;
    const int64_t col = i % groups * group;
    out.scales[i] = quant::FieldAt(format, band, 0, row, col, cols);
    if (integers.symmetric) continue;
    const quant::CodeField& field = format.fields[1];
    out.zeros[i] = static_cast<uint8_t>(
        static_cast<int>(quant::FieldAt(format, band, 1, row, col, cols)) +
        ShiftOf(field.type == quant::CodeField::Type::kSigned, integers.bits));
  }
}

}  // namespace

std::optional<GroupedIntegers> IntegersOf(const StoredTensorView& tensor) {
  const quant::QuantMethod* method = tensor.spec.method;
  if (method->name() != "linear" &&
      dynamic_cast<const GroupedIntegersMethod*>(method) == nullptr) {
    return std::nullopt;
  }
  const quant::CodeField& scale = tensor.format.fields[0];
  GroupedIntegers integers = {.bits = tensor.format.bits,
                              .symmetric = tensor.format.fields.size() == 1,
                              .scales = OunceFieldDType(scale)};
  if (scale.reach.rows == quant::Reach::kAll) {
    integers.group = GroupedIntegers::kMatrix;
  } else if (scale.reach.cols < tensor.cols()) {
    integers.group = scale.reach.cols;
  }
  return integers;
}

absl::Status ForEachIntegerBand(
    const ModelToSave& model, const StoredTensorView& tensor,
    const std::function<absl::Status(const IntegerBand& band)>& take) {
  const GroupedIntegers integers = *IntegersOf(tensor);
  IntegerBand out;
  return ForEachBand(
      model, tensor,
      [&](const CodeBand& band) {
        TakeBand(tensor, integers, band, out);
        return take(out);
      },
      kRowsAtOnce);
}

}  // namespace ounce::model
