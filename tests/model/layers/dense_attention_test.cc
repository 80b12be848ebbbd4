#include "model/layers/dense_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "tests/model/layers/isas.h"

namespace ounce::model {
namespace {

using quant::Compute;

struct Shape {
  int64_t rows;
  int64_t keys;
  int64_t heads;
  int64_t head_dim;
};

double ToBfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Random queries, keys and values; k and v are columns of one wider matrix, and
// so are y and what must stay as it is.
class Picture {
 public:
  Picture(const Shape& shape, float size, uint32_t seed)
      : shape_(shape),
        columns_(shape.heads * shape.head_dim),
        q_(shape.rows * columns_),
        kv_(shape.keys * (2 * columns_ + 3)),
        y_(shape.rows * (columns_ + 5), kUntouched) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (float& value : q_) value = normal(random) * size;
    for (float& value : kv_) value = normal(random);
  }

  DenseAttentionJob Job() {
    const int64_t kv_stride = 2 * columns_ + 3;
    return {.q = {q_.data(), shape_.rows, columns_, columns_},
            .k = {kv_.data() + 1, shape_.keys, columns_, kv_stride},
            .v = {kv_.data() + columns_ + 2, shape_.keys, columns_, kv_stride},
            .y = {y_.data(), shape_.rows, columns_, columns_ + 5}};
  }

  // A y by the formula in float64, of inputs rounded as kBFloat16 rounds them.
  struct Wanted {
    double y;
    double largest_value;  // |v|: bounds what roundings of weights can do
  };
  std::vector<Wanted> Formula(float scale, Compute compute) {
    const DenseAttentionJob job = Job();
    const auto rounded = [&](float value) {
      return compute == Compute::kBFloat16 ? ToBfloat16(value) : double{value};
    };
    std::vector<Wanted> wanted;
    std::vector<double> weights(shape_.keys);
    for (int64_t row = 0; row < shape_.rows; ++row) {
      for (int64_t head = 0; head < shape_.heads; ++head) {
        const int64_t first = head * shape_.head_dim;
        const int64_t end = first + shape_.head_dim;
        double largest = -1e300, sum = 0;
        for (int64_t key = 0; key < shape_.keys; ++key) {
          double score = 0;
          for (int64_t d = first; d < end; ++d) {
            score +=
                rounded(job.q.row(row)[d] * scale) * rounded(job.k.row(key)[d]);
          }
          weights[key] = score;
          largest = std::max(largest, score);
        }
        for (double& weight : weights) {
          sum += weight = std::exp(weight - largest);
        }
        for (int64_t d = first; d < end; ++d) {
          Wanted one = {0, 0};
          for (int64_t key = 0; key < shape_.keys; ++key) {
            const double value = rounded(job.v.row(key)[d]);
            one.y += weights[key] / sum * value;
            one.largest_value = std::max(one.largest_value, std::abs(value));
          }
          wanted.push_back(one);
        }
      }
    }
    return wanted;
  }

  // Every y, without the gaps between rows, which must be as they were.
  std::vector<float> Outputs() {
    std::vector<float> outputs;
    const quant::Matrix y = Job().y;
    for (int64_t row = 0; row < y.rows; ++row) {
      outputs.insert(outputs.end(), y.row(row), y.row(row) + y.cols);
      for (int64_t gap = y.cols; gap < y.stride; ++gap) {
        EXPECT_EQ(y.row(row)[gap], kUntouched);
      }
    }
    return outputs;
  }

  std::vector<float>& q() { return q_; }

 private:
  static constexpr float kUntouched = -12345;

