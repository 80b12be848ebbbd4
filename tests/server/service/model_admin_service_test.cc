#include "server/service/model_admin_service.h"

#include <grpcpp/impl/codegen/client_unary_call.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/service/service_fixture.h"
#include "tests/testing/png_file.h"

namespace ounce {
namespace {

using ::ounce::testing::MakePng;
using ::ounce::testing::PngOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ModelAdminServiceTest : public testing::ServiceTest {
 protected:
  template <class Message>
  struct Told {
    std::vector<Message> messages;
    grpc::Status status;
  };
  using Progress = Told<v1::QuantizeProgress>;
  using Evaluation = Told<v1::EvaluateProgress>;
  using Saving = Told<v1::SaveModelProgress>;

  template <class Message>
  static Told<Message> ReadAll(grpc::ClientReader<Message>& reader) {
    Told<Message> told;
    Message message;
    while (reader.Read(&message)) told.messages.push_back(message);
    told.status = reader.Finish();
    return told;
  }
  Progress Quantize(const v1::QuantizeRequest& request) {
    grpc::ClientContext context;
    return ReadAll(*admin_->Quantize(&context, request));
  }
  Evaluation Evaluate(const v1::EvaluateRequest& request) {
    grpc::ClientContext context;
    return ReadAll(*admin_->Evaluate(&context, request));
  }
  Saving Save(const v1::SaveModelRequest& request) {
    grpc::ClientContext context;
    return ReadAll(*admin_->SaveModel(&context, request));
  }
  static v1::SaveModelRequest ToSave() {
    v1::SaveModelRequest request;
    request.set_model("tiny");
    request.set_folder("variants/tiny");
    return request;
  }
  static v1::QuantizeRequest Request() {
    v1::QuantizeRequest request;
    request.set_model("tiny");
    request.set_method("linear:bits=8");
    return request;
  }

  grpc::health::v1::HealthCheckResponse::ServingStatus Health(
      const std::shared_ptr<grpc::Channel>& channel,
      const std::string& service) {
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    grpc::health::v1::HealthCheckResponse response;
    grpc::ClientContext context;
    const grpc::Status status =
        grpc::health::v1::Health::NewStub(channel)->Check(&context, request,
                                                          &response);
    if (status.error_code() == grpc::StatusCode::NOT_FOUND) {
      return grpc::health::v1::HealthCheckResponse::SERVICE_UNKNOWN;
    }
    return response.status();
  }
};

TEST_F(ModelAdminServiceTest, ListsModelsWithAllTheirFigures) {
  v1::ListModelsResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(admin_->ListModels(&context, {}, &response).ok());
  ASSERT_EQ(response.models_size(), 3);
  EXPECT_THAT(response.models(0).tasks(), ElementsAre(v1::TASK_DETECT_OBJECTS));
  EXPECT_EQ(response.models(0).compute(), "bfloat16");
  EXPECT_THAT(response.models(0).include(), ElementsAre("*.fc1"));
  EXPECT_THAT(response.models(0).exclude(), ElementsAre("model.decoder.*"));
  EXPECT_TRUE(response.models(0).convolutions());
  const v1::Model& model = response.models(2);
  EXPECT_THAT(model.tasks(), ElementsAre(v1::TASK_GENERATE));
  EXPECT_EQ(model.compute(), "float32");
  EXPECT_EQ(model.name(), "tiny");
  EXPECT_EQ(model.path(), "/models/tiny");
  EXPECT_EQ(model.architecture(), "codegen");
  EXPECT_EQ(model.state(), v1::MODEL_STATE_READY);
  EXPECT_EQ(model.version(), 3);
  EXPECT_EQ(model.method(), "float32");
  EXPECT_EQ(model.parameters(), 1000);
  EXPECT_EQ(model.checkpoint_bytes(), 2000);
  EXPECT_EQ(model.stored_bytes(), 4000);
  EXPECT_EQ(model.resident_bytes(), 4096);
  EXPECT_EQ(model.kv_capacity_bytes(), 7);
  EXPECT_EQ(model.max_positions(), 64);
  EXPECT_EQ(model.vocabulary_size(), 256);
}

TEST_F(ModelAdminServiceTest, GetsOneModelOrSaysWhichThereAre) {
  const auto get = [&](const std::string& name, v1::Model* model) {
    v1::GetModelRequest request;
    request.set_name(name);
    grpc::ClientContext context;
    return admin_->GetModel(&context, request, model);
  };
  v1::Model model;
  ASSERT_TRUE(get("long", &model).ok());
  EXPECT_EQ(model.name(), "long");
  const grpc::Status unknown = get("other", &model);
  EXPECT_EQ(unknown.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(unknown.error_message(), HasSubstr("served: detr, long, tiny"));
  EXPECT_EQ(get("", &model).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ModelAdminServiceTest, ListsMethodsWithTheirParameters) {
  v1::ListMethodsResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(admin_->ListMethods(&context, {}, &response).ok());
  ASSERT_EQ(response.methods_size(), 1);
  EXPECT_EQ(response.methods(0).name(), "linear");
  const v1::MethodParameter& bits = response.methods(0).parameters(0);
  EXPECT_EQ(bits.name(), "bits");
  EXPECT_EQ(bits.default_value(), "8");
  EXPECT_EQ(bits.min(), 2);
  EXPECT_EQ(bits.max(), 8);
  EXPECT_FALSE(bits.has_lowest());
  const v1::MethodParameter& threshold = response.methods(0).parameters(1);
  EXPECT_FALSE(threshold.has_min());
  EXPECT_EQ(threshold.lowest(), -2);
  EXPECT_EQ(threshold.highest(), 1e30);
  ASSERT_EQ(response.stages_size(), 1);
  EXPECT_EQ(response.stages(0).name(), "prune");
  EXPECT_EQ(response.stages(0).summary(), "Zeros.");
  EXPECT_EQ(response.stages(0).parameters(0).default_value(), "row");
  ASSERT_EQ(response.save_formats_size(), 2);
  EXPECT_EQ(response.save_formats(1).name(), "gguf");
  EXPECT_EQ(response.save_formats(1).summary(), "Blocks.");
  ASSERT_EQ(response.rule_keys_size(), 1);
  EXPECT_EQ(response.rule_keys(0).name(), "untie");
  EXPECT_EQ(response.rule_keys(0).choices_size(), 2);
}

TEST_F(ModelAdminServiceTest, InspectsWhatItIsAskedFor) {
  server::InspectParams asked;
  catalog_.inspect = [&](const server::InspectParams& params) {
    asked = params;
    server::Inspection inspection;
    inspection.plan = "keep";
    server::InspectedTensor& tensor = inspection.tensors.emplace_back();
    tensor.outcome.name = "w";
    tensor.outcome.shape = {2, 3};
    tensor.outcome.bytes_before = 12;
    tensor.dtype = "float16";
    tensor.resident_bytes = 64;
    server::TensorValues& values = inspection.values.emplace();
    values.tensor = "w";
    values.values.min = -1;
    values.values.bins = {1, 5};
    values.method = "linear";
    values.errors.emplace().count = 6;
    return inspection;
  };
  const auto inspect = [&](const v1::InspectRequest& request,
                           v1::InspectResponse* response) {
    grpc::ClientContext context;
    return admin_->Inspect(&context, request, response);
  };
  v1::InspectRequest request;
  request.set_path("/models/x");
  request.set_plan("lm_head=keep linear");
  request.set_tensor("w");
  request.set_method("linear:bits=4");
  v1::InspectResponse response;
  ASSERT_TRUE(inspect(request, &response).ok());
  EXPECT_EQ(asked.path, "/models/x");
  EXPECT_EQ(asked.model, "");
  EXPECT_EQ(asked.plan->ToString(), "lm_head=keep linear");
  EXPECT_EQ(asked.tensor, "w");
  EXPECT_EQ(asked.method->ToString(), "linear:bits=4");
  EXPECT_EQ(response.plan(), "keep");
  EXPECT_EQ(response.tensors(0).report().name(), "w");
  EXPECT_EQ(response.tensors(0).report().shape(1), 3);
  EXPECT_EQ(response.tensors(0).report().bytes_before(), 12);
  EXPECT_EQ(response.tensors(0).dtype(), "float16");
  EXPECT_EQ(response.tensors(0).resident_bytes(), 64);
  EXPECT_EQ(response.values().values().min(), -1);
  EXPECT_EQ(response.values().values().bins(1), 5);
  EXPECT_EQ(response.values().errors().count(), 6);
  EXPECT_FALSE(response.values().has_snr_db());  // exact

  request.set_tensor("");
  EXPECT_THAT(inspect(request, &response).error_message(),
              HasSubstr("method: is for a tensor; give one"));
  request.set_method("");
  request.set_model("tiny");
  EXPECT_EQ(inspect(request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ModelAdminServiceTest, LoadsAndUnloadsAwayFromGrpcsThreads) {
  catalog_.load = [](const server::LoadParams& params) {
    server::ModelInfo info;
    info.name = params.name;
    info.path = params.path;
    info.plan = params.plan.ToString();
    return info;
  };
  std::string unloaded;
  catalog_.unload = [&](const std::string& name, bool force) {
    unloaded = absl::StrCat(name, force ? " at once" : "");
    return absl::OkStatus();
  };
  v1::LoadModelRequest request;
  request.set_name("new");
  request.set_path("/models/new");
  request.set_method("linear");
  v1::Model model;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(admin_->LoadModel(&context, request, &model).ok());
  }
  EXPECT_EQ(model.name(), "new");
  EXPECT_EQ(model.path(), "/models/new");
  EXPECT_EQ(model.plan(), "linear");
  request.set_convolutions(true);
  {
    grpc::ClientContext context;
    ASSERT_TRUE(admin_->LoadModel(&context, request, &model).ok());
  }
  EXPECT_EQ(model.plan(), "@convolution=linear linear");
  EXPECT_TRUE(model.convolutions());
  request.clear_method();
  request.clear_convolutions();
  request.set_plan("*.a=bfloat16 @head=keep linear");
  {
    grpc::ClientContext context;
    ASSERT_TRUE(admin_->LoadModel(&context, request, &model).ok());
  }
  EXPECT_EQ(model.plan(), request.plan());
  EXPECT_FALSE(model.convolutions());
  EXPECT_THAT(model.exclude(), IsEmpty());
  v1::UnloadModelRequest unload;
  unload.set_name("new");
  v1::UnloadModelResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(admin_->UnloadModel(&context, unload, &response).ok());
  EXPECT_EQ(unloaded, "new");
  unload.set_force(true);
  grpc::ClientContext again;
  ASSERT_TRUE(admin_->UnloadModel(&again, unload, &response).ok());
  EXPECT_EQ(unloaded, "new at once");
}

TEST_F(ModelAdminServiceTest, ALoadEndsWithItsCall) {
  std::atomic<int> loading = 0;
  Mutex mu;
  std::vector<absl::StatusCode> ends;
  catalog_.load = [&](const server::LoadParams& params)
      -> absl::StatusOr<server::ModelInfo> {
    ++loading;
    absl::Status wanted;
    while ((wanted = params.proceed()).ok()) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    const MutexLock lock(&mu);
    ends.push_back(wanted.code());
    return wanted;
  };
  const auto num_ended = [&] {
    const MutexLock lock(&mu);
    return ends.size();
  };
  v1::LoadModelRequest request;
  request.set_name("new");
  request.set_path("/models/new");
  v1::Model model;
  grpc::ClientContext cancelled;
  std::thread cancel([&] {
    EXPECT_TRUE(WaitUntil([&] { return loading == 1; }));
    cancelled.TryCancel();
  });
  EXPECT_EQ(admin_->LoadModel(&cancelled, request, &model).error_code(),
            grpc::StatusCode::CANCELLED);
  cancel.join();
  EXPECT_TRUE(WaitUntil([&] { return num_ended() == 1; }));
  grpc::ClientContext late;
  late.set_deadline(absl::ToChronoTime(absl::Now() + absl::Milliseconds(200)));
  EXPECT_EQ(admin_->LoadModel(&late, request, &model).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(WaitUntil([&] { return num_ended() == 2; }));
  const MutexLock lock(&mu);
  EXPECT_THAT(ends, ElementsAre(absl::StatusCode::kCancelled,
                                absl::StatusCode::kDeadlineExceeded));
}

TEST_F(ModelAdminServiceTest, WithoutMemoryEndsTheCallAndNothingElse) {
  catalog_.load =
      [](const server::LoadParams&) -> absl::StatusOr<server::ModelInfo> {
    throw std::bad_alloc();
  };
  catalog_.quantize = [](const server::QuantizeParams&,
                         auto&) -> absl::StatusOr<server::QuantizeReport> {
    throw std::bad_alloc();
  };
  v1::LoadModelRequest request;
  request.set_name("new");
  request.set_path("/models/new");
  v1::Model model;
  // More often than there may be at a time: none is left over.
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    const grpc::Status load = admin_->LoadModel(&context, request, &model);
    EXPECT_EQ(load.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(load.error_message(), "out of memory") << i;
    EXPECT_EQ(Quantize(Request()).status.error_message(), "out of memory") << i;
  }
}

TEST_F(ModelAdminServiceTest, PassesOnWhyALoadFailed) {
  catalog_.load =
      [](const server::LoadParams&) -> absl::StatusOr<server::ModelInfo> {
    return absl::InvalidArgumentError("model.safetensors: header of 9 bytes");
  };
  v1::LoadModelRequest request;
  request.set_name("new");
  request.set_path("/models/new");
  v1::Model model;
  grpc::ClientContext context;
  const grpc::Status status = admin_->LoadModel(&context, request, &model);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "model.safetensors: header of 9 bytes");
}

TEST_F(ModelAdminServiceTest, RefusesBadNamesAndPaths) {
  const auto load = [&](const std::string& name, const std::string& path) {
    v1::LoadModelRequest request;
    request.set_name(name);
    request.set_path(path);
    v1::Model model;
    grpc::ClientContext context;
    return admin_->LoadModel(&context, request, &model);
  };
  for (const std::string& name : {std::string(), std::string("a/b"),
                                  std::string("a b"), std::string(65, 'x')}) {
    const grpc::Status status = load(name, "/models/x");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << name;
    EXPECT_THAT(status.error_message(),
                HasSubstr("name: must be 1 to 64 letters"));
  }
  EXPECT_THAT(load("a", "").error_message(), HasSubstr("path: is empty"));
  EXPECT_THAT(load("a", std::string("a\0b", 3)).error_message(),
              HasSubstr("contains a zero byte"));
  v1::LoadModelRequest request;
  request.set_name("a");
  request.set_path("/models/x");
  request.set_method("nonsense");
  v1::Model model;
  grpc::ClientContext context;
  EXPECT_THAT(admin_->LoadModel(&context, request, &model).error_message(),
              HasSubstr("known methods are"));
}

TEST_F(ModelAdminServiceTest, ReadsPicturesAndTellsHowDetectionsDrifted) {
  std::vector<std::pair<int64_t, int64_t>> seen;
  std::string plan;
  int64_t bytes_held = 0;
  catalog_.quantize = [&](const server::QuantizeParams& params,
                          auto&) -> absl::StatusOr<server::QuantizeReport> {
    for (const auto& picture : params.pictures) {
      seen.emplace_back(picture->rgb.width(), picture->original_width);
    }
    plan = params.plan.ToString();
    bytes_held = picture_memory_.used_bytes();
    server::QuantizeReport report;
    for (const server::TensorKind kind :
         {server::TensorKind::kConvolution, server::TensorKind::kHead,
          server::TensorKind::kVector}) {
      report.tensors.emplace_back().kind = kind;
    }
    report.detection = {.pictures = 2,
                        .float_detections = 7,
                        .quantized_detections = 6,
                        .matched = 5,
                        .mean_score_drift = 0.25,
                        .mean_box_drift = 1.5};
    return report;
  };
  v1::QuantizeRequest request = Request();
  request.set_model("detr");
  request.set_convolutions(true);
  request.add_pictures(MakePng(32, 40));
  request.add_pictures(MakePng(64, 80));
  const Progress progress = Quantize(request);
  ASSERT_TRUE(progress.status.ok()) << progress.status.error_message();
  EXPECT_THAT(seen, ElementsAre(std::pair(40, 40), std::pair(40, 80)));
  EXPECT_EQ(plan, "@convolution=linear linear");
  EXPECT_EQ(bytes_held, 2 * 32 * 40 * 3);
  EXPECT_TRUE(WaitUntil([&] { return picture_memory_.used_bytes() == 0; }));
  const v1::QuantizeReport& report = progress.messages.back().report();
  EXPECT_EQ(report.tensors(0).kind(), v1::TENSOR_KIND_CONVOLUTION);
  EXPECT_EQ(report.tensors(1).kind(), v1::TENSOR_KIND_HEAD);
  EXPECT_EQ(report.tensors(2).kind(), v1::TENSOR_KIND_VECTOR);
  ASSERT_TRUE(report.has_detection());
  EXPECT_EQ(report.detection().pictures(), 2);
  EXPECT_EQ(report.detection().float_detections(), 7);
  EXPECT_EQ(report.detection().quantized_detections(), 6);
  EXPECT_EQ(report.detection().matched(), 5);
  EXPECT_EQ(report.detection().mean_score_drift(), 0.25);
  EXPECT_EQ(report.detection().mean_box_drift(), 1.5);
}

TEST_F(ModelAdminServiceTest, RefusesPicturesThatItCannotUse) {
  bool quantized = false;
  catalog_.quantize = [&](const server::QuantizeParams&,
                          auto&) -> absl::StatusOr<server::QuantizeReport> {
    quantized = true;
    return server::QuantizeReport();
  };
  const auto refusal = [&](const std::string& model, int good,
                           const std::string& bad) {
    v1::QuantizeRequest request = Request();
    request.set_model(model);
    for (int i = 0; i < good; ++i) request.add_pictures(MakePng(32, 40));
    request.add_pictures(bad);
    return Quantize(request).status;
  };
  const grpc::Status broken = refusal("detr", 1, "no picture");
  EXPECT_EQ(broken.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(broken.error_message(), HasSubstr("pictures[1]: "));
  EXPECT_EQ(refusal("detr", 0, "").error_message(),
            "pictures[0]: is empty; must be a JPEG, PNG or WebP file");
  EXPECT_EQ(refusal("detr", 0, PngOf(16'000, 16'000, "")).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(refusal("detr", 64, MakePng(32, 40)).error_message(),
            "pictures: must have at most 64 elements, has more");
  const grpc::Status text = refusal("tiny", 0, MakePng(32, 40));
  EXPECT_EQ(text.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(text.error_message(), HasSubstr("does not detect objects"));
  EXPECT_EQ(refusal("other", 0, MakePng(32, 40)).error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_FALSE(quantized);
  EXPECT_TRUE(WaitUntil([&] { return picture_memory_.used_bytes() == 0; }));
}

TEST_F(ModelAdminServiceTest, StreamsProgressAndEndsWithTheReport) {
  server::QuantizeParams seen;
  catalog_.quantize =
      [&](const server::QuantizeParams& params,
          auto& progress) -> absl::StatusOr<server::QuantizeReport> {
    seen = params;
    for (int i = 0; i <= 3; ++i) {
      RETURN_IF_ERROR(progress({.stage = server::QuantizeStage::kQuantizing,
                                .tensors_done = i,
                                .tensors_total = 3,
                                .tensor = absl::StrCat("t", i)}));
      absl::SleepFor(absl::Milliseconds(80));
    }
    server::QuantizeReport report;
    report.model = "tiny";
    report.version = 4;
    report.method = "linear";
    report.method_before = "float32";
    report.plan = "*.h.0.*=keep @convolution=linear lm_head=linear";
    report.stored_bytes_before = 4000;
    report.stored_bytes_after = 1000;
    report.resident_bytes_before = 4096;
    report.resident_bytes_after = 1024;
    report.checkpoint_bytes = 2000;
    report.saved_ratio = 0.5;
    report.seconds = 1.5;
    report.footprints = {{.rule = "float32-base",
                          .help = "as if",
                          .bytes_before = 8000,
                          .bytes_after = 2000,
                          .saved_ratio = 0.75}};
    report.tensors = {{.name = "a",
                       .shape = {2, 3},
                       .method = "linear",
                       .bytes_before = 12,
                       .bytes_after = 6,
                       .relative_l2_error = 0.01,
                       .snr_db = 40,
                       .left_alone = "",
                       .note = "stored otherwise",
                       .clamp_rate = 0.25,
                       .computed_relative_l2_error = 0.005,
                       .sparsity = 0.5},
                      {.name = "b",
                       .shape = {5},
                       .method = "float32",
                       .bytes_before = 20,
                       .bytes_after = 20,
                       .relative_l2_error = std::nullopt,
                       .snr_db = std::nullopt,
                       .left_alone = "not a matrix"}};
    return report;
  };
  v1::QuantizeRequest request = Request();
  request.add_include("transformer.*");
  request.add_exclude("*.attn.*");
  request.set_as("small");
  request.set_dry_run(true);
  const Progress progress = Quantize(request);
  ASSERT_TRUE(progress.status.ok()) << progress.status.error_message();
  EXPECT_EQ(seen.model, "tiny");
  EXPECT_EQ(seen.plan.ToString(), "*.attn.*=keep transformer.*=linear");
  EXPECT_EQ(seen.as, "small");
  EXPECT_TRUE(seen.dry_run);

  ASSERT_THAT(progress.messages, SizeIs(5));
  EXPECT_EQ(progress.messages[1].stage(), v1::QUANTIZE_STAGE_QUANTIZING);
  EXPECT_EQ(progress.messages[1].tensors_done(), 1);
  EXPECT_EQ(progress.messages[1].tensors_total(), 3);
  EXPECT_EQ(progress.messages[1].tensor(), "t1");
  EXPECT_FALSE(progress.messages[3].has_report());
  const v1::QuantizeProgress& last = progress.messages.back();
  EXPECT_EQ(last.stage(), v1::QUANTIZE_STAGE_DONE);
  const v1::QuantizeReport& report = last.report();
  EXPECT_EQ(report.version(), 4);
  EXPECT_EQ(report.method_before(), "float32");
  EXPECT_THAT(report.include(), ElementsAre("lm_head"));
  EXPECT_THAT(report.exclude(), ElementsAre("*.h.0.*"));
  EXPECT_TRUE(report.convolutions());
  EXPECT_EQ(report.plan(), "*.h.0.*=keep @convolution=linear lm_head=linear");
  EXPECT_EQ(report.stored_bytes_after(), 1000);
  EXPECT_EQ(report.resident_bytes_after(), 1024);
  EXPECT_EQ(report.saved_ratio(), 0.5);
  ASSERT_EQ(report.tensors_size(), 2);
  ASSERT_EQ(report.footprints_size(), 1);
  EXPECT_EQ(report.footprints(0).rule(), "float32-base");
  EXPECT_EQ(report.footprints(0).help(), "as if");
  EXPECT_EQ(report.footprints(0).bytes_before(), 8000);
  EXPECT_EQ(report.footprints(0).bytes_after(), 2000);
  EXPECT_EQ(report.footprints(0).saved_ratio(), 0.75);
  EXPECT_EQ(report.tensors(0).relative_l2_error(), 0.01);
  EXPECT_EQ(report.tensors(0).sparsity(), 0.5);
  EXPECT_FALSE(report.tensors(1).has_sparsity());
  EXPECT_EQ(report.tensors(0).snr_db(), 40);
  EXPECT_THAT(report.tensors(0).shape(), ElementsAre(2, 3));
  EXPECT_FALSE(report.tensors(1).has_relative_l2_error());
  EXPECT_EQ(report.tensors(0).note(), "stored otherwise");
  EXPECT_EQ(report.tensors(0).clamp_rate(), 0.25);
  EXPECT_EQ(report.tensors(0).computed_relative_l2_error(), 0.005);
  EXPECT_FALSE(report.tensors(1).has_clamp_rate());
  EXPECT_FALSE(report.tensors(1).has_computed_relative_l2_error());
  EXPECT_EQ(report.tensors(1).left_alone(), "not a matrix");
}

TEST_F(ModelAdminServiceTest, AVersionThatIsRefusedHasAReportAllTheSame) {
  server::QuantizeParams seen;
  catalog_.quantize = [&](const server::QuantizeParams& params,
                          auto&) -> absl::StatusOr<server::QuantizeReport> {
    seen = params;
    server::QuantizeReport report;
    report.model = "tiny";
    server::TextQuality& quality = report.quality.emplace();
    quality.perplexity = 9;
    quality.floats.emplace().mean_kl_divergence = 0.5;
    report.refusal = absl::FailedPreconditionError("too far");
    return report;
  };
  v1::QuantizeRequest request = Request();
  request.set_probe(true);
  request.set_max_kl(0.25);
  request.set_max_perplexity_increase(0);
  const Progress progress = Quantize(request);
  EXPECT_EQ(progress.status.error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(progress.status.error_message(), "too far");
  ASSERT_FALSE(progress.messages.empty());
  const v1::QuantizeReport& report = progress.messages.back().report();
  EXPECT_EQ(report.refused(), "too far");
  EXPECT_EQ(report.quality().perplexity(), 9);
  EXPECT_EQ(report.quality().floats().mean_kl_divergence(), 0.5);
  EXPECT_EQ(seen.limits.max_kl, 0.25);
  EXPECT_EQ(seen.limits.max_perplexity_increase, 0);
  EXPECT_FALSE(seen.limits.max_box_drift.has_value());
  ASSERT_THAT(seen.texts, SizeIs(1));
  EXPECT_THAT(seen.texts[0], HasSubstr("lighthouse"));

  // A detector's probe is a picture.
  request = Request();
  request.set_model("detr");
  request.set_probe(true);
  request.set_max_box_drift(3);
  EXPECT_EQ(Quantize(request).status.error_message(), "too far");
  EXPECT_THAT(seen.texts, IsEmpty());
  ASSERT_THAT(seen.pictures, SizeIs(1));
  EXPECT_EQ(seen.pictures[0]->original_width, 300);
  EXPECT_EQ(seen.limits.max_box_drift, 3);
}

TEST_F(ModelAdminServiceTest, RefusesLimitsAndSamplesThatDoNotFitByName) {
  const auto refused =
      [&](const std::function<void(v1::QuantizeRequest&)>& set) {
        v1::QuantizeRequest request = Request();
        set(request);
        const grpc::Status status = Quantize(request).status;
        EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
        return status.error_message();
      };
  EXPECT_EQ(refused([](auto& r) { r.set_max_kl(1); }),
            "max_kl: needs samples; give texts, or probe for the server's own");
  EXPECT_EQ(refused([](auto& r) {
              r.set_max_box_drift(1);
              r.add_texts("a text");
            }),
            "max_box_drift: needs samples; give pictures, or probe for the "
            "server's own");
  EXPECT_EQ(refused([](auto& r) {
              r.set_probe(true);
              r.set_max_perplexity_increase(-0.5);
            }),
            "max_perplexity_increase: must be a finite number from 0 on, is "
            "-0.5");
  EXPECT_EQ(refused([](auto& r) {
              r.set_probe(true);
              r.set_max_kl(std::nan(""));
            }),
            "max_kl: must be a finite number from 0 on, is nan");
  EXPECT_EQ(refused([](auto& r) {
              r.set_probe(true);
              r.add_texts("a text");
            }),
            "probe: is in place of texts and pictures; leave it or them out");
  EXPECT_EQ(refused([](auto& r) { r.add_texts(""); }),
            "texts[0]: is empty; must be a text");
}

TEST_F(ModelAdminServiceTest, EvaluatesPicturesBesideWhatTheyShow) {
  server::EvaluateDetectionParams seen;
  catalog_.detection_evaluator().evaluate =
      [&](const server::EvaluateDetectionParams& params,
          auto& progress) -> absl::StatusOr<server::DetectionQuality> {
    seen = params;
    for (int64_t i = 0; i < params.num_pictures; ++i) {
      RETURN_IF_ERROR(progress(i));
      ASSIGN_OR_RETURN(const server::Picture picture, params.read_picture(i));
      EXPECT_EQ(picture.original_width, 40 + 40 * i);
      EXPECT_EQ(picture.rgb.height(), 32);
    }
    server::DetectionQuality quality;
    quality.pictures = 2;
    quality.version = 3;
    quality.method = "fake";
    quality.coco = server::CocoAveragePrecision{
        .ap = 0.5, .ap50 = 0.75, .ap75 = 0.25, .ap_large = 0.125};
    return quality;
  };
  v1::EvaluateRequest request;
  request.set_model("detr");
  request.add_pictures(MakePng(32, 40));
  request.add_pictures(MakePng(64, 80));
  v1::AnnotatedObject& object = *request.add_objects();
  object.set_picture(1);
  object.set_label("cat");
  object.set_x(-1.5);
  object.set_width(4);
  object.set_height(3);
  object.set_crowd(true);
  const Evaluation evaluation = Evaluate(request);
  ASSERT_TRUE(evaluation.status.ok()) << evaluation.status.error_message();
  const v1::EvaluateProgress& last = evaluation.messages.back();
  EXPECT_EQ(last.pictures_done(), 2);
  EXPECT_EQ(last.pictures_total(), 2);
  EXPECT_FALSE(last.report().has_quality());
  const v1::DetectionQuality& quality = last.report().detection();
  EXPECT_EQ(quality.version(), 3);
  EXPECT_EQ(quality.method(), "fake");
  EXPECT_EQ(quality.coco().ap(), 0.5);
  EXPECT_EQ(quality.coco().ap50(), 0.75);
  EXPECT_EQ(quality.coco().ap75(), 0.25);
  EXPECT_EQ(quality.coco().ap_large(), 0.125);
  EXPECT_FALSE(quality.coco().has_ap_small());
  EXPECT_EQ(quality.coco().absent_because(),
            "no annotated object is small or medium, crowds apart");
  EXPECT_FALSE(seen.compare_with_floats);
  ASSERT_THAT(seen.objects, SizeIs(1));
  EXPECT_EQ(seen.objects[0].picture, 1);
  EXPECT_EQ(seen.objects[0].label, "cat");
  EXPECT_EQ(seen.objects[0].x, -1.5);
  EXPECT_EQ(seen.objects[0].area, 12);
  EXPECT_TRUE(seen.objects[0].crowd);
  EXPECT_TRUE(WaitUntil([&] { return picture_memory_.used_bytes() == 0; }));

  const auto refused =
      [&](const std::function<void(v1::EvaluateRequest&)>& change) {
        v1::EvaluateRequest changed = request;
        change(changed);
        return Evaluate(changed).status.error_message();
      };
  EXPECT_EQ(refused([](auto& r) { r.mutable_objects(0)->set_picture(2); }),
            "objects[0].picture: must be below the number of pictures, 2, is "
            "2");
  EXPECT_EQ(refused([](auto& r) { r.mutable_objects(0)->set_width(-1); }),
            "objects[0].width: must be from 0 to 100000, is -1");
  EXPECT_EQ(refused([](auto& r) { r.mutable_objects(0)->set_x(NAN); }),
            "objects[0].x: must be from -100000 to 100000, is nan");
  EXPECT_EQ(refused([](auto& r) { r.mutable_objects(0)->clear_label(); }),
            "objects[0].label: is empty; must be a label");
  EXPECT_EQ(refused([](auto& r) { r.clear_objects(); }),
            "objects: is empty, and compare_with_floats is false, so there is "
            "nothing to measure by; give one");
  EXPECT_EQ(refused([](auto& r) { r.clear_pictures(); }),
            "pictures: is empty; must be pictures to detect objects in");
  EXPECT_EQ(refused([](auto& r) { r.set_window(5); }),
            "window: is for a model that generates text; leave it out");
  EXPECT_EQ(refused([](auto& r) {
              r.set_pictures(1, "no picture");
            }).find("pictures[1]: "),
            0u);
  EXPECT_THAT(refused([](auto& r) { r.set_model("tiny"); }),
              HasSubstr("does not detect objects"));
  EXPECT_EQ(refused([](auto& r) {
              r.set_model("tiny");
              r.set_text("a text");
            }),
            "pictures: is for a model that detects objects; leave it out");
}

TEST_F(ModelAdminServiceTest, TellsAHastyQuantizationsProgressNowAndThen) {
  catalog_.quantize =
      [&](const server::QuantizeParams&,
          auto& progress) -> absl::StatusOr<server::QuantizeReport> {
    for (int i = 0; i < 200; ++i) {
      RETURN_IF_ERROR(progress({.stage = server::QuantizeStage::kQuantizing,
                                .tensors_done = i,
                                .tensors_total = 200,
                                .tensor = "t"}));
      absl::SleepFor(absl::Milliseconds(1));  // time to write each, if it did
    }
    return server::QuantizeReport();
  };
  const absl::Time start = absl::Now();
  const Progress progress = Quantize(Request());
  const double intervals = absl::ToDoubleSeconds(absl::Now() - start) / 0.05;
  ASSERT_TRUE(progress.status.ok());
  EXPECT_LE(progress.messages.size(), intervals + 3);
  EXPECT_TRUE(progress.messages.back().has_report());
}

TEST_F(ModelAdminServiceTest, StopsAQuantizationWhenTheClientIsGone) {
  std::atomic<bool> stopped = false;
  catalog_.quantize =
      [&](const server::QuantizeParams&,
          auto& progress) -> absl::StatusOr<server::QuantizeReport> {
    while (true) {
      if (absl::Status status = progress({}); !status.ok()) {
        stopped = absl::IsCancelled(status);
        return status;
      }
      absl::SleepFor(absl::Milliseconds(1));
    }
  };
  grpc::ClientContext context;
  auto reader = admin_->Quantize(&context, Request());
  v1::QuantizeProgress message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(WaitUntil([&] { return stopped.load(); }));
}

TEST_F(ModelAdminServiceTest, StopsQuantizationsWhenTheServerStops) {
  std::atomic<bool> running = false;
  catalog_.quantize =
      [&](const server::QuantizeParams&,
          auto& progress) -> absl::StatusOr<server::QuantizeReport> {
    while (true) {
      RETURN_IF_ERROR(progress({}));
      running = true;
      absl::SleepFor(absl::Milliseconds(1));
    }
  };
  Progress progress;
  std::thread thread([&] { progress = Quantize(Request()); });
  EXPECT_TRUE(WaitUntil([&] { return running.load(); }));
  admin_service_->Stop();
  thread.join();
  EXPECT_EQ(progress.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(progress.status.error_message(), HasSubstr("shutting down"));
  EXPECT_EQ(Quantize(Request()).status.error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

v1::EvaluateRequest EvaluateRequest(const std::string& model) {
  v1::EvaluateRequest request;
  request.set_model(model);
  request.set_text("some text");
  return request;
}

TEST_F(ModelAdminServiceTest, TellsAnEvaluationsProgressAndWhatItFound) {
  server::EvaluateParams seen;
  catalog_.evaluator("tiny").evaluate =
      [&](const server::EvaluateParams& params,
          const auto& progress) -> absl::StatusOr<server::TextQuality> {
    seen = params;
    RETURN_IF_ERROR(progress({.tokens_done = 0, .tokens_total = 20}));
    absl::SleepFor(absl::Milliseconds(60));
    RETURN_IF_ERROR(progress({.tokens_done = 10, .tokens_total = 20}));
    server::TextQuality quality;
    quality.version = 3;
    quality.method = "linear";
    quality.bos = "<s>";
    quality.window = params.window;
    quality.stride = params.stride;
    quality.text_name = params.text_name;
    quality.tokens = 21;
    quality.counted_tokens = 20;
    quality.mean_negative_log_likelihood = 2;
    quality.perplexity = 7.5;
    quality.bits_per_byte = 1.5;
    quality.worst_token = {
        .index = 9, .id = 77, .text = "\xc3", .negative_log_likelihood = 11};
    if (params.compare_with_floats) {
      quality.floats =
          server::TextQuality::Comparison{.mean_kl_divergence = 0.25,
                                          .top1_agreement = 0.75,
                                          .float_perplexity = 7};
    }
    return quality;
  };
  v1::EvaluateRequest request = EvaluateRequest("tiny");
  request.set_window(32);
  request.set_stride(5);
  request.set_text_name("notes.txt");
  const Evaluation evaluation = Evaluate(request);
  ASSERT_TRUE(evaluation.status.ok()) << evaluation.status.error_message();
  EXPECT_EQ(seen.text, "some text");
  EXPECT_EQ(seen.window, 32);
  EXPECT_EQ(seen.stride, 5);
  ASSERT_GE(evaluation.messages.size(), 2);
  EXPECT_EQ(evaluation.messages.front().tokens_total(), 20);
  EXPECT_FALSE(evaluation.messages.front().has_report());
  const v1::EvaluateProgress& last = evaluation.messages.back();
  EXPECT_EQ(last.tokens_done(), 20);
  EXPECT_EQ(last.report().model(), "tiny");
  EXPECT_GT(last.report().seconds(), 0);
  const v1::TextQuality& quality = last.report().quality();
  EXPECT_EQ(quality.version(), 3);
  EXPECT_EQ(quality.method(), "linear");
  EXPECT_EQ(quality.bos(), "<s>");
  EXPECT_EQ(quality.text_name(), "notes.txt");
  EXPECT_EQ(quality.window(), 32);
  EXPECT_EQ(quality.stride(), 5);
  EXPECT_EQ(quality.tokens(), 21);
  EXPECT_EQ(quality.counted_tokens(), 20);
  EXPECT_EQ(quality.mean_negative_log_likelihood(), 2);
  EXPECT_EQ(quality.perplexity(), 7.5);
  EXPECT_EQ(quality.bits_per_byte(), 1.5);
  EXPECT_EQ(quality.worst_token().index(), 9);
  EXPECT_EQ(quality.worst_token().token_id(), 77);
  EXPECT_EQ(quality.worst_token().token(), "\xc3");
  EXPECT_EQ(quality.worst_token().negative_log_likelihood(), 11);
  EXPECT_FALSE(quality.has_floats());
  request.set_compare_with_floats(true);
  const Evaluation compared = Evaluate(request);
  ASSERT_TRUE(compared.status.ok());
  const v1::FloatComparison& floats =
      compared.messages.back().report().quality().floats();
  EXPECT_EQ(floats.mean_kl_divergence(), 0.25);
  EXPECT_EQ(floats.top1_agreement(), 0.75);
  EXPECT_EQ(floats.perplexity(), 7);
}

TEST_F(ModelAdminServiceTest, PicksWindowsByTheModelsPositions) {
  for (const auto& [model, window, stride] :
       {std::tuple("tiny", 64, 32), std::tuple("long", 1024, 512)}) {
    server::EvaluateParams seen;
    catalog_.evaluator(model).evaluate =
        [&](const server::EvaluateParams& params,
            const auto&) -> absl::StatusOr<server::TextQuality> {
      seen = params;
      return server::TextQuality();
    };
    EXPECT_TRUE(Evaluate(EvaluateRequest(model)).status.ok());
    EXPECT_EQ(seen.window, window);
    EXPECT_EQ(seen.stride, stride);
  }
}

TEST_F(ModelAdminServiceTest, RefusesAnEvaluationThatCantBeByItsField) {
  catalog_.evaluator("tiny").evaluate =
      [](const server::EvaluateParams&,
         const auto&) -> absl::StatusOr<server::TextQuality> {
    ADD_FAILURE() << "evaluated";
    return server::TextQuality();
  };
  const auto why = [&](const std::function<void(v1::EvaluateRequest&)>& spoil) {
    v1::EvaluateRequest request = EvaluateRequest("tiny");
    spoil(request);
    const grpc::Status status = Evaluate(request).status;
    return absl::StrCat(status.error_code(), " ", status.error_message());
  };
  EXPECT_EQ(why([](auto& r) { r.clear_text(); }),
            "3 text: is empty; must be a text");
  EXPECT_EQ(why([](auto& r) { r.set_window(1); }),
            "3 window: must be from 2 to 64, the model's positions, is 1");
  EXPECT_EQ(why([](auto& r) { r.set_window(65); }),
            "3 window: must be from 2 to 64, the model's positions, is 65");
  EXPECT_EQ(why([](auto& r) { r.set_stride(65); }),
            "3 stride: must be at most the window's 64, is 65");
  for (const std::string& name : {std::string(129, 'a'), std::string("a\nb")}) {
    EXPECT_EQ(why([&](auto& r) { r.set_text_name(name); }),
              "3 text_name: must be at most 128 bytes without control "
              "characters");
  }
  EXPECT_THAT(why([](auto& r) { r.set_model("detr"); }),
              HasSubstr("9 model 'detr' detects objects (DetectObjects) and "
                        "does not generate text"));
  EXPECT_THAT(why([](auto& r) { r.set_model("other"); }),
              HasSubstr("5 no model 'other'"));
  EXPECT_THAT(why([](auto& r) { r.set_model("no name"); }),
              HasSubstr("3 model: must be"));
}

TEST_F(ModelAdminServiceTest, StopsAnEvaluationWhenTheClientIsGone) {
  std::atomic<bool> stopped = false;
  catalog_.evaluator("tiny").evaluate =
      [&](const server::EvaluateParams&,
          const auto& progress) -> absl::StatusOr<server::TextQuality> {
    while (true) {
      if (absl::Status status = progress({}); !status.ok()) {
        stopped = absl::IsCancelled(status);
        return status;
      }
      absl::SleepFor(absl::Milliseconds(1));
    }
  };
  grpc::ClientContext context;
  auto reader = admin_->Evaluate(&context, EvaluateRequest("tiny"));
  v1::EvaluateProgress message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(WaitUntil([&] { return stopped.load(); }));
}

TEST_F(ModelAdminServiceTest, TellsASavesProgressAndWhatWasWritten) {
  server::SaveParams seen;
  catalog_.save = [&](const server::SaveParams& params,
                      auto& progress) -> absl::StatusOr<server::SaveReport> {
    seen = params;
    RETURN_IF_ERROR(
        progress({.bytes_done = 40, .bytes_total = 100, .tensor = "a"}));
    return server::SaveReport{.model = "tiny",
                              .version = 3,
                              .plan = "linear",
                              .folder = "/root/variants/tiny",
                              .format = "ounce",
                              .files = {{.name = "config.json", .bytes = 7},
                                        {.name = "w", .bytes = 100}},
                              .weight_bytes = 100,
                              .seconds = 1.5};
  };
  v1::SaveModelRequest request = ToSave();
  request.set_format("ounce");
  request.set_max_shard_bytes(1000);
  const Saving saving = Save(request);
  ASSERT_TRUE(saving.status.ok()) << saving.status.error_message();
  EXPECT_EQ(seen.model, "tiny");
  EXPECT_EQ(seen.folder, "variants/tiny");
  EXPECT_EQ(seen.format, "ounce");
  EXPECT_EQ(seen.max_shard_bytes, 1000);
  ASSERT_THAT(saving.messages, SizeIs(2));
  EXPECT_EQ(saving.messages[0].bytes_done(), 40);
  EXPECT_EQ(saving.messages[0].bytes_total(), 100);
  EXPECT_EQ(saving.messages[0].tensor(), "a");
  EXPECT_FALSE(saving.messages[0].has_report());
  EXPECT_EQ(saving.messages[1].bytes_done(), 100);
  EXPECT_EQ(saving.messages[1].tensor(), "");
  const v1::SaveModelReport& report = saving.messages[1].report();
  EXPECT_EQ(report.model(), "tiny");
  EXPECT_EQ(report.version(), 3);
  EXPECT_EQ(report.plan(), "linear");
  EXPECT_EQ(report.folder(), "/root/variants/tiny");
  EXPECT_EQ(report.format(), "ounce");
  ASSERT_EQ(report.files_size(), 2);
  EXPECT_EQ(report.files(0).name(), "config.json");
  EXPECT_EQ(report.files(1).bytes(), 100);
  EXPECT_EQ(report.weight_bytes(), 100);
  EXPECT_EQ(report.seconds(), 1.5);
}

TEST_F(ModelAdminServiceTest, RefusesASaveByItsFieldBeforeTheCatalogHearsOfIt) {
  const auto refusal = [&](const auto& spoil) {
    v1::SaveModelRequest request = ToSave();
    spoil(&request);
    const Saving saving = Save(request);
    EXPECT_EQ(saving.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return saving.status.error_message();
  };
  EXPECT_THAT(refusal([](auto* r) { r->set_model("a/b"); }),
              HasSubstr("model:"));
  EXPECT_THAT(refusal([](auto* r) { r->clear_folder(); }),
              HasSubstr("folder: is empty; must be a path below"));
  EXPECT_THAT(refusal([](auto* r) { r->set_folder(std::string(5000, 'a')); }),
              HasSubstr("folder: must be at most 4096 bytes"));
  EXPECT_THAT(refusal([](auto* r) { r->set_max_shard_bytes(1ull << 63); }),
              HasSubstr("max_shard_bytes: must be at most"));
}

TEST_F(ModelAdminServiceTest, StopsASaveWhenTheClientIsGoneAndRefusesAThird) {
  std::atomic<int> running = 0, stopped = 0;
  catalog_.save = [&](const server::SaveParams&,
                      auto& progress) -> absl::StatusOr<server::SaveReport> {
    ++running;
    while (true) {
      if (absl::Status status = progress({}); !status.ok()) {
        stopped += absl::IsCancelled(status);
        return status;
      }
      absl::SleepFor(absl::Milliseconds(1));
    }
  };
  grpc::ClientContext contexts[2];
  std::vector<std::thread> threads;
  for (grpc::ClientContext& context : contexts) {
    threads.emplace_back([&] {
      const Saving saving = ReadAll(*admin_->SaveModel(&context, ToSave()));
      EXPECT_EQ(saving.status.error_code(), grpc::StatusCode::CANCELLED);
    });
  }
  EXPECT_TRUE(WaitUntil([&] { return running == 2; }));
  const Saving third = Save(ToSave());
  EXPECT_EQ(third.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(third.status.error_message(), HasSubstr("saves"));
  EXPECT_TRUE(DetailOf<google::rpc::RetryInfo>(third.status).has_value());
  for (grpc::ClientContext& context : contexts) context.TryCancel();
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(WaitUntil([&] { return stopped == 2; }));
}

TEST_F(ModelAdminServiceTest, RefusesAFifthJob) {
  std::atomic<int> running = 0;
  std::atomic<bool> enough = false;
  catalog_.quantize = [&](const server::QuantizeParams&,
                          auto&) -> absl::StatusOr<server::QuantizeReport> {
    ++running;
    while (!enough) absl::SleepFor(absl::Milliseconds(1));
    return server::QuantizeReport();
  };
  std::vector<std::thread> threads;
  std::atomic<int> done = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { done += Quantize(Request()).status.ok(); });
  }
  EXPECT_TRUE(WaitUntil([&] { return running == 4; }));
  const Progress progress = Quantize(Request());
  EXPECT_EQ(progress.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(DetailOf<google::rpc::RetryInfo>(progress.status).has_value());
  v1::ListModelsResponse response;
  grpc::ClientContext context;
  EXPECT_TRUE(admin_->ListModels(&context, {}, &response).ok())
      << "the quick methods go on";
  enough = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(done, 4);
}

TEST_F(ModelAdminServiceTest, ACallThatEndedLeavesItsPlaceToTheNext) {
  std::atomic<int> running = 0;
  std::atomic<bool> enough = false;
  catalog_.quantize = [&](const server::QuantizeParams& params,
                          auto&) -> absl::StatusOr<server::QuantizeReport> {
    if (params.model == "long") ++running;
    while (params.model == "long" && !enough) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    return server::QuantizeReport();
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {  // of four places
    threads.emplace_back([&] {
      v1::QuantizeRequest request = Request();
      request.set_model("long");
      EXPECT_TRUE(Quantize(request).status.ok());
    });
  }
  EXPECT_TRUE(WaitUntil([&] { return running == 3; }));
  int refused = 0;
  for (int i = 0; i < 1500; ++i) refused += !Quantize(Request()).status.ok();
  EXPECT_EQ(refused, 0);
  enough = true;
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ModelAdminServiceTest, RefusesBadQuantizeRequests) {
  const auto refusal = [&](const auto& spoil) {
    v1::QuantizeRequest request = Request();
    spoil(&request);
    const Progress progress = Quantize(request);
    EXPECT_EQ(progress.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return progress.status.error_message();
  };
  EXPECT_THAT(refusal([](auto* r) { r->clear_model(); }), HasSubstr("model:"));
  EXPECT_THAT(refusal([](auto* r) { r->clear_method(); }),
              HasSubstr("method: is empty, and so is plan; give one"));
  for (const char* method : {"nonsense", "linear:bits=99", "linear:x=1"}) {
    EXPECT_THAT(refusal([&](auto* r) { r->set_method(method); }),
                HasSubstr("linear"));
  }
  EXPECT_THAT(refusal([](auto* r) { r->set_plan("linear"); }),
              HasSubstr("plan: says all by itself"));
  EXPECT_THAT(refusal([](auto* r) {
                r->clear_method();
                r->set_plan("linear lm_head=keep");
              }),
              HasSubstr("plan: rule 'linear' has no selector"));
  EXPECT_THAT(refusal([](auto* r) {
                r->set_plan(std::string(model::kMaxPlanBytes + 1, 'a'));
              }),
              HasSubstr("plan: must be at most 1048576 bytes, is 1048577"));
  EXPECT_THAT(refusal([](auto* r) { r->add_include(""); }),
              HasSubstr("include[0]: is empty"));
  EXPECT_THAT(refusal([](auto* r) { r->add_exclude(std::string(300, '*')); }),
              HasSubstr("exclude: must be at most 256 bytes, is 300"));
  EXPECT_THAT(refusal([](auto* r) { r->set_as("../x"); }), HasSubstr("as:"));
}

TEST_F(ModelAdminServiceTest, NamesTheNestedFieldThatIsNotUtf8) {
  const std::string bytes("\x0a\x04tiny\x1a\x02\xff\xfe", 10);
  grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ByteBuffer response;
  grpc::ClientContext context;
  const grpc::internal::RpcMethod rpc("/ounce.v1.ModelAdmin/Quantize",
                                      grpc::internal::RpcMethod::NORMAL_RPC);
  const grpc::Status status = grpc::internal::BlockingUnaryCall(
      admin_channel_.get(), rpc, &context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("include: must be UTF-8"));
}

TEST_F(ModelAdminServiceTest, KeepsInferenceAndAdminApart) {
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  EXPECT_EQ(v1::ModelAdmin::NewStub(channel_)
                ->ListModels(&context, {}, &response)
                .error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(ModelAdminServiceTest, ReflectionNamesTheServices) {
  // ServerReflectionRequest{list_services: "*"}.
  grpc::Slice slice(std::string("\x3a\x01*", 3));
  const grpc::ByteBuffer request(&slice, 1);
  const grpc::internal::RpcMethod rpc(
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      grpc::internal::RpcMethod::NORMAL_RPC);
  const auto ask = [&](grpc::Channel* channel) {
    grpc::ByteBuffer response;
    grpc::ClientContext context;
    EXPECT_TRUE(grpc::internal::BlockingUnaryCall(channel, rpc, &context,
                                                  request, &response)
                    .ok());
    grpc::Slice flat;
    EXPECT_TRUE(response.DumpToSingleSlice(&flat).ok());
    return std::string(flat.begin(), flat.end());
  };
  EXPECT_THAT(ask(channel_.get()),
              ::testing::AllOf(HasSubstr("ounce.v1.Inference"),
                               HasSubstr("grpc.health.v1.Health")));
  EXPECT_THAT(ask(admin_channel_.get()), HasSubstr("ounce.v1.ModelAdmin"));
}

TEST_F(ModelAdminServiceTest, HealthFollowsTheServerAndItsModels) {
  using Response = grpc::health::v1::HealthCheckResponse;
  EXPECT_EQ(Health(channel_, ""), Response::NOT_SERVING);
  EXPECT_EQ(Health(channel_, "ounce.v1.Inference"), Response::NOT_SERVING);
  listeners_->StartServing();
  EXPECT_EQ(Health(channel_, ""), Response::SERVING);
  EXPECT_EQ(Health(channel_, "ounce.v1.Inference"), Response::SERVING);
  EXPECT_EQ(Health(admin_channel_, "ounce.v1.ModelAdmin"), Response::SERVING);
  EXPECT_EQ(Health(channel_, "models/tiny"), Response::SERVICE_UNKNOWN);
  listeners_->SetModelServing("tiny", true);
  EXPECT_EQ(Health(channel_, "models/tiny"), Response::SERVING);
  listeners_->SetModelServing("tiny", false);
  EXPECT_EQ(Health(channel_, "models/tiny"), Response::NOT_SERVING);
  listeners_->SetModelServing("tiny", true);
  listeners_->StopServing();
  for (const char* name : {"", "ounce.v1.Inference", "models/tiny"}) {
    EXPECT_EQ(Health(channel_, name), Response::NOT_SERVING) << name;
  }
  EXPECT_EQ(Health(admin_channel_, ""), Response::NOT_SERVING);
  EXPECT_EQ(Health(admin_channel_, "ounce.v1.ModelAdmin"),
            Response::NOT_SERVING);
  // As a quantization does that the stop has ended.
  listeners_->SetModelServing("tiny", true);
  EXPECT_EQ(Health(channel_, "models/tiny"), Response::NOT_SERVING);
}

TEST_F(ModelAdminServiceTest, RefusesAnAddressThatIsTaken) {
  const auto second = server::Listeners::Start(
      {.inference = listeners_->inference_address(), .admin = "127.0.0.1:0"},
      {}, {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(listeners_->inference_address()));
}

}  // namespace
}  // namespace ounce
