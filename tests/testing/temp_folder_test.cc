#include "tests/testing/temp_folder.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "gtest/gtest.h"

namespace ounce::testing {
namespace {

TEST(TempFolderTest, HoldsFilesUntilItGoes) {
  std::filesystem::path path;
  {
    const TempFolder folder;
    path = folder.path();
    const std::string file =
        folder.WriteFile("a/b.bin", std::string("\0\xff", 2));
    EXPECT_EQ(file, folder.Path("a/b.bin"));
    std::ifstream in(file, std::ios::binary);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}),
              std::string("\0\xff", 2));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(TempFolderTest, IsNotShared) {
  const TempFolder a, b;
  EXPECT_NE(a.path(), b.path());
}

}  // namespace
}  // namespace ounce::testing
