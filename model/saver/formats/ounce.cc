// Ounce's own layout, for whatever a plan makes (docs/format.md): codes and
// integer fields as streams of bits, the other fields as floats.
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/formats/ounce_layout.h"
#include "model/saver/safetensors_files.h"
#include "model/saver/save_format.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using quant::CodeBand;
using quant::CodeField;
using quant::DType;

// A stream of numbers of some bits each, lowest bits first, as it grows.
class BitStream {
 public:
  BitStream(TensorSink* sink, int bits) : sink_(sink), bits_(bits) {}

  // Numbers of more bits are cut: negative ones are two's complement.
  void Add(uint64_t number) {
    pending_ |= (number & ((uint64_t{1} << bits_) - 1)) << pending_bits_;
    for (pending_bits_ += bits_; pending_bits_ >= 8; pending_bits_ -= 8) {
      bytes_.push_back(static_cast<char>(pending_ & 0xff));
      pending_ >>= 8;
    }
  }
  // Writes what is whole; at the end all of it.
  absl::Status Flush(bool is_end) {
    if (is_end && pending_bits_ > 0) {
      bytes_.push_back(static_cast<char>(pending_));
    }
    const auto size = static_cast<int64_t>(bytes_.size());
    RETURN_IF_ERROR(sink_->WriteAt(written_, bytes_.data(), size));
    written_ += size;
    bytes_.clear();
    return absl::OkStatus();
  }

 private:
  TensorSink* sink_;
  const int bits_;
  uint64_t pending_ = 0;  // fewer than 8 bits between calls
  int pending_bits_ = 0;
  std::string bytes_;
  int64_t written_ = 0;
};

// Values of a field, of which bands have overlapping ranges.
class FieldStream {
 public:
  FieldStream(const CodeField& field, TensorSink* sink)
      : field_(field), sink_(sink), bits_(sink, field.bits) {}

  absl::Status Add(const CodeBand& band, size_t index, int64_t cols) {
    const CodeBand::Field& values = band.fields[index];
    const int64_t end =
        field_.reach.IndexOf(band.first_row + band.rows - 1, cols - 1, cols) +
        1;
    if (end <= next_) return absl::OkStatus();
    const float* from = values.values.data() + (next_ - values.first);
    const int64_t count = end - next_;
    if (field_.is_integer()) {
      for (int64_t i = 0; i < count; ++i) {
        bits_.Add(static_cast<uint64_t>(static_cast<int64_t>(from[i])));
      }
      RETURN_IF_ERROR(bits_.Flush(/*is_end=*/false));
    } else {
      const DType dtype = OunceFieldDType(field_);
      const int64_t size = quant::SizeOf(dtype);
      std::vector<std::byte> bytes(count * size);
      quant::FromFloat(dtype, from, count, bytes.data());
      RETURN_IF_ERROR(sink_->WriteAt(next_ * size, bytes.data(), count * size));
    }
    next_ = end;
    return absl::OkStatus();
  }
  absl::Status Finish() {
    return field_.is_integer() ? bits_.Flush(/*is_end=*/true)
                               : absl::OkStatus();
  }

 private:
  const CodeField& field_;
  TensorSink* sink_;
  BitStream bits_;
  int64_t next_ = 0;  // index of the first value that is not written
};

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
