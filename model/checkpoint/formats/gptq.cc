// GPTQ's files, as AutoGPTQ and GPTQModel write them. Of a linear layer X of
// `in` columns and `out` rows, with `bits` b and groups of g columns:
//
//   X.qweight  int32 [in * b / 32, out]      along `in`, lowest bits first
//   X.qzeros   int32 [groups, out * b / 32]  along `out`
//   X.scales   float [groups, out]
//   X.g_idx    int32 [in]                    the group of each column
//
//   w = scales[g] * (q - zeros[g])
//
// Numbers of 3 bits lie across words. In `checkpoint_format` "gptq" zero-points
// are stored less one, modulo 2^b; in "gptq_v2" as they are. With desc_act the
// columns of a group are not neighbours: codes are read in the order of groups,
// and products with them read their inputs so.
//
// Source: AutoGPTQ/AutoGPTQ, auto_gptq/nn_modules/qlinear;
// ModelCloud/GPTQModel.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/formats/format_fields.h"
#include "model/checkpoint/formats/grouped_integers.h"
#include "model/checkpoint/quantized_format.h"
#include "model/checkpoint/stored_columns.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using quant::DType;

const GroupedIntegersMethod& Method() {
  static const GroupedIntegersMethod method("gptq", /*is_gptq=*/true);
  return method;
}

struct Config {
  GroupedIntegers integers;
  int zero_offset = 1;  // what is added to stored zero-points
};

absl::StatusOr<Config> ReadConfig(const nlohmann::json& json) {
  Config config;
  ASSIGN_OR_RETURN(const int64_t bits, JsonInt(json, "bits", 1, 32));
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8) {
    return NotServed("bits", "2, 3, 4 or 8", StrCat(bits));
  }
  config.integers.bits = static_cast<int>(bits);
  ASSIGN_OR_RETURN(config.integers.group, GroupSize(json));
  ASSIGN_OR_RETURN(config.integers.symmetric,
                   OptionalJsonBool(json, "sym", false));
  ASSIGN_OR_RETURN(const std::string form,
                   OptionalJsonString(json, "checkpoint_format", "gptq"));
  if (form == "gptq_v2") {
    config.zero_offset = 0;
  } else if (form != "gptq") {
    return NotServed("checkpoint_format", "gptq or gptq_v2", form);
  }
  return config;
}

class GptqRows final : public GroupedIntegerRows {
 public:
  GptqRows(const TensorFiles& files, const std::string& module, int64_t rows,
           int64_t cols, const Config& config, quant::CodeFormat format,
           std::vector<int32_t> order)
      : GroupedIntegerRows(module + ".weight", rows, cols, config.integers,
                           std::move(format), std::move(order)),
        zero_offset_(config.zero_offset),
        scales_are_(config.integers.scales),
        weights_(files, module + ".qweight"),
        zeros_(files, module + ".qzeros"),
        scales_(files, module + ".scales") {}

 private:
  absl::Status ReadNumbers(int64_t first, int64_t count,
                           const Numbers& out) const override {
    std::vector<uint32_t> words(count * weights_.rows());
    RETURN_IF_ERROR(weights_.Read(first, count, words.data()));
    for (int64_t row = 0; row < count; ++row) {
      const uint32_t* from = words.data() + row * weights_.rows();
      uint8_t* to = out.codes + row * cols();
      for (int64_t i = 0; i < cols(); ++i) {
        to[i] = NumberInWords(from, i, bits());
      }
    }
    RETURN_IF_ERROR(ReadZeros(first, count, out.zeros));
    std::vector<std::byte> scales(count * groups() *
                                  quant::SizeOf(scales_are_));
    RETURN_IF_ERROR(scales_.Read(first, count, scales.data()));
    quant::ToFloat(scales_are_, scales.data(), count * groups(), out.scales);
    return absl::OkStatus();
  }

