#include "model/saver/linear_modules.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/coded_tensor.h"
#include "model/weight_role.h"

namespace ounce::model {
namespace {

// Of checkpoints that were saved without a head: transformers puts one of these
// before their names.
constexpr std::string_view kPrefixes[] = {"transformer.", "model.",
                                          "gpt_neox."};

bool HasPrefix(const std::string& module) {
  return std::any_of(
      std::begin(kPrefixes), std::end(kPrefixes),
      [&](std::string_view prefix) { return module.starts_with(prefix); });
}

bool HasOrder(const ModelToSave& model, const StoredTensorView& tensor) {
  const StoredAs& stored = *tensor.report->stored_as;
  return stored.keeps_codes &&
         model.checkpoint.tensors().at(stored.tensor).coded->ordered;
}

}  // namespace

absl::Status CheckLinear(const ModelToSave& model, std::string_view format,
                         const StoredTensorView& tensor) {
  const auto refuse = [&](std::string_view why) {
    return model.CannotHold(format, tensor, why);
  };
  switch (tensor.report->role) {
    case WeightRole::kEmbedding:
      return refuse("it holds embeddings as floats only");
    case WeightRole::kConvolution:
      return refuse("it holds convolutions as floats only");
    case WeightRole::kLinear:
    case WeightRole::kHead:
      break;
  }
  if (tensor.report->stored_as->activations != 16) {
    return refuse(
        "it has no place for activations in 8 bits; leave 'activations=8' out "
        "of the rule");
  }
  if (HasOrder(model, tensor)) {
    return refuse("its columns are sorted by importance");
  }
  return absl::OkStatus();
}

absl::Status CheckPlainLinear(const ModelToSave& model, std::string_view format,
                              const StoredTensorView& tensor) {
  RETURN_IF_ERROR(CheckLinear(model, format, tensor));
  if (!tensor.report->is_conv1d) return absl::OkStatus();
  return model.CannotHold(
      format, tensor,
      "its layer is a Conv1D in transformers, and tools that read the format "
      "know Linear alone");
}

absl::Status CheckFloat16Scales(const ModelToSave& model,
                                std::string_view format,
                                const StoredTensorView& tensor,
                                const GroupedIntegers& integers) {
  if (integers.scales != quant::DType::kF16) {
    return model.CannotHold(
        format, tensor,
        StrCat("its scales are float16, and these are ",
               quant::Name(integers.scales), ", as the checkpoint is"));
  }
  if (integers.group == GroupedIntegers::kMatrix) {
    return model.CannotHold(
        format, tensor,
        "it has scales by row or group; use granularity=channel");
  }
  return absl::OkStatus();
}

absl::Status CheckWholeGroups(const ModelToSave& model, std::string_view format,
                              const StoredTensorView& tensor,
                              const GroupedIntegers& integers) {
  if (integers.group <= 0 || tensor.cols() % integers.group == 0) {
    return absl::OkStatus();
  }
  return model.CannotHold(
      format, tensor,
      StrCat("groups, here of ", integers.group, ", must divide its ",
             tensor.cols(), " columns"));
}

std::vector<std::string> LoadedNames(const StoredTensorView& tensor) {
  std::vector<std::string> names = {tensor.module()};
  if (tensor.report->role == WeightRole::kHead || HasPrefix(names[0])) {
    return names;
  }
  for (const std::string_view prefix : kPrefixes) {
    names.push_back(StrCat(prefix, names[0]));
  }
  return names;
}

std::vector<std::string> FloatLinears(const ModelToSave& model) {
  std::vector<std::string> floats;
  bool has_head = false;
  const StoredTensorView* embedding = nullptr;
  for (const StoredTensorView& tensor : model.tensors) {
    const TensorReport& report = *tensor.report;
    if (report.is_vector) continue;
    has_head |= report.role == WeightRole::kHead;
    if (report.role == WeightRole::kEmbedding) embedding = &tensor;
    if (!tensor.is_float() || (report.role != WeightRole::kLinear &&
                               report.role != WeightRole::kHead)) {
      continue;
    }
    for (std::string& name : LoadedNames(tensor)) {
      floats.push_back(std::move(name));
    }
  }
  if (embedding != nullptr && !has_head) {
    // GPT-NeoX has names of its own.
    floats.push_back(embedding->module().ends_with("embed_in") ? "embed_out"
                                                               : "lm_head");
  }
  return floats;
}

absl::Status CheckNoneContains(const ModelToSave& model,
                               std::string_view format,
                               const std::vector<std::string>& floats) {
  for (const StoredTensorView& tensor : model.tensors) {
    if (tensor.is_float()) continue;
    for (const std::string& module : floats) {
      if (tensor.module().find(module) == std::string::npos) continue;
      return model.CannotHold(
          format, tensor,
          StrCat("'", module,
                 "' is stored as floats, and tools that read the format leave "
                 "out whatever has that in its name"));
    }
  }
  return absl::OkStatus();
}

}  // namespace ounce::model
