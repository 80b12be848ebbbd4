// What products of floats are computed in.
#ifndef OUNCE_QUANT_COMPUTE_H_
#define OUNCE_QUANT_COMPUTE_H_

#include "base/cpu.h"

namespace ounce::quant {

// kFloat32 is the reference. kBFloat16 rounds both factors to bfloat16 and sums
// in float32: a relative error of about 2^-8 per factor, and twice the
// speed or more where the CPU multiplies it (AVX-512 BF16, AMX).
enum class Compute { kFloat32, kBFloat16 };

// The faster of the two on this CPU: kBFloat16 from AVX-512 BF16 on.
inline Compute FasterCompute(Isa isa = BestIsa()) {
  return isa >= Isa::kAvx512Bf16 ? Compute::kBFloat16 : Compute::kFloat32;
}

constexpr const char* ComputeName(Compute compute) {
  return compute == Compute::kBFloat16 ? "bfloat16" : "float32";
}

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_COMPUTE_H_
