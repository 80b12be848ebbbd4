// What the loader makes of convolutions and their frozen batch norms, seen in
// its report of a small DETR. That folding is right shows in DETR's goldens.

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "model/detector.h"
#include "model/loader/loader.h"
#include "quant/registry.h"
#include "tests/testing/generated_checkpoint.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::GeneratedCheckpoint;
using ::ounce::testing::MemoryCheckpoint;
using ::ounce::testing::StatusIs;
using quant::Compute;
using quant::DType;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kBackbone = "model.backbone.conv_encoder.model.";
// 8 channels from 8, 3 x 3.
const std::string kConvolution =
    kBackbone + "encoder.stages.2.layers.0.layer.1.convolution";
const std::string kNorm =
    kBackbone + "encoder.stages.2.layers.0.layer.1.normalization";
constexpr int64_t kChannels = 8;
constexpr int64_t kWeights = kChannels * kChannels * 9;
// 1 x 1, with a bias of its own.
const std::string kProjection = "model.input_projection";
constexpr int64_t kProjectionRows = 16, kProjectionCols = 32;

std::unique_ptr<MemoryCheckpoint> SmallDetr(DType dtype = DType::kF32) {
  const GeneratedCheckpoint source("tests/golden/detr/early_strides");
  auto checkpoint = std::make_unique<MemoryCheckpoint>();
  checkpoint->config_json = source.config_json;
  for (const auto& [name, info] : source.tensors()) {
    std::vector<float> values(info.elements());
    OUNCE_CHECK(source
                    .ReadFloats(name, 0, static_cast<int64_t>(values.size()),
                                values.data())
                    .ok(),
                name.c_str());
    for (float& value : values) value = quant::RoundTo(dtype, value);
    checkpoint->Add(name, info.shape, std::move(values), dtype);
  }
  return checkpoint;
}

LoadOptions With(const std::string& spec) {
  LoadOptions options;
  if (!spec.empty()) options.plan = *ParseMethodPlan(spec);
  return options;
}

LoadOptions WithShortForm(const ShortForm& form) {
  LoadOptions options;
  options.plan = *PlanOf("", form);
  return options;
}

LoadReport ReportOf(const Checkpoint& checkpoint, const LoadOptions& options) {
  auto loaded = LoadModel(checkpoint, options);
  OUNCE_CHECK(loaded.ok(), loaded.status().ToString().c_str());
  return loaded->report;
}

const TensorReport& Find(const LoadReport& report, const std::string& name) {
  for (const TensorReport& tensor : report.tensors) {
    if (tensor.name == name) return tensor;
  }
  OUNCE_CHECK(false, name.c_str());
}

TEST(LoaderConvolutionTest, TheyStayUnlessAskedFor) {
  const LoadReport report = ReportOf(*SmallDetr(), With("linear"));
  const TensorReport& weight = Find(report, kConvolution + ".weight");
  EXPECT_EQ(weight.role, WeightRole::kConvolution);
  EXPECT_EQ(weight.shape, (std::vector<int64_t>{kChannels, kChannels, 3, 3}));
  EXPECT_EQ(weight.method, "float32");
  EXPECT_EQ(weight.element, "float32");
  EXPECT_EQ(weight.stored_bytes, kWeights * 4);
  EXPECT_GE(weight.resident_bytes, kWeights * 4);
  EXPECT_THAT(weight.left_alone, HasSubstr("a convolution stays"));
  EXPECT_THAT(Find(report, "bbox_predictor.layers.0.weight").left_alone,
              HasSubstr("the head stays"));
  EXPECT_THAT(Find(report, "model.query_position_embeddings.weight").left_alone,
              HasSubstr("an embedding stays"));
  EXPECT_EQ(
      Find(report, "model.decoder.layers.0.encoder_attn.v_proj.weight").element,
      "int8");
}

TEST(LoaderConvolutionTest, ABatchNormCountsAsStoredButTakesNoMemory) {
  const LoadReport report = ReportOf(*SmallDetr(), With("linear"));
  for (const char* part :
       {".weight", ".bias", ".running_mean", ".running_var"}) {
    const TensorReport& tensor = Find(report, kNorm + part);
    EXPECT_EQ(tensor.checkpoint_bytes, kChannels * 4) << part;
    EXPECT_EQ(tensor.stored_bytes, kChannels * 4) << part;
    EXPECT_EQ(tensor.resident_bytes,
              std::string(part) == ".bias" ? kChannels * 4 : 0)
        << part;
    EXPECT_EQ(tensor.left_alone, "folded into its convolution") << part;
    EXPECT_TRUE(tensor.is_vector) << part;
  }
}

