// AWQ's files, version gemm, as AutoAWQ writes them, of integers of the method
// linear in 4 bits. The reader (model/checkpoint/formats/awq.cc) describes the
// tensors. Symmetric codes have the middle for zero-points.
//
// Source: casper-hansen/AutoAWQ, awq/modules/linear/gemm.py and
// models/_config.py.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/formats/awq_layout.h"
#include "model/saver/integer_codes.h"
#include "model/saver/linear_modules.h"
#include "model/saver/safetensors_files.h"
#include "model/saver/save_format.h"
#include "model/saver/transposed_words.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using quant::DType;

constexpr std::string_view kName = "awq";

// Numbers [band.rows, of_row], eight rows to a word.
absl::Status WriteWords(const std::vector<uint8_t>& numbers,
                        const IntegerBand& band, int64_t of_row, int64_t rows,
                        TensorSink& sink) {
  WordColumns words(of_row, band.rows / kAwqInWord);
  for (int64_t row = 0; row < band.rows; ++row) {
    const int place = kAwqPlaceOf[row % kAwqInWord];
    for (int64_t i = 0; i < of_row; ++i) {
      words.word(i, row / kAwqInWord) |= uint32_t{numbers[row * of_row + i]}
                                         << place * kAwqBits;
    }
  }
  return words.Write(band.first_row / kAwqInWord, rows / kAwqInWord, sink);
}

TensorGroup CodedGroup(const ModelToSave& model,
                       const StoredTensorView& tensor) {
  const int64_t rows = tensor.rows(), cols = tensor.cols();
  const int64_t groups = IntegersOf(tensor)->groups(cols);
  const auto part = [&](const char* suffix) {
    return tensor.module() + suffix;
  };
  TensorGroup group = {.weight = tensor.name()};
  group.tensors = {{part(".qweight"), DType::kI32, {cols, rows / kAwqInWord}},
                   {part(".qzeros"), DType::kI32, {groups, rows / kAwqInWord}},
                   {part(".scales"), DType::kF16, {groups, rows}}};
  group.write = [&model, tensor, rows, cols,
                 groups](absl::Span<TensorSink> sinks) {
    return ForEachIntegerBand(
        model, tensor, [&](const IntegerBand& band) -> absl::Status {
          RETURN_IF_ERROR(WriteWords(band.codes, band, cols, rows, sinks[0]));
          RETURN_IF_ERROR(WriteWords(band.zeros, band, groups, rows, sinks[1]));
          return WriteScaleColumns(band, groups, rows, sinks[2]);
        });
  };
  return group;
}

// `group`: of the tensors in codes before, if there was one.
absl::Status Check(const ModelToSave& model, const StoredTensorView& tensor,
                   const std::optional<int64_t>& group) {
  const auto refuse = [&](std::string_view why) {
    return model.CannotHold(kName, tensor, why);
  };
  const auto integers = IntegersOf(tensor);
  if (!integers.has_value() || integers->bits != kAwqBits) {
    return refuse("it holds codes of linear of 4 bits");
  }
  RETURN_IF_ERROR(CheckPlainLinear(model, kName, tensor));
  RETURN_IF_ERROR(CheckFloat16Scales(model, kName, tensor, *integers));
  if (tensor.rows() % kAwqInWord != 0) {
    return refuse(StrCat("it packs ", kAwqInWord, " rows to a word, and of ",
                         tensor.rows(), " some are left"));
  }
  RETURN_IF_ERROR(CheckWholeGroups(model, kName, tensor, *integers));
  if (group.has_value() && integers->group != *group) {
    return refuse(StrCat("all codes of a model have the same group, and ",
                         *group, " came before"));
  }
  return absl::OkStatus();
}

class Awq final : public SaveFormat {
 public:
  std::string_view name() const override { return kName; }
  std::string_view summary() const override {
    return "AWQ's layout (gemm); of linear layers in linear of 4 bits, of "
           "checkpoints in float16.";
  }

  absl::StatusOr<std::unique_ptr<const WeightFiles>> LayOut(
      const ModelToSave& model) const override {
    std::vector<TensorGroup> groups;
    std::optional<int64_t> group;
    for (const StoredTensorView& tensor : model.tensors) {
      if (tensor.is_float()) {
        groups.push_back(FloatTensor(model, tensor));
        continue;
      }
      RETURN_IF_ERROR(Check(model, tensor, group));
      group = IntegersOf(tensor)->group;
      groups.push_back(CodedGroup(model, tensor));
    }
    if (!group.has_value()) {
      return model.CannotHold(kName, model.tensors.front(),
                              "no linear layer is in codes");
    }
    const std::vector<std::string> floats = FloatLinears(model);
    RETURN_IF_ERROR(CheckNoneContains(model, kName, floats));
    json config;
    config["quantization_config"] = {
        {"quant_method", kName}, {"bits", kAwqBits},
        {"group_size", *group},  {"zero_point", true},
        {"version", "gemm"},     {"modules_to_not_convert", floats}};
    return SafetensorsFiles(std::move(groups), std::move(config),
                            model.max_shard_bytes);
  }
};

}  // namespace

const SaveFormat& AwqSaveFormat() {
  static const Awq format;
  return format;
}

}  // namespace ounce::model
