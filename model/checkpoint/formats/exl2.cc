// EXL2's files, as exllamav2 writes them. Of a linear layer X of `in` columns,
// which are sorted by importance and cut into groups of a width each, and `out`
// rows, a multiple of 32:
//
//   X.q_groups     int16 [2 * groups]      bits of a group, its first word
//   X.q_weight     int32 [words, out]      a group's numbers along `in`, lowest
//                                          bits first, across words
//   X.q_scale      int32 [groups, out / 8] numbers of 4 bits, less one
//   X.q_scale_max  float16 [groups]
//   X.q_invperm    int32 [in]              or X.q_perm: which column is where
//
//   s = (q_scale + 1)^2 * (q_scale_max / 256), w = s * (q - 2^(bits - 1))
//
// s in float16, rounded after each product. The codes here have as many bits as
// the group with most, so that one matrix is of one kind; a file's are fewer.
//
// Source: turboderp-org/exllamav2, exllamav2/exllamav2_ext/cuda/q_matrix.cu and
// exllamav2/conversion/compile.py.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/coded_tensor.h"
#include "model/checkpoint/formats/format_fields.h"
#include "model/checkpoint/formats/grouped_integers.h"
#include "model/checkpoint/quantized_format.h"
#include "model/checkpoint/stored_columns.h"
#include "model/files/byte_source.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using quant::CodeBand;
using quant::CodeField;
using quant::CodeFormat;
using quant::DType;
using quant::ParamSpec;
using quant::Reach;

constexpr int64_t kInWord = 8;  // scales in a word of q_scale

class Exl2Method final : public StoredMethod {
 public:
  std::string_view name() const override { return "exl2"; }
  std::string_view summary() const override {
    return "ExLlamaV2's integers of several widths, as another tool made them.";
  }
  absl::Span<const ParamSpec> params() const override {
    static const std::vector<ParamSpec> params = {
        {.name = "bits",
         .default_value = "4",
         .min = 2,
         .max = 8,
         .help = "bits of the widest group"},
        {.name = "group",
         .default_value = "128",
         .min = 1,
         .max = INT64_MAX,
         .help = "columns that share a scale"}};
    return params;
  }
  absl::StatusOr<CodeFormat> Format(
      int64_t, int64_t, DType,
      const quant::ParamValues& params) const override {
    const auto bits = static_cast<int>(quant::IntegerOf(params, "bits"));
    CodeFormat format = {.kind = CodeFormat::Kind::kSigned,
                         .bits = bits,
                         .element = IntegerName(bits, /*is_signed=*/true),
                         .fields = {{.name = "scale",
                                     .type = CodeField::Type::kFloat16,
                                     .bits = 16,
                                     .reach = Reach::Columns(
                                         quant::IntegerOf(params, "group"))}},
                         .rule = {.scale = {.field = 0}}};
    return format;
  }
};

const Exl2Method& Method() {
  static const Exl2Method method;
  return method;
}

struct Group {
  int bits = 4;
  int64_t first_word = 0;  // row of q_weight
  int64_t first_col = 0;   // of the codes
  int64_t cols = 0;
};

struct Layout {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<Group> groups;
  std::vector<float> scale_max;  // by group, divided by 256
  std::vector<int32_t> order;
  int bits = 0;            // of the widest
  int64_t reach_cols = 0;  // divides all groups but the last
};

class Exl2Rows final : public quant::CodeRows {
 public:
  Exl2Rows(const TensorFiles& files, const std::string& module,
           std::shared_ptr<const Layout> layout, CodeFormat format)
      : name_(module + ".weight"),
        layout_(std::move(layout)),
        format_(std::move(format)),
        weights_(files, module + ".q_weight"),
        scales_(files, module + ".q_scale") {}

  const std::string& name() const override { return name_; }
  int64_t rows() const override { return layout_->rows; }
  int64_t cols() const override { return layout_->cols; }
  const CodeFormat& format() const override { return format_; }
  absl::Span<const int32_t> order() const override { return layout_->order; }

  absl::Status Read(int64_t first, int64_t count,
                    CodeBand& out) const override {
    out.first_row = first;
    out.rows = count;
    RETURN_IF_ERROR(ReadCodes(first, count, out));
    return ReadScales(first, count, out);
  }

