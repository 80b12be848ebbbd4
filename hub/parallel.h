// A few threads that share a list of work.
#ifndef OUNCE_HUB_PARALLEL_H_
#define OUNCE_HUB_PARALLEL_H_

#include <functional>

#include "absl/status/status.h"

namespace ounce::hub {

// Calls `work` for each item in [0, num_items) on up to `num_workers` threads,
// of which this one is the first; each takes the next item that nobody has. The
// first error keeps items from being begun, and is returned once all have
// ended. Exceptions don't leave `work`.
absl::Status InParallel(
    int num_workers, int num_items,
    const std::function<absl::Status(int worker, int item)>& work);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_PARALLEL_H_
