// Ounce's own layout (docs/format.md): each weight in codes has its method, the
// dtype of its floats and its shape in `quantization_config`, and its tensors
// beside (ounce_layout.h).
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/formats/format_fields.h"
#include "model/checkpoint/formats/ounce_layout.h"
#include "model/checkpoint/formats/stored_rows.h"
#include "model/checkpoint/quantized_format.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"
#include "quant/registry.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using quant::CodeBand;
using quant::CodeField;
using quant::CodeFormat;
using quant::DType;

constexpr int64_t StreamBytes(int64_t numbers, int bits) {
  return (numbers * bits + 7) / 8;
}

class OunceRows final : public StoredRows {
 public:
  OunceRows(const TensorFiles& files, std::string name, int64_t rows,
            int64_t cols, CodeFormat format)
      : StoredRows(files, std::move(name), rows, cols, std::move(format)) {}

  absl::Status Read(int64_t first, int64_t count,
                    CodeBand& out) const override {
    out.first_row = first;
    out.rows = count;
    out.elements.resize(count * cols());
    auto* to = reinterpret_cast<uint8_t*>(out.elements.data());
    const bool is_signed = format().kind == CodeFormat::Kind::kSigned;
    RETURN_IF_ERROR(ReadNumbers(
        name() + ".codes", first * cols(), count * cols(), format().bits,
        is_signed,
        [&](int64_t number) { *to++ = static_cast<uint8_t>(number); }));
    RETURN_IF_ERROR(CheckLevels(name(), format(), out, cols()));
    out.fields.resize(format().fields.size());
    for (size_t i = 0; i < out.fields.size(); ++i) {
      RETURN_IF_ERROR(
          ReadField(format().fields[i], first, count, out.fields[i]));
    }
    return absl::OkStatus();
  }

 private:
  // Numbers [first, first + count) of a stream of bits.
  template <class Take>
  absl::Status ReadNumbers(const std::string& tensor, int64_t first,
                           int64_t count, int bits, bool is_signed,
                           Take take) const {
    const int64_t begin = first * bits / 8;
    std::vector<uint8_t> bytes(StreamBytes(first + count, bits) - begin);
    RETURN_IF_ERROR(files().ReadElements(
        tensor, begin, static_cast<int64_t>(bytes.size()), bytes.data()));
    const int64_t mask = (int64_t{1} << bits) - 1;
    const int64_t sign = is_signed ? int64_t{1} << (bits - 1) : 0;
    int64_t bit = first * bits - begin * 8;
    for (int64_t i = 0; i < count; ++i, bit += bits) {
      int64_t number = 0;
      for (int64_t byte = bit / 8, at = 0; at < bit % 8 + bits;
           ++byte, at += 8) {
        number |= int64_t{bytes[byte]} << at;
      }
      take((((number >> bit % 8) & mask) ^ sign) - sign);
    }
    return absl::OkStatus();
  }

  absl::Status ReadField(const CodeField& field, int64_t first, int64_t count,
                         CodeBand::Field& out) const {
    out.first = field.reach.IndexOf(first, 0, cols());
    const int64_t values =
        field.reach.IndexOf(first + count - 1, cols() - 1, cols()) + 1 -
        out.first;
    const std::string tensor = StrCat(name(), ".", field.name);
    if (!field.is_integer()) {
      return ReadScales(files(), tensor, out.first, values, out.values);
    }
    out.values.clear();
    return ReadNumbers(tensor, out.first, values, field.bits,
                       field.type == CodeField::Type::kSigned,
                       [&](int64_t number) {
                         out.values.push_back(static_cast<float>(number));
                       });
  }
};

// What config.json says of one weight.
struct Weight {
  quant::MethodSpec spec;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  int activations = 16;
  bool folded = false;

  int64_t rows() const { return shape[0]; }
  int64_t cols() const {
    int64_t cols = 1;
    for (size_t i = 1; i < shape.size(); ++i) cols *= shape[i];
    return cols;
  }
};

absl::StatusOr<std::vector<int64_t>> ReadShape(const json& weight) {
  constexpr int64_t kMostElements = int64_t{1} << 40;
  const auto found = weight.find("shape");
  std::vector<int64_t> shape;
  int64_t elements = 1;
  if (found != weight.end() && found->is_array() &&
      (found->size() == 2 || found->size() == 4)) {
    for (const json& extent : *found) {
      if (!extent.is_number_unsigned()) break;
      const auto n = extent.get<uint64_t>();
      if (n < 1 || n > static_cast<uint64_t>(kMostElements / elements)) break;
      shape.push_back(static_cast<int64_t>(n));
      elements *= shape.back();
    }
    if (shape.size() == found->size()) return shape;
  }
  return absl::InvalidArgumentError(
      "'shape' must be 2 or 4 numbers, each 1 or more, of at most 2^40 "
      "elements");
}

