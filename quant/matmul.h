// y = x * W^T for every method and every number of rows of x.
//
// One set of loops for all methods: a method only supplies the unpacker of a
// tile (packed_weight.h). Instruction set and inner kernel are chosen at run
// time by the CPU and by the number of rows.
//
// Exactness: a row of y depends on that row of x and on W alone, to the last
// bit: not on how many other rows are in the call, on the number of threads or
// on the kernel that was chosen. So a sequence yields the same tokens alone and
// in a batch, and however its prompt is cut into chunks.
//   kInt8:  x is rounded per row to 16-bit integers, x ~ sx * (256 * hi + lo)
//           with hi, lo bytes; both byte planes are multiplied with the codes
//           in exact int32 arithmetic, then
//           y = sx * scale[row] * fma(256, float(hi sum), float(lo sum)).
//           Integer sums know no order, so all instruction sets agree bit by
//           bit. The rounding of x is at most max|x| / 65534 per element (a
//           row with max|x| < 2^-100 counts as zero). A row of x that holds NaN
//           or infinity gives NaN in its row of y, and no other.
//   kInt8, x in 8 bits (input_rounding.h):  x ~ sx * q with |q| <= 127, the
//           row's outliers left out; in exact int32 arithmetic
//             sum = code * q, added up
//           and of the outliers, in ascending order and from 0 on,
//             o = fma(x, scale[row] * float(code), o)
//           then y = fma(scale[row] * float(sum), sx, o). All instruction sets
//           agree bit by bit. The rounding of x is at most max|x| / 254 per
//           element, max over what is no outlier. Outliers are chosen for each
//           row of x by itself. (bitsandbytes takes a
//           column that has one in any row of the call out of all rows: equal
//           for single rows, but a row of y would depend on other rows of x.)
//   kRuns:  the same with |256 * hi + lo| <= 32639, hi and lo signed. Of each
//           step, 64 columns or a shorter run, the exact integers
//             sum = (level - zero) * (256 * hi + lo), added up
//             x_sum = (256 * hi + lo), added up
//           enter one chain in ascending order:
//             y = fma(scale, float(sum), y)
//             y = fma(minimum, float(x_sum), y)  where the weight has minima
//           and y is multiplied by sx * factor at its end (RunGeometry says
//           what level, zero and factor are). All instruction sets agree
//           bit by bit. The rounding of x is at most max|x| / 65278.
//   kRuns, x in 8 bits:  the same with |q| <= 127 for 256 * hi + lo; the
//           rounding of x is at most max|x| / 254.
//   kFloat: one fused-multiply-add chain over the inputs in ascending order
//           for each output (portable: without FMA, so rounded twice).
//   kFloat, x prepared in bfloat16: both factors rounded to bfloat16, products
//           and sums in float32, in an order that differs between instruction
//           sets (AVX-512 BF16, AMX: subnormal numbers count as
//           zero).
// Limits: cols <= 65,536 for kInt8 (int32 sums).
#ifndef OUNCE_QUANT_MATMUL_H_
#define OUNCE_QUANT_MATMUL_H_

#include <cstdint>
#include <optional>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "quant/compute.h"
#include "quant/epilogue.h"
#include "quant/outliers.h"
#include "quant/packed_weight.h"
#include "quant/scratch.h"

