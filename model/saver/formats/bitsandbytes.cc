// bitsandbytes' files, as transformers saves them: codes of bnb-int8, bnb-nf4
// or bnb-fp4. The reader (model/checkpoint/formats/bitsandbytes.cc) describes
// the tensors.
//
// Source: bitsandbytes-foundation/bitsandbytes, bitsandbytes/functional.py
// (QuantState.as_dict) and nn/modules.py; transformers,
// utils/quantization_config.py.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/saver/code_streams.h"
#include "model/saver/linear_modules.h"
#include "model/saver/safetensors_files.h"
#include "model/saver/save_format.h"
#include "quant/params.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using quant::CodeBand;
using quant::DType;

constexpr std::string_view kName = "bitsandbytes";
constexpr std::string_view kInt8 = "bnb-int8";
constexpr std::string_view kFourBits = "bnb-";  // "bnb-nf4", "bnb-fp4"

std::string BytesOf(absl::Span<const float> values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  quant::FromFloat(DType::kF32, values.data(),
                   static_cast<int64_t>(values.size()), bytes.data());
  return bytes;
}

TensorGroup Int8Group(const ModelToSave& model,
                      const StoredTensorView& tensor) {
  TensorGroup group = {.weight = tensor.name()};
  group.tensors = {{tensor.name(), DType::kI8, {tensor.rows(), tensor.cols()}},
                   {tensor.module() + ".SCB", DType::kF32, {tensor.rows()}},
                   {tensor.module() + ".weight_format", DType::kU8, {}}};
  group.write = [&model, tensor](absl::Span<TensorSink> sinks) -> absl::Status {
    FieldStream scales(tensor.format.fields[0], &sinks[1]);
    const uint8_t rows_as_they_are = 0;
    RETURN_IF_ERROR(sinks[2].WriteAt(0, &rows_as_they_are, 1));
    return ForEachBand(
        model, tensor, [&](const CodeBand& band) -> absl::Status {
          RETURN_IF_ERROR(sinks[0].WriteAt(band.first_row * tensor.cols(),
                                           band.elements.data(),
                                           band.rows * tensor.cols()));
          return scales.Add(band, 0, tensor.cols());
        });
  };
  return group;
}

// Two numbers to a byte, the first in its high half.
class NibbleStream {
 public:
  explicit NibbleStream(TensorSink* sink) : sink_(sink) {}

  absl::Status Add(absl::Span<const std::byte> codes) {
    std::string bytes;
    for (const std::byte code : codes) {
      const auto nibble = static_cast<uint8_t>(code);
      if (has_first_) {
        bytes.push_back(static_cast<char>(first_ << 4 | nibble));
      } else {
        first_ = nibble;
      }
      has_first_ = !has_first_;
    }
    const auto size = static_cast<int64_t>(bytes.size());
    RETURN_IF_ERROR(sink_->WriteAt(written_, bytes.data(), size));
    written_ += size;
    return absl::OkStatus();
  }
  // `last` fills the byte of a number that has none beside it.
  absl::Status Finish(std::byte last) {
    return has_first_ ? Add({&last, 1}) : absl::OkStatus();
  }

 private:
  TensorSink* sink_;
  uint8_t first_ = 0;
  bool has_first_ = false;
  int64_t written_ = 0;
};

// The code of 0, which bitsandbytes pads with.
std::byte CodeOfZero(const quant::CodeFormat& format) {
  const auto& levels = format.tables;
  return static_cast<std::byte>(std::find(levels.begin(), levels.end(), 0.0f) -
                                levels.begin());
}

// What is beside double-quantized codes, which only making them shows.
struct Nested {
  double offset = 0;
  std::vector<float> map;
};

absl::StatusOr<Nested> NestedOf(const ModelToSave& model,
                                const StoredTensorView& tensor) {
  ASSIGN_OR_RETURN(const auto codes, model.Open(tensor));
  CodeBand band;
  RETURN_IF_ERROR(codes->Read(0, 1, band));
  const absl::Span<const float> map = codes->format().rule.scale.map;
  return Nested{band.fields[2].values[0], {map.begin(), map.end()}};
}

// As Python's json writes it. `nested` may be null.
std::string QuantState(const StoredTensorView& tensor, const Nested* nested) {
  std::string state =
      StrCat(R"({"quant_type": ")", tensor.format.element,
             R"(", "blocksize": )", tensor.format.fields[0].reach.flat,
             R"(, "dtype": ")", quant::Name(tensor.report->counted->dtype),
             R"(", "shape": [)", tensor.rows(), ", ", tensor.cols(), "]");
  if (nested != nullptr) {
    const int64_t blocks =
        tensor.format.fields[1].reach.flat / tensor.format.fields[0].reach.flat;
    StrAppend(&state, R"(, "nested_blocksize": )", blocks,
              R"(, "nested_dtype": "float32", "nested_offset": )",
              json(nested->offset).dump());
  }
  return state + "}";
}

absl::Status WriteFourBits(const ModelToSave& model,
                           const StoredTensorView& tensor,
                           absl::Span<TensorSink> sinks) {
  NibbleStream codes(&sinks[0]);
  FieldStream absmax(tensor.format.fields[0], &sinks[1]);
  const bool is_nested = tensor.format.fields.size() > 1;
  FieldStream nested(tensor.format.fields[is_nested ? 1 : 0], &sinks.back());
  RETURN_IF_ERROR(
      ForEachBand(model, tensor, [&](const CodeBand& band) -> absl::Status {
        RETURN_IF_ERROR(codes.Add(band.elements));
        RETURN_IF_ERROR(absmax.Add(band, 0, tensor.cols()));
        return is_nested ? nested.Add(band, 1, tensor.cols())
                         : absl::OkStatus();
      }));
  RETURN_IF_ERROR(absmax.Finish());
  return codes.Finish(CodeOfZero(tensor.format));
}

