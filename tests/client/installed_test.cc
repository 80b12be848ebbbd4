// The client library as others get it: installed, found by CMake, linked.
#include <cstdlib>

#include "gmock/gmock.h"
#include "tests/e2e/serving.h"

namespace ounce {
namespace {

using testing::Finished;
using ::testing::HasSubstr;
using testing::RunToEnd;

class InstalledTest : public testing::ServingTest {};

TEST_F(InstalledTest, AProgramFindsLinksAndUsesIt) {
  const std::string prefix = folder_.Path("prefix");
  const std::string build = folder_.Path("build");
  Finished done = RunToEnd({"cmake", "--install", OUNCE_BUILD_FOLDER,
                            "--component", "client", "--prefix", prefix});
  ASSERT_EQ(done.code, 0) << done.out << done.err;
  for (const char* file : {"/include/ounce/client.h",
                           "/share/ounce/proto/ounce/v1/inference.proto"}) {
    EXPECT_TRUE(std::filesystem::exists(prefix + file)) << file;
  }
  done = RunToEnd(
      {"cmake", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
       absl::StrCat("-DCMAKE_PREFIX_PATH=", prefix, ";", OUNCE_GRPC_ROOT),
       absl::StrCat("-DCMAKE_CXX_FLAGS=", OUNCE_SANITIZER_FLAGS), "-S",
       OUNCE_SOURCE_ROOT "/tests/client/installed", "-B", build});
  ASSERT_EQ(done.code, 0) << done.out << done.err;
  done = RunToEnd({"cmake", "--build", build});
  ASSERT_EQ(done.code, 0) << done.out << done.err;

  Start();
  done = RunToEnd({build + "/consumer", inference_, "tiny", "import os\n"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.out, "from typing import TYPE");
  done = RunToEnd({build + "/consumer", inference_, "nobody", "a"});
  EXPECT_EQ(done.code, 1);
  EXPECT_THAT(done.err, HasSubstr("NOT_FOUND"));
}

}  // namespace
}  // namespace ounce