namespace ounce::quant {

// Rows of float32, not owned.
struct ConstMatrix {
  const float* data;
  int64_t rows;
  int64_t cols;
  int64_t stride;  // floats from row to row
  const float* row(int64_t i) const { return data + i * stride; }
};
struct Matrix {
  float* data;
  int64_t rows;
  int64_t cols;
  int64_t stride;
  float* row(int64_t i) const { return data + i * stride; }
};

// What kernels read of x beside the floats themselves.
struct InputForms {
  bool integers = false;  // for weights of kInt8
  bool runs = false;      // for weights of kRuns
  bool bfloat16 = false;  // for weights of floats, multiplied in kBFloat16
  // For weights of kInt8 and x in 8 bits: their threshold.
  std::optional<float> bytes = std::nullopt;
  bool run_bytes = false;  // for weights of kRuns and x in 8 bits
};
// There is one threshold: `a`'s if both have any (MatmulInput::Has).
constexpr InputForms operator|(const InputForms& a, const InputForms& b) {
  return {a.integers || b.integers, a.runs || b.runs, a.bfloat16 || b.bfloat16,
          a.bytes.has_value() ? a.bytes : b.bytes, a.run_bytes || b.run_bytes};
}

// What a weight wants of x. Weights of integers go one way in either compute:
// it is more exact than bfloat16, and as fast.
InputForms FormsFor(const PackedWeight& w, Compute compute);

// x for weights of kRuns. Planes of signed bytes, rows * padded_cols each in
// the order of kernels/panels.h; in 8 bits there is no lo.
struct RunsInput {
  const int8_t* hi = nullptr;  // null if not made
  const int8_t* lo = nullptr;
  const int32_t* sums = nullptr;  // over 16 columns, [rows, padded_cols / 16]
  const float* row_scales = nullptr;  // sx, [rows]
};

// x for weights of kInt8 in 8 bits.
struct BytesInput {
  // q + 128, rows * padded_cols in the order of kernels/panels.h; null if not
  // made.
  const uint8_t* plane = nullptr;
  const float* row_scales = nullptr;  // sx, [rows]
  float threshold = 0;
  Outliers outliers;
};

// Activations made ready for kernels once, then multiplied by several weights
// (CodeGen's attention and MLP read the same normalized input).
//
// Ownership: points into `scratch` and to x's own data, both of which must stay
// as they are while it is used.
class MatmulInput {
 public:
  // x.cols must be the cols of the weights to come, `forms` what any of them
  // wants. A weight of floats multiplies in bfloat16 if that is among them.
  static MatmulInput Prepare(const ConstMatrix& x, const InputForms& forms,
                             ThreadPool& pool, Scratch& scratch);
  // The same on a given instruction set (at most BestIsa()), for tests: the
  // forms are equal bit by bit.
  static MatmulInput PrepareOn(Isa isa, const ConstMatrix& x,
                               const InputForms& forms, ThreadPool& pool,
                               Scratch& scratch);

  const ConstMatrix& x() const { return x_; }
  // Byte planes hi + 128 and lo, rows * padded_cols bytes each in the order of
  // kernels/panels.h; null if not made.
  const uint8_t* hi() const { return hi_; }
  const uint8_t* lo() const { return lo_; }
  const float* row_scales() const { return row_scales_; }  // sx, [rows]
  const RunsInput& runs() const { return runs_; }
  const BytesInput& bytes() const { return bytes_; }
  const RunsInput& run_bytes() const { return run_bytes_; }
  // Rows of padded_cols numbers, those past x's end zero; null if not made.
  const uint16_t* bfloat16() const { return bfloat16_; }
  int64_t padded_cols() const { return padded_cols_; }  // multiple of 64

  // Whether it was made ready for weights that want these.
  bool Has(const InputForms& forms) const;

 private:
  ConstMatrix x_{};
  const uint8_t* hi_ = nullptr;
  const uint8_t* lo_ = nullptr;
  const float* row_scales_ = nullptr;
  RunsInput runs_;
  BytesInput bytes_;
  RunsInput run_bytes_;
  const uint16_t* bfloat16_ = nullptr;
  int64_t padded_cols_ = 0;
};

// y[x.rows, W.rows], which may be columns of a wider matrix. No allocation
// beyond `scratch`.
// Requires x.cols == W.cols, y.cols == W.rows, and that x was prepared for W.
void Matmul(const MatmulInput& x, const PackedWeight& w,
            const Epilogue& epilogue, const Matrix& y, ThreadPool& pool,
            Scratch& scratch);

// The same on a given instruction set (at most BestIsa()), for tests.
void MatmulOn(Isa isa, const MatmulInput& x, const PackedWeight& w,
              const Epilogue& epilogue, const Matrix& y, ThreadPool& pool,
              Scratch& scratch);

// Takes what Matmul takes with a weight of so many outputs, whatever its
// method, and gives it back: for counting passes, which may have no weights.
void CountMatmul(const MatmulInput& x, int64_t outputs, const ThreadPool& pool,
                 Scratch& scratch);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_MATMUL_H_
