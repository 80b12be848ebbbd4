// The epilogue of all products, of rows and of maps. Included by the files that
// are compiled per instruction set.
#ifndef OUNCE_QUANT_KERNELS_OUTPUT_IMPL_H_
#define OUNCE_QUANT_KERNELS_OUTPUT_IMPL_H_

#include "quant/epilogue.h"
#include "quant/kernels/panels.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

inline constexpr int kPanelVectors = 16 / kLanes;

// values <- activation(values). Not inlined: one copy serves all kernels.
__attribute__((noinline)) inline void Activate(Activation activation,
                                               Floats* values, int64_t count) {
  const auto apply = [&](auto function) {
    for (int64_t i = 0; i < count; ++i) values[i] = function(values[i]);
  };
  switch (activation) {
    case Activation::kNone:
      return;
    case Activation::kRelu:
      return apply([](Floats x) { return Relu(x); });
    case Activation::kGelu:
      return apply([](Floats x) { return Gelu(x); });
    case Activation::kGeluTanh:
      return apply([](Floats x) { return GeluTanh(x); });
    case Activation::kSilu:
      return apply([](Floats x) { return Silu(x); });
  }
}

// The bias of outputs that have none: the one number that changes no other, not
// even -0, when it is added.
inline Floats NoBias() { return Set(-0.0f); }

// `value` combined with what before() gives.
template <class Before>
inline Floats Combined(Combine combine, const Before& before, Floats value) {
  if (combine == Combine::kAdd) return before() + value;
  if (combine == Combine::kMultiply) return before() * value;
  return value;
}

// Writes kVectors * kLanes outputs of each row, from column `col` on, less
// those past the last. `products` [rows][kVectors] are used up.
template <int kVectors>
inline void WriteRows(const PanelJob& job, int64_t first_row, int64_t rows,
                      int64_t col, Floats* products) {
  const Epilogue& epilogue = job.epilogue;
  const int64_t count = job.output_cols - col;
  if (epilogue.bias != nullptr) {
    for (int v = 0; v < kVectors && v * kLanes < count; ++v) {
      const Floats bias =
          LoadPart(epilogue.bias + col + v * kLanes, count - v * kLanes);
      for (int64_t i = 0; i < rows; ++i) products[i * kVectors + v] += bias;
    }
  }
  if (epilogue.activation != Activation::kNone) {
    Activate(epilogue.activation, products, rows * kVectors);
  }
  for (int64_t i = 0; i < rows; ++i) {
    float* y = job.y + (first_row + i) * job.y_stride + col;
    for (int v = 0; v < kVectors && v * kLanes < count; ++v, y += kLanes) {
      const int64_t lanes = count - v * kLanes;
      StorePart(Combined(
                    epilogue.combine, [&] { return LoadPart(y, lanes); },
                    products[i * kVectors + v]),
                y, lanes);
    }
  }
}

// The outliers of a row times the weights of kLanes outputs, as one chain. Not
// inlined: few rows have any.
__attribute__((noinline)) inline Floats OutlierSums(const Int8Job& job,
                                                    int64_t row, int64_t col) {
  const Floats scales = Load(job.scales + col);
  Floats sums{};
  alignas(64) std::byte unpacked[1024];
  const float* x = job.x + row * job.x_stride;
  const OutlierBlock* found = job.outliers.found + row * job.blocks;
  for (int32_t i = 0; i < job.outliers.num_found[row]; ++i) {
    const std::byte* packed =
        job.tiles + (col / 16 * job.blocks + found[i].block) * job.tile_bytes;
    const auto* tile = reinterpret_cast<const int32_t*>(
        job.unpack ? job.unpack(packed, unpacked) : packed);
    for (uint64_t left = found[i].cols; left != 0; left &= left - 1) {
      const int at = __builtin_ctzll(left);
      const Ints four = Load(tile + at / 4 * 16 + col % 16);
      const Ints codes = four << (24 - at % 4 * 8) >> 24;
      sums = FusedFma(Set(x[found[i].block * 64 + at]),
                      scales * __builtin_convertvector(codes, Floats), sums);
    }
  }
  return sums;
}

// A product by kLanes integer sums of each plane. 256 * float(hi) is exact, so
// that it does not matter whether the sum is fused.
template <int kPlanes>
inline Floats Int8Product(const Int8Job& job, int64_t row, int64_t col,
                          const Ints* sums) {
  const Ints code_sums = Load(job.code_sums + col);
  const Floats first =
      __builtin_convertvector(sums[0] - (code_sums << 7), Floats);
  if constexpr (kPlanes == 1) {
    const bool any =
        job.outliers.found != nullptr && job.outliers.num_found[row] > 0;
    return FusedFma(Load(job.scales + col) * first, Set(job.row_scales[row]),
                    any ? OutlierSums(job, row, col) : Floats{});
  } else {
    const Floats lo = __builtin_convertvector(sums[1], Floats);
    const Floats sum = first * 256.0f + lo;
    return sum * Load(job.scales + col) * job.row_scales[row];
  }
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_OUTPUT_IMPL_H_
