#include "model/layers/attention.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "model/layers/kernels/layer_kernels.h"
#include "quant/dtype.h"
#include "tests/model/layers/isas.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

constexpr int64_t kBlocks = 40;
constexpr int64_t kMaxPositions = 500;

// What an attention may have; by default as CodeGen's.
struct Options {
  int64_t head_dim = 16;
  std::vector<int32_t> kv_head = {0, 1, 2};
  int64_t rotary_dim = 0;
  RopePairing pairing = RopePairing::kInterleaved;
  float divisor = 0;  // 0: the root of head_dim
  float soft_cap = 0;
  int64_t window = 0;
  bool bias = false;
  bool norms = false;
  NormWeights::Kind norm_kind = NormWeights::kRms;
  KvType kv_type = KvType::kFloat32;
};

// Row i of the Walsh-Hadamard matrix has (-1)^(bits that i and j share) at j.
std::vector<double> RotatedByTheFormula(const std::vector<double>& x) {
  const int64_t dim = x.size(), size = dim & -dim;
  std::vector<double> y(dim);
  for (int64_t i = 0; i < dim; ++i) {
    for (int64_t j = 0; j < size; ++j) {
      const bool odd = __builtin_popcountll((i % size) & j) % 2 == 1;
      y[i] += (odd ? -1 : 1) * x[i / size * size + j] / std::sqrt(size);
    }
  }
  return y;
}

// What a cache of the type gives back.
std::vector<double> Kept(std::vector<double> x, KvType type) {
  double most = 0;
  for (const double v : x) most = std::max(most, std::abs(v));
  for (double& v : x) {
    if (type == KvType::kBFloat16) {
      v = quant::BFloat16ToFloat(quant::FloatToBFloat16(v));
    } else if (type == KvType::kInt8 && most > 0) {
      v = std::round(v * 127 / most) * most / 127;
    }
  }
  return x;
}

// Where a float and a double of one key round apart, it is one step: 2^-8 of
// the element, or 1/127 of the head's largest.
double ToleranceOf(KvType type) {
  return type == KvType::kFloat32 ? 1e-5 : type == KvType::kInt8 ? 2e-2 : 5e-3;
}

// One sequence whose queries, keys and values are given for all positions.
class Fixture {
 public:
  Fixture(int64_t tokens, const Options& options)
      : tokens_(tokens),
        options_(options),
        rope_({.pairing = options.pairing,
               .rotary_dim = options.rotary_dim,
               .frequencies = RopeFrequencies(options.rotary_dim, 10000)}) {
    std::mt19937 random(static_cast<uint32_t>(tokens * 100 + D()));
    std::normal_distribution<float> normal;
    layout_.head_dim = D();
    layout_.kv_head = options.kv_head;
    // Values between queries and keys, as CodeGen has them, and a gap.
    for (int64_t h = 0; h < H(); ++h) layout_.query.push_back(h * D());
    for (int64_t g = 0; g < G(); ++g) {
      layout_.value.push_back((H() + g) * D());
      layout_.key.push_back((H() + G() + g) * D() + 3);
    }
    qkv_.resize(tokens * Width());
    for (float& v : qkv_) v = normal(random);
    // As of one model: the same for all sequences.
    std::mt19937 model_random(7);
    std::normal_distribution<float> model_normal;
    bias_.resize(H() * kMaxPositions);
    for (float& v : bias_) v = model_normal(model_random);
    query_norm_.kind = key_norm_.kind = options.norm_kind;
    for (int64_t d = 0; d < D(); ++d) {
      query_norm_.weight.push_back(model_normal(model_random));
      key_norm_.weight.push_back(model_normal(model_random));
      if (options.norm_kind == NormWeights::kLayerNorm) {
        key_norm_.bias.push_back(model_normal(model_random));
      }
    }
    for (int i = 0; i < kBlocks; ++i) blocks_.push_back(i);
    std::shuffle(blocks_.begin(), blocks_.end(), random);
  }

  int64_t D() const { return options_.head_dim; }
  int64_t H() const { return options_.kv_head.size(); }
  int64_t G() const {
    return *std::max_element(options_.kv_head.begin(), options_.kv_head.end()) +
           1;
  }
  int64_t Width() const { return (H() + 2 * G()) * D() + 3; }

