// GPTQ's files, as AutoGPTQ and GPTQModel write them, of integers of the method
// linear. The reader (model/checkpoint/formats/gptq.cc) describes the tensors.
//
// `checkpoint_format` is "gptq" of symmetric codes, whose zero-points are all
// the middle: everybody reads it. It stores zero-points less one, and readers
// differ in what the zero-point 0 becomes (AutoGPTQ makes it 2^bits), so that
// asymmetric codes are written as "gptq_v2", which has them as they are.
//
// Source: AutoGPTQ/AutoGPTQ, auto_gptq/nn_modules/qlinear and
// quantization/config.py; ModelCloud/GPTQModel, quantization/config.py.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/saver/integer_codes.h"
#include "model/saver/linear_modules.h"
#include "model/saver/safetensors_files.h"
#include "model/saver/save_format.h"
#include "model/saver/transposed_words.h"
#include "model/weight_role.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using quant::DType;

constexpr std::string_view kName = "gptq";
// AutoGPTQ's layers hold so many rows and columns, and multiples of them.
constexpr int64_t kUnit = 32;

absl::Status WriteCodes(const ModelToSave& model,
                        const StoredTensorView& tensor,
                        absl::Span<TensorSink> sinks) {
  const GroupedIntegers integers = *IntegersOf(tensor);
  const int bits = integers.bits;
  const int64_t rows = tensor.rows(), cols = tensor.cols();
  const int64_t groups = integers.groups(cols), of_row = WordsOf(cols, bits);
  const int zero_offset = integers.symmetric ? 1 : 0;

  std::vector<int32_t> group_of(cols);
  for (int64_t col = 0; col < cols; ++col) {
    group_of[col] =
        static_cast<int32_t>(integers.group <= 0 ? 0 : col / integers.group);
  }
  RETURN_IF_ERROR(sinks[3].WriteAt(
      0, group_of.data(), cols * static_cast<int64_t>(sizeof(int32_t))));

  return ForEachIntegerBand(
      model, tensor, [&](const IntegerBand& band) -> absl::Status {
        WordColumns codes(of_row, band.rows);
        for (int64_t row = 0; row < band.rows; ++row) {
          for (int64_t col = 0; col < cols; ++col) {
            codes.PutDown(band.codes[row * cols + col], row, col * bits, bits);
          }
        }
        RETURN_IF_ERROR(codes.Write(band.first_row, rows, sinks[0]));
        WordColumns zeros(groups, WordsOf(band.rows, bits));
        for (int64_t row = 0; row < band.rows; ++row) {
          for (int64_t group = 0; group < groups; ++group) {
            zeros.PutAcross(static_cast<uint8_t>(
                                band.zeros[row * groups + group] - zero_offset),
                            group, row * bits, bits);
          }
        }
        RETURN_IF_ERROR(zeros.Write(band.first_row * bits / 32,
                                    WordsOf(rows, bits), sinks[1]));
        return WriteScaleColumns(band, groups, rows, sinks[2]);
      });
}

TensorGroup CodedGroup(const ModelToSave& model,
                       const StoredTensorView& tensor) {
  const GroupedIntegers integers = *IntegersOf(tensor);
  const int64_t groups = integers.groups(tensor.cols());
  const auto part = [&](const char* suffix) {
    return tensor.module() + suffix;
  };
  TensorGroup group = {.weight = tensor.name()};
  group.tensors = {{part(".qweight"),
                    DType::kI32,
                    {WordsOf(tensor.cols(), integers.bits), tensor.rows()}},
                   {part(".qzeros"),
                    DType::kI32,
                    {groups, WordsOf(tensor.rows(), integers.bits)}},
                   {part(".scales"), DType::kF16, {groups, tensor.rows()}},
                   {part(".g_idx"), DType::kI32, {tensor.cols()}}};
  group.write = [&model, tensor](absl::Span<TensorSink> sinks) {
    return WriteCodes(model, tensor, sinks);
  };
  return group;
}

// For GPTQModel and vLLM: modules that are no codes, as patterns.
json Dynamic(const std::vector<std::string>& floats) {
  json dynamic = json::object();
  for (const std::string& module : floats) {
    if (module == "lm_head") continue;  // has a field of its own
    std::string pattern = "-:^";
    for (const char c : module) {
      if (c == '.') pattern += '\\';
      pattern += c;
    }
    dynamic[pattern + "$"] = json::object();
  }
  return dynamic;
}

