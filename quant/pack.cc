#include "quant/pack.h"

#include <algorithm>

#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::quant {

#define PACKER(function, file) const Packer& function();
#include "quant/packers.def"
#undef PACKER

namespace {

// The last one takes every format.
const Packer& PackerFor(const CodeFormat& format) {
  const Packer* const packers[] = {
#define PACKER(function, file) &function(),
#include "quant/packers.def"
#undef PACKER
  };
  return **std::find_if(
      std::begin(packers), std::end(packers) - 1,
      [&](const Packer* packer) { return packer->takes(format); });
}

}  // namespace

absl::StatusOr<PackedWeight> Pack(const CodeRows& codes) {
  const int64_t rows = codes.rows(), cols = codes.cols();
  const absl::StatusOr<int64_t> bytes = PackedBytes(codes.format(), rows, cols);
  RETURN_IF_ERROR(
      WithContext(bytes.status(), StrCat("tensor '", codes.name(), "'")));
  const Packer& packer = PackerFor(codes.format());
  ASSIGN_OR_RETURN(PackedWeight weight,
                   PackedWeight::Create(*packer.layout, rows, cols));
  CodeBand band;
  for (int64_t first = 0; first < rows; first += kPanelRows) {
    RETURN_IF_ERROR(
        codes.Read(first, std::min<int64_t>(kPanelRows, rows - first), band));
    packer.pack(codes.format(), band, weight);
  }
  return weight;
}

absl::StatusOr<int64_t> PackedBytes(const CodeFormat& format, int64_t rows,
                                    int64_t cols) {
  const Packer& packer = PackerFor(format);
  if (cols > packer.max_cols) {
    return absl::InvalidArgumentError(
        StrCat("must have at most ", packer.max_cols, " columns, has ", cols));
  }
  return PackedWeight::ResidentBytes(*packer.layout, rows, cols);
}

}  // namespace ounce::quant
