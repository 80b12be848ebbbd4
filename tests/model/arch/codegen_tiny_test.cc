// The checkpoint that the repository carries, against transformers:
// tools/make_tiny_goldens.py made the expectations.

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "model/checkpoint/checkpoint.h"
#include "nlohmann/json.hpp"
#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

TEST(CodeGenTinyTest, GreedyTokensAreThoseOfTransformers) {
  std::ifstream file("tests/golden/codegen_tiny/expected.json");
  ASSERT_TRUE(file.good()) << "run tests from the source tree's root";
  const auto cases = nlohmann::json::parse(file);
  ASSERT_EQ(cases.size(), 6u);
  ASSERT_OK_AND_ASSIGN(auto checkpoint,
                       Checkpoint::Open("embedded/codegen-tiny"));
  // The expectations come from float32 arithmetic on the stored float16.
  const LoadedModel loaded = ounce::testing::LoadWith(*checkpoint, "float32");
  ounce::testing::LmRunner runner(*loaded.model->causal_lm(), 2);
  for (const auto& expected : cases) {
    const auto greedy = expected["greedy"].get<std::vector<int32_t>>();
    EXPECT_EQ(runner.Greedy(expected["prompt"].get<std::vector<int32_t>>(),
                            static_cast<int>(greedy.size())),
              greedy)
        << expected["text"];
  }
}

}  // namespace
}  // namespace ounce::model
