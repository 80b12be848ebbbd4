#include "server/service/model_admin_service.h"

#include <spdlog/spdlog.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/service/checks.h"
#include "server/service/grpc_status.h"
#include "server/service/quantize_call.h"
#include "server/service/wire.h"

namespace ounce::server {
namespace {

constexpr int kMaxJobs =
    4;  // loads, unloads and quantizations at the same time

constexpr absl::Duration kRetryBusy = absl::Seconds(5);

absl::Status Busy() {
  return WithRetryDelay(
      absl::ResourceExhaustedError(absl::StrCat(
          "at most ", kMaxJobs,
          " loads, unloads and quantizations run at the same time")),
      kRetryBusy);
}

absl::Status ShuttingDown() {
  return absl::UnavailableError("the server is shutting down");
}

v1::ModelState ToProto(ModelState state) {
  switch (state) {
    case ModelState::kLoading:
      return v1::MODEL_STATE_LOADING;
    case ModelState::kReady:
      return v1::MODEL_STATE_READY;
    case ModelState::kQuantizing:
      return v1::MODEL_STATE_QUANTIZING;
    case ModelState::kUnloading:
      return v1::MODEL_STATE_UNLOADING;
  }
  return v1::MODEL_STATE_UNSPECIFIED;
}

v1::QuantizeStage ToProto(QuantizeStage stage) {
  switch (stage) {
    case QuantizeStage::kReading:
      return v1::QUANTIZE_STAGE_READING;
    case QuantizeStage::kWaiting:
      return v1::QUANTIZE_STAGE_WAITING;
    case QuantizeStage::kQuantizing:
      return v1::QUANTIZE_STAGE_QUANTIZING;
    case QuantizeStage::kSwapping:
      return v1::QUANTIZE_STAGE_SWAPPING;
  }
  return v1::QUANTIZE_STAGE_UNSPECIFIED;
}

v1::Task ToProto(Task task) {
  switch (task) {
    case Task::kGenerate:
      return v1::TASK_GENERATE;
    case Task::kDetectObjects:
      return v1::TASK_DETECT_OBJECTS;
  }
  return v1::TASK_UNSPECIFIED;
}

v1::TensorKind ToProto(TensorKind kind) {
  switch (kind) {
    case TensorKind::kLinear:
      return v1::TENSOR_KIND_LINEAR;
    case TensorKind::kConvolution:
      return v1::TENSOR_KIND_CONVOLUTION;
    case TensorKind::kEmbedding:
      return v1::TENSOR_KIND_EMBEDDING;
    case TensorKind::kHead:
      return v1::TENSOR_KIND_HEAD;
    case TensorKind::kVector:
      return v1::TENSOR_KIND_VECTOR;
  }
  return v1::TENSOR_KIND_UNSPECIFIED;
}

v1::Model ToProto(const ModelInfo& info) {
  v1::Model model;
  model.set_name(info.name);
  model.set_path(info.path);
  model.set_architecture(info.architecture);
  model.set_state(ToProto(info.state));
  model.set_version(info.version);
  model.set_method(info.method);
  model.set_parameters(info.parameters);
  model.set_checkpoint_bytes(info.checkpoint_bytes);
  model.set_stored_bytes(info.stored_bytes);
  model.set_resident_bytes(info.resident_bytes);
  model.set_kv_capacity_bytes(info.stats.kv_capacity_bytes);
  model.set_kv_used_bytes(info.stats.kv_used_bytes);
  model.set_max_positions(info.max_positions);
  model.set_vocabulary_size(info.vocabulary_size);
  model.set_running_requests(info.stats.running);
  model.set_queued_requests(info.stats.queued);
  for (const Task task : info.tasks) model.add_tasks(ToProto(task));
  model.set_compute(info.compute);
  model.mutable_include()->Add(info.include.begin(), info.include.end());
  model.mutable_exclude()->Add(info.exclude.begin(), info.exclude.end());
  model.set_convolutions(info.convolutions);
  return model;
}

v1::QuantizeReport ToProto(const QuantizeReport& report) {
  v1::QuantizeReport out;
  out.set_model(report.model);
  out.set_version(report.version);
  out.set_method(report.method);
  out.set_method_before(report.method_before);
  out.mutable_include()->Add(report.include.begin(), report.include.end());
  out.mutable_exclude()->Add(report.exclude.begin(), report.exclude.end());
  out.set_convolutions(report.convolutions);
  out.set_stored_bytes_before(report.stored_bytes_before);
  out.set_stored_bytes_after(report.stored_bytes_after);
  out.set_resident_bytes_before(report.resident_bytes_before);
  out.set_resident_bytes_after(report.resident_bytes_after);
  out.set_checkpoint_bytes(report.checkpoint_bytes);
  out.set_saved_ratio(report.saved_ratio);
  out.set_seconds(report.seconds);
  for (const TensorOutcome& tensor : report.tensors) {
    v1::TensorReport* t = out.add_tensors();
    t->set_name(tensor.name);
    t->mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
    t->set_method(tensor.method);
    t->set_bytes_before(tensor.bytes_before);
    t->set_bytes_after(tensor.bytes_after);
    if (tensor.relative_l2_error.has_value()) {
      t->set_relative_l2_error(*tensor.relative_l2_error);
    }
    if (tensor.snr_db.has_value()) t->set_snr_db(*tensor.snr_db);
    t->set_left_alone(tensor.left_alone);
    t->set_kind(ToProto(tensor.kind));
  }
  if (report.detection.has_value()) {
    const DetectionQuality& quality = *report.detection;
    v1::DetectionQuality* q = out.mutable_detection();
    q->set_pictures(static_cast<int32_t>(quality.pictures));
    q->set_float_detections(static_cast<int32_t>(quality.float_detections));
    q->set_quantized_detections(
        static_cast<int32_t>(quality.quantized_detections));
    q->set_matched(static_cast<int32_t>(quality.matched));
    q->set_mean_score_drift(quality.mean_score_drift);
    q->set_mean_box_drift(quality.mean_box_drift);
  }
  return out;
}

v1::Method ToProto(const MethodInfo& info) {
  v1::Method method;
  method.set_name(info.name);
  method.set_summary(info.summary);
  for (const MethodParameterInfo& parameter : info.parameters) {
    v1::MethodParameter* p = method.add_parameters();
    p->set_name(parameter.name);
    p->set_default_value(parameter.default_value);
    if (parameter.min.has_value()) p->set_min(*parameter.min);
    if (parameter.max.has_value()) p->set_max(*parameter.max);
    p->mutable_choices()->Add(parameter.choices.begin(),
                              parameter.choices.end());
    p->set_help(parameter.help);
  }
  return method;
}

void LogFailure(const std::string& what, const absl::Status& status) {
  if (!status.ok()) spdlog::warn("{}: {}", what, status.ToString());
}

}  // namespace

ModelAdminService::ModelAdminService(ModelCatalog& catalog,
                                     const PictureReader& pictures,
                                     const Clock& clock)
    : catalog_(catalog),
      pictures_(pictures),
      clock_(clock),
      jobs_(kMaxJobs, kMaxJobs) {}

grpc::ServerUnaryReactor* ModelAdminService::ListModels(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerNow<v1::ListModelsRequest, v1::ListModelsResponse>(
      context, *request, response,
      [this](const v1::ListModelsRequest&, v1::ListModelsResponse* out) {
        for (const ModelInfo& info : catalog_.List()) {
          *out->add_models() = ToProto(info);
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ModelAdminService::GetModel(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerNow<v1::GetModelRequest, v1::Model>(
      context, *request, response,
      [this](const v1::GetModelRequest& in, v1::Model* out) -> absl::Status {
        RETURN_IF_ERROR(CheckModelName("name", in.name()));
        std::string known;
        for (const ModelInfo& info : catalog_.List()) {
          if (info.name == in.name()) {
            *out = ToProto(info);
            return absl::OkStatus();
          }
          absl::StrAppend(&known, known.empty() ? "" : ", ", info.name);
        }
        return absl::NotFoundError(
            absl::StrCat("no model '", in.name(),
                         "'; served: ", known.empty() ? "none" : known));
      });
}

grpc::ServerUnaryReactor* ModelAdminService::LoadModel(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerOn<v1::LoadModelRequest, v1::Model>(
      jobs_, Busy(), context, *request, response,
      [this](const v1::LoadModelRequest& in, v1::Model* out) -> absl::Status {
        RETURN_IF_ERROR(CheckLoad(in));
        if (stopping_) return ShuttingDown();
        const auto info = catalog_.Load({.name = in.name(),
                                         .path = in.path(),
                                         .method = in.method(),
                                         .convolutions = in.convolutions()});
        LogFailure(absl::StrCat("load of '", in.name(), "' from ", in.path()),
                   info.status());
        if (!info.ok()) return info.status();
        *out = ToProto(*info);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ModelAdminService::UnloadModel(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerOn<v1::UnloadModelRequest, v1::UnloadModelResponse>(
      jobs_, Busy(), context, *request, response,
      [this](const v1::UnloadModelRequest& in,
             v1::UnloadModelResponse*) -> absl::Status {
        RETURN_IF_ERROR(CheckModelName("name", in.name()));
        absl::Status status = catalog_.Unload(in.name());
        LogFailure(absl::StrCat("unload of '", in.name(), "'"), status);
        return status;
      });
}

absl::StatusOr<QuantizeReport> ModelAdminService::RunQuantize(
    QuantizeParams params, std::vector<std::string> pictures,
    QuantizeCall& call) {
  const auto progress = [&](const QuantizeUpdate& update) -> absl::Status {
    if (stopping_) return ShuttingDown();
    v1::QuantizeProgress message;
    message.set_stage(ToProto(update.stage));
    message.set_tensors_done(update.tensors_done);
    message.set_tensors_total(update.tensors_total);
    message.set_tensor(update.tensor);
    return call.Report(std::move(message));
  };
  if (!pictures.empty()) {
    ASSIGN_OR_RETURN(const std::shared_ptr<ServedModel> model,
                     catalog_.Find(params.model));
    RETURN_IF_ERROR(CheckTask(model->info(), Task::kDetectObjects));
    const model::DetrImageProcessor& processor = *model->image_processor();
    for (size_t i = 0; i < pictures.size(); ++i) {
      RETURN_IF_ERROR(progress({}));
      const std::string field = absl::StrCat("pictures[", i, "]");
      const std::string bytes = std::move(pictures[i]);
      ASSIGN_OR_RETURN(PictureMemory::Reservation memory,
                       pictures_.Open(field, bytes, processor));
      ASSIGN_OR_RETURN(Picture picture, pictures_.Read(field, bytes, processor,
                                                       std::move(memory)));
      params.pictures.push_back(
          std::make_shared<const Picture>(std::move(picture)));
    }
  }
  return catalog_.Quantize(params, progress);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ModelAdminService::Quantize(
    grpc::CallbackServerContext*, const grpc::ByteBuffer* bytes) {
  auto* call = new QuantizeCall(clock_);
  v1::QuantizeRequest request;
  absl::Status status = ParseRequest(*bytes, &request);
  if (!status.ok()) {
    call->End(status);
    return call;
  }
  const absl::StatusOr<QuantizeParams> params = CheckQuantize(request);
  if (!params.ok()) {
    call->End(params.status());
    return call;
  }
  const auto pictures = std::make_shared<std::vector<std::string>>();
  for (std::string& picture : *request.mutable_pictures()) {
    pictures->push_back(std::move(picture));
  }
  if (!jobs_.TryRun([this, call, params = *params, pictures] {
        const absl::StatusOr<QuantizeReport> report =
            stopping_ ? ShuttingDown()
                      : RunQuantize(params, std::move(*pictures), *call);
        LogFailure(absl::StrCat("quantization of '", params.model, "' with ",
                                params.method),
                   report.status());
        if (!report.ok()) {
          call->End(report.status());
          return;
        }
        v1::QuantizeProgress last;
        last.set_stage(v1::QUANTIZE_STAGE_DONE);
        last.set_tensors_done(static_cast<int64_t>(report->tensors.size()));
        last.set_tensors_total(static_cast<int64_t>(report->tensors.size()));
        *last.mutable_report() = ToProto(*report);
        call->End(std::move(last));
      })) {
    call->End(Busy());
  }
  return call;
}

grpc::ServerUnaryReactor* ModelAdminService::ListMethods(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerNow<v1::ListMethodsRequest, v1::ListMethodsResponse>(
      context, *request, response,
      [this](const v1::ListMethodsRequest&, v1::ListMethodsResponse* out) {
        for (const MethodInfo& info : catalog_.Methods()) {
          *out->add_methods() = ToProto(info);
        }
        return absl::OkStatus();
      });
}

}  // namespace ounce::server
