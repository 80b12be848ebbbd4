#include "quant/kernels/gguf_search_impl.h"

namespace ounce::quant {

const GgufSearches& GgufSearchesAvx2() { return vec::kSearches; }

}  // namespace ounce::quant
