#include "server/scheduler/not_finite.h"

#include "absl/strings/str_cat.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {

absl::Status NotFinite(absl::string_view what, absl::string_view method) {
  if (method.empty()) {
    return Refusal(
        Reason::kModelNotFinite,
        absl::StrCat(
            "the checkpoint's floats compute numbers that are not finite (",
            what,
            "), so nothing can be compared with them: its weights are not "
            "usable, or not with the server's --compute"));
  }
  return Refusal(
      Reason::kModelNotFinite,
      absl::StrCat("the model as ", method,
                   " computes numbers that are not finite (", what,
                   "): store it by another method, or by plan keep as its "
                   "checkpoint has it; if it does so even then, its weights "
                   "are not usable, or not with the server's --compute"));
}

}  // namespace ounce::server
