// What is in the checkpoints of a real server, and in folders.
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/e2e/serving.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using testing::Finished;
using ::testing::HasSubstr;
using testing::StatusIs;

constexpr char kTensor[] = "transformer.h.0.attn.qkv_proj.weight";

class InspectTest : public testing::ServingTest {
 protected:
  absl::StatusOr<v1::InspectResponse> Inspect(const std::string& model,
                                              const std::string& tensor = "",
                                              const std::string& method = "") {
    v1::InspectRequest request;
    request.set_model(model);
    request.set_tensor(tensor);
    request.set_method(method);
    return client_->Inspect(request);
  }
  static const v1::TensorReport& Tensor(const v1::QuantizeReport& report,
                                        const std::string& name) {
    for (const v1::TensorReport& tensor : report.tensors()) {
      if (tensor.name() == name) return tensor;
    }
    ADD_FAILURE() << "no " << name;
    return report.tensors(0);
  }
};

TEST_F(InspectTest, TellsWhatAPlanMakesOfEachTensor) {
  Start();
  const auto before = Inspect("tiny");
  ASSERT_OK(before);
  EXPECT_EQ(before->architecture(), "codegen");
  EXPECT_EQ(before->plan(), "keep");
  EXPECT_EQ(before->stored_bytes(), before->checkpoint_bytes());
  EXPECT_EQ(before->resident_bytes(), Model("tiny").resident_bytes());
  ASSERT_OK(Quantize(ToInt8()));
  const auto after = Inspect("tiny");
  ASSERT_OK(after);
  EXPECT_EQ(after->plan(), "linear");
  EXPECT_EQ(after->stored_bytes(), Model("tiny").stored_bytes());
  int64_t stored = 0;
  for (const v1::InspectedTensor& tensor : after->tensors()) {
    stored += tensor.report().bytes_after();
    EXPECT_EQ(tensor.dtype(), "float16") << tensor.report().name();
  }
  EXPECT_EQ(stored, after->stored_bytes());

  const Finished folder = Cli({"inspect", testing::kTinyModel, "--plan",
                               "lm_head=bfloat16 linear:bits=4"});
  ASSERT_EQ(folder.code, 0) << folder.err;
  EXPECT_THAT(
      folder.out,
      AllOf(HasSubstr("embedded/codegen-tiny (codegen)\n"),
            HasSubstr("plan: lm_head=bfloat16 linear:bits=4\n"),
            ::testing::ContainsRegex("\nfloat16  linear:bits=4 +24  "),
            ::testing::ContainsRegex("\nlm_head.weight +4096x192 +float16 .*"
                                     " bfloat16 ")));
  // What a shape does not suit has other codes: which, and why.
  const Finished others = Cli({"inspect", "tiny", "--plan", "gguf-q4_k"});
  EXPECT_THAT(
      others.out,
      AllOf(::testing::ContainsRegex("\nfloat16  gguf-q4_k \\[1\\] +"),
            ::testing::ContainsRegex("\ntransformer.h.0.attn.qkv_proj.weight "
                                     ".* gguf-q4_k \\[1\\] "),
            HasSubstr("\n\n[1] stored as q5_0 instead of q4_k: 192 columns ")));
  EXPECT_THAT(
      Cli({"inspect", "tiny", "--tensor", kTensor, "--method", "gguf-q4_k"})
          .out,
      HasSubstr("\nstored as q5_0 instead of q4_k: 192 columns "));
  EXPECT_THAT(Cli({"inspect", "tiny", "--json"}).out,
              HasSubstr("\"plan\":\"linear\""));
}

