// Two tables of 16 small integers, one bit of each block of 32 weights chooses
// (the tables of ik_llama.cpp's IQ4_KS):
//
//   w ~ d * s * level,  s one of -127, -125, ... 127, odd so that with the bit
//                       that chooses it is a byte
//
// d is a float32 of the row. Tables are dense around zero, as weights are; the
// second is the first and 4, which serves blocks that lean to one side.
//
// Scales are searched for the smallest squared error of a row
// (kernels/ks4_search_impl.h): each block finds its own best scale of each
// table and sign; then blocks choose among the multiples of d next to these,
// and d is fitted to the codes by least squares, in turns. Weights count alike:
// with nothing known of the inputs, an output's error is theirs.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "base/status_macros.h"
#include "quant/encode_rows.h"
#include "quant/kernels/for_isa.h"
#include "quant/kernels/ks4_search.h"
#include "quant/quant_method.h"

namespace ounce::quant {
namespace {

class Ks4Rows final : public EncodedRows {
 public:
  using EncodedRows::EncodedRows;

 private:
  absl::Status EncodeRow(int64_t row, const float* values, std::byte* codes,
                         CodeBand& out) const override {
    std::vector<float> room(Ks4Room(cols()));
    std::vector<uint8_t> scales(Ks4Blocks(cols()));
    const int64_t index = row - out.first_row;
    out.fields[0].values[index] =
        search_(values, cols(), room.data(), scales.data(),
                reinterpret_cast<uint8_t*>(codes));
    std::copy(scales.begin(), scales.end(),
              out.fields[1].values.begin() + index * Ks4Blocks(cols()));
    return absl::OkStatus();
  }

  const Ks4Search search_ =
      ForIsa(BestIsa(), Ks4SearchPortable, Ks4SearchAvx2, Ks4SearchAvx512);
};

class Ks4 final : public QuantMethod {
 public:
  std::string_view name() const override { return "ks4"; }
  std::string_view summary() const override {
    return "4-bit codes of the better of two tables for each block of 32, with "
           "searched scales: 4.25 bits and 32 for each row.";
  }

  absl::StatusOr<CodeFormat> Format(int64_t, int64_t, DType,
                                    const ParamValues&) const override {
    return CodeFormat{
        .kind = CodeFormat::Kind::kUnsigned,
        .bits = 4,
        .element = "ks4",
        .tables = kKs4Table,
        .fields = {{.name = "d", .reach = Reach::Row()},
                   {.name = "scale",
                    .type = CodeField::Type::kUnsigned,
                    .bits = 8,
                    .reach = Reach::Columns(kKs4Block)}},
        .rule = {.scale = {.field = 1, .mask = 254, .bias = 127, .times = 0},
                 .table = {.field = 1, .mask = 1}}};
  }

  absl::StatusOr<std::unique_ptr<const CodeRows>> Encode(
      const FloatRows& weight, const ParamValues& params) const override {
    ASSIGN_OR_RETURN(CodeFormat format, Format(weight.rows(), weight.cols(),
                                               weight.dtype(), params));
    return std::make_unique<const Ks4Rows>(weight, std::move(format));
  }
};

}  // namespace

const QuantMethod& Ks4Method() {
  static const Ks4 method;
  return method;
}

}  // namespace ounce::quant
