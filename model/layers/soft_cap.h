// Keeps numbers within a bound without a kink (Bello et al., 2017; Gemma 2's
// scores and logits).
#ifndef OUNCE_MODEL_LAYERS_SOFT_CAP_H_
#define OUNCE_MODEL_LAYERS_SOFT_CAP_H_

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "quant/matmul.h"

namespace ounce::model {

// x <- cap * tanh(x / cap).
// Requires cap > 0. Numeric error: at most 4e-7 relative.
// Threads: any, with a pool that the caller leases. No allocation.
void SoftCap(const quant::Matrix& x, float cap, ThreadPool& pool,
             Isa isa = BestIsa());

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_SOFT_CAP_H_