TEST_F(InspectTest, TellsHowValuesAndErrorsAreDistributed) {
  Start();
  v1::QuantizeRequest request = ToInt8();
  request.set_method("linear:bits=4");
  request.set_dry_run(true);
  const auto report = Quantize(request);
  ASSERT_OK(report);
  const auto found = Inspect("tiny", kTensor, "linear:bits=4");
  ASSERT_OK(found);
  const v1::TensorValues& values = found->values();
  const auto check = [](const v1::Distribution& distribution) {
    int64_t sum = 0;
    for (const int64_t bin : distribution.bins()) sum += bin;
    EXPECT_EQ(sum, distribution.count());
    EXPECT_EQ(distribution.bins_size(), 32);
    EXPECT_GT(distribution.bins(0), 0);   // the least
    EXPECT_GT(distribution.bins(31), 0);  // the largest
    EXPECT_EQ(distribution.count(), 576 * 192);
    EXPECT_EQ(distribution.non_finite(), 0);
  };
  check(values.values());
  check(values.errors());
  const v1::TensorReport& tensor = Tensor(*report, kTensor);
  // Sums of other parts.
  EXPECT_NEAR(values.relative_l2_error(), tensor.relative_l2_error(), 1e-12);
  EXPECT_EQ(values.method_bytes(), tensor.bytes_after());
  EXPECT_EQ(values.method(), "linear:bits=4");
  // Of its own parts.
  const auto square = [](const v1::Distribution& d) {
    return d.mean() * d.mean() +
           d.standard_deviation() * d.standard_deviation();
  };
  EXPECT_NEAR(std::sqrt(square(values.errors()) / square(values.values())),
              values.relative_l2_error(), 1e-6);

  const Finished text = Cli(
      {"inspect", "tiny", "--tensor", kTensor, "--method", "linear:bits=4"});
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out,
              AllOf(HasSubstr("110592 values from "), HasSubstr("##########"),
                    HasSubstr("\nlinear:bits=4: 55.1 KiB, relative"),
                    HasSubstr("\nerrors: 110592 values from ")));
  // One that is no matrix.
  const auto bias = Inspect("tiny", "transformer.ln_f.bias");
  ASSERT_OK(bias);
  EXPECT_EQ(bias->values().values().count(), 192);
  EXPECT_FALSE(bias->values().has_errors());
}

// GPT-2's matrices are stored transposed, and scales are of outputs.
TEST_F(InspectTest, MeasuresErrorsOfAMatrixAsItIsStored) {
  const std::filesystem::path golden = OUNCE_SOURCE_ROOT "/tests/golden";
  const std::string folder = folder_.Path("gpt2");
  std::filesystem::copy(golden / "decoder/gpt2/published", folder);
  std::filesystem::copy(golden / "codegen/bfloat16/tokenizer.json", folder);
  Start({"--model", absl::StrCat("tiny=", folder)});
  v1::QuantizeRequest request = ToInt8();
  request.set_dry_run(true);
  const auto report = Quantize(request);
  ASSERT_OK(report);
  int num_measured = 0;
  for (const v1::TensorReport& tensor : report->tensors()) {
    if (!tensor.has_relative_l2_error()) continue;
    const auto found = Inspect("tiny", tensor.name(), "linear");
    ASSERT_OK(found);
    EXPECT_NEAR(found->values().relative_l2_error(), tensor.relative_l2_error(),
                1e-12)
        << tensor.name();
    ++num_measured;
  }
  EXPECT_GT(num_measured, 3);
}

TEST_F(InspectTest, SaysWhatIsWrong) {
  Start();
  EXPECT_THAT(Inspect("none").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("'none'")));
  EXPECT_THAT(Inspect("").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("model")));
  EXPECT_THAT(
      Inspect("tiny", "lm_head").status(),
      StatusIs(absl::StatusCode::kNotFound,
               HasSubstr("no tensor 'lm_head'; it has 'lm_head.weight'")));
  EXPECT_THAT(Inspect("tiny", "", "linear").status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("method: is for a tensor")));
  EXPECT_THAT(Inspect("tiny", kTensor, "linear:bits=9").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bits")));
  EXPECT_THAT(
      Inspect("tiny", "transformer.ln_f.bias", "linear").status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is no matrix")));
  v1::InspectRequest both;
  both.set_model("tiny");
  both.set_path(testing::kTinyModel);
  EXPECT_THAT(client_->Inspect(both).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("give one of the two")));
  EXPECT_THAT(Cli({"inspect", folder_.Path("none")}).err,
              HasSubstr("NOT_FOUND"));
  EXPECT_THAT(Inspect("tiny", kTensor, "keep").status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("method: must be a SPEC")));
  EXPECT_THAT(
      Cli({"inspect", testing::kTinyModel, "--plan", "nothing=linear"}).err,
      HasSubstr("nothing"));
}

TEST_F(InspectTest, DoesNotReadFilesThatAreNoLongerThoseThatWereLoaded) {
  const std::string folder = LongModel();
  Start({"--model", absl::StrCat("tiny=", folder)});
  ASSERT_OK(Inspect("tiny"));
  std::ofstream(folder + "/model.safetensors", std::ios::app) << "x";
  EXPECT_THAT(
      Inspect("tiny").status(),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(folder)));
}

}  // namespace
}  // namespace ounce