  // y of all tokens, fed in steps of these sizes. If `only_seen`, blocks
  // that no token of a step sees are not there.
  std::vector<float> Run(const std::vector<int64_t>& cuts, int threads, Isa isa,
                         bool only_seen = false) {
    KvCache cache = *KvCache::Create(kv_shape(), kBlocks);
    // Whatever was never written must not be seen: NaN as any type.
    std::fill_n(cache.keys(0, 0, 0), kBlocks * cache.shape().bytes_per_block(),
                std::byte{0xFF});
    ThreadPool pool(threads);
    auto scratch = *quant::Scratch::Create(CountedBytes(cuts, threads));
    std::vector<float> y(tokens_ * H() * D());
    int64_t position = 0;
    for (int64_t rows : cuts) {
      const std::vector<int32_t> blocks =
          only_seen ? SeenBlocks(position) : blocks_;
      std::vector<float> qkv(qkv_.begin() + position * Width(),
                             qkv_.begin() + (position + rows) * Width());
      std::vector<float> angles(rows * rope_.rotary_dim());
      for (int64_t i = 0; i < rows; ++i) {
        rope_.Angles(position + i, angles.data() + i * rope_.rotary_dim());
      }
      const AttentionSlice slice = {.first_row = 0,
                                    .rows = rows,
                                    .position = position,
                                    .kv_blocks = blocks};
      Attend({&slice, 1}, qkv.data(), angles.data(), cache,
             y.data() + position * H() * D(), pool, scratch, isa);
      position += rows;
    }
    return y;
  }

  // One step of sequences like this one.
  void Attend(absl::Span<const AttentionSlice> slices, float* qkv,
              const float* angles, KvCache& cache, float* y, ThreadPool& pool,
              quant::Scratch& scratch, Isa isa) const {
    int64_t rows = 0;
    for (const AttentionSlice& slice : slices) rows += slice.rows;
    const int64_t y_width = H() * D();
    Attention({.slices = slices,
               .layout = layout_,
               .qkv = {qkv, rows, Width(), Width()},
               .angles = angles,
               .rotary_dim = rope_.rotary_dim(),
               .pairing = rope_.pairing(),
               .score_divisor = Divisor(),
               .score_soft_cap = options_.soft_cap,
               .window = options_.window,
               .position_bias = options_.bias ? bias_.data() : nullptr,
               .position_bias_stride = options_.bias ? kMaxPositions : 0,
               .query_norm = options_.norms ? &query_norm_ : nullptr,
               .key_norm = options_.norms ? &key_norm_ : nullptr,
               .cache = cache,
               .layer = 1,
               .y = {y, rows, y_width, y_width}},
              pool, scratch, isa);
  }

  // The formula, in float64.
  std::vector<double> Slow() const {
    const bool rotates = options_.kv_type == KvType::kInt8;
    const auto turned = [&](int64_t t, int64_t column,
                            const NormWeights& norm) {
      const auto x = Turned(t, column, norm);
      return rotates ? RotatedByTheFormula(x) : x;
    };
    // By key/value head and token.
    std::vector<std::vector<std::vector<double>>> keys(G()), values(G());
    for (int64_t g = 0; g < G(); ++g) {
      for (int64_t s = 0; s < tokens_; ++s) {
        keys[g].push_back(
            Kept(turned(s, layout_.key[g], key_norm_), options_.kv_type));
        const float* value = qkv_.data() + s * Width() + layout_.value[g];
        values[g].push_back(Kept({value, value + D()}, options_.kv_type));
      }
    }
    std::vector<double> y;
    for (int64_t t = 0; t < tokens_; ++t) {
      for (int64_t h = 0; h < H(); ++h) {
        const int64_t g = options_.kv_head[h];
        const auto query = turned(t, layout_.query[h], query_norm_);
        const int64_t first =
            options_.window == 0
                ? 0
                : std::max<int64_t>(0, t + 1 - options_.window);
        std::vector<double> weights;
        double largest = -1e300, sum = 0;
        for (int64_t s = first; s <= t; ++s) {
          double score = 0;
          for (int64_t d = 0; d < D(); ++d) score += query[d] * keys[g][s][d];
          score /= Divisor();
          if (options_.soft_cap != 0) {
            score = options_.soft_cap * std::tanh(score / options_.soft_cap);
          }
          if (options_.bias) score += bias_[h * kMaxPositions + s];
          weights.push_back(score);
          largest = std::max(largest, score);
        }
        for (double& w : weights) sum += w = std::exp(w - largest);
        for (int64_t d = 0; d < D(); ++d) {
          double mixed = 0;
          for (int64_t s = first; s <= t; ++s) {
            mixed += weights[s - first] / sum * values[g][s][d];
          }
          y.push_back(mixed);
        }
      }
    }
    return y;
  }