TEST(LoaderConvolutionTest, InIntegersTheBatchNormsBiasIsAllThatIsLeftOfIt) {
  LoadOptions options = With("@convolution=linear linear");
  options.measure_error = true;
  const LoadReport report = ReportOf(*SmallDetr(), options);
  const TensorReport& weight = Find(report, kConvolution + ".weight");
  EXPECT_EQ(weight.element, "int8");
  EXPECT_EQ(weight.left_alone, "");
  EXPECT_EQ(weight.checkpoint_bytes, kWeights * 4);
  EXPECT_EQ(weight.stored_bytes, kWeights + kChannels * 4);  // and scales
  ASSERT_TRUE(weight.error.has_value());
  // Half a step of 1/127 of a row's largest, against a uniform distribution.
  EXPECT_GT(weight.error->relative_l2, 1e-3);
  EXPECT_LT(weight.error->relative_l2, 1e-2);
  EXPECT_EQ(Find(report, kNorm + ".bias").stored_bytes, kChannels * 4);
  EXPECT_EQ(Find(report, kNorm + ".weight").stored_bytes, 0);
  EXPECT_EQ(Find(report, kNorm + ".running_mean").stored_bytes, 0);
  EXPECT_EQ(Find(report, kNorm + ".running_var").stored_bytes, 0);

  const TensorReport& projection = Find(report, kProjection + ".weight");
  EXPECT_EQ(projection.element, "int8");
  EXPECT_EQ(projection.stored_bytes,
            kProjectionRows * kProjectionCols + kProjectionRows * 4);
  EXPECT_EQ(Find(report, kProjection + ".bias").stored_bytes,
            kProjectionRows * 4);
}

TEST(LoaderConvolutionTest, GlobsNameThemToo) {
  const LoadOptions options = With(
      "*.layer.0.convolution=keep *.stages.2.*=linear "
      "class_labels_classifier=linear");
  const LoadReport report = ReportOf(*SmallDetr(), options);
  EXPECT_EQ(Find(report, kConvolution + ".weight").element, "int8");
  EXPECT_EQ(Find(report, "class_labels_classifier.weight").element, "int8");
  EXPECT_THAT(
      Find(report,
           kBackbone + "encoder.stages.2.layers.0.layer.0.convolution.weight")
          .left_alone,
      HasSubstr("kept by '*.layer.0.convolution=keep'"));
  EXPECT_EQ(Find(report, kProjection + ".weight").left_alone,
            "kept: no rule of the plan is for it");
  EXPECT_EQ(
      Find(report, "model.encoder.layers.0.self_attn.k_proj.weight").element,
      "float32");

  EXPECT_THAT(LoadModel(*SmallDetr(), With("*.stages.9.*=linear")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("*.stages.9.*"),
                             HasSubstr("names look like 'model."))));
}

TEST(LoaderConvolutionTest, WhatIsMultipliedInBFloat16IsKeptSo) {
  LoadOptions options = With("");
  const LoadReport exact = ReportOf(*SmallDetr(), options);
  options.compute = Compute::kBFloat16;
  const LoadReport report = ReportOf(*SmallDetr(), options);
  EXPECT_EQ(report.stored_bytes, exact.stored_bytes);
  EXPECT_EQ(report.checkpoint_bytes, exact.checkpoint_bytes);
  for (size_t i = 0; i < report.tensors.size(); ++i) {
    const TensorReport& tensor = report.tensors[i];
    EXPECT_EQ(tensor.method, "float32") << tensor.name;
    EXPECT_EQ(tensor.element, tensor.is_vector ? "float32" : "bfloat16")
        << tensor.name;
    EXPECT_EQ(tensor.resident_bytes * (tensor.is_vector ? 1 : 2),
              exact.tensors[i].resident_bytes)
        << tensor.name;
  }
  // Integers are not turned into floats.
  options = With("linear");
  options.compute = Compute::kBFloat16;
  const LoadReport integers = ReportOf(*SmallDetr(), options);
  EXPECT_EQ(
      Find(integers, "model.encoder.layers.0.self_attn.k_proj.weight").element,
      "int8");
  EXPECT_EQ(Find(integers, kConvolution + ".weight").element, "bfloat16");
}

