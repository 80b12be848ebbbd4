// compressed-tensors' files. A config_groups entry says how some modules'
// weights are stored, and `format` (its own, else the whole config's) where:
//
//   int-quantized, naive-quantized  X.weight int8 [out, in]
//   float-quantized, naive-...      X.weight float8 e4m3 [out, in]
//   pack-quantized                  X.weight_packed int32 [out, words],
//                                   X.weight_shape int64 [2]
//   all: X.weight_scale float [out, groups], [out, 1] or [1]
//        X.weight_zero_point, of asymmetric ones: int8, of the scale's shape,
//        or of pack-quantized int32 [words of out numbers, groups] (one of all
//        is int8 too)
//        X.weight_g_idx int32 [in], of pack-quantized with actorder "group"
//
//   w = scale * (q - zero)
//
// Packed numbers are q + 2^(bits - 1), along a row (zero-points: along a
// column), lowest bits first, across words; of 3, 5, 6 and 7 bits versions up
// to 0.13 put 32 / bits of them in a word and none across two, which the number
// of words tells. What input_activations say is left out: activations are read
// in 16 bits or more.
//
// Source: vllm-project/compressed-tensors, src/compressed_tensors/compressors
// and quantization/quant_args.py.
#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/formats/float8_codes.h"
#include "model/checkpoint/formats/format_fields.h"
#include "model/checkpoint/formats/grouped_integers.h"
#include "model/checkpoint/quantized_format.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;
using quant::CodeFormat;
using quant::DType;
using quant::Reach;

const GroupedIntegersMethod& Method() {
  static const GroupedIntegersMethod method("compressed-tensors");
  return method;
}

// The `weights` of a group of the config.
struct Scheme {
  bool is_float = false;
  GroupedIntegers integers;
  Reach block;                    // of scales, of floats
  std::set<std::string> targets;  // names of modules, of classes, or patterns

  bool Equals(const Scheme& other) const {
    return is_float == other.is_float && integers.bits == other.integers.bits &&
           integers.group == other.integers.group &&
           integers.symmetric == other.integers.symmetric &&
           block.rows == other.block.rows && block.cols == other.block.cols;
  }
};

absl::StatusOr<Scheme> ReadScheme(const json& weights) {
  Scheme scheme;
  ASSIGN_OR_RETURN(const std::string type,
                   OptionalJsonString(weights, "type", "int"));
  ASSIGN_OR_RETURN(const int64_t bits,
                   OptionalJsonInt(weights, "num_bits", 1, 32, 8));
  ASSIGN_OR_RETURN(scheme.integers.symmetric,
                   OptionalJsonBool(weights, "symmetric", true));
  ASSIGN_OR_RETURN(const int64_t group,
                   OptionalJsonInt(weights, "group_size", -1, INT64_MAX, -1));
  // What leaves the strategy out means it by its group.
  ASSIGN_OR_RETURN(
      const std::string strategy,
      OptionalJsonString(weights, "strategy", group > 0 ? "group" : "channel"));
  scheme.is_float = type == "float";
  if (type != "float" && type != "int") {
    return NotServed("type", "int or float", type);
  }
  if (scheme.is_float ? bits != 8 : bits > 8) {
    return NotServed("num_bits", scheme.is_float ? "8" : "1 to 8",
                     StrCat(bits));
  }
  scheme.integers.bits = static_cast<int>(bits);
  if (strategy == "tensor") {
    scheme.integers.group = GroupedIntegers::kMatrix;
    scheme.block = Reach::Matrix();
  } else if (strategy == "channel") {
    scheme.integers.group = GroupedIntegers::kRow;
    scheme.block = Reach::Row();
  } else if (strategy == "group" && !scheme.is_float) {
    if (group <= 0) {
      return absl::InvalidArgumentError(
          StrCat("'group_size' must be more than 0 where 'strategy' is group, "
                 "is ",
                 group));
    }
    scheme.integers.group = group;
  } else if (strategy == "block" && scheme.is_float) {
    ASSIGN_OR_RETURN(const auto block, JsonShape(weights, "block_structure"));
    scheme.block = {.rows = block.first, .cols = block.second};
  } else {
    return NotServed("strategy",
                     scheme.is_float ? "tensor, channel or block"
                                     : "tensor, channel or group",
                     strategy);
  }
  return scheme;
}

