// torchao's tensors as its safetensors support takes them apart. Of a linear
// layer X of `in` columns and `out` rows, with groups of g columns (a row, or
// the matrix, may be one):
//
//   Int8Tensor, IntxUnpackedToInt8Tensor
//     X._weight_qdata       int8 [out, in]
//     X._weight_scale       float [out, in / g], or [1, 1]
//     X._weight_zero_point  int8, as the scales; absent: 0
//     w = scale * (q - zero)
//   Int4Tensor
//     X._weight_qdata       int8 [out, in / 2], two signed numbers of 4 bits to
//                           a byte, the first in its low half
//     X._weight_scale, X._weight_zero_point   float [in / g, out]
//     w = scale * q + zero
//   Float8Tensor: X._weight_qdata float8 [out, in], X._weight_scale
//
// Which of them it is shows in dtypes and shapes; `__metadata__` says it too,
// and is not read. Layouts for other devices are refused.
//
// Source: pytorch/ao, torchao/prototype/safetensors and
// quantization/quantize_/workflows.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/formats/float8_codes.h"
#include "model/checkpoint/formats/format_fields.h"
#include "model/checkpoint/formats/grouped_integers.h"
#include "model/checkpoint/formats/stored_rows.h"
#include "model/checkpoint/quantized_format.h"
#include "model/checkpoint/stored_columns.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/files/byte_source.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using quant::CodeBand;
using quant::CodeFormat;
using quant::DType;
using quant::ParamSpec;
using quant::Reach;

constexpr char kCodes[] = "._weight_qdata";
constexpr char kScales[] = "._weight_scale";
constexpr char kZeros[] = "._weight_zero_point";

const std::vector<DType>& ScaleDTypes() {
  static const std::vector<DType> dtypes = {DType::kF32, DType::kF16,
                                            DType::kBF16};
  return dtypes;
}

const GroupedIntegersMethod& Integers() {
  static const GroupedIntegersMethod method("torchao");
  return method;
}

// Codes of a byte each.
class ByteRows final : public GroupedIntegerRows {
 public:
  ByteRows(const TensorFiles& files, const std::string& module, int64_t rows,
           int64_t cols, const GroupedIntegers& integers, CodeFormat format)
      : GroupedIntegerRows(module + ".weight", rows, cols, integers,
                           std::move(format)),
        files_(files),
        module_(module),
        of_matrix_(integers.group == GroupedIntegers::kMatrix),
        has_zeros_(!integers.symmetric) {}

 private:
  absl::Status ReadNumbers(int64_t first, int64_t count,
                           const Numbers& out) const override {
    RETURN_IF_ERROR(
        ReadBytes(kCodes, first * cols(), count * cols(), out.codes));
    const int64_t begin = of_matrix_ ? 0 : first * groups();
    const int64_t values = of_matrix_ ? 1 : count * groups();
    std::vector<float> scales;
    RETURN_IF_ERROR(
        ReadScales(files_, module_ + kScales, begin, values, scales));
    std::copy(scales.begin(), scales.end(), out.scales);
    if (has_zeros_) {
      RETURN_IF_ERROR(ReadBytes(kZeros, begin, values, out.zeros));
    }
    for (int64_t row = 1; of_matrix_ && row < count; ++row) {
      out.scales[row] = out.scales[0];
      out.zeros[row] = out.zeros[0];
    }
    return absl::OkStatus();
  }

  // Signed bytes, from 128 on.
  absl::Status ReadBytes(const char* suffix, int64_t first, int64_t count,
                         uint8_t* out) const {
    RETURN_IF_ERROR(files_.ReadElements(module_ + suffix, first, count, out));
    for (int64_t i = 0; i < count; ++i) out[i] ^= 128;
    return absl::OkStatus();
  }

  const TensorFiles& files_;
  const std::string module_;
  const bool of_matrix_;
  const bool has_zeros_;
};

