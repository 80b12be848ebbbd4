// AWQ's files, as AutoAWQ writes them: 4 bits, of a linear layer X of `in`
// columns and `out` rows with groups of g columns,
//
//   version gemm                          gemv
//   X.qweight  int32 [in, out / 8]        [out, in / 8]
//   X.qzeros   int32 [in / g, out / 8]    [out, words of in / g numbers, more]
//   X.scales   f16   [in / g, out]        [out, 8 for each word of qzeros]
//
//   w = scales[g] * (q - zeros[g])
//
// A word has 8 numbers, lowest bits first: in gemv in order, in gemm those of
// outputs 0, 2, 4, 6, 1, 3, 5, 7.
//
// Source: casper-hansen/AutoAWQ, awq/modules/linear and
// awq/utils/packing_utils.py.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/formats/awq_layout.h"
#include "model/checkpoint/formats/format_fields.h"
#include "model/checkpoint/formats/grouped_integers.h"
#include "model/checkpoint/quantized_format.h"
#include "model/checkpoint/stored_columns.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using quant::CodeFormat;
using quant::DType;

const GroupedIntegersMethod& Method() {
  static const GroupedIntegersMethod method("awq");
  return method;
}

uint8_t NumberAt(uint32_t word, int place) {
  return static_cast<uint8_t>(word >> place * kAwqBits & 15);
}

class GemmRows final : public GroupedIntegerRows {
 public:
  GemmRows(const TensorFiles& files, const std::string& module, int64_t rows,
           int64_t cols, const GroupedIntegers& integers, CodeFormat format)
      : GroupedIntegerRows(module + ".weight", rows, cols, integers,
                           std::move(format)),
        weights_(files, module + ".qweight"),
        zeros_(files, module + ".qzeros"),
        scales_(files, module + ".scales") {}

 private:
  absl::Status ReadNumbers(int64_t first, int64_t count,
                           const Numbers& out) const override {
    RETURN_IF_ERROR(ReadWords(weights_, first, count, out.codes));
    RETURN_IF_ERROR(ReadWords(zeros_, first, count, out.zeros));
    std::vector<uint16_t> scales(count * groups());
    RETURN_IF_ERROR(scales_.Read(first, count, scales.data()));
    quant::ToFloat(DType::kF16, scales.data(), count * groups(), out.scales);
    return absl::OkStatus();
  }

  // Numbers of outputs [first, first + count), [count, matrix.rows()].
  static absl::Status ReadWords(const StoredColumns& matrix, int64_t first,
                                int64_t count, uint8_t* out) {
    const int64_t begin = first / kAwqInWord;
    const int64_t end = (first + count + kAwqInWord - 1) / kAwqInWord;
    std::vector<uint32_t> words((end - begin) * matrix.rows());
    RETURN_IF_ERROR(matrix.Read(begin, end - begin, words.data()));
    for (int64_t row = first; row < first + count; ++row) {
      const uint32_t* from =
          words.data() + (row / kAwqInWord - begin) * matrix.rows();
      for (int64_t i = 0; i < matrix.rows(); ++i) {
        *out++ = NumberAt(from[i], kAwqPlaceOf[row % kAwqInWord]);
      }
    }
    return absl::OkStatus();
  }

  const StoredColumns weights_;
  const StoredColumns zeros_;
  const StoredColumns scales_;
};

class GemvRows final : public GroupedIntegerRows {
 public:
  GemvRows(const TensorFiles& files, std::string module, int64_t rows,
           int64_t cols, int64_t zero_words, const GroupedIntegers& integers,
           CodeFormat format)
      : GroupedIntegerRows(module + ".weight", rows, cols, integers,
                           std::move(format)),
        files_(files),
        module_(std::move(module)),
        zero_words_(zero_words) {}

 private:
  absl::Status ReadNumbers(int64_t first, int64_t count,
                           const Numbers& out) const override {
    RETURN_IF_ERROR(ReadWords(module_ + ".qweight", cols() / kAwqInWord, first,
                              count, cols(), out.codes));
    RETURN_IF_ERROR(ReadWords(module_ + ".qzeros", zero_words_, first, count,
                              groups(), out.zeros));
    const int64_t stored = zero_words_ * kAwqInWord;
    std::vector<float> scales(count * stored);
    RETURN_IF_ERROR(files_.ReadFloats(module_ + ".scales", first * stored,
                                      count * stored, scales.data()));
    for (int64_t row = 0; row < count; ++row) {
      std::copy_n(scales.data() + row * stored, groups(),
                  out.scales + row * groups());
    }
    return absl::OkStatus();
  }