  absl::Status ReadZeros(int64_t first, int64_t count, uint8_t* out) const {
    // Words that hold numbers [first, first + count) of each group.
    const int64_t begin = first * bits() / 32;
    const int64_t num_words = WordsOf(first + count, bits()) - begin;
    std::vector<uint32_t> columns(num_words * groups());
    RETURN_IF_ERROR(zeros_.Read(begin, num_words, columns.data()));
    // One more, since a number's end may lie in the word behind.
    std::vector<uint32_t> words(num_words + 1);
    const int mask = (1 << bits()) - 1;
    for (int64_t group = 0; group < groups(); ++group) {
      for (int64_t i = 0; i < num_words; ++i) {
        words[i] = columns[i * groups() + group];
      }
      for (int64_t row = 0; row < count; ++row) {
        const int64_t bit = (first + row) * bits() - begin * 32;
        // Words begin with a number but for 3 bits, where 32 of them do.
        const auto shift = static_cast<int>(bit % 32);
        const uint64_t pair = words[bit / 32] | uint64_t{words[bit / 32 + 1]}
                                                    << 32;
        const auto stored = static_cast<int>(pair >> shift) & mask;
        out[row * groups() + group] =
            static_cast<uint8_t>((stored + zero_offset_) & mask);
      }
    }
    return absl::OkStatus();
  }

  const int zero_offset_;
  const DType scales_are_;
  const StoredColumns weights_;
  const StoredColumns zeros_;
  const StoredColumns scales_;
};

class Gptq final : public QuantizedFormat {
 public:
  std::string_view name() const override { return "gptq"; }

  absl::Status FindTensors(const QuantizedSource& source,
                           CodedTensors& found) const override {
    ASSIGN_OR_RETURN(const Config config, ReadConfig(source.config));
    for (const std::string& module : source.ModulesWith(".qweight")) {
      RETURN_IF_ERROR(AddModule(source, config, module, found));
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status AddModule(const QuantizedSource& source, Config config,
                                const std::string& module,
                                CodedTensors& found) {
    const int bits = config.integers.bits;
    ASSIGN_OR_RETURN(const TensorInfo* weights,
                     source.Find(module + ".qweight", {DType::kI32}, {-1, -1}));
    const int64_t rows = weights->shape[1];
    const int64_t cols = weights->shape[0] * 32 / bits;
    const int64_t groups = config.integers.groups(cols);
    if (weights->shape[0] * 32 % bits != 0) {
      return source.Problem(module + ".qweight",
                            StrCat("has ", weights->shape[0],
                                   " words of a column, which end within a "
                                   "number of ",
                                   bits, " bits"));
    }
    RETURN_IF_ERROR(source
                        .Find(module + ".qzeros", {DType::kI32},
                              {groups, WordsOf(rows, bits)})
                        .status());
    ASSIGN_OR_RETURN(
        const TensorInfo* scales,
        source.Find(module + ".scales",
                    {DType::kF16, DType::kBF16, DType::kF32}, {groups, rows}));
    config.integers.scales = scales->dtype;
    std::vector<int32_t> order;
    if (source.files.tensors.contains(module + ".g_idx")) {
      ASSIGN_OR_RETURN(order, OrderOfGroups(source, module + ".g_idx", cols,
                                            config.integers.group));
    }
    config.integers.ordered = !order.empty();
    for (const char* part : {".qweight", ".qzeros", ".scales", ".g_idx"}) {
      found.parts.insert(module + part);
    }
    const quant::MethodSpec spec = Method().SpecOf(config.integers);
    return found.Add(module + ".weight", rows, cols, source.dtype,
                     {.spec = spec, .ordered = config.integers.ordered},
                     [=, &files = source.files, order = std::move(order)](
                         const quant::CodeFormat& format) {
                       return std::make_unique<const GptqRows>(
                           files, module, rows, cols, config, format, order);
                     });
  }
};

}  // namespace

const QuantizedFormat& GptqFormat() {
  static const Gptq format;
  return format;
}

}  // namespace ounce::model