// What Int4Tensor has: a float is added, where others have a zero-point.
class Int4Method final : public StoredMethod {
 public:
  std::string_view name() const override { return "torchao-int4"; }
  std::string_view summary() const override {
    return "Integers of 4 bits with a scale and a middle for groups of "
           "columns, as torchao makes them.";
  }
  absl::Span<const ParamSpec> params() const override {
    static const std::vector<ParamSpec> params = {
        {.name = "group",
         .default_value = "128",
         .min = 1,
         .max = INT64_MAX,
         .help = "columns that share a scale"},
        ScalesParam("bfloat16", "what scales and middles are stored in")};
    return params;
  }
  absl::StatusOr<CodeFormat> Format(
      int64_t, int64_t, DType,
      const quant::ParamValues& params) const override {
    const Reach reach = Reach::Columns(quant::IntegerOf(params, "group"));
    const std::string& dtype = params.at("scales");
    return CodeFormat{.kind = CodeFormat::Kind::kSigned,
                      .bits = 4,
                      .element = IntegerName(4, /*is_signed=*/true),
                      .fields = {ScaleField("scale", dtype, reach),
                                 ScaleField("middle", dtype, reach)},
                      .rule = {.scale = {.field = 0}, .minimum = {.field = 1}}};
  }
};

const Int4Method& Int4() {
  static const Int4Method method;
  return method;
}

class Int4Rows final : public StoredRows {
 public:
  Int4Rows(const TensorFiles& files, const std::string& module, int64_t rows,
           int64_t cols, DType scales_are, CodeFormat format)
      : StoredRows(files, module + ".weight", rows, cols, std::move(format)),
        module_(module),
        scales_are_(scales_are),
        scales_(files, module + kScales),
        middles_(files, module + kZeros) {}

  absl::Status Read(int64_t first, int64_t count,
                    CodeBand& out) const override {
    out.first_row = first;
    out.rows = count;
    std::vector<uint8_t> pairs(count * cols() / 2);
    RETURN_IF_ERROR(files().ReadElements(module_ + kCodes, first * cols() / 2,
                                         static_cast<int64_t>(pairs.size()),
                                         pairs.data()));
    out.elements.resize(count * cols());
    std::byte* to = out.elements.data();
    for (const uint8_t pair : pairs) {
      *to++ = Signed(pair & 15);
      *to++ = Signed(pair >> 4);
    }
    out.fields.resize(2);
    RETURN_IF_ERROR(ReadField(scales_, first, count, out.fields[0]));
    return ReadField(middles_, first, count, out.fields[1]);
  }

 private:
  static std::byte Signed(int number) {
    return static_cast<std::byte>((number ^ 8) - 8);
  }

  absl::Status ReadField(const StoredColumns& from, int64_t first,
                         int64_t count, CodeBand::Field& out) const {
    const int64_t values = count * from.rows();
    std::vector<std::byte> stored(values * quant::SizeOf(scales_are_));
    RETURN_IF_ERROR(from.Read(first, count, stored.data()));
    out.first = first * from.rows();
    out.values.resize(values);
    quant::ToFloat(scales_are_, stored.data(), values, out.values.data());
    for (int64_t i = 0; i < values; ++i) {
      if (std::abs(out.values[i]) <= kLargestScale) continue;
      return absl::InvalidArgumentError(
          StrCat("tensor ", Quoted(name()), ", row ", first + i / from.rows(),
                 ", group ", i % from.rows(),
                 ": scale and zero-point must be finite numbers, one is ",
                 out.values[i]));
    }
    return absl::OkStatus();
  }

  const std::string module_;
  const DType scales_are_;
  const StoredColumns scales_;
  const StoredColumns middles_;
};

class Torchao final : public QuantizedFormat {
 public:
  std::string_view name() const override { return "torchao"; }

