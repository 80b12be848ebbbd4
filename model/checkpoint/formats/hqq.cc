// HQQ's files, as the package and transformers save them. Of a linear layer X
// of `in` columns and `out` rows, cut into groups of g columns, row by row, so
// that there are n = out * in / g of them:
//
//   X.W_q    u8 [n * bits / 8, g], or of 3 bits int32 [(n + 9) / 10, g]
//   X.scale, X.zero   float, one for each group
//   X.nbits, X.group_size, X.axis, X.shape, X.packing, ...  what they are made
//            of, as scalars and as bytes of a text
//
//   w = scale * (q - zero)
//
// Where g does not divide `in`, groups lie over the ends of rows.
//
// An element of W_q has numbers of 8 / bits (or 10) groups that lie far apart:
// the first in its highest bits, the next so many groups behind.
//
// Source: mobiusml/hqq, hqq/core/quantize.py and bitpack.py.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/coded_tensor.h"
#include "model/checkpoint/formats/format_fields.h"
#include "model/checkpoint/formats/stored_rows.h"
#include "model/checkpoint/quantized_format.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/files/byte_source.h"
#include "nlohmann/json.hpp"
#include "quant/registry.h"

namespace ounce::model {
namespace {

using quant::CodeBand;
using quant::CodeField;
using quant::CodeFormat;
using quant::DType;
using quant::ParamSpec;
using quant::Reach;

constexpr int64_t kWholeRow = -1;

// The codes of the method hqq, with scales in other floats too.
class StoredHqq final : public StoredMethod {
 public:
  std::string_view name() const override { return "hqq"; }
  std::string_view summary() const override {
    return "Half-quadratic quantization, as another tool made it.";
  }
  absl::Span<const ParamSpec> params() const override {
    static const std::vector<ParamSpec> params = {
        {.name = "bits",
         .default_value = "4",
         .min = 1,
         .max = 8,
         .help = "bits per weight"},
        {.name = "group",
         .default_value = "64",
         .min = kWholeRow,
         .max = INT64_MAX,
         .help = "columns that share a scale; -1: all of a row"},
        ScalesParam("float16", "what scales and zero-points are stored in")};
    return params;
  }
  absl::StatusOr<CodeFormat> Format(
      int64_t rows, int64_t cols, DType dtype,
      const quant::ParamValues& params) const override {
    ASSIGN_OR_RETURN(
        const quant::MethodSpec made,
        quant::ParseMethodSpec(StrCat("hqq:bits=", params.at("bits"))));
    ASSIGN_OR_RETURN(CodeFormat format, made.Format(rows, cols, dtype));
    const int64_t group = quant::IntegerOf(params, "group");
    const Reach reach = group == kWholeRow  ? Reach::Row()
                        : cols % group == 0 ? Reach::Columns(group)
                                            : Reach::Flat(group);
    for (CodeField& field : format.fields) {
      field = ScaleField(field.name, params.at("scales"), reach);
    }
    return format;
  }
};

const StoredHqq& Method() {
  static const StoredHqq method;
  return method;
}

struct Layout {
  int64_t rows = 0;
  int64_t cols = 0;
  int bits = 4;
  int64_t group = 64;       // columns; those of a row where there are no groups
  int64_t stored_rows = 0;  // of W_q
  bool words = false;       // int32, of 3 bits
};

class HqqRows final : public StoredRows {
 public:
  HqqRows(const TensorFiles& files, std::string module, const Layout& layout,
          CodeFormat format)
      : StoredRows(files, module + ".weight", layout.rows, layout.cols,
                   std::move(format)),
        module_(std::move(module)),
        layout_(layout) {}

  absl::Status Read(int64_t first, int64_t count,
                    CodeBand& out) const override {
    out.first_row = first;
    out.rows = count;
    out.elements.resize(count * cols());
    RETURN_IF_ERROR(layout_.words ? ReadCodes<uint32_t>(out)
                                  : ReadCodes<uint8_t>(out));
    const int64_t begin = first * cols() / layout_.group;
    const int64_t end = ((first + count) * cols() - 1) / layout_.group + 1;
    out.fields.resize(2);
    RETURN_IF_ERROR(ReadField(".scale", begin, end, out.fields[0]));
    return ReadField(".zero", begin, end, out.fields[1]);
  }

 private:
  template <class Element>
  absl::Status ReadCodes(CodeBand& out) const {
    const int64_t width = layout_.group, stored = layout_.stored_rows * width;
    const int in_element = layout_.words ? 10 : 8 / layout_.bits;
    const auto mask = static_cast<Element>((1 << layout_.bits) - 1);
    std::vector<Element> elements;
    std::byte* to = out.elements.data();
    int64_t at = out.first_row * cols();
    for (const int64_t end = at + out.rows * cols(); at < end;) {
      // Elements of W_q that have these numbers in the same place.
      const int64_t first = at % stored;
      const int64_t count = std::min(end - at, stored - first);
      elements.resize(count);
      RETURN_IF_ERROR(files().ReadElements(module_ + ".W_q", first, count,
                                           elements.data()));
      const auto place = static_cast<int>(at / stored);
      const int shift = (in_element - 1 - place) * layout_.bits;
      for (const Element element : elements) {
        *to++ = static_cast<std::byte>(element >> shift & mask);
      }
      at += count;
    }
    return absl::OkStatus();
  }

  absl::Status ReadField(const char* suffix, int64_t begin, int64_t end,
                         CodeBand::Field& field) const {
    field.first = begin;
    return ReadScales(files(), module_ + suffix, begin, end - begin,
                      field.values);
  }

  const std::string module_;
  const Layout layout_;
};

// Scalars beside W_q.
class Settings {
 public:
  Settings(const QuantizedSource& source, std::string module)
      : source_(source), module_(std::move(module)) {}

