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
    case QuantizeStage::kQuantizing:
      return v1::QUANTIZE_STAGE_QUANTIZING;
    case QuantizeStage::kSwapping:
      return v1::QUANTIZE_STAGE_SWAPPING;
  }
  return v1::QUANTIZE_STAGE_UNSPECIFIED;
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
  return model;
}

v1::QuantizeReport ToProto(const QuantizeReport& report) {
  v1::QuantizeReport out;
  out.set_model(report.model);
  out.set_version(report.version);
  out.set_method(report.method);
  out.set_method_before(report.method_before);
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

ModelAdminService::ModelAdminService(ModelCatalog& catalog, const Clock& clock)
    : catalog_(catalog), clock_(clock), jobs_(kMaxJobs, kMaxJobs) {}

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
        const auto info = catalog_.Load(in.name(), in.path(), in.method());
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
  if (!jobs_.TryRun([this, call, params = *params] {
        const auto progress =
            [this, call](const QuantizeUpdate& update) -> absl::Status {
          if (stopping_) return ShuttingDown();
          v1::QuantizeProgress message;
          message.set_stage(ToProto(update.stage));
          message.set_tensors_done(update.tensors_done);
          message.set_tensors_total(update.tensors_total);
          message.set_tensor(update.tensor);
          return call->Report(std::move(message));
        };
        const absl::StatusOr<QuantizeReport> report =
            stopping_ ? ShuttingDown() : catalog_.Quantize(params, progress);
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