  const std::vector<int32_t>& blocks() const { return blocks_; }
  std::vector<float>& qkv() { return qkv_; }
  const Rope& rope() const { return rope_; }
  KvShape kv_shape() const {
    return {
        .layers = 2, .heads = G(), .head_dim = D(), .type = options_.kv_type};
  }

  // As the header says: one-token slices at the last position count the most.
  size_t CountedBytes(const std::vector<int64_t>& cuts, int threads) const {
    const std::vector<AttentionSlice> slices(
        *std::max_element(cuts.begin(), cuts.end()),
        {.first_row = 0, .rows = 1, .position = tokens_ - 1, .kv_blocks = {}});
    KvCache no_cache;
    quant::Scratch counting = quant::Scratch::Counting();
    ThreadPool idle(ThreadPool::Idle{threads});
    Attend(slices, nullptr, nullptr, no_cache, nullptr, idle, counting,
           Isa::kPortable);
    return counting.peak();
  }

 private:
  float Divisor() const {
    return options_.divisor != 0 ? options_.divisor
                                 : std::sqrt(static_cast<float>(D()));
  }

  // The blocks, those at no address that no token from `position` on sees.
  std::vector<int32_t> SeenBlocks(int64_t position) const {
    std::vector<int32_t> blocks = blocks_;
    const int64_t seen = std::max<int64_t>(0, position + 1 - options_.window);
    std::fill_n(blocks.begin(), seen / kKvBlockTokens, 1 << 30);
    return blocks;
  }

  std::vector<double> Turned(int64_t t, int64_t column,
                             const NormWeights& norm) const {
    const float* from = qkv_.data() + t * Width() + column;
    std::vector<double> x(from, from + D());
    if (options_.norms) {
      double mean = 0, squares = 0;
      if (norm.kind == NormWeights::kLayerNorm) {
        for (double v : x) mean += v / D();
      }
      for (double v : x) squares += (v - mean) * (v - mean) / D();
      for (int64_t d = 0; d < D(); ++d) {
        x[d] =
            (x[d] - mean) / std::sqrt(squares + norm.epsilon) * norm.weight[d];
        if (!norm.bias.empty()) x[d] += norm.bias[d];
      }
    }
    std::vector<float> angles(rope_.rotary_dim());
    rope_.Angles(t, angles.data());
    std::vector<double> turned = x;
    const int64_t pairs = rope_.rotary_dim() / 2;
    for (int64_t j = 0; j < pairs; ++j) {
      const bool halves = options_.pairing == RopePairing::kHalves;
      const int64_t a = halves ? j : 2 * j, b = halves ? j + pairs : 2 * j + 1;
      turned[a] = x[a] * angles[2 * j] - x[b] * angles[2 * j + 1];
      turned[b] = x[b] * angles[2 * j] + x[a] * angles[2 * j + 1];
    }
    return turned;
  }

  const int64_t tokens_;
  const Options options_;
  const Rope rope_;
  AttentionLayout layout_;
  NormWeights query_norm_, key_norm_;
  std::vector<float> qkv_;
  std::vector<float> bias_;
  std::vector<int32_t> blocks_;
};