json ConfigOf(const ModelToSave& model, const StoredTensorView& coded) {
  const GroupedIntegers integers = *IntegersOf(coded);
  const bool has_head = std::any_of(
      model.tensors.begin(), model.tensors.end(),
      [](const StoredTensorView& tensor) {
        return !tensor.is_float() && tensor.report->role == WeightRole::kHead;
      });
  json config = {
      {"quant_method", kName},
      {"bits", integers.bits},
      {"group_size", integers.group},
      {"damp_percent", 0.01},
      {"desc_act", false},
      {"static_groups", false},
      {"sym", integers.symmetric},
      {"true_sequential", true},
      {"lm_head", has_head},
      {"checkpoint_format", integers.symmetric ? "gptq" : "gptq_v2"}};
  const json dynamic = Dynamic(FloatLinears(model));
  if (!dynamic.empty()) config["dynamic"] = dynamic;
  return config;
}

// Also writes the config by itself, where AutoGPTQ looks for it.
class Files final : public WeightFiles {
 public:
  Files(std::unique_ptr<const WeightFiles> weights, json config)
      : weights_(std::move(weights)), config_(std::move(config)) {}

  int64_t bytes() const override { return weights_->bytes(); }
  std::optional<json> config() const override { return weights_->config(); }
  absl::Status Write(NewFolder& folder,
                     const SavedTensorDone& done) const override {
    RETURN_IF_ERROR(weights_->Write(folder, done));
    return folder.Write("quantize_config.json", config_.dump(2) + "\n");
  }

 private:
  const std::unique_ptr<const WeightFiles> weights_;
  const json config_;
};

// `first`: the first in codes, null if there was none.
absl::Status Check(const ModelToSave& model, const StoredTensorView& tensor,
                   const StoredTensorView* first) {
  const auto refuse = [&](std::string_view why) {
    return model.CannotHold(kName, tensor, why);
  };
  const auto integers = IntegersOf(tensor);
  if (!integers.has_value() || integers->bits == 5 || integers->bits == 6 ||
      integers->bits == 7 || integers->bits == 1) {
    return refuse("it holds codes of linear of 2, 3, 4 and 8 bits");
  }
  RETURN_IF_ERROR(CheckLinear(model, kName, tensor));
  RETURN_IF_ERROR(CheckFloat16Scales(model, kName, tensor, *integers));
  if (tensor.rows() % kUnit != 0 || tensor.cols() % kUnit != 0) {
    return refuse(StrCat("it holds multiples of ", kUnit,
                         " rows and columns, and these are ", tensor.rows(),
                         " and ", tensor.cols()));
  }
  RETURN_IF_ERROR(CheckWholeGroups(model, kName, tensor, *integers));
  if (first == nullptr) return absl::OkStatus();
  const GroupedIntegers others = *IntegersOf(*first);
  if (integers->bits != others.bits || integers->group != others.group ||
      integers->symmetric != others.symmetric) {
    return refuse(
        StrCat("all codes of a model have the same bits, group and "
               "mode, and '",
               first->name(), "' is stored as ", first->report->method));
  }
  return absl::OkStatus();
}

class Gptq final : public SaveFormat {
 public:
  std::string_view name() const override { return kName; }
  std::string_view summary() const override {
    return "GPTQ's layout, which most servers read; of linear layers in "
           "linear of 2, 3, 4 or 8 bits, of checkpoints in float16.";
  }

  absl::StatusOr<std::unique_ptr<const WeightFiles>> LayOut(
      const ModelToSave& model) const override {
    std::vector<TensorGroup> groups;
    const StoredTensorView* first = nullptr;
    for (const StoredTensorView& tensor : model.tensors) {
      if (tensor.is_float()) {
        groups.push_back(FloatTensor(model, tensor));
        continue;
      }
      RETURN_IF_ERROR(Check(model, tensor, first));
      if (first == nullptr) first = &tensor;
      groups.push_back(CodedGroup(model, tensor));
    }
    if (first == nullptr) {
      return model.CannotHold(kName, model.tensors.front(),
                              "no linear layer is in codes");
    }
    json config;
    config["quantization_config"] = ConfigOf(model, *first);
    json beside = config["quantization_config"];
    return std::make_unique<const Files>(
        SafetensorsFiles(std::move(groups), std::move(config),
                         model.max_shard_bytes),
        std::move(beside));
  }
};

}  // namespace

const SaveFormat& GptqSaveFormat() {
  static const Gptq format;
  return format;
}

}  // namespace ounce::model
