// Early return for absl::Status and absl::StatusOr.
//
//   RETURN_IF_ERROR(Check(x));
//   ASSIGN_OR_RETURN(auto y, Read(x));
#ifndef OUNCE_BASE_STATUS_MACROS_H_
#define OUNCE_BASE_STATUS_MACROS_H_

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/str_cat.h"

namespace ounce {

// `status` with `context: ` before its message; OK stays OK. (The packaged
// absl::string_view is a type of its own and takes no std::string_view.)
inline absl::Status WithContext(const absl::Status& status,
                                std::string_view context) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(std::string(context), ": ",
                                                  status.message()));
}

}  // namespace ounce

#define OUNCE_CONCAT_INNER(a, b) a##b
#define OUNCE_CONCAT(a, b) OUNCE_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expr)                                   \
  do {                                                          \
    if (absl::Status ounce_status = (expr); !ounce_status.ok()) \
      return ounce_status;                                      \
  } while (false)

#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL(OUNCE_CONCAT(ounce_statusor_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                          \
  if (!tmp.ok()) return tmp.status();         \
  lhs = *std::move(tmp)

#endif  // OUNCE_BASE_STATUS_MACROS_H_