// Where numbers lie in words.
struct Packing {
  int bits = 0;
  bool dense = true;  // across words

  int64_t Words(int64_t numbers) const {
    const int64_t in_word = 32 / bits;
    return dense ? WordsOf(numbers, bits) : (numbers + in_word - 1) / in_word;
  }
  // Where the `i`th begins.
  int64_t Bit(int64_t i) const {
    const int64_t in_word = 32 / bits;
    return dense ? i * bits : i / in_word * 32 + i % in_word * bits;
  }
};

struct Layout {
  GroupedIntegers integers;
  int64_t rows = 0;
  int64_t cols = 0;
  std::optional<Packing> packing;  // of pack-quantized
  std::vector<int32_t> order;
};

class CompressedRows final : public GroupedIntegerRows {
 public:
  CompressedRows(const TensorFiles& files, const std::string& module,
                 const Layout& layout, CodeFormat format)
      : GroupedIntegerRows(module + ".weight", layout.rows, layout.cols,
                           layout.integers, std::move(format), layout.order),
        files_(files),
        module_(module),
        layout_(layout) {}

 private:
  absl::Status ReadNumbers(int64_t first, int64_t count,
                           const Numbers& out) const override {
    RETURN_IF_ERROR(layout_.packing.has_value()
                        ? ReadPacked(first, count, out.codes)
                        : ReadBytes(module_ + ".weight", first * cols(),
                                    count * cols(), out.codes));
    const bool of_rows = layout_.integers.group != GroupedIntegers::kMatrix;
    const int64_t begin = of_rows ? first * groups() : 0;
    const int64_t num_scales = of_rows ? count * groups() : 1;
    RETURN_IF_ERROR(files_.ReadFloats(module_ + ".weight_scale", begin,
                                      num_scales, out.scales));
    if (!layout_.integers.symmetric) {
      RETURN_IF_ERROR(layout_.packing.has_value() && of_rows
                          ? ReadPackedZeros(first, count, out.zeros)
                          : ReadBytes(module_ + ".weight_zero_point", begin,
                                      num_scales, out.zeros));
    }
    for (int64_t i = num_scales; i < count * groups(); ++i) {
      out.scales[i] = out.scales[0];
      out.zeros[i] = out.zeros[0];
    }
    return absl::OkStatus();
  }

  // Signed ones, as they are from the lowest on.
  absl::Status ReadBytes(const std::string& tensor, int64_t first,
                         int64_t count, uint8_t* out) const {
    RETURN_IF_ERROR(files_.ReadElements(tensor, first, count, out));
    const int half = 1 << (bits() - 1);
    for (int64_t i = 0; i < count; ++i) {
      const int value = static_cast<int8_t>(out[i]);
      if (value < -half || value >= half) {
        return absl::InvalidArgumentError(
            StrCat("tensor ", Quoted(tensor), ": element ", first + i,
                   " must be from ", -half, " to ", half - 1, ", is ", value));
      }
      out[i] = static_cast<uint8_t>(value + half);
    }
    return absl::OkStatus();
  }

