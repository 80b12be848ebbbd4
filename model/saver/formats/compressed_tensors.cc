// compressed-tensors' files: integers of the method linear as pack-quantized,
// which is what that library itself makes of weights whose activations stay
// floats, whatever their bits; codes of float8 as float-quantized. The reader
// (model/checkpoint/formats/compressed_tensors.cc) describes the tensors.
//
// Source: vllm-project/compressed-tensors, src/compressed_tensors/compressors,
// quantization/quant_scheme.py and utils/match.py.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/formats/ounce_layout.h"
#include "model/saver/code_streams.h"
#include "model/saver/integer_codes.h"
#include "model/saver/linear_modules.h"
#include "model/saver/safetensors_files.h"
#include "model/saver/save_format.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using quant::DType;

constexpr std::string_view kName = "compressed-tensors";
constexpr const char* kIntegers = "pack-quantized";
constexpr const char* kFloats = "float-quantized";

bool IsFloat8(const StoredTensorView& tensor) {
  return tensor.format.element == "float8_e4m3";
}

// Of scales and zero-points, of which a row has as many as groups.
std::vector<int64_t> ScaleShape(const StoredTensorView& tensor,
                                const GroupedIntegers& integers) {
  if (integers.group == GroupedIntegers::kMatrix) return {1};
  return {tensor.rows(), integers.groups(tensor.cols())};
}

bool PacksZeros(const GroupedIntegers& integers) {
  return !integers.symmetric && integers.group != GroupedIntegers::kMatrix;
}

absl::Status WriteCodes(const IntegerBand& band, int bits, int64_t cols,
                        TensorSink& sink) {
  const int64_t of_row = WordsOf(cols, bits);
  std::vector<uint32_t> words(band.rows * of_row);
  for (int64_t row = 0; row < band.rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      PutNumberAtBit(band.codes[row * cols + col], col * bits, bits,
                     words.data() + row * of_row);
    }
  }
  const int64_t row_bytes = of_row * static_cast<int64_t>(sizeof(uint32_t));
  return sink.WriteAt(band.first_row * row_bytes, words.data(),
                      band.rows * row_bytes);
}

// Packed along rows; [words, groups].
absl::Status WriteZeros(const IntegerBand& band, int bits, int64_t groups,
                        TensorSink& sink) {
  const int64_t count = WordsOf(band.rows, bits);
  std::vector<uint32_t> words(count * groups), of_group(count);
  for (int64_t group = 0; group < groups; ++group) {
    std::fill(of_group.begin(), of_group.end(), 0);
    for (int64_t row = 0; row < band.rows; ++row) {
      PutNumberAtBit(band.zeros[row * groups + group], row * bits, bits,
                     of_group.data());
    }
    for (int64_t i = 0; i < count; ++i) words[i * groups + group] = of_group[i];
  }
  constexpr auto kWord = static_cast<int64_t>(sizeof(uint32_t));
  return sink.WriteAt(band.first_row * bits / 32 * groups * kWord, words.data(),
                      count * groups * kWord);
}

absl::Status WriteIntegers(const ModelToSave& model,
                           const StoredTensorView& tensor,
                           absl::Span<TensorSink> sinks) {
  const GroupedIntegers integers = *IntegersOf(tensor);
  const int64_t cols = tensor.cols(), groups = integers.groups(cols);
  const int64_t shape[] = {tensor.rows(), cols};
  RETURN_IF_ERROR(sinks[2].WriteAt(0, shape, sizeof shape));
  return ForEachIntegerBand(
      model, tensor, [&](const IntegerBand& band) -> absl::Status {
        RETURN_IF_ERROR(WriteCodes(band, integers.bits, cols, sinks[0]));
        const bool of_all = integers.group == GroupedIntegers::kMatrix;
        if (of_all && band.first_row > 0) return absl::OkStatus();
        const int64_t count = of_all ? 1 : band.rows * groups;
        const int64_t size = quant::SizeOf(integers.scales);
        std::vector<std::byte> scales(count * size);
        quant::FromFloat(integers.scales, band.scales.data(), count,
                         scales.data());
        RETURN_IF_ERROR(sinks[1].WriteAt(band.first_row * groups * size,
                                         scales.data(), count * size));
        if (integers.symmetric) return absl::OkStatus();
        if (PacksZeros(integers)) {
          return WriteZeros(band, integers.bits, groups, sinks[3]);
        }
        const auto zero = static_cast<int8_t>(int{band.zeros[0]} -
                                              (1 << (integers.bits - 1)));
        return sinks[3].WriteAt(0, &zero, 1);
      });
}