  // The first `wanted` numbers of some rows of `words` each.
  absl::Status ReadWords(const std::string& name, int64_t words, int64_t first,
                         int64_t count, int64_t wanted, uint8_t* out) const {
    std::vector<uint32_t> read(count * words);
    RETURN_IF_ERROR(
        files_.ReadElements(name, first * words, count * words, read.data()));
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t i = 0; i < wanted; ++i) {
        *out++ = NumberInWords(read.data() + row * words, i, kAwqBits);
      }
    }
    return absl::OkStatus();
  }

  const TensorFiles& files_;
  const std::string module_;
  const int64_t zero_words_;
};

class Awq final : public QuantizedFormat {
 public:
  std::string_view name() const override { return "awq"; }

  absl::Status FindTensors(const QuantizedSource& source,
                           CodedTensors& found) const override {
    GroupedIntegers integers = {.symmetric = false};
    ASSIGN_OR_RETURN(const int64_t bits, JsonInt(source.config, "bits", 1, 32));
    if (bits != kAwqBits) return NotServed("bits", "4", StrCat(bits));
    ASSIGN_OR_RETURN(integers.group, GroupSize(source.config));
    ASSIGN_OR_RETURN(const bool has_zeros,
                     OptionalJsonBool(source.config, "zero_point", true));
    if (!has_zeros) return NotServed("zero_point", "true", "false");
    ASSIGN_OR_RETURN(const std::string version,
                     OptionalJsonString(source.config, "version", "gemm"));
    const bool gemm = version == "gemm" || version == "GEMM";
    if (!gemm && version != "gemv" && version != "GEMV") {
      return NotServed("version", "gemm or gemv", version);
    }
    for (const std::string& module : source.ModulesWith(".qweight")) {
      RETURN_IF_ERROR(gemm ? AddGemm(source, integers, module, found)
                           : AddGemv(source, integers, module, found));
      for (const char* part : {".qweight", ".qzeros", ".scales"}) {
        found.parts.insert(module + part);
      }
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status AddGemm(const QuantizedSource& source,
                              const GroupedIntegers& integers,
                              const std::string& module, CodedTensors& found) {
    ASSIGN_OR_RETURN(const TensorInfo* weights,
                     source.Find(module + ".qweight", {DType::kI32}, {-1, -1}));
    const int64_t rows = weights->shape[1] * kAwqInWord;
    const int64_t cols = weights->shape[0];
    const int64_t groups = integers.groups(cols);
    RETURN_IF_ERROR(source
                        .Find(module + ".qzeros", {DType::kI32},
                              {groups, weights->shape[1]})
                        .status());
    RETURN_IF_ERROR(
        source.Find(module + ".scales", {DType::kF16}, {groups, rows})
            .status());
    return AddCodes<GemmRows>(source, integers, module, rows, cols, found);
  }

  static absl::Status AddGemv(const QuantizedSource& source,
                              const GroupedIntegers& integers,
                              const std::string& module, CodedTensors& found) {
    ASSIGN_OR_RETURN(const TensorInfo* weights,
                     source.Find(module + ".qweight", {DType::kI32}, {-1, -1}));
    const int64_t rows = weights->shape[0];
    const int64_t cols = weights->shape[1] * kAwqInWord;
    ASSIGN_OR_RETURN(
        const TensorInfo* zeros,
        source.Find(module + ".qzeros", {DType::kI32}, {rows, -1}));
    const int64_t zero_words = zeros->shape[1];
    if (zero_words < WordsOf(integers.groups(cols), kAwqBits)) {
      return source.Problem(
          module + ".qzeros",
          StrCat("must have words for ", integers.groups(cols), " groups, has ",
                 zero_words));
    }
    RETURN_IF_ERROR(source
                        .Find(module + ".scales", {DType::kF16},
                              {rows, zero_words * kAwqInWord})
                        .status());
    return AddCodes<GemvRows>(source, integers, module, rows, cols, found,
                              zero_words);
  }

  template <class Rows, class... Sizes>
  static absl::Status AddCodes(const QuantizedSource& source,
                               const GroupedIntegers& integers,
                               const std::string& module, int64_t rows,
                               int64_t cols, CodedTensors& found,
                               Sizes... sizes) {
    const quant::MethodSpec spec = Method().SpecOf(integers);
    return found.Add(
        module + ".weight", rows, cols, source.dtype, {.spec = spec},
        [=, &files = source.files](const quant::CodeFormat& format) {
          return std::make_unique<const Rows>(files, module, rows, cols,
                                              sizes..., integers, format);
        });
  }
};

}  // namespace

const QuantizedFormat& AwqFormat() {
  static const Awq format;
  return format;
}

}  // namespace ounce::model