void ExpectMeetsTheFormula(int64_t tokens, const Options& options, Isa isa,
                           const std::string& what, double tolerance = 1e-5) {
  Fixture fixture(tokens, options);
  const auto found = fixture.Run({tokens}, 1, isa);
  const auto wanted = fixture.Slow();
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    ASSERT_NEAR(found[i], wanted[i], tolerance)
        << what << ", head of " << options.head_dim << ", " << tokens
        << " tokens, at " << i;
  }
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// One of everything that changes what a token sees or how tiles are made.
std::vector<std::pair<std::string, Options>> ManyOptions() {
  const std::vector<int32_t> grouped = {0, 0, 0, 0, 1, 1, 1, 1};
  return {
      {"plain", {.head_dim = 12, .rotary_dim = 8}},
      {"plain, of 64", {.head_dim = 64, .rotary_dim = 8}},
      {"grouped",
       {.kv_head = grouped, .rotary_dim = 16, .pairing = RopePairing::kHalves}},
      {"multi-query", {.head_dim = 20, .kv_head = std::vector<int32_t>(11, 0)}},
      {"uneven groups", {.kv_head = {0, 1, 0, 2, 0, 2, 0}, .rotary_dim = 4}},
      {"window of 1", {.window = 1}},
      {"window of 5", {.kv_head = {0, 0, 0}, .window = 5}},
      {"window of 33", {.head_dim = 33, .window = 33}},
      {"window larger than the text", {.window = 1000}},
      {"window, grouped, biased",
       {.kv_head = grouped, .window = 21, .bias = true}},
      {"biased", {.head_dim = 24, .kv_head = {0, 0, 0, 1}, .bias = true}},
      {"capped", {.divisor = 0.5f, .soft_cap = 3}},
      {"bfloat16, grouped",
       {.head_dim = 40, .kv_head = grouped, .kv_type = KvType::kBFloat16}},
      {"bfloat16, windowed",
       {.head_dim = 33, .window = 33, .kv_type = KvType::kBFloat16}},
      {"int8, of 64",
       {.head_dim = 64, .rotary_dim = 8, .kv_type = KvType::kInt8}},
      {"int8, grouped",
       {.head_dim = 24, .kv_head = grouped, .kv_type = KvType::kInt8}},
      {"int8, all else",
       {.head_dim = 7,
        .kv_head = {0, 0, 0},
        .soft_cap = 3,
        .window = 21,
        .bias = true,
        .kv_type = KvType::kInt8}},
      {"normalized",
       {.head_dim = 20,
        .kv_head = {0, 0, 1, 1},
        .rotary_dim = 20,
        .pairing = RopePairing::kHalves,
        .norms = true}},
  };
}

class AttentionTest : public ::testing::TestWithParam<Isa> {};

TEST_P(AttentionTest, MeetsTheFormulaForAnyHeadSize) {
  for (int64_t head_dim : {2, 3, 5, 8, 12, 16, 20, 33, 64, 80, 96, 128}) {
    for (int64_t tokens : {1, 16, 17, 70}) {
      ExpectMeetsTheFormula(
          tokens,
          {.head_dim = head_dim,
           .rotary_dim = std::max<int64_t>(2, head_dim / 4 * 2)},
          GetParam(), "plain");
    }
  }
}

TEST_P(AttentionTest, KeysAndValuesMayBeKeptInFewerBits) {
  for (const KvType type : {KvType::kBFloat16, KvType::kInt8}) {
    // Turned by matrices of all sizes, of 1 too.
    for (int64_t head_dim : {1, 2, 3, 4, 8, 16, 20, 33, 64, 80, 96, 128, 256}) {
      for (int64_t tokens : {1, 15, 16, 17, 70}) {
        ExpectMeetsTheFormula(tokens,
                              {.head_dim = head_dim,
                               .kv_head = {0, 0, 1},
                               .rotary_dim = head_dim / 4 * 2,
                               .kv_type = type},
                              GetParam(), std::string(KvTypeName(type)),
                              ToleranceOf(type));
      }
    }
    ExpectMeetsTheFormula(70,
                          {.head_dim = 20,
                           .kv_head = {0, 0, 0, 1},
                           .soft_cap = 5,
                           .window = 21,
                           .bias = true,
                           .kv_type = type},
                          GetParam(), std::string(KvTypeName(type)),
                          ToleranceOf(type));
  }
}

