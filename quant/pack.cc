#include "quant/pack.h"

#include <algorithm>

#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::quant {

#define PACKER(function, file) const Packer& function();
#include "quant/packers.def"
#undef PACKER

namespace {

// The last one takes every format.
const Packer& PackerFor(const CodeFormat& format, int64_t cols,
                        Product product) {
  const Packer* const packers[] = {
#define PACKER(function, file) &function(),
#include "quant/packers.def"
#undef PACKER
  };
  return **std::find_if(
      std::begin(packers), std::end(packers) - 1, [&](const Packer* packer) {
        return packer->takes(format, cols) &&
               (product == Product::kMatmul || packer->runs == nullptr);
      });
}

RunGeometry RunsOf(const Packer& packer, const CodeFormat& format,
                   int64_t cols) {
  return packer.runs == nullptr ? RunGeometry{} : packer.runs(format, cols);
}

}  // namespace

absl::StatusOr<PackedWeight> Pack(absl::Span<const CodeSlice> slices,
                                  Product product) {
  OUNCE_CHECK(!slices.empty(), "rows of something");
  const CodeRows& first = *slices[0].codes;
  int64_t rows = 0;
  for (const CodeSlice& slice : slices) rows += slice.rows;
  const absl::StatusOr<int64_t> bytes =
      PackedBytes(first.format(), rows, first.cols(), product);
  RETURN_IF_ERROR(
      WithContext(bytes.status(), StrCat("tensor '", first.name(), "'")));
  const Packer& packer = PackerFor(first.format(), first.cols(), product);
  ASSIGN_OR_RETURN(
      PackedWeight weight,
      PackedWeight::Create(packer.layout(first.format()), rows, first.cols(),
                           RunsOf(packer, first.format(), first.cols())));
  CodeBand band;
  int64_t done = 0;
  for (const auto& [codes, begin, count] : slices) {
    OUNCE_CHECK(
        &PackerFor(codes->format(), codes->cols(), product) == &packer &&
            codes->cols() == first.cols(),
        "slices of one kind");
    for (int64_t row = begin; row < begin + count; row += kPanelRows) {
      const int64_t n = std::min<int64_t>(kPanelRows, begin + count - row);
      RETURN_IF_ERROR(codes->Read(row, n, band));
      packer.pack(codes->format(), band, done, weight);
      done += n;
    }
  }
  return weight;
}

absl::StatusOr<PackedWeight> Pack(const CodeRows& codes, Product product) {
  const CodeSlice whole = {&codes, 0, codes.rows()};
  return Pack(absl::MakeConstSpan(&whole, 1), product);
}

absl::StatusOr<int64_t> PackedBytes(const CodeFormat& format, int64_t rows,
                                    int64_t cols, Product product) {
  const Packer& packer = PackerFor(format, cols, product);
  if (cols > packer.max_cols) {
    return absl::InvalidArgumentError(
        StrCat("must have at most ", packer.max_cols, " columns, has ", cols));
  }
  return PackedWeight::ResidentBytes(packer.layout(format), rows, cols,
                                     RunsOf(packer, format, cols));
}

PackedWeight PackedOutline(const CodeFormat& format, int64_t rows,
                           int64_t cols) {
  const Packer& packer = PackerFor(format, cols, Product::kMatmul);
  return PackedWeight::Outline(packer.layout(format), rows, cols,
                               RunsOf(packer, format, cols));
}

}  // namespace ounce::quant
