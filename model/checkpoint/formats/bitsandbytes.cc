// bitsandbytes' files, as transformers saves them. Of a linear layer X of `in`
// columns and `out` rows, in 8 bits:
//
//   X.weight         int8 [out, in]
//   X.SCB            f32 [out]        w = q * SCB / 127
//   X.weight_format  u8, 0: rows as they are
//
// and in 4 bits, with blocks of the matrix read row by row:
//
//   X.weight            u8 [(out * in + 1) / 2, 1], the first number of a byte
//                       in its high half
//   X.weight.absmax     f32 [blocks], or u8 with double quantization, and then
//   X.weight.nested_absmax f32 [blocks / 256], X.weight.nested_quant_map f32
//                       [256]
//   X.weight.quant_map  f32 [16]
//   X.weight.quant_state.bitsandbytes__nf4 (or __fp4): bytes of a JSON object
//                       with shape, blocksize, dtype and nested_offset
//
// These are the codes of bnb-int8, bnb-nf4 and bnb-fp4, and are called so.
//
// Source: bitsandbytes-foundation/bitsandbytes, bitsandbytes/functional.py
// (QuantState) and nn/modules.py; transformers, quantizers/quantizer_bnb_*.py.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/formats/format_fields.h"
#include "model/checkpoint/formats/stored_rows.h"
#include "model/checkpoint/quantized_format.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "model/files/json_file.h"
#include "nlohmann/json.hpp"
#include "quant/registry.h"

namespace ounce::model {
namespace {

using quant::CodeBand;
using quant::CodeFormat;
using quant::DType;
using quant::MethodSpec;

using Map = std::shared_ptr<const std::vector<float>>;

// What both widths share.
class BnbRows : public StoredRows {
 public:
  BnbRows(const TensorFiles& files, std::string module, int64_t rows,
          int64_t cols, CodeFormat format)
      : StoredRows(files, module + ".weight", rows, cols, std::move(format)),
        module_(std::move(module)) {}

 protected:
  const std::string& module() const { return module_; }

 private:
  const std::string module_;
};

class Int8Rows final : public BnbRows {
 public:
  using BnbRows::BnbRows;

  absl::Status Read(int64_t first, int64_t count,
                    CodeBand& out) const override {
    out.first_row = first;
    out.rows = count;
    out.elements.resize(count * cols());
    RETURN_IF_ERROR(files().ReadElements(name(), first * cols(), count * cols(),
                                         out.elements.data()));
    out.fields.resize(1);
    out.fields[0].first = first;
    return ReadScales(files(), module() + ".SCB", first, count,
                      out.fields[0].values);
  }
};

struct FourBits {
  std::string suffix;  // of the tensor with the state: "nf4"
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t block = 64;
  DType dtype = DType::kF16;
  bool nested = false;
  double nested_offset = 0;
};

constexpr int64_t kNestedBlock = 256;

class FourBitRows final : public BnbRows {
 public:
  FourBitRows(const TensorFiles& files, const std::string& module,
              const FourBits& state, CodeFormat format, Map nested_map)
      : BnbRows(files, module, state.rows, state.cols,
                WithMap(std::move(format), nested_map)),
        state_(state),
        nested_map_(std::move(nested_map)) {}

  absl::Status Read(int64_t first, int64_t count,
                    CodeBand& out) const override {
    out.first_row = first;
    out.rows = count;
    const int64_t begin = first * cols(), end = begin + count * cols();
    RETURN_IF_ERROR(ReadCodes(begin, end, out));
    const int64_t block = begin / state_.block;
    const int64_t blocks = (end - 1) / state_.block + 1 - block;
    out.fields.resize(format().fields.size());
    CodeBand::Field& absmax = out.fields[0];
    absmax.first = block;
    if (!state_.nested) {
      return ReadScales(files(), name() + ".absmax", block, blocks,
                        absmax.values);
    }
    std::vector<uint8_t> indexes(blocks);
    RETURN_IF_ERROR(files().ReadElements(name() + ".absmax", block, blocks,
                                         indexes.data()));
    absmax.values.assign(indexes.begin(), indexes.end());
    const int64_t nested = block / kNestedBlock;
    out.fields[1].first = nested;
    out.fields[2].first = 0;
    out.fields[2].values = {static_cast<float>(state_.nested_offset)};
    return ReadScales(files(), name() + ".nested_absmax", nested,
                      (block + blocks - 1) / kNestedBlock + 1 - nested,
                      out.fields[1].values);
  }

