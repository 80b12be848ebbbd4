#include "server/scheduler/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Probability by id after all filters: full sorts, float64, one step after the
// other as the Hugging Face processors do it.
std::map<int32_t, double> ReferenceDistribution(
    const std::vector<float>& logits, const SamplingParams& params,
    const std::vector<int32_t>& history) {
  std::vector<double> scores(logits.begin(), logits.end());
  for (const int32_t id : std::set<int32_t>(history.begin(), history.end())) {
    if (id >= static_cast<int32_t>(scores.size())) continue;
    scores[id] = scores[id] > 0 ? scores[id] / params.repetition_penalty
                                : scores[id] * params.repetition_penalty;
  }
  std::vector<int32_t> order(scores.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  const double max = scores[order[0]];
  const auto weight = [&](int32_t id) {
    return std::exp((scores[id] - max) / params.temperature);
  };
  if (params.top_k > 0 && params.top_k < static_cast<int64_t>(order.size())) {
    order.resize(params.top_k);
  }
  if (params.top_p < 1) {
    double mass = 0;
    for (const int32_t id : order) mass += weight(id);
    double sum = 0;
    size_t kept = 0;
    while (kept < order.size() && sum < params.top_p * mass) {
      sum += weight(order[kept++]);
    }
    order.resize(std::max<size_t>(kept, 1));
  }
  std::erase_if(order, [&](int32_t id) { return weight(id) < params.min_p; });
  double total = 0;
  for (const int32_t id : order) total += weight(id);
  std::map<int32_t, double> result;
  for (const int32_t id : order) result[id] = weight(id) / total;
  return result;
}

int32_t ReferenceDraw(const std::map<int32_t, double>& distribution,
                      double uniform) {
  double sum = 0;
  for (const auto& [id, probability] : distribution) {
    sum += probability;
    if (sum > uniform) return id;
  }
  return distribution.rbegin()->first;
}

std::vector<float> RandomLogits(std::mt19937& random, int64_t count,
                                float spread) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

TEST(SamplerTest, IsGreedyAtTemperatureZeroWithTheLowestIdAmongEquals) {
  Sampler sampler(7, 7);
  const std::vector<float> logits = {1, 5, 2, 5, 5, -kInfinity, 0};
  ASSERT_OK_AND_ASSIGN(const SampledToken token,
                       sampler.Sample(logits, {}, {}, 0, 0));
  EXPECT_EQ(token.id, 1);
}

TEST(SamplerTest, NeverGivesPaddingOfTheVocabulary) {
  Sampler sampler(6, 4);
  const std::vector<float> logits = {0, 1, 2, 3, 90, 91};
  ASSERT_OK_AND_ASSIGN(const SampledToken greedy,
                       sampler.Sample(logits, {}, {}, 0, 5));
  EXPECT_EQ(greedy.id, 3);
  EXPECT_EQ(greedy.top.size(), 4u);
  double sum = 0;
  for (const IdLogprob& top : greedy.top) sum += std::exp(top.logprob);
  EXPECT_NEAR(sum, 1, 1e-6);
  SamplingParams params;
  params.temperature = 100;
  for (int64_t index = 0; index < 200; ++index) {
    ASSERT_OK_AND_ASSIGN(const SampledToken token,
                         sampler.Sample(logits, params, {}, index, 0));
    EXPECT_LT(token.id, 4);
  }
}

// A drawn token may differ from the reference's only where the point falls
// within rounding of a border between two tokens.
TEST(SamplerTest, DrawsWhatTheReferenceDraws) {
  std::mt19937 random(2);
  const auto pick = [&](auto... values) {
    const std::vector<double> all = {static_cast<double>(values)...};
    return all[random() % all.size()];
  };
  int near_borders = 0;
  for (int round = 0; round < 4000; ++round) {
    const int64_t vocab =
        std::vector<int64_t>{1, 2, 15, 16, 17, 100, 999}[random() % 7];
    std::vector<float> logits = RandomLogits(random, vocab, pick(0.01, 1, 8));
    if (random() % 3 == 0) {  // ties
      for (float& logit : logits) logit = std::round(logit);
    }
    SamplingParams params;
    params.temperature = pick(0.05, 0.7, 1, 2, 100);
    params.top_k = static_cast<int64_t>(pick(0, 0, 1, 5, 40, 600, 1e6));
    params.top_p = pick(1, 1, 0.01, 0.5, 0.9, 0.999);
    params.min_p = pick(0, 0, 0.05, 0.5, 1);
    params.repetition_penalty = pick(1, 1.3, 0.5);
    params.seed = random();
    std::vector<int32_t> history(random() % 20);
    for (int32_t& id : history) id = static_cast<int32_t>(random() % vocab);

    Sampler sampler(vocab, vocab);
    const int64_t index = random() % 100;
    ASSERT_OK_AND_ASSIGN(const SampledToken token,
                         sampler.Sample(logits, params, history, index, 0));
    const double uniform = UniformDraw(params.seed, index);
    const auto distribution = ReferenceDistribution(logits, params, history);
    if (token.id == ReferenceDraw(distribution, uniform)) continue;
    ++near_borders;
    // Float32 weights, up to 999 of them: the border moves by less than 1e-4
    // unless a whole token at a cut-off is in doubt (ties in the float32 sum).
    const bool explained =
        token.id == ReferenceDraw(distribution, uniform - 1e-4) ||
        token.id == ReferenceDraw(distribution, uniform + 1e-4);
    ASSERT_TRUE(explained) << "vocab " << vocab << " temperature "
                           << params.temperature << " top_k " << params.top_k
                           << " top_p " << params.top_p << " min_p "
                           << params.min_p << " penalty "
                           << params.repetition_penalty;
  }
  EXPECT_LE(near_borders, 4);
}

TEST(SamplerTest, DrawsInProportionToTheProbabilities) {
  Sampler sampler(40, 40);
  std::mt19937 random(3);
  const std::vector<float> logits = RandomLogits(random, 40, 1.5f);
  SamplingParams params;
  params.temperature = 0.9f;
  params.top_p = 0.95f;
  params.seed = 12345;
  const auto distribution = ReferenceDistribution(logits, params, {});
  constexpr int kDraws = 20000;
  std::map<int32_t, int> counts;
  for (int i = 0; i < kDraws; ++i) {
    ASSERT_OK_AND_ASSIGN(const SampledToken token,
                         sampler.Sample(logits, params, {}, i, 0));
    ++counts[token.id];
  }
  double chi_square = 0;
  for (const auto& [id, count] : counts) {
    ASSERT_TRUE(distribution.contains(id)) << id;
  }
  for (const auto& [id, probability] : distribution) {
    const double wanted = probability * kDraws;
    chi_square += (counts[id] - wanted) * (counts[id] - wanted) / wanted;
  }
  // Mean n - 1, standard deviation sqrt(2 (n - 1)): 4 deviations above.
  const double freedom = static_cast<double>(distribution.size()) - 1;
  EXPECT_LT(chi_square, freedom + 4 * std::sqrt(2 * freedom));
}

TEST(SamplerTest, SeedsGiveIndependentUniformStreams) {
  // Neighbouring seeds and neighbouring indexes: the mean of 10,000 numbers is
  // 0.5 within 4 standard deviations (0.29 / 100), pairs are uncorrelated.
  double sum = 0, product_index = 0, product_seed = 0;
  for (int i = 0; i < 100; ++i) {
    for (int j = 0; j < 100; ++j) {
      const double u = UniformDraw(i, j);
      ASSERT_GE(u, 0);
      ASSERT_LT(u, 1);
      sum += u;
      product_index += (u - 0.5) * (UniformDraw(i, j + 1) - 0.5);
      product_seed += (u - 0.5) * (UniformDraw(i + 1, j) - 0.5);
    }
  }
  EXPECT_NEAR(sum / 1e4, 0.5, 0.012);
  EXPECT_NEAR(product_index / 1e4, 0, 0.004);
  EXPECT_NEAR(product_seed / 1e4, 0, 0.004);
}

TEST(SamplerTest, ReportsLogprobsAfterThePenaltyAndBeforeTheFilters) {
  Sampler sampler(300, 300);
  std::mt19937 random(4);
  const std::vector<float> logits = RandomLogits(random, 300, 3);
  SamplingParams params;
  params.temperature = 0.5f;
  params.top_k = 3;
  params.repetition_penalty = 1.5f;
  const std::vector<int32_t> history = {5, 6, 7, 7, 7, 250};
  SamplingParams plain;
  plain.temperature = 1;
  plain.repetition_penalty = params.repetition_penalty;
  const auto wanted = ReferenceDistribution(logits, plain, history);
  ASSERT_OK_AND_ASSIGN(const SampledToken token,
                       sampler.Sample(logits, params, history, 0, 20));
  EXPECT_NEAR(token.logprob, std::log(wanted.at(token.id)), 1e-5);
  ASSERT_EQ(token.top.size(), 20u);
  std::vector<std::pair<double, int32_t>> order;
  for (const auto& [id, probability] : wanted) {
    order.push_back({-probability, id});
  }
  std::sort(order.begin(), order.end());
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(token.top[i].id, order[i].second);
    EXPECT_NEAR(token.top[i].logprob, std::log(-order[i].first), 1e-5);
  }
}

