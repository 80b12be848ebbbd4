#include "quant/kernels/convolution.h"
#include "quant/kernels/convolution_impl.h"

namespace ounce::quant {

void ConvolutionAvx512(const ConvolutionJob& job, const ConvolutionMap& map,
                       const ConvolutionRange& range, std::byte* scratch) {
  vec::Convolve(job, map, range, scratch);
}

void RoundToBFloat16Avx512(const float* from, int64_t count, uint16_t* to) {
  vec::RoundRow(from, count, to);
}

}  // namespace ounce::quant