  absl::Status ReadPacked(int64_t first, int64_t count, uint8_t* out) const {
    const int64_t words = layout_.packing->Words(cols());
    std::vector<uint32_t> read(count * words);
    RETURN_IF_ERROR(files_.ReadElements(
        module_ + ".weight_packed", first * words, count * words, read.data()));
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t i = 0; i < cols(); ++i) {
        *out++ = NumberAtBit(read.data() + row * words, layout_.packing->Bit(i),
                             bits());
      }
    }
    return absl::OkStatus();
  }

  // Of rows, which lie side by side in words of each group.
  absl::Status ReadPackedZeros(int64_t first, int64_t count,
                               uint8_t* out) const {
    const Packing& packing = *layout_.packing;
    const int64_t begin = packing.Bit(first) / 32;
    const int64_t end = (packing.Bit(first + count - 1) + bits() - 1) / 32 + 1;
    std::vector<uint32_t> rows((end - begin) * groups());
    RETURN_IF_ERROR(
        files_.ReadElements(module_ + ".weight_zero_point", begin * groups(),
                            static_cast<int64_t>(rows.size()), rows.data()));
    std::vector<uint32_t> words(end - begin);
    for (int64_t group = 0; group < groups(); ++group) {
      for (int64_t i = 0; i < end - begin; ++i) {
        words[i] = rows[i * groups() + group];
      }
      for (int64_t row = 0; row < count; ++row) {
        out[row * groups() + group] = NumberAtBit(
            words.data(), packing.Bit(first + row) - begin * 32, bits());
      }
    }
    return absl::OkStatus();
  }

  const TensorFiles& files_;
  const std::string module_;
  const Layout layout_;
};

class CompressedTensors final : public QuantizedFormat {
 public:
  std::string_view name() const override { return "compressed-tensors"; }

  absl::Status FindTensors(const QuantizedSource& source,
                           CodedTensors& found) const override {
    ASSIGN_OR_RETURN(const std::vector<Scheme> schemes, ReadSchemes(source));
    const std::vector<std::string> packed =
        source.ModulesWith(".weight_packed");
    for (const std::string& module : packed) {
      RETURN_IF_ERROR(AddIntegers(source, schemes, module, true, found));
    }
    for (const std::string& module : source.ModulesWith(".weight_scale")) {
      if (found.weights.contains(module + ".weight")) continue;
      ASSIGN_OR_RETURN(const TensorInfo* weight,
                       source.Find(module + ".weight",
                                   {DType::kI8, DType::kF8E4M3}, {-1, -1}));
      RETURN_IF_ERROR(weight->dtype == DType::kI8
                          ? AddIntegers(source, schemes, module, false, found)
                          : AddFloats(source, schemes, module, found));
    }
    return absl::OkStatus();
  }

 private:
  static absl::StatusOr<std::vector<Scheme>> ReadSchemes(
      const QuantizedSource& source) {
    constexpr std::string_view kForms[] = {
        "int-quantized",  "naive-quantized", "float-quantized",
        "pack-quantized", "dense",           "mixed-precision"};
    const auto check_form = [&](const json& object) -> absl::Status {
      ASSIGN_OR_RETURN(const std::string form,
                       OptionalJsonString(object, "format", kForms[0]));
      if (std::find(std::begin(kForms), std::end(kForms), form) !=
          std::end(kForms)) {
        return absl::OkStatus();
      }
      return NotServed("format",
                       "int-quantized, naive-quantized, float-quantized or "
                       "pack-quantized",
                       form);
    };
    RETURN_IF_ERROR(check_form(source.config));
    const auto sparsity = source.config.find("sparsity_config");
    if (sparsity != source.config.end() && sparsity->is_object()) {
      ASSIGN_OR_RETURN(const std::string form,
                       OptionalJsonString(*sparsity, "format", "dense"));
      if (form != "dense") {
        return NotServed("sparsity_config.format", "dense", form);
      }
    }
    const auto groups = source.config.find("config_groups");
    if (groups == source.config.end() || !groups->is_object()) {
      return absl::InvalidArgumentError(
          "'quantization_config': no object 'config_groups'");
    }
    std::vector<Scheme> schemes;
    for (const auto& [name, group] : groups->items()) {
      const auto read = [&, &group = group]() -> absl::Status {
        if (!group.is_object()) {
          return absl::InvalidArgumentError("must be an object");
        }
        RETURN_IF_ERROR(check_form(group));
        const auto weights = group.find("weights");
        if (weights == group.end() || !weights->is_object()) {
          return absl::OkStatus();  // of activations alone
        }
        ASSIGN_OR_RETURN(Scheme scheme, ReadScheme(*weights));
        const auto targets = group.find("targets");
        if (targets != group.end() && targets->is_array()) {
          for (const json& target : *targets) {
            if (target.is_string()) scheme.targets.insert(target);
          }
        }
        // Others may differ in what becomes of activations.
        const auto known =
            std::find_if(schemes.begin(), schemes.end(),
                         [&](const Scheme& one) { return one.Equals(scheme); });
        if (known == schemes.end()) {
          schemes.push_back(scheme);
        } else {
          known->targets.merge(scheme.targets);
        }
        return absl::OkStatus();
      };
      RETURN_IF_ERROR(
          WithContext(read(), StrCat("'config_groups': ", Quoted(name))));
    }
    return schemes;
  }