TensorGroup IntegerGroup(const ModelToSave& model,
                         const StoredTensorView& tensor) {
  const GroupedIntegers integers = *IntegersOf(tensor);
  const int64_t groups = integers.groups(tensor.cols());
  const auto part = [&](const char* suffix) { return tensor.name() + suffix; };
  TensorGroup group = {.weight = tensor.name()};
  group.tensors = {
      {part("_packed"),
       DType::kI32,
       {tensor.rows(), WordsOf(tensor.cols(), integers.bits)}},
      {part("_scale"), integers.scales, ScaleShape(tensor, integers)},
      {part("_shape"), DType::kI64, {2}}};
  if (PacksZeros(integers)) {
    group.tensors.push_back({part("_zero_point"),
                             DType::kI32,
                             {WordsOf(tensor.rows(), integers.bits), groups}});
  } else if (!integers.symmetric) {
    group.tensors.push_back({part("_zero_point"), DType::kI8, {1}});
  }
  group.write = [&model, tensor](absl::Span<TensorSink> sinks) {
    return WriteIntegers(model, tensor, sinks);
  };
  return group;
}

TensorGroup Float8Group(const ModelToSave& model,
                        const StoredTensorView& tensor) {
  const quant::Reach& reach = tensor.format.fields[0].reach;
  std::vector<int64_t> scales = {reach.Count(tensor.rows(), 1),
                                 reach.Count(1, tensor.cols())};
  if (reach.rows == quant::Reach::kAll) scales = {1};
  TensorGroup group = {.weight = tensor.name()};
  group.tensors = {
      {tensor.name(), DType::kF8E4M3, {tensor.rows(), tensor.cols()}},
      {tensor.name() + "_scale", OunceFieldDType(tensor.format.fields[0]),
       std::move(scales)}};
  group.write = [&model, tensor](absl::Span<TensorSink> sinks) {
    FieldStream scales(tensor.format.fields[0], &sinks[1]);
    return ForEachBand(
        model, tensor, [&](const quant::CodeBand& band) -> absl::Status {
          RETURN_IF_ERROR(sinks[0].WriteAt(band.first_row * tensor.cols(),
                                           band.elements.data(),
                                           band.rows * tensor.cols()));
          return scales.Add(band, 0, tensor.cols());
        });
  };
  return group;
}

// The `weights` of a config group.
json SchemeOf(const StoredTensorView& tensor) {
  json scheme = {{"dynamic", false}, {"symmetric", true}};
  if (IsFloat8(tensor)) {
    const quant::Reach& reach = tensor.format.fields[0].reach;
    scheme.update({{"type", "float"}, {"num_bits", 8}});
    if (reach.rows == 1 && reach.cols == quant::Reach::kAll) {
      scheme["strategy"] = "channel";
    } else if (reach.rows == quant::Reach::kAll) {
      scheme["strategy"] = "tensor";
    } else {
      scheme["strategy"] = "block";
      scheme["block_structure"] = {reach.rows,
                                   std::min(reach.cols, tensor.cols())};
    }
    return scheme;
  }
  const GroupedIntegers integers = *IntegersOf(tensor);
  scheme.update({{"type", "int"},
                 {"num_bits", integers.bits},
                 {"symmetric", integers.symmetric}});
  switch (integers.group) {
    case GroupedIntegers::kMatrix:
      scheme["strategy"] = "tensor";
      break;
    case GroupedIntegers::kRow:
      scheme["strategy"] = "channel";
      break;
    default:
      scheme["strategy"] = "group";
      scheme["group_size"] = integers.group;
  }
  return scheme;
}

