// Invariants and the log.
//
// OUNCE_CHECK is for our own bugs only: nothing that comes from the wire or
// from a file may reach one. Log lines go to stderr through spdlog:
//   spdlog::info("model {}: loaded", name);
#ifndef OUNCE_BASE_CHECK_H_
#define OUNCE_BASE_CHECK_H_

namespace ounce {

// Prints the place, the condition and the reason, then aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              const char* reason);

}  // namespace ounce

#define OUNCE_CHECK(condition, reason) \
  (static_cast<bool>(condition)        \
       ? static_cast<void>(0)          \
       : ::ounce::CheckFailed(__FILE__, __LINE__, #condition, reason))

#endif  // OUNCE_BASE_CHECK_H_
