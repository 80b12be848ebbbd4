// Codes into the tiles that kernels read (packed_weight.h). How a matrix is
// packed depends on the geometry of its codes, not on who made them, so methods
// share what packs them. To add a packer: a file in packers/ and a line in
// packers.def.
#ifndef OUNCE_QUANT_PACK_H_
#define OUNCE_QUANT_PACK_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "quant/codes.h"
#include "quant/packed_weight.h"

namespace ounce::quant {

struct Packer {
  const TileLayout* layout;
  bool (*takes)(const CodeFormat& format);
  int64_t max_cols;
  // Writes the rows of a band, which begins with a panel, to `weight`, made by
  // PackedWeight::Create of this layout.
  void (*pack)(const CodeFormat& format, const CodeBand& band,
               PackedWeight& weight);
};

// Packs all of `codes`, reading them a panel at a time.
// Errors: those of PackedBytes; what `codes` returns.
absl::StatusOr<PackedWeight> Pack(const CodeRows& codes);

// What Pack's result takes of memory. Errors: kInvalidArgument for a shape that
// no tile holds, kResourceExhausted for one that is too large to count.
absl::StatusOr<int64_t> PackedBytes(const CodeFormat& format, int64_t rows,
                                    int64_t cols);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_PACK_H_