TEST(SamplerTest, PenalizesEveryTokenOnceHoweverOftenItOccurred) {
  Sampler sampler(4, 3);
  SamplingParams params;
  params.repetition_penalty = 2;
  const std::vector<float> logits = {4, 2.5f, -1, 9};
  // Once: 4 / 2 = 2, below 2.5. Ids of the padding are passed over.
  const std::vector<int32_t> history = {0, 3, 0, 0};
  ASSERT_OK_AND_ASSIGN(SampledToken token,
                       sampler.Sample(logits, params, history, 0, 3));
  EXPECT_EQ(token.id, 1);
  EXPECT_NEAR(token.top[0].logprob - token.top[1].logprob, 0.5, 1e-6);
  // The next call begins anew.
  ASSERT_OK_AND_ASSIGN(token, sampler.Sample(logits, params, {}, 0, 0));
  EXPECT_EQ(token.id, 0);
}

TEST(SamplerTest, SurvivesExtremeParameters) {
  Sampler sampler(5, 5);
  const std::vector<float> logits = {-3e38f, 3e38f, 3e38f, -kInfinity, 0};
  SamplingParams params;
  params.temperature = std::numeric_limits<float>::denorm_min();
  params.repetition_penalty = std::numeric_limits<float>::denorm_min();
  params.top_p = std::numeric_limits<float>::denorm_min();
  params.min_p = 1;
  const std::vector<int32_t> history = {0, 1, 2, 3, 4};
  ASSERT_OK_AND_ASSIGN(const SampledToken token,
                       sampler.Sample(logits, params, history, 0, 5));
  EXPECT_TRUE(token.id == 1 || token.id == 2) << token.id;
}