 private:
  // Of elements [begin, end) of the matrix.
  absl::Status ReadCodes(int64_t begin, int64_t end, CodeBand& out) const {
    const int64_t first_byte = begin / 2, bytes = (end + 1) / 2 - first_byte;
    std::vector<uint8_t> packed(bytes);
    RETURN_IF_ERROR(
        files().ReadElements(name(), first_byte, bytes, packed.data()));
    out.elements.resize(end - begin);
    for (int64_t i = begin; i < end; ++i) {
      const uint8_t both = packed[i / 2 - first_byte];
      out.elements[i - begin] =
          static_cast<std::byte>(i % 2 == 0 ? both >> 4 : both & 15);
    }
    return absl::OkStatus();
  }

  static CodeFormat WithMap(CodeFormat format, const Map& map) {
    if (map != nullptr) format.rule.scale.map = *map;
    return format;
  }

  const FourBits state_;
  const Map nested_map_;  // null without double quantization
};

absl::StatusOr<FourBits> ReadState(const QuantizedSource& source,
                                   const std::string& module,
                                   std::string_view suffix) {
  constexpr int64_t kMaxBytes = 1 << 16;
  const std::string name =
      StrCat(module, ".weight.quant_state.bitsandbytes__", suffix);
  ASSIGN_OR_RETURN(const TensorInfo* info,
                   source.Find(name, {DType::kU8}, {-1}));
  if (info->shape[0] > kMaxBytes) {
    return source.Problem(name, StrCat("must have at most ", kMaxBytes,
                                       " bytes, has ", info->shape[0]));
  }
  std::string text(info->shape[0], '\0');
  RETURN_IF_ERROR(
      source.files.ReadElements(name, 0, info->shape[0], text.data()));
  ASSIGN_OR_RETURN(const nlohmann::json json,
                   ParseJsonObject(StrCat("tensor ", Quoted(name)), text));
  FourBits state;
  state.suffix = std::string(suffix);
  const auto read = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(state.block, JsonInt(json, "blocksize", 1, INT64_MAX));
    ASSIGN_OR_RETURN(const std::string dtype, JsonString(json, "dtype"));
    const std::optional<DType> floats = quant::ParseDType(dtype);
    if (!floats.has_value() || !quant::IsFloat(*floats)) {
      return absl::InvalidArgumentError(
          StrCat("'dtype' must be a float's, is ", Quoted(dtype)));
    }
    state.dtype = *floats;
    ASSIGN_OR_RETURN(const auto shape, JsonShape(json, "shape"));
    state.rows = shape.first;
    state.cols = shape.second;
    state.nested = json.contains("nested_blocksize");
    if (!state.nested) return absl::OkStatus();
    ASSIGN_OR_RETURN(const int64_t nested,
                     JsonInt(json, "nested_blocksize", 1, INT64_MAX));
    if (nested != kNestedBlock) {
      return absl::UnimplementedError(
          StrCat("'nested_blocksize' must be ", kNestedBlock, ", is ", nested));
    }
    ASSIGN_OR_RETURN(state.nested_offset,
                     JsonNumber(json, "nested_offset", -1e30, 1e30));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(WithContext(read(), StrCat("tensor ", Quoted(name))));
  return state;
}

// A map that the file has beside the codes, which must be bitsandbytes' own: as
// `wanted` has it, but for digits that its versions differ in.
absl::StatusOr<Map> ReadMap(const QuantizedSource& source,
                            const std::string& name,
                            absl::Span<const float> wanted) {
  const auto size = static_cast<int64_t>(wanted.size());
  RETURN_IF_ERROR(source.Find(name, {DType::kF32}, {size}).status());
  auto map = std::make_shared<std::vector<float>>(size);
  RETURN_IF_ERROR(source.files.ReadFloats(name, 0, size, map->data()));
  constexpr float kRounding = 1e-6f;
  for (int64_t i = 0; i < size; ++i) {
    if (std::abs((*map)[i] - wanted[i]) <= kRounding) continue;
    return source.Problem(
        name, StrCat("must be bitsandbytes' own map: element ", i, " must be ",
                     wanted[i], ", is ", (*map)[i]));
  }
  return map;
}

// What the file asks for and the method has no parameter's value for is not
// served.
absl::StatusOr<MethodSpec> SpecOf(const std::string& tensor,
                                  const std::string& text) {
  absl::StatusOr<MethodSpec> spec = quant::ParseMethodSpec(text);
  if (spec.ok()) return spec;
  return absl::UnimplementedError(
      StrCat("tensor ", Quoted(tensor), ": ", spec.status().message()));
}

class Bitsandbytes final : public QuantizedFormat {
 public:
  std::string_view name() const override { return "bitsandbytes"; }

