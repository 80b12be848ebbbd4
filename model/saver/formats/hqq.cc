// HQQ's files, as the package and transformers save them: codes of the method
// hqq. The reader (model/checkpoint/formats/hqq.cc) describes the tensors.
//
// Source: mobiusml/hqq, hqq/core/quantize.py (HQQLinear.state_dict) and
// bitpack.py; transformers, quantizers/quantizer_hqq.py.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/formats/ounce_layout.h"
#include "model/saver/linear_modules.h"
#include "model/saver/safetensors_files.h"
#include "model/saver/save_format.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using quant::CodeBand;
using quant::CodeFormat;
using quant::DType;

constexpr std::string_view kName = "hqq";

struct Layout {
  int bits = 4;
  int64_t group = 64;  // elements that share a scale
  int64_t groups = 0;  // of the matrix
  int in_element = 2;  // groups that an element of W_q has a number of
  int64_t stored = 0;  // elements of W_q
  bool words = false;  // int32, of 3 bits
  DType scales = DType::kF16;
};

// Requires groups that all are as long.
Layout LayoutOf(const StoredTensorView& tensor) {
  const CodeFormat& format = tensor.format;
  const quant::Reach& reach = format.fields[0].reach;
  Layout layout = {.bits = format.bits,
                   .group = reach.flat > 0
                                ? reach.flat
                                : std::min(reach.cols, tensor.cols()),
                   .scales = OunceFieldDType(format.fields[0])};
  layout.groups = reach.Count(tensor.rows(), tensor.cols());
  layout.words = layout.bits == 3;
  layout.in_element = layout.words ? 10 : 8 / layout.bits;
  layout.stored = (layout.groups + layout.in_element - 1) / layout.in_element *
                  layout.group;
  return layout;
}

// An element has numbers of groups that lie far apart, so rows are read in as
// many places at once, and scales come in no order.
template <class Element>
class PackedCodes {
 public:
  // `sinks`: of W_q, scales and zero-points.
  PackedCodes(const quant::CodeRows& codes, const Layout& layout,
              absl::Span<TensorSink> sinks)
      : codes_(codes), layout_(layout), sinks_(sinks) {}

  absl::Status Write() {
    const int64_t cols = codes_.cols();
    const int64_t at_once = std::max(kElements / cols, int64_t{1}) * cols;
    for (int64_t first = 0; first < layout_.stored; first += at_once) {
      elements_.assign(std::min(at_once, layout_.stored - first), 0);
      for (int place = 0; place < layout_.in_element; ++place) {
        RETURN_IF_ERROR(AddPlace(first, place));
      }
      RETURN_IF_ERROR(sinks_[0].WriteAt(
          first * static_cast<int64_t>(sizeof(Element)), elements_.data(),
          static_cast<int64_t>(elements_.size() * sizeof(Element))));
    }
    return absl::OkStatus();
  }

 private:
  static constexpr int64_t kElements = 1 << 18;

  // Numbers that elements from `first` on have in a place; behind the matrix's
  // end they are 0.
  absl::Status AddPlace(int64_t first, int place) {
    const int64_t cols = codes_.cols();
    const int64_t begin = place * layout_.stored + first;
    const int64_t end = std::min(begin + static_cast<int64_t>(elements_.size()),
                                 codes_.rows() * cols);
    if (begin >= end) return absl::OkStatus();
    const int64_t row = begin / cols;
    RETURN_IF_ERROR(codes_.Read(row, (end - 1) / cols + 1 - row, band_));
    const int shift = (layout_.in_element - 1 - place) * layout_.bits;
    const auto* from = reinterpret_cast<const uint8_t*>(band_.elements.data()) +
                       (begin - row * cols);
    for (int64_t i = 0; i < end - begin; ++i) {
      elements_[i] |=
          static_cast<Element>(static_cast<Element>(from[i]) << shift);
    }
    RETURN_IF_ERROR(WriteField(band_.fields[0], sinks_[1]));
    return WriteField(band_.fields[1], sinks_[2]);
  }

  absl::Status WriteField(const CodeBand::Field& field, TensorSink& sink) {
    const auto count = static_cast<int64_t>(field.values.size());
    const int64_t size = quant::SizeOf(layout_.scales);
    std::vector<std::byte> bytes(count * size);
    quant::FromFloat(layout_.scales, field.values.data(), count, bytes.data());
    return sink.WriteAt(field.first * size, bytes.data(), count * size);
  }

  const quant::CodeRows& codes_;
  const Layout& layout_;
  const absl::Span<TensorSink> sinks_;
  CodeBand band_;
  std::vector<Element> elements_;
};

TensorGroup CodedGroup(const ModelToSave& model, const StoredTensorView& tensor,
                       const Layout& layout) {
  const auto part = [&](const char* suffix) {
    return tensor.module() + suffix;
  };
  TensorGroup group = {.weight = tensor.name()};
  group.tensors = {{part(".W_q"),
                    layout.words ? DType::kI32 : DType::kU8,
                    {layout.stored / layout.group, layout.group}},
                   {part(".scale"), layout.scales, {layout.groups, 1}},
                   {part(".zero"), layout.scales, {layout.groups, 1}}};
  group.write = [&model, tensor,
                 layout](absl::Span<TensorSink> sinks) -> absl::Status {
    ASSIGN_OR_RETURN(const auto codes, model.Open(tensor));
    return layout.words ? PackedCodes<uint32_t>(*codes, layout, sinks).Write()
                        : PackedCodes<uint8_t>(*codes, layout, sinks).Write();
  };
  return group;
}

