#include "model/checkpoint/quantized_format.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

#define QUANTIZED_FORMAT(function, file) const QuantizedFormat& function();
#include "model/checkpoint/quantized_formats.def"
#undef QUANTIZED_FORMAT

namespace {

using nlohmann::json;
using quant::DType;

bool Fits(const std::vector<int64_t>& shape,
          const std::vector<int64_t>& wanted) {
  return std::equal(shape.begin(), shape.end(), wanted.begin(), wanted.end(),
                    [](int64_t is, int64_t wants) {
                      return wants < 0 ? is > 0 : is == wants;
                    });
}

std::string WantedText(const std::vector<int64_t>& wanted) {
  std::string text;
  for (const int64_t extent : wanted) {
    StrAppend(&text, text.empty() ? "[" : ", ",
              extent < 0 ? std::string("any") : StrCat(extent));
  }
  return text.empty() ? "[]" : StrCat(text, "]");
}

// config.json has had it under two names.
absl::StatusOr<DType> FloatsOf(const json& config) {
  for (const char* key : {"torch_dtype", "dtype"}) {
    ASSIGN_OR_RETURN(const std::string name,
                     OptionalJsonString(config, key, ""));
    const std::optional<DType> dtype = quant::ParseDType(name);
    if (dtype.has_value() && quant::IsFloat(*dtype)) return *dtype;
  }
  return DType::kF16;
}

absl::StatusOr<const QuantizedFormat*> FindFormat(const json& quantization) {
  if (!quantization.is_object()) {
    return absl::InvalidArgumentError(
        StrCat("'quantization_config' must be an object, is ",
               quantization.type_name()));
  }
  ASSIGN_OR_RETURN(const std::string method,
                   JsonString(quantization, "quant_method"));
  std::string known;
  for (const QuantizedFormat* format : AllQuantizedFormats()) {
    if (format->name() == method) return format;
    StrAppend(&known, known.empty() ? "" : ", ", format->name());
  }
  return absl::UnimplementedError(
      StrCat("'quantization_config': 'quant_method' must be one of ", known,
             ", is ", Quoted(method),
             "; serve the model's floats, which Ounce quantizes itself"));
}

}  // namespace

absl::Span<const QuantizedFormat* const> AllQuantizedFormats() {
  static const QuantizedFormat* const kFormats[] = {
#define QUANTIZED_FORMAT(function, file) &function(),
#include "model/checkpoint/quantized_formats.def"
#undef QUANTIZED_FORMAT
  };
  return kFormats;
}

absl::Status QuantizedSource::Problem(const std::string& name,
                                      const std::string& reason) const {
  const auto found = files.tensors.find(name);
  if (found != files.tensors.end()) {
    return TensorError(*found->second.file, name, reason);
  }
  return absl::InvalidArgumentError(
      StrCat("tensor ", Quoted(name), ": ", reason));
}

absl::StatusOr<const TensorInfo*> QuantizedSource::Find(
    const std::string& name, const std::vector<DType>& dtypes,
    const std::vector<int64_t>& shape) const {
  const auto found = files.tensors.find(name);
  if (found == files.tensors.end()) {
    return Problem(name,
                   StrCat("of shape ", WantedText(shape),
                          " is missing; it belongs to a quantized weight"));
  }
  const TensorInfo& info = found->second.tensor.info;
  if (std::find(dtypes.begin(), dtypes.end(), info.dtype) == dtypes.end()) {
    std::string names;
    for (const DType dtype : dtypes) {
      StrAppend(&names, names.empty() ? "" : " or ", quant::Name(dtype));
    }
    return Problem(
        name, StrCat("must have ", names, ", has ", quant::Name(info.dtype)));
  }
  constexpr int64_t kMostExtent = int64_t{1} << 31;
  for (const int64_t extent : info.shape) {
    if (extent <= kMostExtent) continue;
    return Problem(name, StrCat("must have extents of at most ", kMostExtent,
                                ", is of shape ", ShapeText(info.shape)));
  }
  // Else a small file could have large ones.
  if (!found->second.tensor.strides.empty()) {
    return Problem(name, "must lie row by row without gaps");
  }
  if (!Fits(info.shape, shape)) {
    return Problem(name, StrCat("must be of shape ", WantedText(shape),
                                ", is of ", ShapeText(info.shape)));
  }
  return &info;
}

std::vector<std::string> QuantizedSource::ModulesWith(
    std::string_view suffix) const {
  std::vector<std::string> modules;
  for (const auto& [name, place] : files.tensors) {
    if (name.size() > suffix.size() && name.ends_with(suffix)) {
      modules.push_back(name.substr(0, name.size() - suffix.size()));
    }
  }
  return modules;
}

absl::Status CodedTensors::Add(const std::string& name, int64_t rows,
                               int64_t cols, DType dtype, CodedTensor coded,
                               CodesOf codes) {
  absl::StatusOr<quant::CodeFormat> format =
      coded.spec.Format(rows, cols, dtype);
  RETURN_IF_ERROR(
      WithContext(format.status(), StrCat("tensor ", Quoted(name))));
  if (coded.packed_bytes) format->packed_bytes = coded.packed_bytes;
  coded.bytes = format->StoredBytes(rows, cols);
  coded.open = [codes = std::move(codes), format = *std::move(format)]()
      -> absl::StatusOr<std::unique_ptr<const quant::CodeRows>> {
    return codes(format);
  };
  TensorInfo info;
  info.dtype = dtype;
  info.shape = {rows, cols};
  info.coded = std::make_shared<const CodedTensor>(std::move(coded));
  weights.insert_or_assign(name, std::move(info));
  return absl::OkStatus();
}

absl::StatusOr<CodedTensors> FindCodedTensors(const std::string& folder,
                                              const json& config,
                                              const TensorFiles& files) {
  CodedTensors found;
  const auto quantization = config.find("quantization_config");
  if (quantization == config.end() || quantization->is_null()) return found;
  const auto find = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const QuantizedFormat* format, FindFormat(*quantization));
    ASSIGN_OR_RETURN(const DType dtype, FloatsOf(config));
    return format->FindTensors({*quantization, files, dtype}, found);
  };
  RETURN_IF_ERROR(WithContext(find(), folder + "/config.json"));
  return found;
}

absl::Status NotServed(std::string_view key, std::string_view wanted,
                       std::string_view is) {
  return absl::UnimplementedError(StrCat("'quantization_config': '", key,
                                         "' must be ", wanted, ", is ",
                                         Quoted(is), ", which is not served"));
}

}  // namespace ounce::model
