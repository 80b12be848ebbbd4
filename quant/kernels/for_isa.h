// Kernels that do the same, by instruction set.
#ifndef OUNCE_QUANT_KERNELS_FOR_ISA_H_
#define OUNCE_QUANT_KERNELS_FOR_ISA_H_

#include "base/cpu.h"

namespace ounce::quant {

// The best that `isa` has.
template <class Kernel>
constexpr Kernel ForIsa(Isa isa, Kernel portable, Kernel avx2, Kernel avx512) {
  return isa >= Isa::kAvx512 ? avx512 : isa >= Isa::kAvx2 ? avx2 : portable;
}

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_KERNELS_FOR_ISA_H_
