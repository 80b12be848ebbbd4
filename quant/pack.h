// Codes into the tiles that kernels read (packed_weight.h). How a matrix is
// packed depends on the geometry of its codes, not on who made them, so methods
// share what packs them. To add a packer: a file in packers/ and a line in
// packers.def.
#ifndef OUNCE_QUANT_PACK_H_
#define OUNCE_QUANT_PACK_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/thread_pool.h"
#include "quant/codes.h"
#include "quant/error_stats.h"
#include "quant/float_rows.h"
#include "quant/layer_input.h"
#include "quant/packed_weight.h"

namespace ounce::quant {

// What a matrix is packed into.
struct Tiles {
  const TileLayout* layout;  // not owned
  RunGeometry runs = {};     // of the form kRuns
};

struct Packer {
  // Nothing if it does not take a format.
  std::optional<Tiles> (*tiles)(const CodeFormat& format, int64_t cols);
  int64_t max_cols;
  // Writes the rows of a band to `weight` from row `first_row` on, which
  // PackedWeight::Create has made of these tiles.
  void (*pack)(const CodeFormat& format, const CodeBand& band,
               int64_t first_row, PackedWeight& weight);
};

// Rows [first_row, first_row + rows) of a matrix of codes.
struct CodeSlice {
  const CodeRows* codes;
  int64_t first_row;
  int64_t rows;
  // Where there is one, it learns how far these rows are from those of
  // `original`, a matrix of the same shape.
  ErrorMeter* error = nullptr;
  const FloatRows* original = nullptr;
  // And where there are inputs [any rows, cols], how far products with these
  // rows are from those with the original's.
  ErrorMeter* output_error = nullptr;
  const LayerInput* input = nullptr;
};

// What a weight is for. Convolutions have no kernels for scales by the run:
// what would be packed so (kRuns) is packed for them as the next packer does.
enum class Product { kMatmul, kConvolution };

// Packs the rows of all slices, one after another, as one matrix, reading a few
// at a time, on the caller's thread or on a pool's, side by side; weight and
// errors are the same to the bit. Codes and fields stay those of the matrix
// that a slice is of: a run that reaches over several rows is not cut anew.
// Requires at least one; of one width, method and rounding of inputs, so that
// one packer takes all of them.
// Errors: those of PackedBytes; what codes and originals return, of the first
// rows that fail; kResourceExhausted when memory is short.
absl::StatusOr<PackedWeight> Pack(absl::Span<const CodeSlice> slices,
                                  Product product = Product::kMatmul,
                                  ThreadPool* pool = nullptr);

// A whole matrix.
absl::StatusOr<PackedWeight> Pack(const CodeRows& codes,
                                  Product product = Product::kMatmul,
                                  ThreadPool* pool = nullptr);

// What Pack's result takes of memory. Errors: kInvalidArgument for a shape that
// no tile holds, kResourceExhausted for one that is too large to count,
// kUnimplemented for inputs in 8 bits where the weight is multiplied as floats.
absl::StatusOr<int64_t> PackedBytes(const CodeFormat& format, int64_t rows,
                                    int64_t cols,
                                    Product product = Product::kMatmul);

// The outline of Pack's result. Requires that PackedBytes is OK.
PackedWeight PackedOutline(const CodeFormat& format, int64_t rows,
                           int64_t cols);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_PACK_H_
