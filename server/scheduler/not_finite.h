// What is said where a model computes NaN or infinity: neither the request's
// fault nor ours, but of its weights, or of the method that stores them.
#ifndef OUNCE_SERVER_SCHEDULER_NOT_FINITE_H_
#define OUNCE_SERVER_SCHEDULER_NOT_FINITE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ounce::server {

// kModelNotFinite (reasons.def) that says what to do. `what` is not finite,
// "the logits of new token 3"; `method` is the version's (a plan's label), or
// empty: it is the checkpoint's floats, which a version is compared with.
absl::Status NotFinite(absl::string_view what, absl::string_view method);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_NOT_FINITE_H_
