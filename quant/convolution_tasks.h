// How a convolution, or a product of rows in bfloat16, is cut into tasks for
// its threads. The cut changes no output.
#ifndef OUNCE_QUANT_CONVOLUTION_TASKS_H_
#define OUNCE_QUANT_CONVOLUTION_TASKS_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "base/cpu.h"
#include "base/thread_pool.h"
#include "quant/compute.h"
#include "quant/kernels/convolution.h"
#include "quant/packed_weight.h"
#include "quant/scratch.h"

namespace ounce::quant {

// What a job says of its weight; the rest is the caller's.
ConvolutionJob JobOf(Isa isa, const PackedWeight& w);

// Runs the job on maps 0, 1, ..., num_maps - 1.
// Threads: any, with a pool that the caller leases. No allocation beyond
//   `scratch`.
void RunConvolution(Isa isa, const ConvolutionJob& job, int64_t num_maps,
                    absl::FunctionRef<ConvolutionMap(int64_t)> map_at,
                    ThreadPool& pool, Scratch& scratch);

// Takes what RunConvolution takes with a weight of [outputs, cols], whatever
// its method, and gives it back: for counting passes.
void CountConvolution(int64_t outputs, int64_t cols, const ThreadPool& pool,
                      Scratch& scratch);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_CONVOLUTION_TASKS_H_
