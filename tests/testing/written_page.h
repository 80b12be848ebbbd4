// Pages of docs/ that a test writes and holds to the code.
#ifndef OUNCE_TESTS_TESTING_WRITTEN_PAGE_H_
#define OUNCE_TESTS_TESTING_WRITTEN_PAGE_H_

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "gtest/gtest.h"

namespace ounce::testing {

// Expects `page` in the file, or with OUNCE_WRITE_DOCS=1 in the environment
// writes it there.
inline void ExpectWritten(const std::string& path, const std::string& page) {
  if (std::getenv("OUNCE_WRITE_DOCS") != nullptr) {
    std::ofstream(path) << page;
    return;
  }
  std::ifstream in(path);
  ASSERT_TRUE(in.is_open()) << path;
  const std::string found((std::istreambuf_iterator<char>(in)), {});
  EXPECT_EQ(found, page)
      << "to write it: OUNCE_WRITE_DOCS=1 and this test once more";
}

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_WRITTEN_PAGE_H_