  absl::Status FindTensors(const QuantizedSource& source,
                           CodedTensors& found) const override {
    ASSIGN_OR_RETURN(
        const double threshold,
        OptionalJsonNumber(source.config, "llm_int8_threshold", 0, 65504, 6));
    for (const std::string& module : source.ModulesWith(".SCB")) {
      RETURN_IF_ERROR(AddInt8(source, module, threshold, found));
    }
    Map nested_map;
    for (const char* suffix : {"nf4", "fp4"}) {
      for (const std::string& module : source.ModulesWith(
               StrCat(".weight.quant_state.bitsandbytes__", suffix))) {
        RETURN_IF_ERROR(AddFourBits(source, module, suffix, nested_map, found));
      }
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status AddInt8(const QuantizedSource& source,
                              const std::string& module, double threshold,
                              CodedTensors& found) {
    const std::string name = module + ".weight";
    ASSIGN_OR_RETURN(const TensorInfo* weight,
                     source.Find(name, {DType::kI8}, {-1, -1}));
    const int64_t rows = weight->shape[0], cols = weight->shape[1];
    RETURN_IF_ERROR(
        source.Find(module + ".SCB", {DType::kF32}, {rows}).status());
    const std::string format = module + ".weight_format";
    if (source.files.tensors.contains(format)) {
      RETURN_IF_ERROR(source.Find(format, {DType::kU8}, {}).status());
      uint8_t order = 0;
      RETURN_IF_ERROR(source.files.ReadElements(format, 0, 1, &order));
      if (order != 0) {
        return absl::UnimplementedError(
            StrCat("tensor ", Quoted(format),
                   " must be 0 (rows as they are), "
                   "is ",
                   int{order}, ", an order for GPUs; save the model again"));
      }
    }
    for (const char* part : {".weight", ".SCB", ".weight_format"}) {
      found.parts.insert(module + part);
    }
    ASSIGN_OR_RETURN(const MethodSpec spec,
                     SpecOf(name, StrCat("bnb-int8:threshold=", threshold)));
    return found.Add(
        name, rows, cols, source.dtype, {.spec = spec},
        [=, &files = source.files](const quant::CodeFormat& format) {
          return std::make_unique<const Int8Rows>(files, module, rows, cols,
                                                  format);
        });
  }

  static absl::Status AddFourBits(const QuantizedSource& source,
                                  const std::string& module,
                                  std::string_view suffix, Map& nested_map,
                                  CodedTensors& found) {
    ASSIGN_OR_RETURN(const FourBits state, ReadState(source, module, suffix));
    const std::string name = module + ".weight";
    const int64_t elements = state.rows * state.cols;
    RETURN_IF_ERROR(
        source.Find(name, {DType::kU8}, {(elements + 1) / 2, 1}).status());
    ASSIGN_OR_RETURN(const MethodSpec spec,
                     SpecOf(name, StrCat("bnb-", suffix, ":block=", state.block,
                                         ",double_quant=",
                                         state.nested ? "true" : "false")));
    ASSIGN_OR_RETURN(const CodeFormat format,
                     spec.Format(state.rows, state.cols, state.dtype));
    const int64_t blocks = (elements - 1) / state.block + 1;
    RETURN_IF_ERROR(source
                        .Find(name + ".absmax",
                              {state.nested ? DType::kU8 : DType::kF32},
                              {blocks})
                        .status());
    RETURN_IF_ERROR(
        ReadMap(source, name + ".quant_map", format.tables).status());
    if (state.nested) {
      RETURN_IF_ERROR(source
                          .Find(name + ".nested_absmax", {DType::kF32},
                                {(blocks - 1) / kNestedBlock + 1})
                          .status());
      ASSIGN_OR_RETURN(
          const Map map,
          ReadMap(source, name + ".nested_quant_map", format.rule.scale.map));
      // Weights are packed together, by one map.
      if (nested_map == nullptr) nested_map = map;
      if (*map != *nested_map) {
        return source.Problem(name + ".nested_quant_map",
                              "differs from other weights'");
      }
    }
    found.parts.insert(name);
    for (const char* part :
         {".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"}) {
      found.parts.insert(name + part);
    }
    found.parts.insert(StrCat(name, ".quant_state.bitsandbytes__", suffix));
    return found.Add(name, state.rows, state.cols, state.dtype, {.spec = spec},
                     [=, map = state.nested ? nested_map : nullptr,
                      &files = source.files](const quant::CodeFormat& format) {
                       return std::make_unique<const FourBitRows>(
                           files, module, state, format, map);
                     });
  }
};

}  // namespace

const QuantizedFormat& BitsandbytesFormat() {
  static const Bitsandbytes format;
  return format;
}

}  // namespace ounce::model
