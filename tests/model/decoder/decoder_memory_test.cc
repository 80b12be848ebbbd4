// What a decoder holds beside its packed weights, against the heap.

#include <malloc.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/causal_lm.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "nlohmann/json.hpp"
#include "tests/testing/heap_tells.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using ::ounce::testing::kHeapTells;
using ::ounce::testing::TempFolder;

int64_t HeapInUse() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
}

// A golden checkpoint with another config.
class ChangedCheckpoint {
 public:
  ChangedCheckpoint(const std::string& golden, const json& changes) {
    const auto from =
        std::filesystem::absolute("tests/golden/decoder/" + golden);
    json config = json::parse(std::ifstream(from / "config.json"));
    config.update(changes);
    folder_.WriteFile("config.json", config.dump());
    for (const char* name : {"model.safetensors", "pytorch_model.bin"}) {
      if (!std::filesystem::exists(from / name)) continue;
      std::filesystem::create_symlink(from / name, folder_.Path(name));
    }
    auto opened = Checkpoint::Open(folder_.path().string());
    OUNCE_CHECK(opened.ok(), opened.status().ToString().c_str());
    checkpoint_ = *std::move(opened);
  }
  const Checkpoint& operator*() const { return *checkpoint_; }

 private:
  TempFolder folder_;
  std::unique_ptr<const Checkpoint> checkpoint_;
};

// Objects, names and the report itself are some kilobytes.
constexpr int64_t kObjects = 64 << 10;

void CheckPositionBias(const Checkpoint& checkpoint) {
  const int64_t at_start = HeapInUse();
  ASSERT_OK_AND_ASSIGN(const ModelPlan plan, PlanModel(checkpoint, {}));
  if (kHeapTells) {
    EXPECT_LE(HeapInUse() - at_start, kObjects) << "an outline has no tables";
  }
  const CausalLmShape& shape = plan.outline->causal_lm()->shape();
  // Key heads are as many as heads.
  EXPECT_EQ(plan.report.table_bytes, shape.kv.heads * shape.max_positions * 4);
  EXPECT_GT(plan.report.table_bytes, 4 << 20);

  const int64_t before = HeapInUse();
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded, LoadModel(checkpoint, {}));
  int64_t heap = plan.report.table_bytes;
  for (const TensorReport& tensor : plan.report.tensors) {
    if (tensor.is_vector) heap += tensor.resident_bytes;
  }
  if (kHeapTells) {
    EXPECT_NEAR(HeapInUse() - before, heap, kObjects);
  }
  EXPECT_EQ(loaded.report.resident_bytes, plan.report.resident_bytes);
  EXPECT_EQ(loaded.report.table_bytes, plan.report.table_bytes);
}

TEST(DecoderMemoryTest, CountsBloomsPositionBias) {
  const ChangedCheckpoint checkpoint("bloom/post_norm",
                                     {{"seq_length", 500'000}});
  CheckPositionBias(*checkpoint);
}

TEST(DecoderMemoryTest, CountsFalconsPositionBias) {
  const ChangedCheckpoint checkpoint("falcon/alibi",
                                     {{"max_position_embeddings", 500'000}});
  CheckPositionBias(*checkpoint);
}

}  // namespace
}  // namespace ounce::model
