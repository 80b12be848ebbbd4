// A decoder run piece by piece, each with the matrices of its own alone in
// memory, is the whole decoder to the last bit.
#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/causal_lm.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "quant/scratch.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::GoldenCase;
using ::ounce::testing::GoldenCases;
using ::testing::IsEmpty;
using ::testing::Not;

class DecoderPiecesTest : public ::testing::TestWithParam<GoldenCase> {
 protected:
  static std::vector<int32_t> Tokens(const CausalLm& lm) {
    std::vector<int32_t> tokens(
        std::min<int64_t>(70, lm.shape().max_positions));
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = static_cast<int32_t>(i * i * 7 % lm.shape().vocab_size);
    }
    return tokens;
  }
  static std::vector<int32_t> Blocks(int64_t positions) {
    std::vector<int32_t> blocks(positions / kKvBlockTokens + 1);
    std::iota(blocks.begin(), blocks.end(), 0);
    return blocks;
  }
};

TEST_P(DecoderPiecesTest, GiveTheBitsOfTheWhole) {
  const auto checkpoint = Checkpoint::Open(GetParam().folder);
  ASSERT_OK(checkpoint);
  const absl::StatusOr<LoadedModel> whole = LoadModel(**checkpoint, {});
  ASSERT_OK(whole);
  const CausalLm& lm = *whole->model->causal_lm();
  const std::vector<int32_t> tokens = Tokens(lm);
  const auto rows = static_cast<int64_t>(tokens.size());
  const int64_t vocab = lm.shape().vocab_size;
  const std::vector<int32_t> blocks = Blocks(rows);
  const auto num_blocks = static_cast<int64_t>(blocks.size());
  ThreadPool pool(2);
  quant::Scratch scratch =
      *quant::Scratch::Create(lm.ScratchBytes(rows, rows, 2));
  std::vector<float> expected(rows * vocab);
  {
    KvCache cache = *KvCache::Create(lm.shape().kv, num_blocks);
    const SequenceSlice slice = {tokens, 0, blocks, rows};
    lm.Forward({&slice, 1}, cache, whole->model->RunOn(pool, scratch),
               {expected.data(), rows, vocab, vocab});
  }

  KvShape one_layer = lm.shape().kv;
  one_layer.layers = 1;
  KvCache cache = *KvCache::Create(one_layer, num_blocks);
  std::vector<float> x(rows * lm.width());
  std::vector<float> logits(rows * vocab);
  for (int64_t piece = 0; piece < lm.num_pieces(); ++piece) {
    const std::vector<std::string> modules = lm.PieceModules(piece);
    EXPECT_THAT(modules, Not(IsEmpty()));
    LoadOptions options;
    options.only.emplace(modules.begin(), modules.end());
    const absl::StatusOr<LoadedModel> loaded = LoadModel(**checkpoint, options);
    ASSERT_OK(loaded);
    const CausalLm& part = *loaded->model->causal_lm();
    EXPECT_EQ(part.PieceModules(piece), modules);
    constexpr int64_t kStep = 19;
    for (int64_t first = 0; first < rows; first += kStep) {
      const int64_t count = std::min(kStep, rows - first);
      const bool is_last = piece + 1 == lm.num_pieces();
      const int64_t num_logits = is_last ? count : 0;
      part.RunPiece(
          piece,
          {absl::MakeConstSpan(tokens).subspan(first, count), first, blocks,
           num_logits},
          cache, loaded->model->RunOn(pool, scratch),
          {x.data() + first * lm.width(), count, lm.width(), lm.width()},
          {logits.data() + first * vocab, num_logits, vocab, vocab});
    }
  }
  EXPECT_EQ(std::memcmp(logits.data(), expected.data(),
                        logits.size() * sizeof(float)),
            0);
}

INSTANTIATE_TEST_SUITE_P(Goldens, DecoderPiecesTest,
                         ::testing::ValuesIn(GoldenCases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace ounce::model
