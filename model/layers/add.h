// Sums of rows.
#ifndef OUNCE_MODEL_LAYERS_ADD_H_
#define OUNCE_MODEL_LAYERS_ADD_H_

#include "base/thread_pool.h"
#include "quant/matmul.h"

namespace ounce::model {

// y = x + p, the rows of p over and over.
// Shapes: x and y [n, cols], p [m, cols]; y may be x.
// Threads: any, with a pool that the caller leases. No allocation.
void Add(const quant::Matrix& x, const quant::Matrix& p, const quant::Matrix& y,
         ThreadPool& pool);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_ADD_H_