absl::Status AddFourBits(const ModelToSave& model,
                         const StoredTensorView& tensor,
                         std::vector<TensorGroup>& groups) {
  const quant::CodeFormat& format = tensor.format;
  const int64_t elements = tensor.rows() * tensor.cols();
  const bool is_nested = format.fields.size() > 1;
  const auto part = [&](std::string_view suffix) {
    return StrCat(tensor.name(), ".", suffix);
  };
  const auto count = [&](size_t field) {
    return format.fields[field].reach.Count(tensor.rows(), tensor.cols());
  };
  TensorGroup group = {.weight = tensor.name()};
  group.tensors = {
      {tensor.name(), DType::kU8, {(elements + 1) / 2, 1}},
      {part("absmax"), is_nested ? DType::kU8 : DType::kF32, {count(0)}}};
  if (is_nested) {
    group.tensors.push_back({part("nested_absmax"), DType::kF32, {count(1)}});
  }
  group.write = [&model, tensor](absl::Span<TensorSink> sinks) {
    return WriteFourBits(model, tensor, sinks);
  };
  groups.push_back(std::move(group));

  const auto add_floats = [&](std::string_view suffix,
                              absl::Span<const float> values) {
    groups.push_back(SmallTensor(
        {part(suffix), DType::kF32, {static_cast<int64_t>(values.size())}},
        BytesOf(values)));
  };
  add_floats("quant_map", format.tables);
  std::string state = QuantState(tensor, nullptr);
  if (is_nested) {
    ASSIGN_OR_RETURN(const Nested nested, NestedOf(model, tensor));
    add_floats("nested_quant_map", nested.map);
    state = QuantState(tensor, &nested);
  }
  const auto size = static_cast<int64_t>(state.size());
  groups.push_back(
      SmallTensor({part(StrCat("quant_state.bitsandbytes__", format.element)),
                   DType::kU8,
                   {size}},
                  std::move(state)));
  return absl::OkStatus();
}

// Of a model with these codes.
json ConfigOf(const ModelToSave& model, const StoredTensorView& coded) {
  const bool is_int8 = coded.spec.method->name() == kInt8;
  const quant::ParamValues& params = coded.spec.params;
  return {{"quant_method", kName},
          {"load_in_8bit", is_int8},
          {"_load_in_8bit", is_int8},
          {"load_in_4bit", !is_int8},
          {"_load_in_4bit", !is_int8},
          {"llm_int8_threshold",
           is_int8 ? quant::NumberOf(params, "threshold") : 6.0},
          {"llm_int8_skip_modules", FloatLinears(model)},
          {"llm_int8_has_fp16_weight", false},
          {"llm_int8_enable_fp32_cpu_offload", false},
          {"bnb_4bit_compute_dtype",
           is_int8 ? "float32" : quant::Name(coded.report->counted->dtype)},
          {"bnb_4bit_quant_storage", "uint8"},
          {"bnb_4bit_quant_type", is_int8 ? "fp4" : coded.format.element},
          {"bnb_4bit_use_double_quant",
           !is_int8 && quant::BooleanOf(params, "double_quant")}};
}

class Bitsandbytes final : public SaveFormat {
 public:
  std::string_view name() const override { return kName; }
  std::string_view summary() const override {
    return "bitsandbytes' codes as transformers saves them; of linear layers "
           "in bnb-int8, bnb-nf4 or bnb-fp4, all in one.";
  }

  absl::StatusOr<std::unique_ptr<const WeightFiles>> LayOut(
      const ModelToSave& model) const override {
    const StoredTensorView* first = nullptr;
    for (const StoredTensorView& tensor : model.tensors) {
      if (tensor.is_float()) continue;
      RETURN_IF_ERROR(Check(model, tensor, first));
      if (first == nullptr) first = &tensor;
    }
    if (first == nullptr) {
      return model.CannotHold(kName, model.tensors.front(),
                              "no linear layer is in codes");
    }
    std::vector<TensorGroup> groups;
    for (const StoredTensorView& tensor : model.tensors) {
      if (tensor.is_float()) {
        groups.push_back(FloatTensor(model, tensor));
      } else if (tensor.spec.method->name() == kInt8) {
        groups.push_back(Int8Group(model, tensor));
      } else {
        RETURN_IF_ERROR(AddFourBits(model, tensor, groups));
      }
    }
    json config;
    config["quantization_config"] = ConfigOf(model, *first);
    return SafetensorsFiles(std::move(groups), std::move(config),
                            model.max_shard_bytes);
  }

 private:
  // `first`: the first in codes, null if there was none.
  static absl::Status Check(const ModelToSave& model,
                            const StoredTensorView& tensor,
                            const StoredTensorView* first) {
    if (!tensor.spec.method->name().starts_with(kFourBits)) {
      return model.CannotHold(kName, tensor,
                              "it holds bnb-int8, bnb-nf4 and bnb-fp4");
    }
    if (first != nullptr && tensor.spec.ToString() != first->spec.ToString()) {
      return model.CannotHold(
          kName, tensor,
          StrCat("all codes of a model are of one kind, and '", first->name(),
                 "' is stored as ", first->report->method));
    }
    return CheckLinear(model, kName, tensor);
  }
};

}  // namespace

const SaveFormat& BitsandbytesSaveFormat() {
  static const Bitsandbytes format;
  return format;
}

}  // namespace ounce::model
