// Forward passes never touch the heap. Its own program, since it counts by
// replacing the global operator new.

#include <atomic>
#include <cstdlib>
#include <new>
#include <vector>

#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_detector.h"
#include "tests/testing/tiny_model.h"

namespace {

std::atomic<int64_t> allocations{0};

void* Allocate(size_t size) {
  allocations.fetch_add(1);
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  std::abort();
}

}  // namespace

void* operator new(size_t size) { return Allocate(size); }
void* operator new[](size_t size) { return Allocate(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return Allocate(size);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace ounce::model {
namespace {

// Of a step that begins two sequences and one that goes on with them.
int64_t AllocationsOfSteps(const CausalLm& lm) {
  auto cache = *KvCache::Create(lm.shape().kv, 16);
  ThreadPool pool(2);
  auto scratch = *quant::Scratch::Create(lm.ScratchBytes(100, 100, 2));
  const std::vector<int32_t> prompt(90, 3), token(1, 4);
  const std::vector<int32_t> blocks = {0, 1, 2, 3, 4, 5, 6}, others = {7, 8, 9};
  std::vector<float> logits(4 * lm.shape().vocab_size);
  const auto step = [&](absl::Span<const SequenceSlice> slices,
                        int64_t logit_rows) {
    lm.Forward(slices, cache, lm.RunOn(pool, scratch),
               {logits.data(), logit_rows, lm.shape().vocab_size,
                lm.shape().vocab_size});
  };
  const SequenceSlice prefill[] = {{.token_ids = prompt,
                                    .position = 0,
                                    .kv_blocks = blocks,
                                    .num_logits = 1},
                                   {.token_ids = token,
                                    .position = 0,
                                    .kv_blocks = others,
                                    .num_logits = 1}};
  const SequenceSlice decode[] = {{.token_ids = token,
                                   .position = 90,
                                   .kv_blocks = blocks,
                                   .num_logits = 1},
                                  {.token_ids = token,
                                   .position = 1,
                                   .kv_blocks = others,
                                   .num_logits = 1}};
  step(prefill, 2);  // the first step may fill in function-local statics
  const int64_t before = allocations.load();
  step(prefill, 2);
  step(decode, 2);
  return allocations.load() - before;
}

TEST(NoAllocationTest, AStepAllocatesNothing) {
  for (const char* method : {"linear", "bfloat16", "linear:activations=8",
                             "linear:bits=4,activations=8", "bnb-int8"}) {
    const auto loaded = testing::LoadWith(
        *testing::MakeTinyCheckpoint({.positions = 128}), method);
    EXPECT_EQ(AllocationsOfSteps(*loaded.model->causal_lm()), 0) << method;
  }
}

TEST(NoAllocationTest, NorDoesOneOfAnyOtherDecoder) {
  for (const testing::GoldenCase& c : testing::GoldenCases()) {
    ASSERT_OK_AND_ASSIGN(const auto checkpoint, Checkpoint::Open(c.folder));
    for (const quant::Compute compute :
         {quant::Compute::kFloat32, quant::Compute::kBFloat16}) {
      LoadOptions options;
      options.compute = compute;
      ASSERT_OK_AND_ASSIGN(const auto loaded, LoadModel(*checkpoint, options));
      EXPECT_EQ(AllocationsOfSteps(*loaded.model->causal_lm()), 0)
          << c.name << " in " << quant::ComputeName(compute);
    }
  }
}

TEST(NoAllocationTest, DetectingAllocatesNothing) {
  for (quant::Compute compute :
       {quant::Compute::kFloat32, quant::Compute::kBFloat16}) {
    LoadOptions options;
    options.compute = compute;
    const auto checkpoint =
        testing::OpenDetrGolden(testing::kTinyDetectorFolder);
    const auto loaded = *LoadModel(*checkpoint, options);
    const Detector& detector = *loaded.model->detector();
    const PictureSize size = {70, 90}, canvas = {70, 120};
    const std::vector<uint8_t> rgb(size.height * size.width * 3, 100);
    const PictureView pictures[] = {{.rgb = rgb.data(),
                                     .size = size,
                                     .canvas = size,
                                     .table = &testing::ImageNetPixels()},
                                    {.rgb = rgb.data(),
                                     .size = size,
                                     .canvas = canvas,
                                     .table = &testing::ImageNetPixels()}};
    ThreadPool pool(2);
    auto scratch =
        *quant::Scratch::Create(detector.ScratchBytes({size, canvas}, 2));
    std::vector<float> logits(2 * 7 * 6), boxes(2 * 7 * 4);
    const auto detect = [&] {
      detector.Forward(pictures, detector.RunOn(pool, scratch),
                       {logits.data(), 14, 6, 6}, {boxes.data(), 14, 4, 4});
    };
    detect();  // the first one may fill in function-local statics
    const int64_t before = allocations.load();
    detect();
    EXPECT_EQ(allocations.load() - before, 0);
  }
}

}  // namespace
}  // namespace ounce::model