TEST(LoaderConvolutionTest, AFoldedWeightKeepsTheDigitsThatTheFileHasNot) {
  const auto half = SmallDetr(DType::kF16);
  LoadOptions options = With("");
  options.measure_error = true;
  const LoadReport report = ReportOf(*half, options);
  const TensorReport& weight = Find(report, kConvolution + ".weight");
  EXPECT_EQ(weight.method, "float16");
  EXPECT_EQ(weight.element, "float32");
  EXPECT_EQ(weight.stored_bytes, kWeights * 2);
  EXPECT_FALSE(weight.error.has_value());
  EXPECT_EQ(Find(report, kProjection + ".weight").element, "float16");

  // Where a method rounds, it rounds the folded weight.
  options = With("bfloat16");
  options.measure_error = true;
  const LoadReport rounded = ReportOf(*half, options);
  EXPECT_EQ(Find(rounded, kConvolution + ".weight").element, "bfloat16");
  EXPECT_TRUE(Find(rounded, kConvolution + ".weight").error.has_value());
}

// By the magnitudes that the checkpoint has, not those of the folded weight.
TEST(LoaderConvolutionTest, PrunesBeforeItFoldsABatchNorm) {
  const auto checkpoint = SmallDetr(DType::kF16);
  std::vector<float>& factors = checkpoint->values(kNorm + ".weight");
  factors.assign(factors.size(), 1e-3f);
  factors[0] = 1e3f;
  LoadOptions options =
      With("@convolution=prune-magnitude+float16 prune-24+linear");
  options.measure_error = true;
  const LoadReport report = ReportOf(*checkpoint, options);
  const TensorReport& weight = Find(report, kConvolution + ".weight");
  EXPECT_EQ(weight.method, "prune-magnitude+float16");
  EXPECT_EQ(weight.sparsity, 0.5);
  EXPECT_EQ(weight.element, "float32");  // as without a stage
  EXPECT_EQ(weight.stored_bytes, kWeights * 2);
  // The first channel outweighs all others, and loses about half too.
  EXPECT_GT(weight.error->relative_l2, 0.1);

  options.compute = Compute::kBFloat16;
  const LoadReport rounded = ReportOf(*checkpoint, options);
  EXPECT_EQ(Find(rounded, kConvolution + ".weight").element, "bfloat16");
  EXPECT_EQ(Find(rounded, kConvolution + ".weight").sparsity, 0.5);
}

TEST(LoaderConvolutionTest, NamesABatchNormThatCannotBeFolded) {
  const struct {
    const char* part;
    float value;
    const char* message;
  } cases[] = {
      {".running_var", -0.5f,
       "must be 0 or more everywhere, element 3 is -0.5"},
      {".running_var", std::numeric_limits<float>::quiet_NaN(),
       "element 3 must be a finite number, is nan"},
      {".running_mean", std::numeric_limits<float>::infinity(),
       "element 3 must be a finite number, is inf"},
      {".weight", std::numeric_limits<float>::max(), "channel 3 is not finite"},
      {".running_mean", std::numeric_limits<float>::max(),
       "channel 3 is not finite"},
  };
  for (const auto& c : cases) {
    const auto checkpoint = SmallDetr();
    for (float& value : checkpoint->values(kNorm + ".weight")) value = 100;
    for (float& value : checkpoint->values(kNorm + ".running_var")) value = 0;
    checkpoint->values(kNorm + c.part)[3] = c.value;
    EXPECT_THAT(LoadModel(*checkpoint, {}),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(kNorm), HasSubstr(c.message))))
        << c.part;
  }
}

// torch makes 0 of its channel's factor, too.
TEST(LoaderConvolutionTest, AnInfiniteVarianceMutesItsChannel) {
  const auto checkpoint = SmallDetr();
  checkpoint->values(kNorm + ".running_var")[3] =
      std::numeric_limits<float>::infinity();
  EXPECT_OK(LoadModel(*checkpoint, {}));
}