 private:
  absl::Status ReadCodes(int64_t first, int64_t count, CodeBand& out) const {
    std::vector<uint32_t> words(count * weights_.rows());
    RETURN_IF_ERROR(weights_.Read(first, count, words.data()));
    out.elements.resize(count * cols());
    std::byte* to = out.elements.data();
    for (int64_t row = 0; row < count; ++row) {
      const uint32_t* from = words.data() + row * weights_.rows();
      for (const Group& group : layout_->groups) {
        const int middle = 1 << (group.bits - 1);
        for (int64_t i = 0; i < group.cols; ++i) {
          const int number =
              NumberInWords(from + group.first_word, i, group.bits);
          *to++ = static_cast<std::byte>(static_cast<int8_t>(number - middle));
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadScales(int64_t first, int64_t count, CodeBand& out) const {
    const int64_t begin = first / kInWord;
    const int64_t end = (first + count - 1) / kInWord + 1;
    const auto num_groups = static_cast<int64_t>(layout_->groups.size());
    std::vector<uint32_t> words((end - begin) * num_groups);
    RETURN_IF_ERROR(scales_.Read(begin, end - begin, words.data()));
    const int64_t per_row = format_.fields[0].reach.Count(1, cols());
    out.fields.resize(1);
    CodeBand::Field& field = out.fields[0];
    field.first = first * per_row;
    field.values.clear();
    for (int64_t row = first; row < first + count; ++row) {
      const uint32_t* of_row =
          words.data() + (row / kInWord - begin) * num_groups;
      for (int64_t g = 0; g < num_groups; ++g) {
        const auto root =
            static_cast<float>((of_row[g] >> row % kInWord * 4 & 15) + 1);
        const float scale =
            quant::RoundTo(DType::kF16, root * root * layout_->scale_max[g]);
        const int64_t values =
            (layout_->groups[g].cols - 1) / layout_->reach_cols + 1;
        field.values.insert(field.values.end(), values, scale);
      }
    }
    return absl::OkStatus();
  }

  const std::string name_;
  const std::shared_ptr<const Layout> layout_;
  const CodeFormat format_;
  const StoredColumns weights_;
  const StoredColumns scales_;
};

class Exl2 final : public QuantizedFormat {
 public:
  std::string_view name() const override { return "exl2"; }

  absl::Status FindTensors(const QuantizedSource& source,
                           CodedTensors& found) const override {
    for (const std::string& module : source.ModulesWith(".q_weight")) {
      RETURN_IF_ERROR(AddModule(source, module, found));
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status AddModule(const QuantizedSource& source,
                                const std::string& module,
                                CodedTensors& found) {
    auto layout = std::make_shared<Layout>();
    RETURN_IF_ERROR(ReadOrder(source, module, *layout));
    ASSIGN_OR_RETURN(
        const TensorInfo* weights,
        source.Find(module + ".q_weight", {DType::kI32}, {-1, -1}));
    layout->rows = weights->shape[1];
    if (layout->rows % 32 != 0) {
      return source.Problem(
          module + ".q_weight",
          StrCat("must have a multiple of 32 columns, has ", layout->rows));
    }
    RETURN_IF_ERROR(ReadGroups(source, module, weights->shape[0], *layout));
    const auto num_groups = static_cast<int64_t>(layout->groups.size());
    RETURN_IF_ERROR(source
                        .Find(module + ".q_scale", {DType::kI32},
                              {num_groups, layout->rows / kInWord})
                        .status());
    RETURN_IF_ERROR(ReadLargestScales(source, module, *layout));
    for (const char* part :
         {".q_weight", ".q_groups", ".q_scale", ".q_scale_max", ".q_invperm",
          ".q_perm", ".q_group_map"}) {
      found.parts.insert(module + part);
    }
    const quant::MethodSpec spec = {
        .method = &Method(),
        .params = {{"bits", StrCat(layout->bits)},
                   {"group", StrCat(layout->reach_cols)}}};
    ASSIGN_OR_RETURN(CodeFormat format,
                     spec.Format(layout->rows, layout->cols, DType::kF32));
    format.packed_bytes = 0;
    format.packed_bytes =
        FileBytes(*layout) - format.StoredBytes(layout->rows, layout->cols);
    return found.Add(module + ".weight", layout->rows, layout->cols,
                     source.dtype,
                     {.spec = spec,
                      .packed_bytes = format.packed_bytes,
                      .ordered = !layout->order.empty()},
                     [=, &files = source.files,
                      layout = std::shared_ptr<const Layout>(layout)](
                         const quant::CodeFormat& format) {
                       return std::make_unique<const Exl2Rows>(files, module,
                                                               layout, format);
                     });
  }

  // Columns, and their order.
  static absl::Status ReadOrder(const QuantizedSource& source,
                                const std::string& module, Layout& layout) {
    const bool is_inverse =
        source.files.tensors.contains(module + ".q_invperm");
    const std::string name = module + (is_inverse ? ".q_invperm" : ".q_perm");
    ASSIGN_OR_RETURN(const TensorInfo* info,
                     source.Find(name, {DType::kI32}, {-1}));
    const int64_t cols = info->shape[0];
    std::vector<int32_t> places(cols), order(cols, -1);
    RETURN_IF_ERROR(source.files.ReadElements(name, 0, cols, places.data()));
    for (int64_t i = 0; i < cols; ++i) {
      const int32_t place = places[i];
      const bool fits = place >= 0 && place < cols;
      if (!fits || order[place] >= 0) {
        return source.Problem(
            name, StrCat("must have each of 0 to ", cols - 1, " once: element ",
                         i, " is ", place));
      }
      order[place] = static_cast<int32_t>(i);
    }
    layout.cols = cols;
    layout.order = is_inverse ? std::move(order) : std::move(places);
    if (std::is_sorted(layout.order.begin(), layout.order.end())) {
      layout.order.clear();
    }
    return absl::OkStatus();
  }

  static absl::Status ReadGroups(const QuantizedSource& source,
                                 const std::string& module, int64_t words,
                                 Layout& layout) {
    const std::string name = module + ".q_groups";
    ASSIGN_OR_RETURN(const TensorInfo* info,
                     source.Find(name, {DType::kI16, DType::kU16}, {-1}));
    std::vector<uint16_t> pairs(info->shape[0]);
    RETURN_IF_ERROR(
        source.files.ReadElements(name, 0, info->shape[0], pairs.data()));
    const auto wrong = [&](size_t i) {
      return source.Problem(
          name, StrCat("must have 2 to 8 bits, not 7, and an ascending row of ",
                       "q_weight for each group, all of ", layout.cols,
                       " columns together: group ", i, " does not fit"));
    };
    int64_t first_col = 0;
    const size_t num_groups = pairs.size() / 2;
    if (pairs.size() % 2 != 0) return wrong(num_groups);
    for (size_t i = 0; i < num_groups; ++i) {
      Group group = {.bits = pairs[2 * i],
                     .first_word = pairs[2 * i + 1],
                     .first_col = first_col};
      const int64_t end =
          i + 1 < num_groups ? int64_t{pairs[2 * i + 3]} : words;
      if (group.bits < 2 || group.bits > 8 || group.bits == 7 ||
          end <= group.first_word || end > words ||
          (i == 0 && group.first_word != 0)) {
        return wrong(i);
      }
      group.cols = (end - group.first_word) * 32 / group.bits;
      // The last one's words may be filled up.
      if (i + 1 == num_groups) {
        group.cols = std::min(group.cols, layout.cols - first_col);
      }
      first_col += group.cols;
      if (group.cols < 1 || first_col > layout.cols) return wrong(i);
      layout.bits = std::max(layout.bits, group.bits);
      if (i + 1 < num_groups || layout.reach_cols == 0) {
        layout.reach_cols = std::gcd(layout.reach_cols, group.cols);
      }
      layout.groups.push_back(group);
    }
    if (first_col != layout.cols) return wrong(num_groups);
    return absl::OkStatus();
  }

  static absl::Status ReadLargestScales(const QuantizedSource& source,
                                        const std::string& module,
                                        Layout& layout) {
    const std::string name = module + ".q_scale_max";
    const auto num_groups = static_cast<int64_t>(layout.groups.size());
    RETURN_IF_ERROR(source.Find(name, {DType::kF16}, {num_groups}).status());
    layout.scale_max.resize(num_groups);
    RETURN_IF_ERROR(
        source.files.ReadFloats(name, 0, num_groups, layout.scale_max.data()));
    for (int64_t i = 0; i < num_groups; ++i) {
      float& scale = layout.scale_max[i];
      // Times 256, the square of the largest root, it still fits.
      if (!std::isfinite(scale)) {
        return source.Problem(
            name,
            StrCat("element ", i, " must be a finite number, is ", scale));
      }
      scale = quant::RoundTo(DType::kF16, scale / 256);
    }
    return absl::OkStatus();
  }

  // Numbers, scales, groups and the order, as a file has them.
  static int64_t FileBytes(const Layout& layout) {
    int64_t bits = 32 * layout.cols;
    for (const Group& group : layout.groups) {
      bits += group.cols * group.bits * layout.rows + 48 + 4 * layout.rows;
    }
    return bits / 8;
  }
};

}  // namespace

const QuantizedFormat& Exl2Format() {
  static const Exl2 format;
  return format;
}

}  // namespace ounce::model