TEST_P(AttentionTest, QueryHeadsMayShareAKeyValueHead) {
  // By twos, all one, uneven, in no order, and more than a tile has rows.
  for (const std::vector<int32_t>& kv_head :
       std::vector<std::vector<int32_t>>{{0, 0, 1, 1},
                                         {0, 0, 0},
                                         {0, 0, 0, 0, 0, 1, 2, 2},
                                         {2, 0, 1, 0, 2, 2, 2},
                                         std::vector<int32_t>(23, 0)}) {
    for (int64_t tokens : {1, 2, 3, 7, 19, 50}) {
      ExpectMeetsTheFormula(
          tokens, {.head_dim = 24, .kv_head = kv_head, .rotary_dim = 8},
          GetParam(), ::testing::PrintToString(kv_head));
    }
  }
}

TEST_P(AttentionTest, PairsLieSideBySideOrByHalves) {
  for (const RopePairing pairing :
       {RopePairing::kInterleaved, RopePairing::kHalves}) {
    for (int64_t head_dim : {5, 8, 33, 64}) {
      for (int64_t rotary_dim : {int64_t{0}, int64_t{4}, head_dim / 2 * 2}) {
        ExpectMeetsTheFormula(20,
                              {.head_dim = head_dim,
                               .rotary_dim = rotary_dim,
                               .pairing = pairing},
                              GetParam(),
                              "rotary of " + std::to_string(rotary_dim));
      }
    }
  }
}

TEST_P(AttentionTest, AWindowHidesWhatIsTooOld) {
  // Of one token, shorter than a tile, across blocks, of whole blocks, and
  // longer than the text.
  for (int64_t window : {1, 2, 5, 7, 15, 16, 17, 32, 40, 69, 70, 1000}) {
    for (const std::vector<int32_t>& kv_head :
         std::vector<std::vector<int32_t>>{{0, 1}, {0, 0, 0, 1}}) {
      ExpectMeetsTheFormula(
          70, {.head_dim = 20, .kv_head = kv_head, .window = window},
          GetParam(), "window of " + std::to_string(window));
    }
  }
}

TEST_P(AttentionTest, BlocksOutsideTheWindowAreNotRead) {
  for (int64_t window : {1, 5, 16, 17, 40}) {
    Fixture fixture(
        150, {.kv_head = {0, 0, 1},
              .window = window,
              .kv_type = window == 17 ? KvType::kInt8 : KvType::kFloat32});
    const auto whole = fixture.Run({150}, 1, GetParam());
    const auto partly = fixture.Run({20, 1, 1, 30, 9, 1, 37, 1, 50}, 1,
                                    GetParam(), /*only_seen=*/true);
    EXPECT_TRUE(SameBits(whole, partly)) << "window of " << window;
  }
}

TEST_P(AttentionTest, ABiasIsAddedByHeadAndPositionOfTheKey) {
  for (int64_t tokens : {1, 15, 33, 70}) {
    ExpectMeetsTheFormula(tokens, {.kv_head = {0, 0, 1, 1}, .bias = true},
                          GetParam(), "bias");
  }
}

TEST_P(AttentionTest, ASoftCapBendsScores) {
  for (const float cap : {0.5f, 5.0f, 50.0f}) {
    // Scores from far below the cap to far above it.
    ExpectMeetsTheFormula(70, {.divisor = 0.3f, .soft_cap = cap}, GetParam(),
                          "cap of " + std::to_string(cap), 2e-5);
  }
}

TEST_P(AttentionTest, QueriesAndKeysAreNormalizedByHeadBeforeTheyTurn) {
  for (const NormWeights::Kind kind :
       {NormWeights::kRms, NormWeights::kLayerNorm}) {
    for (int64_t head_dim : {6, 16, 33}) {
      // Products of two weights make scores large, and what rounds them.
      ExpectMeetsTheFormula(40,
                            {.head_dim = head_dim,
                             .kv_head = {0, 0, 1},
                             .rotary_dim = 4,
                             .pairing = RopePairing::kHalves,
                             .norms = true,
                             .norm_kind = kind},
                            GetParam(), "norms", 3e-5);
    }
  }
}

