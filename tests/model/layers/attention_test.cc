#include "model/layers/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "model/layers/rope.h"
#include "tests/model/layers/isas.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

constexpr int64_t kHeads = 3;
constexpr int64_t kBlocks = 40;

// One sequence whose queries, keys and values are given for all positions.
class Fixture {
 public:
  Fixture(int64_t tokens, int64_t head_dim, int64_t rotary_dim)
      : tokens_(tokens),
        head_dim_(head_dim),
        rope_(rotary_dim),
        qkv_(tokens * Width()) {
    std::mt19937 random(static_cast<uint32_t>(tokens * 100 + head_dim));
    std::normal_distribution<float> normal;
    for (float& v : qkv_) v = normal(random);
    for (int64_t h = 0; h < kHeads; ++h) {
      // Values between queries and keys, as CodeGen has them.
      heads_.push_back({.query = h * head_dim,
                        .key = (2 * kHeads + h) * head_dim,
                        .value = (kHeads + h) * head_dim});
    }
    for (int i = 0; i < kBlocks; ++i) blocks_.push_back(i);
    std::shuffle(blocks_.begin(), blocks_.end(), random);
  }

  int64_t Width() const { return 3 * kHeads * head_dim_; }

  // y of all tokens, fed in steps of these sizes.
  std::vector<float> Run(const std::vector<int64_t>& cuts, int threads,
                         Isa isa) {
    KvCache cache = *KvCache::Create(
        {.layers = 2, .heads = kHeads, .head_dim = head_dim_}, kBlocks);
    // Whatever was never written must not be seen.
    std::fill_n(cache.keys(0, 0, 0),
                kBlocks * cache.shape().bytes_per_block() / 4,
                std::numeric_limits<float>::quiet_NaN());
    ThreadPool pool(threads);
    auto scratch =
        *quant::Scratch::Create(AttentionScratchBytes(1, tokens_, threads));
    std::vector<float> y(tokens_ * kHeads * head_dim_);
    int64_t position = 0;
    for (int64_t rows : cuts) {
      std::vector<float> qkv(qkv_.begin() + position * Width(),
                             qkv_.begin() + (position + rows) * Width());
      std::vector<float> angles(rows * rope_.rotary_dim());
      for (int64_t i = 0; i < rows; ++i) {
        rope_.Angles(position + i, angles.data() + i * rope_.rotary_dim());
      }
      const AttentionSlice slice = {.first_row = 0,
                                    .rows = rows,
                                    .position = position,
                                    .kv_blocks = blocks_};
      const int64_t y_width = kHeads * head_dim_;
      Attention({.slices = absl::MakeSpan(&slice, 1),
                 .heads = heads_,
                 .qkv = {qkv.data(), rows, Width(), Width()},
                 .angles = angles.data(),
                 .rotary_dim = rope_.rotary_dim(),
                 .cache = cache,
                 .layer = 1,
                 .y = {y.data() + position * y_width, rows, y_width, y_width}},
                pool, scratch, isa);
      position += rows;
    }
    return y;
  }

  // The formula, in float64.
  std::vector<double> Slow() const {
    std::vector<double> y;
    for (int64_t t = 0; t < tokens_; ++t) {
      for (int64_t h = 0; h < kHeads; ++h) {
        const auto query = Turned(t, heads_[h].query);
        std::vector<double> weights;
        double largest = -1e300, sum = 0;
        for (int64_t s = 0; s <= t; ++s) {
          const auto key = Turned(s, heads_[h].key);
          double score = 0;
          for (int64_t d = 0; d < head_dim_; ++d) score += query[d] * key[d];
          weights.push_back(score / std::sqrt(static_cast<double>(head_dim_)));
          largest = std::max(largest, weights.back());
        }
        for (double& w : weights) sum += w = std::exp(w - largest);
        for (int64_t d = 0; d < head_dim_; ++d) {
          double mixed = 0;
          for (int64_t s = 0; s <= t; ++s) {
            mixed += weights[s] / sum * qkv_[s * Width() + heads_[h].value + d];
          }
          y.push_back(mixed);
        }
      }
    }
    return y;
  }

  std::vector<float>& qkv() { return qkv_; }

 private:
  std::vector<double> Turned(int64_t t, int64_t column) const {
    const float* x = qkv_.data() + t * Width() + column;
    std::vector<double> turned(x, x + head_dim_);
    std::vector<float> angles(rope_.rotary_dim());
    rope_.Angles(t, angles.data());
    for (int64_t i = 0; i < rope_.rotary_dim(); i += 2) {
      turned[i] = double{x[i]} * angles[i] - double{x[i + 1]} * angles[i + 1];
      turned[i + 1] =
          double{x[i + 1]} * angles[i] + double{x[i]} * angles[i + 1];
    }
    return turned;
  }

  const int64_t tokens_;
  const int64_t head_dim_;
  const InterleavedRope rope_;
  std::vector<float> qkv_;
  std::vector<HeadColumns> heads_;
  std::vector<int32_t> blocks_;
};

class AttentionTest : public ::testing::TestWithParam<Isa> {};

TEST_P(AttentionTest, MeetsTheFormulaForAnyHeadSize) {
  for (int64_t head_dim : {2, 3, 5, 8, 12, 16, 20, 33, 64, 80, 96, 128}) {
    const int64_t rotary_dim = std::max<int64_t>(2, head_dim / 4 * 2);
    for (int64_t tokens : {1, 16, 17, 70}) {
      Fixture fixture(tokens, head_dim, rotary_dim);
      const auto found = fixture.Run({tokens}, 1, GetParam());
      const auto wanted = fixture.Slow();
      for (size_t i = 0; i < wanted.size(); ++i) {
        ASSERT_NEAR(found[i], wanted[i], 1e-5)
            << "head of " << head_dim << ", " << tokens << " tokens, at " << i;
      }
    }
  }
}

TEST_P(AttentionTest, CutsAndThreadsChangeNoBit) {
  std::mt19937 random(5);
  for (int64_t head_dim : {12, 64}) {
    Fixture fixture(300, head_dim, 8);
    const auto whole = fixture.Run({300}, 1, GetParam());
    const auto same = [&](const std::vector<float>& other) {
      return std::memcmp(whole.data(), other.data(), whole.size() * 4) == 0;
    };
    EXPECT_TRUE(same(fixture.Run({300}, 2, GetParam())));
    EXPECT_TRUE(same(fixture.Run(std::vector<int64_t>(300, 1), 2, GetParam())));
    for (int i = 0; i < 10; ++i) {
      std::vector<int64_t> cuts;
      for (int64_t left = 300; left > 0; left -= cuts.back()) {
        cuts.push_back(std::min<int64_t>(left, 1 + random() % 70));
      }
      EXPECT_TRUE(same(fixture.Run(cuts, 1 + i % 3, GetParam())))
          << ::testing::PrintToString(cuts);
    }
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  Fixture fixture(40, 16, 2);
  for (float& v : fixture.qkv()) v *= 1e4f;  // scores of 1e8 and more
  for (float v : fixture.Run({40}, 1, GetParam())) {
    ASSERT_TRUE(std::isfinite(v));
  }
}

INSTANTIATE_TEST_SUITE_P(AllIsas, AttentionTest,
                         ::testing::ValuesIn(ounce::testing::RunnableIsas()),
                         [](const auto& info) {
                           return std::string(IsaName(info.param));
                         });

}  // namespace
}  // namespace ounce::model
