#include "quant/kernels/vector_math.h"
#include "tests/quant/vector_math_test.h"

namespace ounce::quant {

VectorFunctions VectorFunctionsAvx2() { return OUNCE_VECTOR_FUNCTIONS; }

}  // namespace ounce::quant
