#include "quant/kernels/gguf_search_impl.h"

namespace ounce::quant {

const GgufSearches& GgufSearchesPortable() { return vec::kSearches; }

}  // namespace ounce::quant
