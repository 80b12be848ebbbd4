// Matchers for absl::Status and absl::StatusOr, which this Abseil lacks.
//
//   ASSERT_OK(Check(x));
//   ASSERT_OK_AND_ASSIGN(const Model model, Read(path));
//   EXPECT_THAT(Read(path), StatusIs(absl::StatusCode::kNotFound,
//                                    HasSubstr("config.json")));
#ifndef OUNCE_TESTS_TESTING_STATUS_MATCHERS_H_
#define OUNCE_TESTS_TESTING_STATUS_MATCHERS_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::testing {

inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}
template <class T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

MATCHER(IsOk, negation ? "isn't OK" : "is OK") {
  *result_listener << "whose status is " << StatusOf(arg).ToString();
  return arg.ok();
}

// `message` is a string, which must be equal, or a matcher of strings.
MATCHER_P2(StatusIs, code, message,
           (negation ? "hasn't the code " : "has the code ") +
               absl::StatusCodeToString(code) +
               " and the message expected here") {
  const absl::Status& status = StatusOf(arg);
  *result_listener << "whose status is " << status.ToString();
  return status.code() == code &&
         ::testing::ExplainMatchResult(message, std::string(status.message()),
                                       result_listener);
}
inline auto StatusIs(absl::StatusCode code) {
  return StatusIs(code, ::testing::_);
}

}  // namespace ounce::testing

#define ASSERT_OK(expr) ASSERT_THAT(expr, ::ounce::testing::IsOk())
#define EXPECT_OK(expr) EXPECT_THAT(expr, ::ounce::testing::IsOk())
#define ASSERT_OK_AND_ASSIGN(lhs, expr) \
  ASSERT_OK_AND_ASSIGN_IMPL(OUNCE_CONCAT(ounce_statusor_, __LINE__), lhs, expr)
#define ASSERT_OK_AND_ASSIGN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                              \
  ASSERT_OK(tmp.status());                        \
  lhs = *std::move(tmp)

#endif  // OUNCE_TESTS_TESTING_STATUS_MATCHERS_H_
