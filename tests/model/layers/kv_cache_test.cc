#include "model/layers/kv_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;

float* Floats(const KvCache& cache, int64_t block, int64_t layer,
              int64_t head) {
  return reinterpret_cast<float*>(cache.keys(block, layer, head));
}

int64_t ResidentPages(const KvCache& cache) {
  const int64_t bytes = cache.num_blocks() * cache.shape().bytes_per_block();
  std::vector<unsigned char> pages(bytes / sysconf(_SC_PAGESIZE));
  EXPECT_EQ(mincore(cache.keys(0, 0, 0), bytes, pages.data()), 0);
  return std::count_if(pages.begin(), pages.end(),
                       [](unsigned char page) { return (page & 1) != 0; });
}

TEST(KvCacheTest, EveryBlockLayerAndHeadHasItsOwnPlace) {
  const KvShape shape = {.layers = 3, .heads = 2, .head_dim = 5};
  EXPECT_EQ(shape.bytes_per_token(), 3 * 2 * 5 * 2 * 4);
  ASSERT_OK_AND_ASSIGN(const KvCache cache, KvCache::Create(shape, 4));
  EXPECT_EQ(cache.num_blocks(), 4);
  std::set<float*> seen;
  for (int block = 0; block < 4; ++block) {
    for (int layer = 0; layer < 3; ++layer) {
      for (int head = 0; head < 2; ++head) {
        for (int i = 0; i < 5 * kKvBlockTokens; ++i) {
          float* key = Floats(cache, block, layer, head) + i;
          float* value = key + 5 * kKvBlockTokens;
          EXPECT_TRUE(seen.insert(key).second);
          EXPECT_TRUE(seen.insert(value).second);
          *key = *value = 1;  // within the mapping
        }
      }
    }
  }
  EXPECT_EQ(static_cast<int64_t>(seen.size()) * 4, 4 * shape.bytes_per_block());
}

TEST(KvCacheTest, KeysValuesAndScalesOfEachTypeFillTheBlock) {
  for (const auto& [type, bytes] :
       std::vector<std::pair<KvType, int64_t>>{{KvType::kFloat32, 4 * 5},
                                               {KvType::kBFloat16, 2 * 5},
                                               {KvType::kInt8, 5 + 4}}) {
    const KvShape shape = {
        .layers = 3, .heads = 2, .head_dim = 5, .type = type};
    EXPECT_EQ(shape.bytes_per_token(), 3 * 2 * 2 * bytes) << KvTypeName(type);
    ASSERT_OK_AND_ASSIGN(const KvCache cache, KvCache::Create(shape, 4));
    const std::byte* end = cache.keys(0, 0, 0);
    for (int block = 0; block < 4; ++block) {
      for (int layer = 0; layer < 3; ++layer) {
        for (int head = 0; head < 2; ++head) {
          const int64_t elements =
              5 * kKvBlockTokens * KvElementBytes(shape.type);
          EXPECT_EQ(cache.keys(block, layer, head), end);
          EXPECT_EQ(cache.values(block, layer, head), end + elements);
          end += 2 * elements;
          if (!HasScales(type)) continue;
          EXPECT_EQ(
              reinterpret_cast<std::byte*>(cache.scales(block, layer, head)),
              end);
          end += 2 * kKvBlockTokens * sizeof(float);
        }
      }
    }
    EXPECT_EQ(end - cache.keys(0, 0, 0), 4 * shape.bytes_per_block());
  }
}

TEST(KvCacheTest, AReleasedBlockIsZeroAndItsNeighboursAreNot) {
  // 96 KiB a block: whole pages of 4 KiB.
  const KvShape shape = {.layers = 3, .heads = 4, .head_dim = 64};
  ASSERT_OK_AND_ASSIGN(KvCache cache, KvCache::Create(shape, 3));
  const int64_t floats = shape.bytes_per_block() / 4;
  for (int64_t i = 0; i < 3 * floats; ++i) Floats(cache, 0, 0, 0)[i] = 1;
  cache.Release(1);
  for (int64_t i = 0; i < floats; ++i) {
    ASSERT_EQ(Floats(cache, 0, 0, 0)[i], 1);
    ASSERT_EQ(Floats(cache, 1, 0, 0)[i], 0);
    ASSERT_EQ(Floats(cache, 2, 0, 0)[i], 1);
  }
}

TEST(KvCacheTest, AllMemoryThatABlockBroughtIsItsOwnOrWithin2MibOfIt) {
  // 96 KiB a block; the system may give huge pages.
  const KvShape shape = {.layers = 3, .heads = 4, .head_dim = 64};
  ASSERT_OK_AND_ASSIGN(KvCache cache, KvCache::Create(shape, 100));
  *Floats(cache, 50, 0, 0) = 1;
  EXPECT_GE(ResidentPages(cache), 1);
  for (int64_t block = 50 - 22; block <= 50 + 22; ++block) cache.Release(block);
  EXPECT_EQ(ResidentPages(cache), 0);
}

TEST(KvCacheTest, ReleasingPartOfAPageLeavesTheNeighbours) {
  const KvShape shape = {.layers = 1, .heads = 1, .head_dim = 1};
  ASSERT_OK_AND_ASSIGN(KvCache cache, KvCache::Create(shape, 100));
  for (int64_t i = 0; i < 100 * 32; ++i) Floats(cache, 0, 0, 0)[i] = 1;
  cache.Release(40);
  EXPECT_EQ(Floats(cache, 39, 0, 0)[31], 1);
  EXPECT_EQ(Floats(cache, 41, 0, 0)[0], 1);
}

TEST(KvCacheTest, RefusesMoreThanThereIs) {
  const KvShape shape = {.layers = 20, .heads = 16, .head_dim = 64};
  EXPECT_THAT(KvCache::Create(shape, std::numeric_limits<int64_t>::max()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(KvCache::Create(shape, int64_t{1} << 40),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(KvCache::Create(shape, -1),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace ounce::model