  absl::Status FindTensors(const QuantizedSource& source,
                           CodedTensors& found) const override {
    for (const char* other :
         {"._weight_scale_and_zero", "._weight_act_pre_scale",
          "._weight_act_quant_scale", "._weight_act_quant_zero_point"}) {
      for (const std::string& module : source.ModulesWith(other)) {
        return absl::UnimplementedError(
            StrCat("tensor ", Quoted(module + other),
                   " belongs to a layout or a kind of quantization that is not "
                   "served: int8 and int4 weights in plain layout are "
                   "(Int8WeightOnlyConfig, IntxWeightOnlyConfig, "
                   "Int4WeightOnlyConfig with packing format plain)"));
      }
    }
    for (const std::string& module : source.ModulesWith(kCodes)) {
      RETURN_IF_ERROR(AddModule(source, module, found));
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status AddModule(const QuantizedSource& source,
                                const std::string& module,
                                CodedTensors& found) {
    const std::string codes = module + kCodes;
    ASSIGN_OR_RETURN(
        const TensorInfo* info,
        source.Find(codes,
                    {DType::kI8, DType::kU8, DType::kF8E4M3, DType::kF8E5M2},
                    {-1, -1}));
    const auto zeros = source.files.tensors.find(module + kZeros);
    const bool has_zeros = zeros != source.files.tensors.end();
    for (const char* part : {kCodes, kScales, kZeros}) {
      found.parts.insert(module + part);
    }
    if (info->dtype == DType::kF8E4M3 || info->dtype == DType::kF8E5M2) {
      return AddFloats(source, module, *info, found);
    }
    if (has_zeros && quant::IsFloat(zeros->second.tensor.info.dtype)) {
      return AddInt4(source, module, *info, found);
    }
    return AddBytes(source, module, *info, has_zeros, found);
  }

  static absl::Status AddBytes(const QuantizedSource& source,
                               const std::string& module,
                               const TensorInfo& info, bool has_zeros,
                               CodedTensors& found) {
    const int64_t rows = info.shape[0], cols = info.shape[1];
    RETURN_IF_ERROR(
        source.Find(module + kCodes, {DType::kI8}, {rows, cols}).status());
    ASSIGN_OR_RETURN(const TensorInfo* scales,
                     source.Find(module + kScales, ScaleDTypes(), {-1, -1}));
    const int64_t groups = scales->shape[1];
    const bool of_matrix = scales->elements() == 1 && rows > 1;
    if ((!of_matrix && scales->shape[0] != rows) || cols % groups != 0) {
      return source.Problem(
          module + kScales,
          StrCat("must have a row for each of ", rows,
                 ", and groups that "
                 "divide ",
                 cols, " columns, or one scale for all, is of shape ",
                 ShapeText(scales->shape)));
    }
    if (has_zeros) {
      RETURN_IF_ERROR(
          source.Find(module + kZeros, {DType::kI8}, scales->shape).status());
    }
    const GroupedIntegers integers = {
        .bits = 8,
        .group = of_matrix     ? GroupedIntegers::kMatrix
                 : groups == 1 ? GroupedIntegers::kRow
                               : cols / groups,
        .symmetric = !has_zeros,
        .scales = scales->dtype};
    return found.Add(module + ".weight", rows, cols, source.dtype,
                     {.spec = Integers().SpecOf(integers)},
                     [=, &files = source.files](const CodeFormat& format) {
                       return std::make_unique<const ByteRows>(
                           files, module, rows, cols, integers, format);
                     });
  }

  static absl::Status AddInt4(const QuantizedSource& source,
                              const std::string& module, const TensorInfo& info,
                              CodedTensors& found) {
    const int64_t rows = info.shape[0], cols = info.shape[1] * 2;
    ASSIGN_OR_RETURN(const TensorInfo* scales,
                     source.Find(module + kScales, ScaleDTypes(), {-1, rows}));
    RETURN_IF_ERROR(
        source.Find(module + kZeros, {scales->dtype}, scales->shape).status());
    const int64_t groups = scales->shape[0];
    if (cols % groups != 0) {
      return source.Problem(
          module + kScales,
          StrCat("has ", groups, " groups, which do not divide ", cols,
                 " columns"));
    }
    const quant::MethodSpec spec = {
        .method = &Int4(),
        .params = {{"group", StrCat(cols / groups)},
                   {"scales", std::string(quant::Name(scales->dtype))}}};
    return found.Add(module + ".weight", rows, cols, source.dtype,
                     {.spec = spec},
                     [=, &files = source.files,
                      dtype = scales->dtype](const CodeFormat& format) {
                       return std::make_unique<const Int4Rows>(
                           files, module, rows, cols, dtype, format);
                     });
  }

  static absl::Status AddFloats(const QuantizedSource& source,
                                const std::string& module,
                                const TensorInfo& info, CodedTensors& found) {
    const auto scales = source.files.tensors.find(module + kScales);
    const bool of_rows = scales != source.files.tensors.end() &&
                         scales->second.tensor.info.elements() == info.shape[0];
    return AddFloat8(source, module,
                     {.codes = module + kCodes,
                      .scales = module + kScales,
                      .reach = of_rows ? Reach::Row() : Reach::Matrix()},
                     found);
  }
};

}  // namespace

const QuantizedFormat& TorchaoFormat() {
  static const Torchao format;
  return format;
}

}  // namespace ounce::model