  const Shape shape_;
  const int64_t columns_;
  std::vector<float> q_, kv_, y_;
};

constexpr uint32_t kNanBits = 0x7FC12345;

class DenseAttentionTest
    : public ::testing::TestWithParam<std::tuple<Isa, Compute>> {
 protected:
  Isa isa() const { return std::get<0>(GetParam()); }
  Compute compute() const { return std::get<1>(GetParam()); }

  // Runs in the scratch that was counted, filled with NaN, and no further.
  void Run(absl::Span<const DenseAttentionJob> jobs, int64_t heads, float scale,
           int threads) {
    ThreadPool idle(ThreadPool::Idle{threads});
    auto counting = quant::Scratch::Counting();
    DenseAttention(jobs, heads, scale, compute(), idle, counting, isa());
    const auto bytes = static_cast<int64_t>(counting.peak());
    constexpr int64_t kBeyond = 1 << 18;
    auto scratch = *quant::Scratch::Create(bytes + kBeyond);
    uint32_t* words = scratch.Take<uint32_t>(0);
    std::fill_n(words, (bytes + kBeyond) / 4, kNanBits);
    {
      ThreadPool pool(threads);
      DenseAttention(jobs, heads, scale, compute(), pool, scratch, isa());
    }
    EXPECT_EQ(scratch.mark(), 0u);
    EXPECT_EQ(scratch.peak(), counting.peak());
    for (int64_t i = bytes / 4; i < (bytes + kBeyond) / 4; ++i) {
      ASSERT_EQ(words[i], kNanBits) << i * 4 - bytes << " bytes beyond";
    }
  }
  void Run(const DenseAttentionJob& job, int64_t heads, float scale,
           int threads) {
    Run(absl::MakeSpan(&job, 1), heads, scale, threads);
  }

  void ExpectFormula(const Shape& shape, float size) {
    SCOPED_TRACE(::testing::Message()
                 << shape.rows << " rows, " << shape.keys << " keys, "
                 << shape.heads << " heads of " << shape.head_dim);
    Picture picture(shape, size, static_cast<uint32_t>(shape.keys));
    const float scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
    Run(picture.Job(), shape.heads, scale, 2);
    const auto found = picture.Outputs();
    const auto wanted = picture.Formula(scale, compute());
    for (size_t i = 0; i < found.size(); ++i) {
      // float32: scores of size s are off by some 1e-7 s, and weights with
      // them. bfloat16: each weight is off by 2^-9 of itself at most, and
      // where exponentials are only good enough for that, by 7.5e-5 more, as is
      // their sum.
      const double tolerance =
          compute() == Compute::kBFloat16 ? 0x1p-9 + 1.5e-4 : 0;
      ASSERT_NEAR(
          found[i], wanted[i].y,
          (tolerance + 3e-6 * std::max(1.0f, size)) * wanted[i].largest_value)
          << "at " << i;
    }
  }
};

TEST_P(DenseAttentionTest, MeetsTheFormulaForAnyShape) {
  for (int64_t head_dim : {1, 2, 8, 15, 16, 17, 20, 32, 33, 64, 80, 256}) {
    ExpectFormula({5, 37, 2, head_dim}, 1);
    ExpectFormula({17, 64, 1, head_dim}, 1);
  }
  for (int64_t rows : {1, 2, 6, 7, 8, 9, 15, 16, 17, 31, 33, 48, 49, 70}) {
    ExpectFormula({rows, 50, 2, 32}, 1);
  }
  for (int64_t keys = 1; keys <= 70; ++keys) {
    ExpectFormula({3, keys, 2, 32}, 1);
  }
  ExpectFormula({100, 200, 8, 32}, 1);
  ExpectFormula({70, 193, 1, 20}, 4);
}

TEST_P(DenseAttentionTest, LargeScoresChooseTheLargest) {
  // Scores of 1e4 and more: all weight on one key, or shared among few.
  ExpectFormula({20, 90, 2, 32}, 1e4f);
}

TEST_P(DenseAttentionTest, EqualScoresGiveTheMean) {
  Picture picture({4, 77, 1, 8}, 0, 1);
  Run(picture.Job(), 1, 1, 1);
  const auto found = picture.Outputs();
  double mean = 0;
  for (int64_t key = 0; key < 77; ++key) mean += picture.Job().v.row(key)[3];
  EXPECT_NEAR(found[3], mean / 77,
              compute() == Compute::kBFloat16 ? 3 * 0x1p-9 : 1e-6);
  EXPECT_EQ(found[3], found[8 + 3]);
}

TEST_P(DenseAttentionTest, CompanyAndThreadsChangeNoBit) {
  const std::vector<Shape> shapes = {{70, 200, 3, 20}, {12, 64, 3, 20},
                                     {1, 1, 3, 20},    {33, 3, 3, 20},
                                     {0, 5, 3, 20},    {100, 100, 3, 20}};
  std::vector<std::vector<float>> alone;
  for (const Shape& shape : shapes) {
    Picture picture(shape, 2, 7);
    Run(picture.Job(), 3, 0.25f, 1);
    alone.push_back(picture.Outputs());
  }
  for (int threads : {1, 2, 3}) {
    std::vector<Picture> pictures;
    for (int copy = 0; copy < 4; ++copy) {
      for (const Shape& shape : shapes) pictures.emplace_back(shape, 2, 7);
    }
    for (int few = 0; few < 20; ++few) pictures.emplace_back(shapes[2], 2, 7);
    std::vector<DenseAttentionJob> jobs;
    for (Picture& picture : pictures) jobs.push_back(picture.Job());
    Run(jobs, 3, 0.25f, threads);
    for (size_t i = 0; i < pictures.size(); ++i) {
      const size_t shape = i < 24 ? i % shapes.size() : 2;
      EXPECT_EQ(pictures[i].Outputs(), alone[shape])
          << "picture " << i << ", " << threads << " threads";
    }
  }
}

TEST_P(DenseAttentionTest, ManyJobsWithFewKeysChangeNoBit) {
  // They take turns, since whole blocks of keys for all would not fit.
  std::vector<Picture> pictures;
  std::vector<std::vector<float>> alone;
  for (int64_t i = 0; i < 40; ++i) {
    const Shape shape = {1 + i % 20, i == 25 ? 40 : 1 + i % 4, 2, 16};
    pictures.emplace_back(shape, 2, static_cast<uint32_t>(i));
    Picture copy = pictures.back();
    Run(copy.Job(), 2, 0.25f, 1);
    alone.push_back(copy.Outputs());
  }
  std::vector<DenseAttentionJob> jobs;
  for (Picture& picture : pictures) jobs.push_back(picture.Job());
  Run(jobs, 2, 0.25f, 2);
  for (size_t i = 0; i < pictures.size(); ++i) {
    EXPECT_EQ(pictures[i].Outputs(), alone[i]) << "picture " << i;
  }
}

TEST_P(DenseAttentionTest, ARowDependsOnItsOwnQueryAlone) {
  const Shape shape = {70, 90, 2, 33};
  Picture all(shape, 2, 3);
  const DenseAttentionJob job = all.Job();
  Run(job, 2, 0.2f, 2);
  const auto wanted = all.Outputs();
  Picture few(shape, 2, 3);
  for (int64_t first = 0; first < 70; first += 7) {
    DenseAttentionJob part = few.Job();
    part.q = {part.q.row(first), 7, 66, part.q.stride};
    part.y = {part.y.row(first), 7, 66, part.y.stride};
    Run(part, 2, 0.2f, 1);
  }
  EXPECT_EQ(few.Outputs(), wanted);
  // A bad row spoils no other.
  Picture bad(shape, 2, 3);
  bad.q()[5 * 66] = std::numeric_limits<float>::quiet_NaN();
  bad.q()[6 * 66] = std::numeric_limits<float>::infinity();
  Run(bad.Job(), 2, 0.2f, 2);
  const auto found = bad.Outputs();
  EXPECT_TRUE(std::isnan(found[5 * 66]));
  for (size_t i = 0; i < found.size(); ++i) {
    if (i / 66 == 5 || i / 66 == 6) continue;
    ASSERT_EQ(found[i], wanted[i]) << "at " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    AllIsas, DenseAttentionTest,
    ::testing::Combine(::testing::ValuesIn(ounce::testing::RunnableIsas()),
                       ::testing::Values(Compute::kFloat32,
                                         Compute::kBFloat16)),
    [](const auto& info) {
      return std::string(IsaName(std::get<0>(info.param))) +
             (std::get<1>(info.param) == Compute::kFloat32 ? "_float32"
                                                           : "_bfloat16");
    });

}  // namespace
}  // namespace ounce::model
