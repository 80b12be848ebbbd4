#include "model/perplexity.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace ounce::model {
namespace {

// What each window counts, as the page's script goes through a text.
struct SlowWindow {
  int64_t first;
  int64_t end;
  std::vector<int64_t> counted;
};
std::vector<SlowWindow> SlowWindows(int64_t tokens, int64_t window,
                                    int64_t stride) {
  std::vector<SlowWindow> windows;
  int64_t before = 0;
  for (int64_t first = 0; first < tokens; first += stride) {
    SlowWindow& made = windows.emplace_back();
    made.first = first;
    made.end = std::min(first + window, tokens);
    for (int64_t token = before; token < made.end; ++token) {
      if (token > first) made.counted.push_back(token);
    }
    before = made.end;
    if (made.end == tokens) break;
  }
  return windows;
}

TEST(PerplexityTest, CutsATextAsTransformersPageDoes) {
  for (int64_t tokens = 2; tokens < 40; ++tokens) {
    for (int64_t window = 2; window < 20; ++window) {
      for (int64_t stride = 1; stride <= window; ++stride) {
        const auto slow = SlowWindows(tokens, window, stride);
        int64_t first = 0;
        for (size_t i = 0; i < slow.size(); ++i, first += stride) {
          const TextWindow fast = WindowAt(first, tokens, window, stride);
          ASSERT_EQ(fast.first, slow[i].first);
          ASSERT_EQ(fast.first + fast.tokens, slow[i].end);
          ASSERT_EQ(fast.counted, static_cast<int64_t>(slow[i].counted.size()))
              << tokens << " " << window << " " << stride << " " << i;
          ASSERT_EQ(fast.is_last, i + 1 == slow.size());
        }
      }
    }
  }
}

TEST(PerplexityTest, TellsTheSurpriseOfAToken) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 4);
  for (const size_t size : {1, 2, 7, 300, 51200}) {
    std::vector<float> logits(size);
    for (float& logit : logits) logit = normal(random);
    long double sum = 0;
    for (const float logit : logits) sum += expl(logit);
    for (const size_t token : {size_t{0}, size / 2, size - 1}) {
      const auto expected = static_cast<double>(logl(sum) - logits[token]);
      EXPECT_NEAR(NegativeLogLikelihood(logits, static_cast<int32_t>(token)),
                  expected, 1e-12 * (1 + expected));
    }
  }
}

TEST(PerplexityTest, SumsLogitsThatNoExponentialHolds) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_NEAR(NegativeLogLikelihood(std::vector<float>{1e30f, 0}, 1), 1e30,
              1e23);
  EXPECT_EQ(NegativeLogLikelihood(std::vector<float>{1e30f, 0}, 0), 0);
  EXPECT_DOUBLE_EQ(NegativeLogLikelihood(std::vector<float>{-1e30f, -1e30f}, 0),
                   std::log(2));
  // What a head's bias forbids.
  EXPECT_EQ(NegativeLogLikelihood(std::vector<float>{0, -kInfinity}, 0), 0);
  EXPECT_EQ(NegativeLogLikelihood(std::vector<float>{0, -kInfinity}, 1),
            kInfinity);
}

TEST(PerplexityTest, TellsLogitsThatAreNoNumbers) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::nanf(""), kInfinity}) {
    EXPECT_TRUE(
        std::isnan(NegativeLogLikelihood(std::vector<float>{0, bad, 1}, 0)));
    EXPECT_TRUE(
        std::isnan(NegativeLogLikelihood(std::vector<float>{bad, 0, 1}, 1)));
  }
}

TEST(PerplexityTest, MeasuresHowFarADistributionIsFromAnother) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0, 3);
  for (const size_t size : {1, 2, 300, 51200}) {
    std::vector<float> reference(size);
    std::vector<float> logits(size);
    for (float& logit : reference) logit = normal(random);
    for (float& logit : logits) logit = normal(random);
    const auto exact = [](const std::vector<float>& of) {
      std::vector<long double> p;
      long double sum = 0;
      for (const float logit : of) sum += expl(logit);
      for (const float logit : of) p.push_back(expl(logit) / sum);
      return p;
    };
    const std::vector<long double> p = exact(reference);
    const std::vector<long double> q = exact(logits);
    long double expected = 0;
    for (size_t i = 0; i < size; ++i) expected += p[i] * logl(p[i] / q[i]);
    const LogitDistance distance = CompareLogits(reference, logits);
    EXPECT_NEAR(distance.kl, static_cast<double>(expected), 1e-12 * size);
    EXPECT_EQ(distance.same_top,
              std::max_element(p.begin(), p.end()) - p.begin() ==
                  std::max_element(q.begin(), q.end()) - q.begin());
    const LogitDistance same = CompareLogits(logits, logits);
    EXPECT_EQ(same.kl, 0);
    EXPECT_TRUE(same.same_top);
  }
}

TEST(PerplexityTest, KnowsTokensThatAreNeverGiven) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> one = {1, -kInfinity, 2};
  EXPECT_EQ(CompareLogits(one, one).kl, 0);
  EXPECT_GT(CompareLogits(one, std::vector<float>{1, 0, 2}).kl, 0);
  EXPECT_EQ(CompareLogits(std::vector<float>{1, 0, 2}, one).kl, kInfinity);
}

TEST(PerplexityTest, AveragesAndKeepsTheWorstToken) {
  Perplexity perplexity;
  for (const auto& [token, cost] : std::vector<std::pair<int64_t, double>>{
           {1, 2}, {2, 5}, {5, 5}, {6, 0}}) {
    perplexity.Add(token, cost);
  }
  EXPECT_EQ(perplexity.counted_tokens, 4);
  EXPECT_DOUBLE_EQ(perplexity.mean(), 3);
  EXPECT_DOUBLE_EQ(perplexity.value(), std::exp(3));
  EXPECT_EQ(perplexity.worst_token, 2);
  EXPECT_EQ(perplexity.worst, 5);
}

}  // namespace
}  // namespace ounce::model
