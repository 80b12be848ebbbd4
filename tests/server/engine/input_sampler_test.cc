// What layers of real, small models read, and how far their outputs are from
// the floats' after a quantization.
#include "server/engine/input_sampler.h"

#include <cmath>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/tensor_rows.h"
#include "model/processors/image_processor.h"
#include "quant/quant_method.h"
#include "server/engine/loaded_models.h"
#include "tests/server/engine/recording_catalog_observer.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_detector.h"
#include "tests/testing/tiny_model.h"

namespace ounce::server {
namespace {

using ::ounce::testing::DetectorRunner;
using ::ounce::testing::kTinyDetectorFolder;
using ::ounce::testing::kTinyModelFolder;
using ::ounce::testing::LoadWith;

TEST(InputSamplerTest, KeepsEvenlySpacedRowsOfTheFirstInput) {
  constexpr int64_t kRead = 96, kCols = 3;
  std::vector<float> values(kRead * kCols);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const quant::ConstMatrix x = {values.data(), kRead, kCols, kCols};
  InputSampler sampler;
  sampler.OnInput({"q", "k"}, x);
  const quant::ConstMatrix later = {values.data() + 3, 5, kCols, kCols};
  sampler.OnInput({"q"}, later);
  sampler.OnInput({"down"}, later);
  const auto inputs = sampler.Take();
  ASSERT_EQ(inputs->size(), 3u);
  EXPECT_EQ(inputs->at("q"), inputs->at("k"));
  const quant::LayerInput& q = *inputs->at("q");
  EXPECT_EQ(q.rows, InputSampler::kRows);
  EXPECT_EQ(q.cols, kCols);
  for (int64_t col = 0; col < kCols; ++col) {
    for (int64_t row = 0; row < q.rows; ++row) {
      EXPECT_EQ(q.columns[col * q.rows + row], values[3 * row * kCols + col]);
    }
  }
  EXPECT_EQ(inputs->at("down")->rows, 5);
}

class OutputErrorTest : public ::testing::Test {
 protected:
  ~OutputErrorTest() override { catalog_->Drain(absl::Now()); }

  QuantizeReport Quantize(QuantizeParams params, const std::string& plan) {
    params.model = std::string(1, 'm');
    params.plan = *model::ParseMethodPlan(plan);
    params.dry_run = true;
    auto report = catalog_->Quantize(
        params, [](const QuantizeUpdate&) { return absl::OkStatus(); });
    EXPECT_OK(report);
    return report.value_or(QuantizeReport());
  }
  static const TensorOutcome& TensorOf(const QuantizeReport& report,
                                       const std::string& name) {
    for (const TensorOutcome& tensor : report.tensors) {
      if (tensor.name == name) return tensor;
    }
    ADD_FAILURE() << name;
    return report.tensors.front();
  }

  RecordingCatalogObserver observer_;
  ThreadPool pool_{2};
  std::unique_ptr<ModelCatalog> catalog_ =
      CreateModelCatalog({}, pool_, Clock::Real(), observer_);
};

// Sees what one module reads first.
class OneInput final : public model::LinearObserver {
 public:
  explicit OneInput(std::string module) : module_(std::move(module)) {}
  void OnInput(absl::Span<const std::string> modules,
               const quant::ConstMatrix& x) override {
    for (const std::string& module : modules) {
      if (module != module_ || !rows.empty()) continue;
      for (int64_t i = 0; i < x.rows; ++i) {
        rows.emplace_back(x.row(i), x.row(i) + x.cols);
      }
    }
  }
  std::vector<std::vector<float>> rows;

