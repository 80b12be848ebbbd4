// Ounce's own layout, for whatever a plan makes (docs/format.md): codes and
// integer fields as streams of bits, the other fields as floats.
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/formats/ounce_layout.h"
#include "model/saver/code_streams.h"
#include "model/saver/safetensors_files.h"
#include "model/saver/save_format.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using quant::CodeBand;

absl::Status WriteCodes(const ModelToSave& model,
                        const StoredTensorView& tensor,
                        absl::Span<TensorSink> sinks) {
  BitStream codes(sinks.data(), tensor.format.bits);
  std::vector<FieldStream> fields;
  for (size_t i = 0; i < tensor.format.fields.size(); ++i) {
    fields.emplace_back(tensor.format.fields[i], &sinks[i + 1]);
  }
  RETURN_IF_ERROR(
      ForEachBand(model, tensor, [&](const CodeBand& band) -> absl::Status {
        for (const std::byte element : band.elements) {
          codes.Add(static_cast<uint8_t>(element));
        }
        RETURN_IF_ERROR(codes.Flush(/*is_end=*/false));
        for (size_t i = 0; i < fields.size(); ++i) {
          RETURN_IF_ERROR(fields[i].Add(band, i, tensor.cols()));
        }
        return absl::OkStatus();
      }));
  for (FieldStream& field : fields) RETURN_IF_ERROR(field.Finish());
  return codes.Flush(/*is_end=*/true);
}

TensorGroup CodedGroup(const ModelToSave& model,
                       const StoredTensorView& tensor) {
  TensorGroup group = {.weight = tensor.name()};
  for (OunceTensor& part :
       OunceTensors(tensor.format, tensor.rows(), tensor.cols())) {
    group.tensors.push_back({.name = tensor.name() + part.suffix,
                             .dtype = part.dtype,
                             .shape = {part.count}});
  }
  group.write = [&model, tensor](absl::Span<TensorSink> sinks) {
    return WriteCodes(model, tensor, sinks);
  };
  return group;
}

json Described(const ModelToSave& model, const StoredTensorView& tensor) {
  const StoredAs& stored = *tensor.report->stored_as;
  const TensorInfo& info = model.checkpoint.tensors().at(stored.tensor);
  // Of a convolution as the network has it; of others by output.
  const bool is_matrix = tensor.report->shape.size() <= 2;
  json weight = {
      {"method", tensor.spec.ToString()},
      {"dtype", quant::Name(info.dtype)},
      {"shape", is_matrix ? std::vector<int64_t>{tensor.rows(), tensor.cols()}
                          : tensor.report->shape}};
  if (stored.activations != 16) weight["activations"] = stored.activations;
  if (!stored.batch_norm.empty() ||
      (info.coded != nullptr && info.coded->folded)) {
    weight["folded"] = true;
  }
  return weight;
}

class Ounce final : public SaveFormat {
 public:
  std::string_view name() const override { return "ounce"; }
  std::string_view summary() const override {
    return "Ounce's own layout, read by Ounce only: every method, every plan.";
  }

  absl::StatusOr<std::unique_ptr<const WeightFiles>> LayOut(
      const ModelToSave& model) const override {
    std::vector<TensorGroup> groups;
    json weights = json::object();
    for (const StoredTensorView& tensor : model.tensors) {
      if (tensor.is_float()) {
        groups.push_back(FloatTensor(model, tensor));
        continue;
      }
      if (!quant::ParseMethodSpec(tensor.spec.ToString()).ok()) {
        return model.CannotHold(
            name(), tensor,
            "these are codes of another tool; 'checkpoint' copies its files, "
            "and a rule with requantize=true makes codes of Ounce's own");
      }
      groups.push_back(CodedGroup(model, tensor));
      weights[tensor.name()] = Described(model, tensor);
    }
    json config;
    config["quantization_config"] = {{"quant_method", kOunceLayout},
                                     {"version", kOunceLayoutVersion},
                                     {"plan", model.report.plan},
                                     {"weights", std::move(weights)}};
    return SafetensorsFiles(std::move(groups), std::move(config),
                            model.max_shard_bytes);
  }
};

}  // namespace

const SaveFormat& OunceSaveFormat() {
  static const Ounce format;
  return format;
}

}  // namespace ounce::model