TEST(LoaderConvolutionTest, PlansWhatLoadingWillTakeToTheByte) {
  const auto checkpoint = SmallDetr(DType::kF16);
  for (const Compute compute : {Compute::kFloat32, Compute::kBFloat16}) {
    for (const char* spec :
         {"", "float32", "float16", "bfloat16", "@convolution=linear linear",
          "linear:bits=4,granularity=group"}) {
      LoadOptions options = With(spec);
      options.compute = compute;
      ASSERT_OK_AND_ASSIGN(const ModelPlan plan,
                           PlanModel(*checkpoint, options));
      ASSERT_OK_AND_ASSIGN(const LoadedModel loaded,
                           LoadModel(*checkpoint, options));
      const LoadReport& report = loaded.report;
      EXPECT_EQ(plan.report.stored_bytes, report.stored_bytes) << spec;
      EXPECT_EQ(plan.report.resident_bytes, report.resident_bytes) << spec;
      EXPECT_EQ(plan.report.resident_bytes_by_element,
                report.resident_bytes_by_element)
          << spec;
      EXPECT_EQ(plan.report.tensors.size(), report.tensors.size()) << spec;
      ASSERT_NE(plan.outline->detector(), nullptr);
      EXPECT_EQ(plan.outline->detector()->ScratchBytes({{64, 48}}, 2),
                loaded.model->detector()->ScratchBytes({{64, 48}}, 2));
    }
  }
}

TEST(LoaderConvolutionTest, RefusesScalesByTheRunBeforeTheWork) {
  struct Case {
    std::string spec, tensor;
  };
  for (const auto& [spec, tensor] :
       {Case{"linear:bits=4,granularity=group,group=32", kBackbone},
        // Convolutions before it are narrower than a block, so in float16.
        Case{"gguf-q8_0", "'model.input_projection.weight'"}}) {
    EXPECT_OK(LoadModel(*SmallDetr(), With(spec)));
    const LoadOptions options = With("@convolution=" + spec + " " + spec);
    for (const absl::Status& status :
         {LoadModel(*SmallDetr(), options).status(),
          PlanModel(*SmallDetr(), options).status()}) {
      EXPECT_THAT(
          status,
          StatusIs(absl::StatusCode::kInvalidArgument,
                   AllOf(HasSubstr(tensor),
                         HasSubstr("one scale for each output channel"))))
          << spec;
    }
  }
}

TEST(LoaderConvolutionTest, RefusesActivationsIn8BitsBeforeTheWork) {
  EXPECT_OK(LoadModel(*SmallDetr(), With("linear:activations=8")));
  EXPECT_OK(LoadModel(*SmallDetr(), With("bnb-int8")));
  for (const char* plan : {"@convolution=linear:activations=8 linear",
                           "@convolution=bnb-int8 linear"}) {
    EXPECT_THAT(PlanModel(*SmallDetr(), With(plan)).status(),
                StatusIs(absl::StatusCode::kUnimplemented,
                         AllOf(HasSubstr(kBackbone), HasSubstr("in 8 bits"))));
  }
}

TEST(LoaderConvolutionTest, WhatHasNoKernelThereIsWidenedOrDecoded) {
  const TensorReport narrow =
      Find(ReportOf(*SmallDetr(), With("@convolution=linear:bits=4 linear")),
           kConvolution + ".weight");
  EXPECT_EQ(narrow.element, "int4");
  EXPECT_EQ(narrow.stored_bytes, kWeights / 2 + kChannels * 4);
  // Three runs of 24 numbers in a tile of int8 each; scales and sums.
  EXPECT_EQ(narrow.resident_bytes, 3 * 1024 + 16 * 8);
  const TensorReport decoded =
      Find(ReportOf(*SmallDetr(), With("@convolution=linear:mode=asymmetric")),
           kConvolution + ".weight");
  EXPECT_EQ(decoded.stored_bytes, kWeights + kChannels * (4 + 1));
  EXPECT_EQ(decoded.resident_bytes, 3 * 4096);
}

TEST(LoaderConvolutionTest, ConvolutionsComeInBesideWhatIsIncluded) {
  const LoadOptions options =
      WithShortForm({.method = "linear",
                     .include = {"class_labels_classifier"},
                     .convolutions = true});
  const LoadReport report = ReportOf(*SmallDetr(), options);
  EXPECT_EQ(report.plan, "@convolution=linear class_labels_classifier=linear");
  EXPECT_EQ(Find(report, kConvolution + ".weight").element, "int8");
  EXPECT_EQ(Find(report, "class_labels_classifier.weight").element, "int8");
  EXPECT_EQ(
      Find(report, "model.encoder.layers.0.self_attn.k_proj.weight").element,
      "float32");
}

