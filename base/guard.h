// Where exceptions end: every entry point of a service, and every job that is
// left to a thread, runs inside. So memory that is not to be had ends one call,
// and its reply says so.
#ifndef OUNCE_BASE_GUARD_H_
#define OUNCE_BASE_GUARD_H_

#include <exception>
#include <new>
#include <stdexcept>
#include <type_traits>

#include "absl/status/status.h"

namespace ounce {

// Short enough that no string of it needs memory.
inline absl::Status OutOfMemory() {
  static const absl::Status& status =
      *new absl::Status(absl::StatusCode::kResourceExhausted, "out of memory");
  return status;
}

// What `work` returns, a Status or a StatusOr; kResourceExhausted when it ran
// out of memory, kInternal for anything else that it threw.
template <class Work>
std::decay_t<std::invoke_result_t<Work&>> Guarded(Work&& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  } catch (const std::length_error&) {
    return OutOfMemory();
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

}  // namespace ounce

#endif  // OUNCE_BASE_GUARD_H_
