// The largest of a window, channel by channel, as torch.nn.MaxPool2d(3, 2, 1).
#ifndef OUNCE_MODEL_LAYERS_MAX_POOL_H_
#define OUNCE_MODEL_LAYERS_MAX_POOL_H_

#include "absl/types/span.h"
#include "base/thread_pool.h"
#include "quant/feature_map.h"

namespace ounce::model {

// y[i] = windows of 3 x 3 of x[i], two pixels apart, padded by one.
//
// Requires x without negative values (it comes out of a ReLU), so that the
//   border's zeros stand for the padding; a border of 1 or more; y[i] of
//   (extent + 1) / 2 (rounded down), of x's type. The outputs' borders stay.
// Threads: any, with a pool that the caller leases. No allocation.
void MaxPool3x3Stride2(absl::Span<const quant::FeatureMap> x,
                       absl::Span<const quant::FeatureMap> y, ThreadPool& pool);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_MAX_POOL_H_