TEST(LoaderConvolutionTest, AModelWithoutLinearLayersHasAMethodToo) {
  const auto checkpoint = SmallDetr();
  checkpoint->config_json["encoder_layers"] = 0;
  checkpoint->config_json["decoder_layers"] = 0;
  std::vector<std::string> layers;
  for (const auto& [name, info] : checkpoint->tensors()) {
    if (name.find("coder.layers.") != std::string::npos) layers.push_back(name);
  }
  for (const std::string& name : layers) checkpoint->Remove(name);
  EXPECT_EQ(ReportOf(*checkpoint, With("")).method, "float32");
  EXPECT_EQ(ReportOf(*checkpoint, With("bfloat16")).method, "bfloat16");
  EXPECT_THAT(LoadModel(*checkpoint, With("linear")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the model has no linear layers")));
  EXPECT_EQ(ReportOf(*checkpoint,
                     WithShortForm({.method = "linear", .convolutions = true}))
                .plan,
            "@convolution=linear");
}

// Stages behind the one whose output is wanted are left out; but not such as
// the config does not have at all.
TEST(LoaderConvolutionTest, RefusesABackboneOfMoreStagesThanTheConfigHas) {
  const auto checkpoint = SmallDetr();
  nlohmann::json& backbone = checkpoint->config_json["backbone_config"];
  checkpoint->Add(
      kBackbone + "encoder.stages.3.layers.0.layer.0.convolution.weight", {1},
      {0});
  EXPECT_THAT(LoadModel(*checkpoint, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("encoder.stages.3."),
                             HasSubstr("does not account for it"))));
  backbone["depths"].push_back(1);
  backbone["hidden_sizes"].push_back(64);
  ASSERT_OK_AND_ASSIGN(const LoadedModel loaded, LoadModel(*checkpoint, {}));
  EXPECT_EQ(
      Find(loaded.report,
           kBackbone + "encoder.stages.3.layers.0.layer.0.convolution.weight")
          .left_alone,
      "not needed");
}

TEST(LoaderConvolutionTest, RefusesConvolutionsThatAreAllExcluded) {
  const LoadOptions options =
      WithShortForm({.method = "linear",
                     .exclude = {"model.backbone.*", kProjection},
                     .convolutions = true});
  EXPECT_THAT(LoadModel(*SmallDetr(), options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("rule '@convolution=linear' is left with "
                                 "nothing: the rules before it take all")));
}

// A method whose scales are for blocks of a row, or of rows.
class Blocks final : public quant::QuantMethod {
 public:
  explicit Blocks(quant::Reach reach) : reach_(reach) {}
  std::string_view name() const override { return "blocks"; }
  std::string_view summary() const override { return "For tests."; }
  absl::StatusOr<quant::CodeFormat> Format(
      int64_t, int64_t, DType, const quant::ParamValues&) const override {
    return quant::CodeFormat{.element = "int8",
                             .fields = {{.name = "scale", .reach = reach_}}};
  }
  absl::StatusOr<std::unique_ptr<const quant::CodeRows>> Encode(
      const quant::FloatRows&, const quant::ParamValues&) const override {
    return absl::UnimplementedError("for tests");
  }

 private:
  const quant::Reach reach_;
};

TEST(LoaderConvolutionTest, TheyTakeScalesPerOutputChannelOrPerTensorOnly) {
  using quant::Reach;
  const auto status = [](Reach reach) {
    const Blocks blocks(reach);
    LoadOptions options;
    options.plan = *ParseMethodPlan(
        "@convolution=blocks", std::vector<const quant::QuantMethod*>{&blocks});
    return PlanModel(*SmallDetr(), options).status();
  };
  for (const Reach reach :
       {Reach::Columns(32), Reach::Flat(64), Reach{.rows = 128, .cols = 128}}) {
    EXPECT_THAT(status(reach),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(".weight': a convolution takes "
                                         "methods with one scale"))));
  }
  // Whether there is a kernel for them is another question.
  for (const Reach reach : {Reach::Row(), Reach::Matrix()}) {
    EXPECT_THAT(std::string(status(reach).message()),
                Not(HasSubstr("a convolution takes")));
  }
}

TEST(LoaderConvolutionTest, NamesAConvolutionOfAnotherShape) {
  const auto checkpoint = SmallDetr();
  checkpoint->Add(kConvolution + ".weight", {kChannels, kChannels, 1, 1},
                  std::vector<float>(kChannels * kChannels));
  EXPECT_THAT(LoadModel(*checkpoint, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(kConvolution + ".weight"),
                             HasSubstr("must be of shape [8, 8, 3, 3], is of "
                                       "[8, 8, 1, 1]"))));
}

}  // namespace
}  // namespace ounce::model