// Modules by scheme: targets are their names where there are several schemes,
// all linear layers where there is one.
json ConfigOf(const ModelToSave& model) {
  std::map<json, std::vector<std::string>> modules;
  std::map<json, const char*> forms;
  for (const StoredTensorView& tensor : model.tensors) {
    if (tensor.is_float()) continue;
    const json scheme = SchemeOf(tensor);
    for (std::string& name : LoadedNames(tensor)) {
      modules[scheme].push_back(std::move(name));
    }
    forms[scheme] = IsFloat8(tensor) ? kFloats : kIntegers;
  }
  const bool is_mixed = std::any_of(
      forms.begin(), forms.end(),
      [&](const auto& form) { return form.second != forms.begin()->second; });
  json groups = json::object();
  for (const auto& [scheme, names] : modules) {
    json group = {{"weights", scheme},
                  {"input_activations", nullptr},
                  {"output_activations", nullptr}};
    if (modules.size() == 1) {
      group["targets"] = {"Linear"};
    } else {
      group["targets"] = names;
    }
    if (is_mixed) group["format"] = forms[scheme];
    groups[StrCat("group_", groups.size())] = std::move(group);
  }
  return {{"quant_method", kName},
          {"format", is_mixed ? "mixed-precision" : forms.begin()->second},
          {"quantization_status", "compressed"},
          {"config_groups", std::move(groups)},
          {"ignore", FloatLinears(model)}};
}

absl::Status Check(const ModelToSave& model, const StoredTensorView& tensor) {
  const auto refuse = [&](std::string_view why) {
    return model.CannotHold(kName, tensor, why);
  };
  const auto integers = IntegersOf(tensor);
  if (!integers.has_value() && !IsFloat8(tensor)) {
    return refuse("it holds codes of linear, and of float8 in e4m3");
  }
  RETURN_IF_ERROR(CheckPlainLinear(model, kName, tensor));
  if (integers.has_value() && integers->group > 0 &&
      tensor.cols() % integers->group != 0) {
    return refuse(StrCat("tools that read it want groups, here of ",
                         integers->group, ", that divide the ", tensor.cols(),
                         " columns"));
  }
  return absl::OkStatus();
}

class CompressedTensors final : public SaveFormat {
 public:
  std::string_view name() const override { return kName; }
  std::string_view summary() const override {
    return "compressed-tensors, which vLLM and transformers read; of linear "
           "layers in linear or float8.";
  }

  absl::StatusOr<std::unique_ptr<const WeightFiles>> LayOut(
      const ModelToSave& model) const override {
    std::vector<TensorGroup> groups;
    bool has_codes = false;
    for (const StoredTensorView& tensor : model.tensors) {
      if (tensor.is_float()) {
        groups.push_back(FloatTensor(model, tensor));
        continue;
      }
      RETURN_IF_ERROR(Check(model, tensor));
      has_codes = true;
      groups.push_back(IsFloat8(tensor) ? Float8Group(model, tensor)
                                        : IntegerGroup(model, tensor));
    }
    if (!has_codes) {
      return model.CannotHold(kName, model.tensors.front(),
                              "no linear layer is in codes");
    }
    json config;
    config["quantization_config"] = ConfigOf(model);
    return SafetensorsFiles(std::move(groups), std::move(config),
                            model.max_shard_bytes);
  }
};

}  // namespace

const SaveFormat& CompressedTensorsSaveFormat() {
  static const CompressedTensors format;
  return format;
}

}  // namespace ounce::model
