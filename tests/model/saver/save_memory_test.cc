// Saving holds a few megabytes of a weight at a time, in the process's own
// figures.

#include <cstdint>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/checkpoint/checkpoint.h"
#include "model/saver/saver.h"
#include "tests/testing/heap_tells.h"
#include "tests/testing/random_codegen.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::TempFolder;

// A line of /proc/self/status, in bytes.
int64_t Figure(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) {
      return std::stoll(line.substr(key.size() + 1)) * 1024;
    }
  }
  return -1;
}

// The most that was resident from here on.
void ForgetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }

TEST(SaveMemoryTest, HoldsAFewMegabytesWhateverTheModelWeighs) {
  if (!ounce::testing::kHeapTells) GTEST_SKIP() << "a sanitizer keeps memory";
  const TempFolder folder;
  const std::string source = ounce::testing::WriteRandomCodeGen(
      folder.Path("source"), ounce::testing::kTinyModelFolder,
      {.width = 1024, .layers = 4});
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Checkpoint::Open(source));
  for (const char* plan : {"float16", "linear", "gguf-q4_k"}) {
    SaveOptions options;
    options.plan = *ParseMethodPlan(plan);
    options.folder = folder.Path(std::string("saved-") + plan);
    ForgetPeak();
    const int64_t before = Figure("VmRSS");
    ASSERT_OK_AND_ASSIGN(const SaveReport report,
                         SaveModel(*checkpoint, options));
    // 100 MB in float16; its floats would be 200.
    EXPECT_GT(report.weight_bytes, 25'000'000) << plan;
    // A band of 4 MiB of codes, its floats, and what encoding them takes.
    const int64_t more = Figure("VmHWM") - before;
    EXPECT_LT(more, 32'000'000) << plan;
    RecordProperty(plan, std::to_string(more));
  }
}

}  // namespace
}  // namespace ounce::model
