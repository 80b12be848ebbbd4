#include "server/service/model_admin_service.h"

#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/guard.h"
#include "base/status_macros.h"
#include "server/scheduler/refusal.h"
#include "server/service/checks.h"
#include "server/service/deadline.h"
#include "server/service/probe.h"
#include "server/service/to_proto.h"

namespace ounce::server {
namespace {

// At the same time; they are bounded by memory besides.
constexpr int kMaxQuantizations = 4;
constexpr int kMaxEvaluations = 2;
// They share a disk.
constexpr int kMaxSaves = 2;
constexpr int kMaxInspections = 8;

v1::QuantizeStage ToProto(QuantizeStage stage) {
  switch (stage) {
    case QuantizeStage::kReading:
      return v1::QUANTIZE_STAGE_READING;
    case QuantizeStage::kWaiting:
      return v1::QUANTIZE_STAGE_WAITING;
    case QuantizeStage::kQuantizing:
      return v1::QUANTIZE_STAGE_QUANTIZING;
    case QuantizeStage::kEvaluating:
      return v1::QUANTIZE_STAGE_EVALUATING;
    case QuantizeStage::kSwapping:
      return v1::QUANTIZE_STAGE_SWAPPING;
  }
  return v1::QUANTIZE_STAGE_UNSPECIFIED;
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

v1::TextQuality ToProto(const TextQuality& quality) {
  v1::TextQuality out;
  out.set_version(quality.version);
  out.set_method(quality.method);
  out.set_bos(quality.bos);
  out.set_window(quality.window);
  out.set_stride(quality.stride);
  out.set_tokens(quality.tokens);
  out.set_counted_tokens(quality.counted_tokens);
  out.set_mean_negative_log_likelihood(quality.mean_negative_log_likelihood);
  out.set_perplexity(quality.perplexity);
  out.set_bits_per_byte(quality.bits_per_byte);
  v1::WorstToken* worst = out.mutable_worst_token();
  worst->set_index(quality.worst_token.index);
  worst->set_token_id(quality.worst_token.id);
  worst->set_token(quality.worst_token.text);
  worst->set_negative_log_likelihood(
      quality.worst_token.negative_log_likelihood);
  if (quality.floats.has_value()) {
    v1::FloatComparison* floats = out.mutable_floats();
    floats->set_mean_kl_divergence(quality.floats->mean_kl_divergence);
    floats->set_top1_agreement(quality.floats->top1_agreement);
    floats->set_perplexity(quality.floats->float_perplexity);
  }
  out.set_text_name(quality.text_name);
  return out;
}

v1::CocoAveragePrecision ToProto(const CocoAveragePrecision& coco) {
  v1::CocoAveragePrecision out;
  if (coco.ap >= 0) {
    out.set_ap(coco.ap);
    out.set_ap50(coco.ap50);
    out.set_ap75(coco.ap75);
  }
  std::vector<std::string> none;
  using Out = v1::CocoAveragePrecision;
  for (const auto& [size, ap, set] :
       {std::tuple("small", coco.ap_small, &Out::set_ap_small),
        std::tuple("medium", coco.ap_medium, &Out::set_ap_medium),
        std::tuple("large", coco.ap_large, &Out::set_ap_large)}) {
    if (ap >= 0) {
      (out.*set)(ap);
    } else {
      none.emplace_back(size);
    }
  }
  if (coco.ap < 0) {
    out.set_absent_because(
        "all annotated objects are crowds, so there is nothing to find");
  } else if (!none.empty()) {
    out.set_absent_because(absl::StrCat("no annotated object is ",
                                        absl::StrJoin(none, " or "),
                                        ", crowds apart"));
  }
  return out;
}

v1::DetectionQuality ToProto(const DetectionQuality& quality) {
  v1::DetectionQuality out;
  out.set_version(quality.version);
  out.set_method(quality.method);
  out.set_pictures(static_cast<int32_t>(quality.pictures));
  out.set_float_detections(static_cast<int32_t>(quality.float_detections));
  out.set_quantized_detections(
      static_cast<int32_t>(quality.quantized_detections));
  out.set_matched(static_cast<int32_t>(quality.matched));
  out.set_mean_score_drift(quality.mean_score_drift);
  out.set_mean_box_drift(quality.mean_box_drift);
  if (quality.coco.has_value()) {
    *out.mutable_coco() = ToProto(*quality.coco);
  }
  return out;
}

// The plan, and the fields of its short form if it has one.
template <class Message>
void SetPlan(const std::string& text, Message* out) {
  out->set_plan(text);
  const auto plan = model::ParseMethodPlan(text);
  if (!plan.ok()) return;  // none yet, while it loads
  const std::optional<model::ShortForm> form = model::ShortFormOf(*plan);
  if (!form.has_value()) return;
  out->mutable_include()->Add(form->include.begin(), form->include.end());
  out->mutable_exclude()->Add(form->exclude.begin(), form->exclude.end());
  out->set_convolutions(form->convolutions);
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
  model.set_kv_cached_bytes(info.stats.kv_cached_bytes);
  model.set_max_positions(info.max_positions);
  model.set_vocabulary_size(info.vocabulary_size);
  model.set_running_requests(info.stats.running);
  model.set_queued_requests(info.stats.queued);
  model.set_generated_tokens(info.stats.generated_tokens);
  model.set_detected_pictures(info.stats.detected_pictures);
  for (const Task task : info.tasks) model.add_tasks(ToProto(task));
  model.set_compute(info.compute);
  model.set_kv_cache_dtype(info.kv_cache_dtype);
  SetPlan(info.plan, &model);
  if (info.quality.has_value()) {
    *model.mutable_quality() = ToProto(*info.quality);
  }
  if (info.detection.has_value()) {
    *model.mutable_detection() = ToProto(*info.detection);
  }
  return model;
}

v1::TensorReport ToProto(const TensorOutcome& tensor) {
  v1::TensorReport out;
  out.set_name(tensor.name);
  out.mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
  out.set_method(tensor.method);
  out.set_bytes_before(tensor.bytes_before);
  out.set_bytes_after(tensor.bytes_after);
  if (tensor.relative_l2_error.has_value()) {
    out.set_relative_l2_error(*tensor.relative_l2_error);
  }
  if (tensor.snr_db.has_value()) out.set_snr_db(*tensor.snr_db);
  if (tensor.relative_l2_output_error.has_value()) {
    out.set_relative_l2_output_error(*tensor.relative_l2_output_error);
  }
  out.set_left_alone(tensor.left_alone);
  if (tensor.clamp_rate.has_value()) {
    out.set_clamp_rate(*tensor.clamp_rate);
  }
  if (tensor.computed_relative_l2_error.has_value()) {
    out.set_computed_relative_l2_error(*tensor.computed_relative_l2_error);
  }
  out.set_note(tensor.note);
  out.set_kind(ToProto(tensor.kind));
  if (tensor.sparsity.has_value()) out.set_sparsity(*tensor.sparsity);
  return out;
}

v1::QuantizeReport ToProto(const QuantizeReport& report) {
  v1::QuantizeReport out;
  out.set_model(report.model);
  out.set_version(report.version);
  out.set_method(report.method);
  out.set_method_before(report.method_before);
  SetPlan(report.plan, &out);
  out.set_stored_bytes_before(report.stored_bytes_before);
  out.set_stored_bytes_after(report.stored_bytes_after);
  out.set_resident_bytes_before(report.resident_bytes_before);
  out.set_resident_bytes_after(report.resident_bytes_after);
  out.set_checkpoint_bytes(report.checkpoint_bytes);
  out.set_saved_ratio(report.saved_ratio);
  out.set_seconds(report.seconds);
  for (const Footprint& footprint : report.footprints) {
    v1::Footprint* f = out.add_footprints();
    f->set_rule(footprint.rule);
    f->set_help(footprint.help);
    f->set_bytes_before(footprint.bytes_before);
    f->set_bytes_after(footprint.bytes_after);
    f->set_saved_ratio(footprint.saved_ratio);
  }
  for (const TensorOutcome& tensor : report.tensors) {
    *out.add_tensors() = ToProto(tensor);
  }
  if (report.quality.has_value()) {
    *out.mutable_quality() = ToProto(*report.quality);
  }
  if (report.detection.has_value()) {
    *out.mutable_detection() = ToProto(*report.detection);
  }
  out.set_refused(std::string(report.refusal.message()));
  return out;
}

v1::SaveModelReport ToProto(const SaveReport& report) {
  v1::SaveModelReport out;
  out.set_model(report.model);
  out.set_version(report.version);
  out.set_plan(report.plan);
  out.set_folder(report.folder);
  out.set_format(report.format);
  for (const SavedFile& file : report.files) {
    v1::SavedFile* f = out.add_files();
    f->set_name(file.name);
    f->set_bytes(file.bytes);
  }
  out.set_weight_bytes(report.weight_bytes);
  out.set_seconds(report.seconds);
  return out;
}

v1::Distribution ToProto(const Distribution& distribution) {
  v1::Distribution out;
  out.set_count(distribution.count);
  out.set_zeros(distribution.zeros);
  out.set_non_finite(distribution.non_finite);
  out.set_min(distribution.min);
  out.set_max(distribution.max);
  out.set_mean(distribution.mean);
  out.set_standard_deviation(distribution.standard_deviation);
  out.mutable_bins()->Add(distribution.bins.begin(), distribution.bins.end());
  return out;
}

v1::InspectResponse ToProto(const Inspection& inspection) {
  v1::InspectResponse out;
  out.set_folder(inspection.folder);
  out.set_architecture(inspection.architecture);
  out.set_plan(inspection.plan);
  out.set_checkpoint_bytes(inspection.checkpoint_bytes);
  out.set_stored_bytes(inspection.stored_bytes);
  out.set_resident_bytes(inspection.resident_bytes);
  for (const InspectedTensor& tensor : inspection.tensors) {
    v1::InspectedTensor* t = out.add_tensors();
    *t->mutable_report() = ToProto(tensor.outcome);
    t->set_dtype(tensor.dtype);
    t->set_resident_bytes(tensor.resident_bytes);
  }
  if (inspection.values.has_value()) {
    const TensorValues& values = *inspection.values;
    v1::TensorValues* v = out.mutable_values();
    v->set_tensor(values.tensor);
    *v->mutable_values() = ToProto(values.values);
    if (values.errors.has_value()) {
      v->set_method(values.method);
      *v->mutable_errors() = ToProto(*values.errors);
      v->set_relative_l2_error(values.relative_l2_error);
      if (values.relative_l2_error > 0) v->set_snr_db(values.snr_db);
      v->set_method_bytes(values.method_bytes);
      v->set_note(values.note);
    }
  }
  return out;
}

void SetParameter(const MethodParameterInfo& parameter,
                  v1::MethodParameter* p) {
  p->set_name(parameter.name);
  p->set_default_value(parameter.default_value);
  if (parameter.min.has_value()) p->set_min(*parameter.min);
  if (parameter.max.has_value()) p->set_max(*parameter.max);
  if (parameter.lowest.has_value()) p->set_lowest(*parameter.lowest);
  if (parameter.highest.has_value()) p->set_highest(*parameter.highest);
  p->mutable_choices()->Add(parameter.choices.begin(), parameter.choices.end());
  p->set_help(parameter.help);
}

void SetMethod(const MethodInfo& info, v1::Method* method) {
  method->set_name(info.name);
  method->set_summary(info.summary);
  for (const MethodParameterInfo& parameter : info.parameters) {
    SetParameter(parameter, method->add_parameters());
  }
}

}  // namespace

ModelAdminService::ModelAdminService(ModelCatalog& catalog,
                                     const PictureReader& pictures,
                                     Reception& reception, const Clock& clock,
                                     std::function<ServerInfo()> server_info)
    : catalog_(catalog),
      pictures_(pictures),
      reception_(reception),
      clock_(clock),
      server_info_(std::move(server_info)),
      jobs_(reception, clock),
      quantizations_(kMaxQuantizations, "quantizations"),
      evaluations_(kMaxEvaluations, "evaluations"),
      saves_(kMaxSaves, "saves"),
      inspections_(kMaxInspections, "inspections") {}

grpc::ServerUnaryReactor* ModelAdminService::ListModels(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerNow<v1::ListModelsRequest, v1::ListModelsResponse>(
      reception_, {context, request, response},
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
      reception_, {context, request, response},
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
        return AboutModel(
            Refusal(Reason::kModelNotFound,
                    absl::StrCat("no model '", in.name(), "'; served: ",
                                 known.empty() ? "none" : known)),
            in.name());
      });
}

absl::StatusOr<v1::Model> ModelAdminService::Load(
    const v1::LoadModelRequest& request, const SlowCall& call,
    CallRecord& record) {
  ASSIGN_OR_RETURN(LoadParams params, CheckLoad(request));
  ASSIGN_OR_RETURN(const ModelInfo info,
                   jobs_.Load(catalog_, std::move(params), call, record));
  return ToProto(info);
}

grpc::ServerUnaryReactor* ModelAdminService::LoadModel(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return jobs_.Begin<v1::LoadModelRequest, v1::Model>(
      {context, request, response}, jobs_.loads(),
      [this, record = reception_.calls().Of(*context)](
          const v1::LoadModelRequest& in, const SlowCall& call) {
        return Load(in, call, *record);
      });
}

absl::StatusOr<v1::UnloadModelResponse> ModelAdminService::Unload(
    const v1::UnloadModelRequest& request, const SlowCall&) {
  RETURN_IF_ERROR(CheckModelName("name", request.name()));
  RETURN_IF_ERROR(catalog_.Unload(request.name(), request.force()));
  return v1::UnloadModelResponse();
}

grpc::ServerUnaryReactor* ModelAdminService::UnloadModel(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return jobs_.Begin<v1::UnloadModelRequest, v1::UnloadModelResponse>(
      {context, request, response}, jobs_.unloads(),
      [this](const v1::UnloadModelRequest& in, const SlowCall& call) {
        return Unload(in, call);
      });
}

template <class Request>
grpc::ServerWriteReactor<grpc::ByteBuffer>* ModelAdminService::BeginTelling(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer& bytes,
    JobThreads& threads,
    absl::StatusOr<ProgressCall::Ending> (ModelAdminService::*work)(
        Request&, ProgressCall&)) {
  const auto call = ProgressCall::Create(
      reception_.calls().Of(*context),
      FromGrpcDeadline(context->raw_deadline(), clock_), clock_);
  const absl::Status status = Guarded([&]() -> absl::Status {
    const auto request = std::make_shared<Request>();
    RETURN_IF_ERROR(reception_.Read(*context, bytes, request.get()));
    if (jobs_.stopping()) return ShuttingDown();
    jobs_.Watch(call);
    const auto ending = std::make_shared<ProgressCall::Ending>();
    return threads.Start(
        [this, request, call, work, ending] {
          const absl::Status failed = Guarded([&]() -> absl::Status {
            ASSIGN_OR_RETURN(*ending, (this->*work)(*request, *call));
            return absl::OkStatus();
          });
          ending->status.Update(failed);
        },
        [call, ending] { call->End(std::move(*ending)); });
  });
  if (!status.ok()) call->EndEarly(status);
  return call.get();
}

absl::StatusOr<Picture> ModelAdminService::ReadPicture(
    int64_t i,
    // Whose memory goes when it is read.
    std::string bytes,  // NOLINT(performance-unnecessary-value-param)
    const model::ImageProcessor& processor) const {
  const std::string field = absl::StrCat("pictures[", i, "]");
  ASSIGN_OR_RETURN(PictureMemory::Reservation memory,
                   pictures_.Open(field, bytes, processor, /*peer=*/""));
  return pictures_.Read(field, bytes, processor, std::move(memory));
}

absl::StatusOr<ProgressCall::Ending> ModelAdminService::RunQuantize(
    v1::QuantizeRequest& request, ProgressCall& call) {
  ASSIGN_OR_RETURN(QuantizeParams params, CheckQuantize(request));
  PhaseNotes phases(call.record(), clock_);
  phases.Begin(QuantizeStageName(QuantizeStage::kReading));
  const auto progress = [&](const QuantizeUpdate& update) -> absl::Status {
    phases.Begin(QuantizeStageName(update.stage));
    v1::QuantizeProgress message;
    message.set_stage(ToProto(update.stage));
    message.set_tensors_done(update.tensors_done);
    message.set_tensors_total(update.tensors_total);
    message.set_tensor(update.tensor);
    message.set_samples_done(update.samples_done);
    message.set_samples_total(update.samples_total);
    return call.Report(std::move(message));
  };
  if (request.probe()) {
    ASSIGN_OR_RETURN(const std::shared_ptr<ServedModel> model,
                     catalog_.Find(params.model));
    if (TaskOf<TextGeneration>(model).ok()) {
      params.texts.emplace_back(ProbeText());
    } else {
      request.add_pictures(std::string(ProbePicture()));
    }
  }
  if (!request.pictures().empty()) {
    ASSIGN_OR_RETURN(const std::shared_ptr<ServedModel> model,
                     catalog_.Find(params.model));
    ASSIGN_OR_RETURN(const auto detection, TaskOf<ObjectDetection>(model));
    for (int i = 0; i < request.pictures_size(); ++i) {
      RETURN_IF_ERROR(progress({}));
      ASSIGN_OR_RETURN(Picture picture,
                       ReadPicture(i, std::move(*request.mutable_pictures(i)),
                                   *detection->processor));
      params.pictures.push_back(
          std::make_shared<const Picture>(std::move(picture)));
    }
  }
  ASSIGN_OR_RETURN(const QuantizeReport report,
                   catalog_.Quantize(params, progress));
  call.record().AddAttributes(
      {{"ounce.model.method", report.method},
       {"ounce.quantize.method_before", report.method_before},
       {"ounce.quantize.bytes_before", report.stored_bytes_before},
       {"ounce.quantize.bytes_after", report.stored_bytes_after}});
  v1::QuantizeProgress last;
  last.set_stage(report.refusal.ok() ? v1::QUANTIZE_STAGE_DONE
                                     : v1::QUANTIZE_STAGE_EVALUATING);
  last.set_tensors_done(static_cast<int64_t>(report.tensors.size()));
  last.set_tensors_total(static_cast<int64_t>(report.tensors.size()));
  *last.mutable_report() = ToProto(report);
  return ProgressCall::With(std::move(last), report.refusal);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ModelAdminService::Quantize(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  return BeginTelling(context, *bytes, quantizations_,
                      &ModelAdminService::RunQuantize);
}

absl::StatusOr<ProgressCall::Ending> ModelAdminService::RunEvaluate(
    v1::EvaluateRequest& request, ProgressCall& call) {
  RETURN_IF_ERROR(CheckModelName("model", request.model()));
  ASSIGN_OR_RETURN(const std::shared_ptr<ServedModel> model,
                   catalog_.Find(request.model()));
  v1::EvaluateProgress message;
  const absl::Time start = clock_.Now();
  v1::EvaluateReport report;
  report.set_model(request.model());
  const bool detects = TaskOf<ObjectDetection>(model).ok();
  if (!request.text().empty() || (!detects && request.pictures().empty())) {
    ASSIGN_OR_RETURN(const auto generation, TaskOf<TextGeneration>(model));
    ASSIGN_OR_RETURN(const EvaluateParams params,
                     CheckEvaluate(request, model->info().max_positions));
    ASSIGN_OR_RETURN(const TextQuality quality,
                     generation->evaluator->Evaluate(
                         params, [&](const EvaluateUpdate& update) {
                           message.set_tokens_done(update.tokens_done);
                           message.set_tokens_total(update.tokens_total);
                           return call.Report(message);
                         }));
    message.set_tokens_done(message.tokens_total());
    *report.mutable_quality() = ToProto(quality);
  } else {
    ASSIGN_OR_RETURN(const auto detection, TaskOf<ObjectDetection>(model));
    ASSIGN_OR_RETURN(EvaluateDetectionParams params,
                     CheckEvaluateDetection(request));
    params.read_picture = [&](int64_t i) {
      return ReadPicture(
          i, std::move(*request.mutable_pictures(static_cast<int>(i))),
          *detection->processor);
    };
    message.set_pictures_total(params.num_pictures);
    ASSIGN_OR_RETURN(
        const DetectionQuality quality,
        detection->evaluator->Evaluate(params, [&](int64_t pictures_done) {
          message.set_pictures_done(pictures_done);
          return call.Report(message);
        }));
    message.set_pictures_done(params.num_pictures);
    *report.mutable_detection() = ToProto(quality);
  }
  report.set_seconds(absl::ToDoubleSeconds(clock_.Now() - start));
  *message.mutable_report() = std::move(report);
  return ProgressCall::With(std::move(message), absl::OkStatus());
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ModelAdminService::Evaluate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  return BeginTelling(context, *bytes, evaluations_,
                      &ModelAdminService::RunEvaluate);
}

absl::StatusOr<ProgressCall::Ending> ModelAdminService::RunSave(
    v1::SaveModelRequest& request, ProgressCall& call) {
  ASSIGN_OR_RETURN(const SaveParams params, CheckSave(request));
  v1::SaveModelProgress message;
  ASSIGN_OR_RETURN(const SaveReport report,
                   catalog_.Save(params, [&](const SaveUpdate& update) {
                     message.set_bytes_done(update.bytes_done);
                     message.set_bytes_total(update.bytes_total);
                     message.set_tensor(update.tensor);
                     return call.Report(message);
                   }));
  call.record().AddAttributes({{"ounce.save.format", report.format},
                               {"ounce.save.bytes", report.weight_bytes}});
  message.set_bytes_done(message.bytes_total());
  message.clear_tensor();
  *message.mutable_report() = ToProto(report);
  return ProgressCall::With(std::move(message), absl::OkStatus());
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ModelAdminService::SaveModel(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  return BeginTelling(context, *bytes, saves_, &ModelAdminService::RunSave);
}

absl::StatusOr<v1::InspectResponse> ModelAdminService::RunInspect(
    const v1::InspectRequest& request, const SlowCall& call) {
  ASSIGN_OR_RETURN(InspectParams params, CheckInspect(request));
  params.proceed = [&call] { return call.CheckWanted(); };
  ASSIGN_OR_RETURN(const Inspection inspection, catalog_.Inspect(params));
  return ToProto(inspection);
}

grpc::ServerUnaryReactor* ModelAdminService::Inspect(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return jobs_.Begin<v1::InspectRequest, v1::InspectResponse>(
      {context, request, response}, inspections_,
      [this](const v1::InspectRequest& in, const SlowCall& call) {
        return RunInspect(in, call);
      });
}

grpc::ServerUnaryReactor* ModelAdminService::ListMethods(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerNow<v1::ListMethodsRequest, v1::ListMethodsResponse>(
      reception_, {context, request, response},
      [this](const v1::ListMethodsRequest&, v1::ListMethodsResponse* out) {
        const MethodList list = catalog_.Methods();
        for (const MethodInfo& info : list.methods) {
          SetMethod(info, out->add_methods());
        }
        for (const MethodInfo& info : list.stages) {
          SetMethod(info, out->add_stages());
        }
        for (const MethodParameterInfo& key : list.rule_keys) {
          SetParameter(key, out->add_rule_keys());
        }
        for (const SaveFormatInfo& format : list.save_formats) {
          v1::SaveFormat* f = out->add_save_formats();
          f->set_name(format.name);
          f->set_summary(format.summary);
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ModelAdminService::GetServer(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return AnswerNow<v1::GetServerRequest, v1::Server>(
      reception_, {context, request, response},
      [this](const v1::GetServerRequest&, v1::Server* out) {
        const ServerInfo info = server_info_();
        out->set_version(info.version);
        out->set_instruction_set(info.instruction_set);
        out->set_threads(info.threads);
        out->set_compute(info.compute);
        out->set_start_unix_seconds(
            absl::ToDoubleSeconds(info.start - absl::UnixEpoch()));
        out->set_uptime_seconds(absl::ToDoubleSeconds(info.uptime));
        out->set_memory_limit_bytes(info.memory_limit_bytes);
        out->set_memory_used_bytes(info.memory_used_bytes);
        out->set_config(info.config);
        out->set_cpu_seconds(info.cpu_seconds);
        if (info.energy_joules.has_value()) {
          out->set_energy_joules(*info.energy_joules);
        }
        out->set_save_root(info.save_root);
        return absl::OkStatus();
      });
}

}  // namespace ounce::server