TEST(SamplerTest, RefusesLogitsThatAreNoNumbers) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const int64_t vocab : {3, 40}) {
    Sampler sampler(vocab, vocab);
    for (int64_t place = 0; place < vocab; ++place) {
      for (const float bad : {nan, -nan, kInfinity}) {
        std::vector<float> logits(vocab, 1.0f);
        logits[place] = bad;
        EXPECT_THAT(sampler.Sample(logits, {}, {}, 3, 0),
                    StatusIs(absl::StatusCode::kFailedPrecondition,
                             HasSubstr("new token 3")));
      }
    }
    EXPECT_THAT(
        sampler.Sample(std::vector<float>(vocab, -kInfinity), {}, {}, 0, 0),
        StatusIs(absl::StatusCode::kFailedPrecondition));
  }
}

TEST(SamplerTest, NeverProducesASuppressedToken) {
  const std::vector<float> logits = {5, 4, 1, 3, 9};  // 9: padding
  const std::vector<int32_t> suppressed = {0, 3, 4};
  Sampler sampler(5, 4, suppressed);
  SamplingParams params;
  ASSERT_OK_AND_ASSIGN(const SampledToken greedy,
                       sampler.Sample(logits, params, {}, 0, 4));
  EXPECT_EQ(greedy.id, 1);
  // Of what is left; no place among the best for the others.
  const float log_sum = std::log(std::exp(4.0f) + std::exp(1.0f));
  EXPECT_NEAR(greedy.logprob, 4 - log_sum, 1e-5);
  ASSERT_EQ(greedy.top.size(), 2u);
  EXPECT_EQ(greedy.top[1].id, 2);
  EXPECT_NEAR(greedy.top[1].logprob, 1 - log_sum, 1e-5);

  params.repetition_penalty = 8;
  ASSERT_OK_AND_ASSIGN(const SampledToken penalized,
                       sampler.Sample(logits, params, {0, 1, 3}, 0, 0));
  EXPECT_EQ(penalized.id, 2);

  params.temperature = 5;
  std::set<int32_t> drawn;
  for (const int64_t top_k : {0, 1, 3}) {
    for (const float top_p : {1.0f, 0.9f}) {
      params.top_k = top_k;
      params.top_p = top_p;
      for (int64_t i = 0; i < 100; ++i) {
        ASSERT_OK_AND_ASSIGN(const SampledToken token,
                             sampler.Sample(logits, params, {0, 3}, i, 0));
        drawn.insert(token.id);
      }
    }
  }
  EXPECT_EQ(drawn, (std::set<int32_t>{1, 2}));
}

}  // namespace
}  // namespace ounce::server