TEST_P(AttentionTest, CutsAndThreadsChangeNoBit) {
  std::mt19937 random(5);
  for (const auto& [name, options] : ManyOptions()) {
    Fixture fixture(300, options);
    const auto whole = fixture.Run({300}, 1, GetParam());
    EXPECT_TRUE(SameBits(whole, fixture.Run({300}, 2, GetParam()))) << name;
    // More threads than key/value heads, so that groups are parted.
    EXPECT_TRUE(SameBits(
        whole, fixture.Run(std::vector<int64_t>(300, 1), 5, GetParam())))
        << name;
    for (int i = 0; i < 10; ++i) {
      std::vector<int64_t> cuts;
      for (int64_t left = 300; left > 0; left -= cuts.back()) {
        cuts.push_back(std::min<int64_t>(left, 1 + random() % 70));
      }
      EXPECT_TRUE(SameBits(whole, fixture.Run(cuts, 1 + i % 3, GetParam())))
          << name << ", " << ::testing::PrintToString(cuts);
    }
  }
}

// Sequences of one step: some decode, others bring pieces of their prompts.
TEST_P(AttentionTest, OtherSequencesOfTheStepChangeNoBit) {
  for (const auto& [name, options] : ManyOptions()) {
    constexpr int64_t kRows[] = {1, 40, 3, 9, 1};
    constexpr int64_t kPast[] = {30, 5, 0, 17, 77};
    std::vector<Fixture> sequences;
    std::vector<std::vector<float>> alone;
    for (int i = 0; i < 5; ++i) {
      Fixture& added = sequences.emplace_back(kPast[i] + kRows[i], options);
      std::vector<int64_t> cuts = {kRows[i]};
      if (kPast[i] > 0) cuts.insert(cuts.begin(), kPast[i]);
      alone.push_back(added.Run(cuts, 1, GetParam()));
    }
    const int64_t width = sequences[0].Width();
    const int64_t y_width = sequences[0].H() * sequences[0].D();
    const int64_t rotary_dim = sequences[0].rope().rotary_dim();
    KvCache cache = *KvCache::Create(sequences[0].kv_shape(), kBlocks);
    ThreadPool pool(3);
    auto scratch = *quant::Scratch::Create(sequences[4].CountedBytes({150}, 3));
    const auto step = [&](const int64_t* rows, const int64_t* past) {
      std::vector<AttentionSlice> slices;
      std::vector<float> qkv, angles;
      std::vector<std::vector<int32_t>> blocks(5);
      int64_t all_rows = 0;
      for (int i = 0; i < 5; ++i) {
        if (rows[i] == 0) continue;
        for (int b = 0; b < 8; ++b) blocks[i].push_back(8 * i + (b + i) % 8);
        slices.push_back(
            {all_rows, rows[i], past == nullptr ? 0 : past[i], blocks[i]});
        all_rows += rows[i];
        for (int64_t t = slices.back().position;
             t < slices.back().position + rows[i]; ++t) {
          const auto from = sequences[i].qkv().begin() + t * width;
          qkv.insert(qkv.end(), from, from + width);
          angles.resize(angles.size() + rotary_dim);
          sequences[i].rope().Angles(
              t, angles.data() + angles.size() - rotary_dim);
        }
      }
      std::vector<float> y(all_rows * y_width);
      sequences[0].Attend(slices, qkv.data(), angles.data(), cache, y.data(),
                          pool, scratch, GetParam());
      return y;
    };
    step(kPast, nullptr);
    const std::vector<float> y = step(kRows, kPast);
    int64_t row = 0;
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(std::memcmp(y.data() + row * y_width,
                            alone[i].data() + kPast[i] * y_width,
                            kRows[i] * y_width * sizeof(float)),
                0)
          << name << ", sequence " << i;
      row += kRows[i];
    }
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  Fixture fixture(40, {.rotary_dim = 2});
  for (float& v : fixture.qkv()) v *= 1e4f;  // scores of 1e8 and more
  for (float v : fixture.Run({40}, 1, GetParam())) {
    ASSERT_TRUE(std::isfinite(v));
  }
}