 private:
  const std::string module_;
};

// By the definition: ||X W^T - X Q^T|| / ||X W^T||.
double SlowError(const std::vector<std::vector<float>>& x,
                 const model::Checkpoint& checkpoint, const std::string& tensor,
                 const std::string& spec) {
  const model::TensorRows rows(checkpoint, tensor, false);
  const auto codes = *quant::ParseMethodSpec(spec)->Encode(rows);
  std::vector<float> wanted(rows.rows() * rows.cols());
  std::vector<float> found(wanted.size());
  EXPECT_OK(rows.Read(0, rows.rows(), wanted.data()));
  quant::CodeBand band;
  EXPECT_OK(codes->Read(0, rows.rows(), band));
  quant::Decode(codes->format(), band, rows.cols(), found.data());
  double norm = 0, error = 0;
  for (const std::vector<float>& input : x) {
    for (int64_t row = 0; row < rows.rows(); ++row) {
      double y = 0, y_found = 0;
      for (int64_t col = 0; col < rows.cols(); ++col) {
        y += double{input[col]} * wanted[row * rows.cols() + col];
        y_found += double{input[col]} * found[row * rows.cols() + col];
      }
      norm += y * y;
      error += (y - y_found) * (y - y_found);
    }
  }
  return std::sqrt(error / norm);
}

TEST_F(OutputErrorTest, IsThatOfTheProductsWithWhatTheFloatsRead) {
  ASSERT_OK(catalog_->Load({"m", kTinyModelFolder}));
  std::ostringstream text;
  text << std::ifstream("tests/golden/perplexity/code.txt").rdbuf();
  QuantizeParams params;
  params.texts = {text.str(), "another one"};
  const QuantizeReport report =
      Quantize(params, "lm_head=linear linear:bits=4");

  const auto checkpoint = model::Checkpoint::Open(kTinyModelFolder);
  ASSERT_OK(checkpoint);
  const model::LoadedModel floats = LoadWith(**checkpoint, "");
  const model::CausalLm& causal_lm = *floats.model->causal_lm();
  const auto tokenizer = model::Tokenizer::Load(kTinyModelFolder);
  ASSERT_OK(tokenizer);
  std::vector<int32_t> ids = *(*tokenizer)->Encode(text.str());
  ids.resize(InputSampler::kRows);
  for (const auto& [module, spec] :
       {std::pair("transformer.h.0.attn.qkv_proj", "linear:bits=4"),
        std::pair("transformer.h.1.mlp.fc_out", "linear:bits=4"),
        std::pair("lm_head", "linear")}) {
    SCOPED_TRACE(module);
    OneInput observer(module);
    model::KvCache cache = *model::KvCache::Create(causal_lm.shape().kv, 2);
    const int32_t blocks[] = {0, 1};
    const int64_t rows = InputSampler::kRows;
    const int64_t vocab = causal_lm.shape().vocab_size;
    quant::Scratch scratch = *quant::Scratch::Create(
        causal_lm.ScratchBytes(rows, rows, pool_.num_threads()));
    std::vector<float> logits(rows * vocab);
    const model::SequenceSlice slice = {.token_ids = ids,
                                        .position = 0,
                                        .kv_blocks = blocks,
                                        .num_logits = rows};
    {
      MutexLock lease(&pool_.lease());
      causal_lm.Forward({&slice, 1}, cache,
                        causal_lm.RunOn(pool_, scratch, &observer),
                        {logits.data(), rows, vocab, vocab});
    }
    ASSERT_EQ(observer.rows.size(), static_cast<size_t>(rows));
    const std::string tensor = std::string(module) + ".weight";
    const double slow = SlowError(observer.rows, **checkpoint, tensor, spec);
    const TensorOutcome& outcome = TensorOf(report, tensor);
    ASSERT_TRUE(outcome.relative_l2_output_error.has_value());
    EXPECT_GT(slow, 0);
    // Products are sums in float32.
    EXPECT_NEAR(*outcome.relative_l2_output_error / slow, 1, 1e-3);
  }
  EXPECT_FALSE(TensorOf(report, "transformer.wte.weight")
                   .relative_l2_output_error.has_value());
  EXPECT_FALSE(TensorOf(report, "transformer.ln_f.bias")
                   .relative_l2_output_error.has_value());

  // Without samples, and where nothing changes, there is none.
  for (const TensorOutcome& tensor : Quantize({}, "linear").tensors) {
    EXPECT_FALSE(tensor.relative_l2_output_error.has_value()) << tensor.name;
  }
  for (const TensorOutcome& tensor : Quantize(params, "bfloat16").tensors) {
    EXPECT_FALSE(tensor.relative_l2_output_error.has_value()) << tensor.name;
  }
}

TEST_F(OutputErrorTest, IsThereForTheLinearLayersOfADetector) {
  ASSERT_OK(catalog_->Load({"m", kTinyDetectorFolder}));
  const model::PictureSize size = {70, 96};
  const DetectorRunner::Picture made = DetectorRunner::Generated(0, size, size);
  Picture picture;
  picture.rgb = *image::Rgb8::Create(size.height, size.width);
  std::copy(made.rgb.begin(), made.rgb.end(), picture.rgb.data());
  picture.original_height = size.height;
  picture.original_width = size.width;
  QuantizeParams params;
  params.pictures = {std::make_shared<const Picture>(std::move(picture))};
  const QuantizeReport report = Quantize(params, "@convolution=linear linear");
  int linear = 0;
  for (const TensorOutcome& tensor : report.tensors) {
    EXPECT_EQ(tensor.relative_l2_output_error.has_value(),
              tensor.kind == TensorKind::kLinear && !tensor.method.empty())
        << tensor.name;
    if (!tensor.relative_l2_output_error.has_value()) continue;
    ++linear;
    // The decoder begins with zeros, so these products are zeros too.
    const bool reads_zeros =
        tensor.name == "model.decoder.layers.0.self_attn.v_proj.weight";
    EXPECT_EQ(*tensor.relative_l2_output_error > 0, !reads_zeros)
        << tensor.name;
    EXPECT_LT(*tensor.relative_l2_output_error, 0.1) << tensor.name;
  }
  EXPECT_GT(linear, 8);
}

}  // namespace
}  // namespace ounce::server