  // Where no scheme has a module's name among its targets, which of them it is
  // of shows in its tensors: others are classes of transformers, which a
  // checkpoint does not name.
  template <class Fits>
  static absl::StatusOr<Scheme> FindScheme(const QuantizedSource& source,
                                           const std::vector<Scheme>& schemes,
                                           const std::string& module,
                                           const std::string& tensor,
                                           const Fits& fits) {
    std::vector<Scheme> fitting;
    std::copy_if(schemes.begin(), schemes.end(), std::back_inserter(fitting),
                 fits);
    const auto names = [&](const Scheme& scheme) {
      return scheme.targets.contains(module);
    };
    if (std::any_of(fitting.begin(), fitting.end(), names)) {
      fitting.erase(
          std::remove_if(fitting.begin(), fitting.end(), std::not_fn(names)),
          fitting.end());
    }
    if (fitting.size() == 1) return fitting[0];
    return source.Problem(
        tensor,
        fitting.empty()
            ? StrCat("its shape and its scales' are those of none of the ",
                     schemes.size(), " config_groups")
            : StrCat("may be of ", fitting.size(),
                     " of the config_groups, "
                     "which differ in what its shapes do not tell"));
  }

  static absl::Status AddIntegers(const QuantizedSource& source,
                                  const std::vector<Scheme>& schemes,
                                  const std::string& module, bool is_packed,
                                  CodedTensors& found) {
    Layout layout;
    const std::string codes =
        module + (is_packed ? ".weight_packed" : ".weight");
    ASSIGN_OR_RETURN(
        const TensorInfo* weight,
        source.Find(codes, {is_packed ? DType::kI32 : DType::kI8}, {-1, -1}));
    layout.rows = weight->shape[0];
    layout.cols = weight->shape[1];
    if (is_packed) {
      int64_t shape[2];
      const std::string name = module + ".weight_shape";
      RETURN_IF_ERROR(
          source.Find(name, {DType::kI64, DType::kI32}, {2}).status());
      RETURN_IF_ERROR(ReadShape(source, name, shape));
      layout.cols = shape[1];
      if (shape[0] != layout.rows || shape[1] < 1 ||
          shape[1] > weight->shape[1] * 32) {
        return source.Problem(
            name, StrCat("[", shape[0], ", ", shape[1],
                         "] is not the shape of what ", codes, " holds"));
      }
    }
    const std::string scale_name = module + ".weight_scale";
    ASSIGN_OR_RETURN(
        const TensorInfo* scales,
        source.Find(scale_name, {DType::kF16, DType::kBF16, DType::kF32},
                    ShapeOf(source, scale_name)));
    const std::string zeros = module + ".weight_zero_point";
    const bool has_zeros = source.files.tensors.contains(zeros);
    const auto fits = [&](const Scheme& scheme) {
      const GroupedIntegers& integers = scheme.integers;
      const int64_t of_row = integers.groups(layout.cols);
      const bool by_rows =
          scales->shape == std::vector<int64_t>{layout.rows, of_row} ||
          (of_row == 1 && scales->shape == std::vector<int64_t>{layout.rows});
      const bool fits_scales = integers.group == GroupedIntegers::kMatrix
                                   ? scales->elements() == 1
                                   : by_rows;
      return !scheme.is_float && fits_scales &&
             (integers.symmetric || has_zeros) &&
             (!is_packed ||
              PackingOf(integers.bits, layout.cols, weight->shape[1])
                  .has_value());
    };
    ASSIGN_OR_RETURN(const Scheme scheme,
                     FindScheme(source, schemes, module, codes, fits));
    layout.integers = scheme.integers;
    layout.integers.scales = scales->dtype;
    const int64_t groups = layout.integers.groups(layout.cols);
    if (is_packed) {
      layout.packing =
          PackingOf(scheme.integers.bits, layout.cols, weight->shape[1]);
    }
    if (!layout.integers.symmetric) {
      const bool of_rows = layout.integers.group != GroupedIntegers::kMatrix;
      if (is_packed && of_rows) {
        RETURN_IF_ERROR(source
                            .Find(zeros, {DType::kI32},
                                  {layout.packing->Words(layout.rows), groups})
                            .status());
      } else {
        RETURN_IF_ERROR(
            source.Find(zeros, {DType::kI8}, scales->shape).status());
      }
    }
    const std::string places = module + ".weight_g_idx";
    if (source.files.tensors.contains(places)) {
      ASSIGN_OR_RETURN(layout.order, OrderOfGroups(source, places, layout.cols,
                                                   layout.integers.group));
      layout.integers.ordered = !layout.order.empty();
    }
    for (const char* part :
         {".weight_scale", ".weight_zero_point", ".weight_shape",
          ".weight_g_idx", ".input_scale", ".input_zero_point"}) {
      found.parts.insert(module + part);
    }
    found.parts.insert(codes);
    const quant::MethodSpec spec = Method().SpecOf(layout.integers);
    const bool ordered = layout.integers.ordered;
    const int64_t rows = layout.rows, cols = layout.cols;
    return found.Add(module + ".weight", rows, cols, source.dtype,
                     {.spec = spec, .ordered = ordered},
                     [module, layout = std::move(layout),
                      &files = source.files](const quant::CodeFormat& format) {
                       return std::make_unique<const CompressedRows>(
                           files, module, layout, format);
                     });
  }

