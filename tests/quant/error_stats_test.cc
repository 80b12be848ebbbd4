#include "quant/error_stats.h"

#include <cmath>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "quant/registry.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

std::unique_ptr<const CodeRows> Encode(const FloatRows& rows,
                                       std::string_view spec) {
  auto codes = ParseMethodSpec(spec)->Encode(rows);
  EXPECT_TRUE(codes.ok()) << codes.status();
  return *std::move(codes);
}

TEST(ErrorStatsTest, AreWhatTheDefinitionsSay) {
  const MatrixRows rows = NormalRows(37, 100, 1);
  const auto codes = Encode(rows, "linear");
  CodeBand band;
  ASSERT_TRUE(codes->Read(0, 37, band).ok());
  std::vector<float> found(37 * 100);
  Decode(codes->format(), band, 100, found.data());
  // Sums of float64 depend on their order by more than the 4 units in the last
  // place that are compared.
  long double norm = 0, error = 0;
  double worst = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double difference = double{rows.values()[i]} - found[i];
    norm += static_cast<long double>(rows.values()[i]) * rows.values()[i];
    error += static_cast<long double>(difference) * difference;
    worst = std::max(worst, std::abs(difference));
  }
  const auto stats = MeasureError(rows, *codes);
  ASSERT_TRUE(stats.ok());
  EXPECT_DOUBLE_EQ(static_cast<double>(std::sqrt(error / norm)),
                   stats->relative_l2);
  EXPECT_NEAR(static_cast<double>(10 * std::log10(norm / error)), stats->snr_db,
              1e-9);
  EXPECT_EQ(worst, stats->max_abs);
  EXPECT_GT(stats->snr_db, 38);
}

TEST(ErrorStatsTest, AnExactCopyHasInfiniteSnr) {
  const MatrixRows rows = NormalRows(5, 70, 2);
  const auto stats = MeasureError(rows, *Encode(rows, "float32"));
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(0, stats->relative_l2);
  EXPECT_EQ(0, stats->max_abs);
  EXPECT_TRUE(std::isinf(stats->snr_db));
}

TEST(ErrorStatsTest, AnAllZeroWeightHasNoError) {
  const MatrixRows rows(4, 3, std::vector<float>(12));
  const auto stats = MeasureError(rows, *Encode(rows, "linear"));
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(0, stats->relative_l2);
  EXPECT_TRUE(std::isinf(stats->snr_db));
}

// Fails from its second panel on.
class BrokenRows final : public FloatRows {
 public:
  const std::string& name() const override { return rows_.name(); }
  int64_t rows() const override { return rows_.rows(); }
  int64_t cols() const override { return rows_.cols(); }
  DType dtype() const override { return rows_.dtype(); }
  absl::Status Read(int64_t first, int64_t count, float* out) const override {
    if (first > 0) return absl::DataLossError("bad CRC");
    return rows_.Read(first, count, out);
  }

 private:
  const MatrixRows rows_ = NormalRows(20, 8, 3);
};

TEST(ErrorStatsTest, PassOnWhatTheReaderFound) {
  const MatrixRows rows = NormalRows(20, 8, 3);
  EXPECT_EQ(absl::DataLossError("bad CRC"),
            MeasureError(BrokenRows(), *Encode(rows, "linear")).status());
  for (const QuantMethod* method : AllMethods()) {
    const auto spec = ParseMethodSpec(method->name());
    EXPECT_EQ(absl::DataLossError("bad CRC"),
              method->Quantize(BrokenRows(), spec->params).status());
  }
}

}  // namespace
}  // namespace ounce::quant