absl::StatusOr<Weight> ReadWeight(const json& object) {
  if (!object.is_object()) {
    return absl::InvalidArgumentError(
        StrCat("must be an object, is ", object.type_name()));
  }
  Weight weight;
  ASSIGN_OR_RETURN(const std::string method, JsonString(object, "method"));
  ASSIGN_OR_RETURN(weight.spec, quant::ParseMethodSpec(method));
  if (!weight.spec.stages.empty() || weight.spec.float_dtype().has_value()) {
    return absl::InvalidArgumentError(
        StrCat("'method' must be one that makes codes, without stages, is ",
               Quoted(method)));
  }
  ASSIGN_OR_RETURN(const std::string floats, JsonString(object, "dtype"));
  const std::optional<DType> dtype = quant::ParseDType(floats);
  if (!dtype.has_value() || !quant::IsFloat(*dtype)) {
    return absl::InvalidArgumentError(
        StrCat("'dtype' must be a float's, is ", Quoted(floats)));
  }
  weight.dtype = *dtype;
  ASSIGN_OR_RETURN(weight.shape, ReadShape(object));
  ASSIGN_OR_RETURN(const int64_t activations,
                   OptionalJsonInt(object, "activations", 8, 16, 16));
  if (activations != 8 && activations != 16) {
    return absl::InvalidArgumentError(
        StrCat("'activations' must be 8 or 16, is ", activations));
  }
  weight.activations = static_cast<int>(activations);
  ASSIGN_OR_RETURN(weight.folded, OptionalJsonBool(object, "folded", false));
  return weight;
}

class OunceLayout final : public QuantizedFormat {
 public:
  std::string_view name() const override { return kOunceLayout; }

  absl::Status FindTensors(const QuantizedSource& source,
                           CodedTensors& found) const override {
    ASSIGN_OR_RETURN(const int64_t version,
                     JsonInt(source.config, "version", 1, INT64_MAX));
    if (version != kOunceLayoutVersion) {
      return NotServed("version", StrCat(kOunceLayoutVersion), StrCat(version));
    }
    const auto weights = source.config.find("weights");
    if (weights == source.config.end() || !weights->is_object()) {
      return absl::InvalidArgumentError(
          "'quantization_config': 'weights' must be an object");
    }
    for (const auto& [name, object] : weights->items()) {
      absl::StatusOr<Weight> weight = ReadWeight(object);
      RETURN_IF_ERROR(WithContext(
          weight.status(), StrCat("'quantization_config': ", Quoted(name))));
      RETURN_IF_ERROR(Add(source, name, *weight, found));
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status Add(const QuantizedSource& source,
                          const std::string& name, const Weight& weight,
                          CodedTensors& found) {
    const int64_t rows = weight.rows(), cols = weight.cols();
    absl::StatusOr<CodeFormat> format =
        weight.spec.Format(rows, cols, weight.dtype);
    RETURN_IF_ERROR(
        WithContext(format.status(), StrCat("tensor ", Quoted(name))));
    if (format->is_float()) {
      return source.Problem(name,
                            StrCat("has a shape that ", weight.spec.ToString(),
                                   " makes no codes of"));
    }
    for (const OunceTensor& part : OunceTensors(*format, rows, cols)) {
      RETURN_IF_ERROR(
          source.Find(name + part.suffix, {part.dtype}, {part.count}).status());
      found.parts.insert(name + part.suffix);
    }
    RETURN_IF_ERROR(
        found.Add(name, rows, cols, weight.dtype,
                  {.spec = weight.spec,
                   .folded = weight.folded,
                   .activations = weight.activations},
                  [=, &files = source.files](const CodeFormat& format) {
                    return std::make_unique<const OunceRows>(files, name, rows,
                                                             cols, format);
                  }));
    found.weights.at(name).shape = weight.shape;
    return absl::OkStatus();
  }
};

}  // namespace

quant::DType OunceFieldDType(const CodeField& field) {
  switch (field.type) {
    case CodeField::Type::kFloat32:
      return DType::kF32;
    case CodeField::Type::kFloat16:
      return DType::kF16;
    case CodeField::Type::kBFloat16:
      return DType::kBF16;
    default:
      return DType::kU8;
  }
}

std::vector<OunceTensor> OunceTensors(const CodeFormat& format, int64_t rows,
                                      int64_t cols) {
  std::vector<OunceTensor> tensors = {
      {".codes", DType::kU8, StreamBytes(rows * cols, format.bits)}};
  for (const CodeField& field : format.fields) {
    const int64_t count = field.reach.Count(rows, cols);
    tensors.push_back(
        {StrCat(".", field.name), OunceFieldDType(field),
         field.is_integer() ? StreamBytes(count, field.bits) : count});
  }
  return tensors;
}

const QuantizedFormat& OunceLayoutFormat() {
  static const OunceLayout format;
  return format;
}

}  // namespace ounce::model