  static absl::Status AddFloats(const QuantizedSource& source,
                                const std::vector<Scheme>& schemes,
                                const std::string& module,
                                CodedTensors& found) {
    const std::string name = module + ".weight";
    const TensorInfo& weight = source.files.tensors.at(name).tensor.info;
    const std::string scales = module + ".weight_scale";
    const int64_t num_scales =
        source.files.tensors.at(scales).tensor.info.elements();
    ASSIGN_OR_RETURN(
        const Scheme scheme,
        FindScheme(source, schemes, module, name, [&](const Scheme& one) {
          return one.is_float && one.block.Count(weight.shape[0],
                                                 weight.shape[1]) == num_scales;
        }));
    found.parts.insert(module + ".input_scale");
    return AddFloat8(source, module, {module + ".weight", scales, scheme.block},
                     found);
  }

  // Its own, whatever that is, if it is there.
  static std::vector<int64_t> ShapeOf(const QuantizedSource& source,
                                      const std::string& name) {
    const auto found = source.files.tensors.find(name);
    return found == source.files.tensors.end()
               ? std::vector<int64_t>{-1, -1}
               : found->second.tensor.info.shape;
  }

  static absl::Status ReadShape(const QuantizedSource& source,
                                const std::string& name, int64_t* shape) {
    if (source.files.tensors.at(name).tensor.info.dtype == DType::kI64) {
      return source.files.ReadElements(name, 0, 2, shape);
    }
    int32_t small[2];
    RETURN_IF_ERROR(source.files.ReadElements(name, 0, 2, small));
    std::copy_n(small, 2, shape);
    return absl::OkStatus();
  }

  static std::optional<Packing> PackingOf(int bits, int64_t cols,
                                          int64_t words) {
    for (const bool dense : {true, false}) {
      const Packing packing = {bits, dense};
      if (packing.Words(cols) == words) return packing;
    }
    return std::nullopt;
  }
};

}  // namespace

const QuantizedFormat& CompressedTensorsFormat() {
  static const CompressedTensors format;
  return format;
}

}  // namespace ounce::model