  // An integer; `absent` if it is not there.
  absl::StatusOr<int64_t> Integer(const char* suffix, int64_t absent) const {
    const std::string name = module_ + suffix;
    const auto found = source_.files.tensors.find(name);
    if (found == source_.files.tensors.end()) return absent;
    const TensorInfo& info = found->second.tensor.info;
    const bool is_byte = info.dtype == DType::kU8;
    if (info.elements() != 1 ||
        (!is_byte && info.dtype != DType::kI32 && info.dtype != DType::kI64)) {
      return source_.Problem(
          name, StrCat("must be one integer, has shape ", ShapeText(info.shape),
                       " of ", quant::Name(info.dtype)));
    }
    int64_t value = 0;  // little-endian, and none of them is negative
    RETURN_IF_ERROR(source_.files.ReadElements(name, 0, 1, &value));
    return value;
  }

  absl::Status Is(const char* suffix, int64_t wanted) const {
    ASSIGN_OR_RETURN(const int64_t is, Integer(suffix, wanted));
    if (is == wanted) return absl::OkStatus();
    return absl::UnimplementedError(StrCat("tensor ", Quoted(module_ + suffix),
                                           " must be ", wanted, ", is ", is,
                                           ", which is not served"));
  }

  absl::Status ReadShape(Layout& layout) const {
    const std::string name = module_ + ".shape";
    RETURN_IF_ERROR(source_.Find(name, {DType::kI64}, {2}).status());
    int64_t shape[2];
    RETURN_IF_ERROR(source_.files.ReadElements(name, 0, 2, shape));
    constexpr int64_t kMost = int64_t{1} << 31;
    for (const int64_t extent : shape) {
      if (extent > 0 && extent <= kMost) continue;
      return source_.Problem(name, StrCat("must be a shape, has ", extent));
    }
    layout.rows = shape[0];
    layout.cols = shape[1];
    return absl::OkStatus();
  }

 private:
  const QuantizedSource& source_;
  const std::string module_;
};

class Hqq final : public QuantizedFormat {
 public:
  std::string_view name() const override { return "hqq"; }

  absl::Status FindTensors(const QuantizedSource& source,
                           CodedTensors& found) const override {
    for (const std::string& module : source.ModulesWith(".W_q")) {
      RETURN_IF_ERROR(AddModule(source, module, found));
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status AddModule(const QuantizedSource& source,
                                const std::string& module,
                                CodedTensors& found) {
    const Settings settings(source, module);
    RETURN_IF_ERROR(settings.Is(".axis", 1));
    for (const char* flag : {".view_as_float", ".quant_scale", ".quant_zero"}) {
      RETURN_IF_ERROR(settings.Is(flag, 0));
    }
    Layout layout;
    RETURN_IF_ERROR(settings.ReadShape(layout));
    ASSIGN_OR_RETURN(const int64_t bits, settings.Integer(".nbits", 4));
    if (bits != 8 && bits != 4 && bits != 3 && bits != 2 && bits != 1) {
      return source.Problem(module + ".nbits",
                            StrCat("must be 8, 4, 3, 2 or 1, is ", bits));
    }
    layout.bits = static_cast<int>(bits);
    layout.words = bits == 3;
    ASSIGN_OR_RETURN(layout.group,
                     settings.Integer(".group_size", layout.cols));
    const int64_t elements = layout.rows * layout.cols;
    if (layout.group < 1 || elements % layout.group != 0) {
      return source.Problem(
          module + ".group_size",
          StrCat("must divide the ", elements, " elements, is ", layout.group));
    }
    const int64_t num_groups = elements / layout.group;
    const int64_t in_element = layout.words ? 10 : 8 / bits;
    if (!layout.words && num_groups % in_element != 0) {
      return source.Problem(module + ".W_q",
                            StrCat("cannot hold ", num_groups, " groups, ",
                                   in_element, " to a byte"));
    }
    layout.stored_rows = (num_groups + in_element - 1) / in_element;
    RETURN_IF_ERROR(source
                        .Find(module + ".W_q",
                              {layout.words ? DType::kI32 : DType::kU8},
                              {layout.stored_rows, layout.group})
                        .status());
    ASSIGN_OR_RETURN(
        const TensorInfo* scales,
        source.Find(module + ".scale", {DType::kF16, DType::kBF16, DType::kF32},
                    {num_groups, 1}));
    RETURN_IF_ERROR(
        source.Find(module + ".zero", {scales->dtype}, {num_groups, 1})
            .status());
    for (const char* part :
         {".W_q", ".scale", ".zero", ".nbits", ".group_size", ".shape", ".axis",
          ".packing", ".unpack_view_dtype", ".view_as_float", ".quant_scale",
          ".quant_zero", ".compute_dtype", ".offload_meta",
          ".encoded_state_dict", ".stores_quant_config", ".channel_wise",
          ".optimize", ".round_zero"}) {
      found.parts.insert(module + part);
    }
    const int64_t group =
        layout.group == layout.cols ? kWholeRow : layout.group;
    const quant::MethodSpec spec = {
        .method = &Method(),
        .params = {{"bits", StrCat(bits)},
                   {"group", StrCat(group)},
                   {"scales", std::string(quant::Name(scales->dtype))}}};
    return found.Add(
        module + ".weight", layout.rows, layout.cols, source.dtype,
        {.spec = spec},
        [=, &files = source.files](const quant::CodeFormat& format) {
          return std::make_unique<const HqqRows>(files, module, layout, format);
        });
  }
};

}  // namespace

const QuantizedFormat& HqqFormat() {
  static const Hqq format;
  return format;
}

}  // namespace ounce::model