// What one token brings must stay out of the others' results, whatever it is.
TEST_P(AttentionTest, InfinityOutsideATokensWindowDoesNotReachIt) {
  for (const auto& [window, type] :
       std::vector<std::pair<int64_t, KvType>>{{1, KvType::kFloat32},
                                               {5, KvType::kFloat32},
                                               {20, KvType::kFloat32},
                                               {5, KvType::kBFloat16},
                                               {5, KvType::kInt8}}) {
    Fixture fixture(60, {.window = window, .kv_type = type});
    const auto clean = fixture.Run({60}, 1, GetParam());
    const int64_t at = 30;
    for (int64_t i = 0; i < fixture.Width(); ++i) {
      fixture.qkv()[at * fixture.Width() + i] =
          std::numeric_limits<float>::infinity();
    }
    const auto spoilt = fixture.Run({60}, 1, GetParam());
    const int64_t width = fixture.H() * fixture.D();
    for (int64_t t = 0; t < 60; ++t) {
      if (t >= at && t < at + window) continue;
      EXPECT_EQ(std::memcmp(clean.data() + t * width, spoilt.data() + t * width,
                            width * sizeof(float)),
                0)
          << "window of " << window << ", token " << t;
    }
  }
}

TEST_P(AttentionTest, HeadsOfBytesHaveTheSameBitsOnAllInstructionSets) {
  const LayerKernels& kernels = LayerKernelsFor(GetParam());
  const LayerKernels& portable = LayerKernelsFor(Isa::kPortable);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (int64_t dim :
       {1, 2, 4, 7, 8, 16, 20, 24, 32, 33, 64, 80, 96, 128, 256}) {
    std::vector<float> x(dim);
    for (float& v : x) v = normal(random);
    std::vector<float> wanted = x;
    kernels.rotate(x.data(), dim);
    portable.rotate(wanted.data(), dim);
    EXPECT_TRUE(SameBits(x, wanted)) << dim;
    std::vector<int8_t> codes(dim), wanted_codes(dim);
    EXPECT_EQ(kernels.round_to_bytes(x.data(), dim, codes.data()),
              portable.round_to_bytes(x.data(), dim, wanted_codes.data()));
    EXPECT_EQ(codes, wanted_codes) << dim;
    // In the memory of the floats themselves.
    auto* const in_place = reinterpret_cast<int8_t*>(x.data());
    kernels.round_to_bytes(x.data(), dim, in_place);
    EXPECT_TRUE(std::equal(codes.begin(), codes.end(), in_place)) << dim;
  }
}

TEST_P(AttentionTest, BytesOfAHeadHaveAScaleThatTellsWhatItWas) {
  const LayerKernels& kernels = LayerKernelsFor(GetParam());
  for (const float value : {std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
    for (const size_t at : {0, 5, 19}) {
      std::vector<float> x(20, 1.0f);
      x[at] = value;
      std::vector<int8_t> codes(20, 77);
      EXPECT_TRUE(
          std::isnan(kernels.round_to_bytes(x.data(), 20, codes.data())));
      EXPECT_EQ(codes, std::vector<int8_t>(20));
    }
  }
  for (const float value : {0.0f, -0.0f, 1e-40f, -1e-38f}) {
    const std::vector<float> x(20, value);
    std::vector<int8_t> codes(20, 77);
    EXPECT_EQ(kernels.round_to_bytes(x.data(), 20, codes.data()), 0);
    EXPECT_EQ(codes, std::vector<int8_t>(20));
  }
  std::vector<float> x(20, std::numeric_limits<float>::max());
  std::vector<int8_t> codes(20);
  EXPECT_TRUE(
      std::isfinite(kernels.round_to_bytes(x.data(), 20, codes.data())));
  EXPECT_EQ(codes, std::vector<int8_t>(20, 127));
}

INSTANTIATE_TEST_SUITE_P(AllIsas, AttentionTest,
                         ::testing::ValuesIn(ounce::testing::RunnableIsas()),
                         [](const auto& info) {
                           return std::string(IsaName(info.param));
                         });

}  // namespace
}  // namespace ounce::model