// Little-endian.
std::string BytesOf(int64_t number, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) {
    text.push_back(static_cast<char>(number >> 8 * i & 0xff));
  }
  return text;
}

// What the codes are made of, which HQQ's reader takes from the file.
void AddSettings(const StoredTensorView& tensor, const Layout& layout,
                 std::vector<TensorGroup>& groups) {
  const auto add = [&](const char* name, DType dtype,
                       std::vector<int64_t> shape, std::string bytes) {
    groups.push_back(
        SmallTensor({StrCat(tensor.module(), ".", name), dtype, shape}, bytes));
  };
  const std::pair<const char*, int64_t> numbers[] = {
      {"nbits", layout.bits}, {"group_size", layout.group}, {"axis", 1}};
  for (const auto& [name, value] : numbers) {
    add(name, DType::kI32, {}, BytesOf(value, 4));
  }
  const std::pair<const char*, bool> flags[] = {
      {"view_as_float", false},     {"quant_scale", false},
      {"quant_zero", false},        {"offload_meta", false},
      {"encoded_state_dict", true}, {"stores_quant_config", true},
      {"channel_wise", true},       {"optimize", true},
      {"round_zero", false}};
  for (const auto& [name, value] : flags) {
    add(name, DType::kU8, {}, BytesOf(value ? 1 : 0, 1));
  }
  const std::pair<const char*, std::string> texts[] = {
      {"packing", layout.words ? "3bit_32" : StrCat(layout.bits, "bit_u8")},
      {"unpack_view_dtype", layout.words ? "torch.int32" : "torch.uint8"},
      {"compute_dtype", StrCat("torch.", quant::Name(layout.scales))}};
  for (const auto& [name, text] : texts) {
    add(name, DType::kU8, {static_cast<int64_t>(text.size())}, text);
  }
  add("shape", DType::kI64, {2},
      BytesOf(tensor.rows(), 8) + BytesOf(tensor.cols(), 8));
}

absl::Status Check(const ModelToSave& model, const StoredTensorView& tensor) {
  const auto refuse = [&](std::string_view why) {
    return model.CannotHold(kName, tensor, why);
  };
  if (tensor.spec.method->name() != kName) {
    return refuse("it holds codes of the method hqq");
  }
  RETURN_IF_ERROR(CheckPlainLinear(model, kName, tensor));
  const Layout layout = LayoutOf(tensor);
  if (layout.groups * layout.group != tensor.rows() * tensor.cols()) {
    return refuse(StrCat("its rows of ", tensor.cols(),
                         " columns end within a group of ", layout.group,
                         "; choose a group that divides them, or group=-1"));
  }
  if (!layout.words && layout.groups % layout.in_element != 0) {
    return refuse(StrCat("an element of its W_q has numbers of ",
                         layout.in_element, " groups, and there are ",
                         layout.groups));
  }
  return absl::OkStatus();
}

// `coded`: one of the tensors in codes. Readers take what each has beside it.
json ConfigOf(const StoredTensorView& coded, std::vector<std::string> floats) {
  const Layout layout = LayoutOf(coded);
  const json weights = {{"nbits", layout.bits},       {"axis", 1},
                        {"channel_wise", true},       {"optimize", true},
                        {"group_size", layout.group}, {"round_zero", false},
                        {"view_as_float", false}};
  return {{"quant_method", kName},
          {"quant_config",
           {{"weight_quant_params", weights},
            {"scale_quant_params", nullptr},
            {"zero_quant_params", nullptr},
            {"offload_meta", false}}},
          {"skip_modules", std::move(floats)}};
}

class Hqq final : public SaveFormat {
 public:
  std::string_view name() const override { return kName; }
  std::string_view summary() const override {
    return "HQQ's codes as its package and transformers save them; of linear "
           "layers in hqq.";
  }

  absl::StatusOr<std::unique_ptr<const WeightFiles>> LayOut(
      const ModelToSave& model) const override {
    std::vector<TensorGroup> groups;
    const StoredTensorView* coded = nullptr;
    for (const StoredTensorView& tensor : model.tensors) {
      if (tensor.is_float()) {
        groups.push_back(FloatTensor(model, tensor));
        continue;
      }
      RETURN_IF_ERROR(Check(model, tensor));
      if (coded == nullptr) coded = &tensor;
      const Layout layout = LayoutOf(tensor);
      groups.push_back(CodedGroup(model, tensor, layout));
      AddSettings(tensor, layout, groups);
    }
    if (coded == nullptr) {
      return model.CannotHold(kName, model.tensors.front(),
                              "no linear layer is in codes");
    }
    std::vector<std::string> floats = FloatLinears(model);
    RETURN_IF_ERROR(CheckNoneContains(model, kName, floats));
    json config;
    config["quantization_config"] = ConfigOf(*coded, std::move(floats));
    return SafetensorsFiles(std::move(groups), std::move(config),
                            model.max_shard_bytes);
  }
};

}  // namespace

const SaveFormat& HqqSaveFormat() {
  static const Hqq format;
  return format;
}

}  // namespace ounce::model
