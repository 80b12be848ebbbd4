#include "model/loader/tensor_rows.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "model/checkpoint/stored_tensor.h"
#include "model/files/byte_source.h"
#include "quant/quant_method.h"
#include "quant/registry.h"
#include "tests/testing/checkpoint_files.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::MemoryCheckpoint;
using ::testing::ElementsAre;

// 0, 1, 2, ... in a tensor of this shape.
MemoryCheckpoint Numbered(int64_t rows, int64_t cols) {
  MemoryCheckpoint checkpoint;
  std::vector<float> values(rows * cols);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  checkpoint.Add("a.weight", {rows, cols}, std::move(values));
  return checkpoint;
}

std::vector<float> ReadAll(const quant::FloatRows& rows, int64_t at_once) {
  std::vector<float> all(rows.rows() * rows.cols());
  for (int64_t first = 0; first < rows.rows(); first += at_once) {
    const int64_t count = std::min(at_once, rows.rows() - first);
    EXPECT_OK(rows.Read(first, count, all.data() + first * rows.cols()));
  }
  return all;
}

TEST(TensorRowsTest, GivesTheRowsOfATensor) {
  const MemoryCheckpoint checkpoint = Numbered(3, 2);
  const TensorRows rows(checkpoint, "a.weight", false);
  EXPECT_EQ(rows.rows(), 3);
  EXPECT_EQ(rows.cols(), 2);
  EXPECT_THAT(ReadAll(rows, 2), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(rows.Place(2, 0), "tensor 'a.weight', row 2, column 0");
}

TEST(TransposedRowsTest, GivesTheColumnsOfATensor) {
  const MemoryCheckpoint checkpoint = Numbered(2, 5);
  const TransposedRows rows(checkpoint, "a.weight", false);
  EXPECT_EQ(rows.rows(), 5);
  EXPECT_EQ(rows.cols(), 2);
  EXPECT_THAT(ReadAll(rows, 2), ElementsAre(0, 5, 1, 6, 2, 7, 3, 8, 4, 9));
  EXPECT_EQ(rows.Place(2, 0), "tensor 'a.weight', row 0, column 2");
}

// A file in memory that counts what is read of it.
class CountingSource final : public ByteSource {
 public:
  explicit CountingSource(std::string bytes)
      : ByteSource("counted", static_cast<int64_t>(bytes.size())),
        bytes_(std::move(bytes)) {}
  int64_t bytes_read() const { return bytes_read_; }
  int64_t largest_read() const { return largest_read_; }

 private:
  absl::Status ReadInside(int64_t offset, int64_t length,
                          void* out) const override {
    bytes_read_ += length;
    largest_read_ = std::max(largest_read_, length);
    bytes_.copy(static_cast<char*>(out), length, offset);
    return absl::OkStatus();
  }

  const std::string bytes_;
  mutable int64_t bytes_read_ = 0;
  mutable int64_t largest_read_ = 0;
};

// One tensor "a.weight" in such a file.
class CountingCheckpoint final : public Checkpoint {
 public:
  CountingCheckpoint(int64_t rows, int64_t cols, quant::DType dtype)
      : file_(testing::MakeTensor("a.weight", {rows, cols},
                                  Numbered(rows, cols).values("a.weight"),
                                  dtype)
                  .bytes) {
    tensor_.info = {.dtype = dtype, .shape = {rows, cols}};
    tensors_["a.weight"] = tensor_.info;
  }
  const CountingSource& file() const { return file_; }

  const std::string& folder() const override { return file_.name(); }
  const nlohmann::json& config() const override { return null_; }
  const nlohmann::json& generation_config() const override { return null_; }
  const std::map<std::string, TensorInfo>& tensors() const override {
    return tensors_;
  }
  absl::Status ReadFloats(const std::string& name, int64_t first, int64_t count,
                          float* out) const override {
    return ReadStoredFloats(file_, name, tensor_, first, count, out);
  }

 private:
  const CountingSource file_;
  StoredTensor tensor_;
  std::map<std::string, TensorInfo> tensors_;
  const nlohmann::json null_;
};

TEST(TransposedRowsTest, PackingReadsEachByteOnceInBandsOfFewMegabytes) {
  const quant::MethodSpec method = *quant::ParseMethodSpec("linear");
  // GPT-2's, in both directions.
  for (const auto& [rows, cols] :
       {std::pair<int64_t, int64_t>{3072, 768}, {768, 3072}}) {
    for (const quant::DType dtype : {quant::DType::kF32, quant::DType::kBF16}) {
      const CountingCheckpoint checkpoint(cols, rows, dtype);
      const TransposedRows source(checkpoint, "a.weight", false);
      ASSERT_OK(method.method->Quantize(source, method.params));
      const CountingSource& file = checkpoint.file();
      EXPECT_LT(file.bytes_read(), file.size() + file.size() / 10);
      // As many rows at once as fit, of each column.
      EXPECT_LE(file.largest_read() / quant::SizeOf(dtype) * cols *
                    static_cast<int64_t>(sizeof(float)),
                4 << 20);
    }
  }
}

TEST(TransposedRowsTest, ReadsAnyRangeInAnyOrder) {
  constexpr int64_t kRows = 700, kCols = 3072;  // bands of 341 rows
  const MemoryCheckpoint checkpoint = Numbered(kCols, kRows);
  const TransposedRows source(checkpoint, "a.weight", false);
  for (const auto& [first, count] : {std::pair<int64_t, int64_t>{690, 10},
                                     {330, 16},
                                     {340, 345},
                                     {0, 1},
                                     {0, kRows},
                                     {341, 1}}) {
    std::vector<float> found(count * kCols);
    ASSERT_OK(source.Read(first, count, found.data()));
    for (const int64_t row : {first, first + count / 2, first + count - 1}) {
      for (int64_t col = 0; col < kCols; ++col) {
        ASSERT_EQ(found[(row - first) * kCols + col],
                  static_cast<float>(col * kRows + row))
            << row << ", " << col;
      }
    }
  }
}

TEST(TransposedRowsTest, ForgetsABandThatCouldNotBeRead) {
  class Failing final : public Checkpoint {
   public:
    explicit Failing(const MemoryCheckpoint& source) : source_(source) {}
    bool fails = false;
    const std::string& folder() const override { return source_.folder(); }
    const nlohmann::json& config() const override { return source_.config(); }
    const nlohmann::json& generation_config() const override {
      return source_.generation_config();
    }
    const std::map<std::string, TensorInfo>& tensors() const override {
      return source_.tensors();
    }
    absl::Status ReadFloats(const std::string& name, int64_t first,
                            int64_t count, float* out) const override {
      if (fails && first > 4) return absl::DataLossError("gone");
      return source_.ReadFloats(name, first, count, out);
    }

   private:
    const MemoryCheckpoint& source_;
  };
  const MemoryCheckpoint numbered = Numbered(3, 4);
  Failing checkpoint(numbered);
  const TransposedRows rows(checkpoint, "a.weight", false);
  std::vector<float> found(3);
  checkpoint.fails = true;
  EXPECT_THAT(rows.Read(1, 1, found.data()),
              testing::StatusIs(absl::StatusCode::kDataLoss, "gone"));
  checkpoint.fails = false;
  ASSERT_OK(rows.Read(1, 1, found.data()));
  EXPECT_THAT(found, ElementsAre(1, 5, 9));
}

}  // namespace
}  // namespace ounce::model
