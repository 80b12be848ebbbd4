#include "client/measured_copy.h"

#include <cstddef>
#include <iostream>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/json.h"
#include "client/report.h"
#include "client/speed.h"

namespace ounce::client {
namespace {

// The same for all runs, so that one which is left behind is met.
std::string CopyName(const std::string& model) {
  constexpr char kSuffix[] = ".compare";
  constexpr size_t kLongestName = 64;
  return model.substr(0, kLongestName - (sizeof(kSuffix) - 1)) + kSuffix;
}

// Takes the copy out of service, also when the calls of `client` are cancelled.
void Unload(const Client& client, const std::string& copy) {
  // While the server notices that a call is cancelled, the copy is still being
  // made.
  constexpr int kMostTries = 250;
  const std::unique_ptr<Client> asking = client.WithTimeout(absl::Seconds(20));
  v1::UnloadModelRequest request;
  request.set_name(copy);
  request.set_force(true);
  absl::Status status = absl::OkStatus();
  for (int i = 0; i < kMostTries; ++i) {
    status = asking->UnloadModel(request).status();
    if (status.ok() || absl::IsNotFound(status)) return;
    if (!absl::IsAborted(status)) break;
    WaitAMoment();
  }
  std::cerr << "ounce: '" << copy << "' may still be served ("
            << PrintableLines(status.message()) << "); ounce unload " << copy
            << " ends it" << std::endl;
}

// What the server says of the spec, and not of all that is asked. Once the copy
// is made, what is wrong with a request is so for all.
bool ConcernsAll(const absl::Status& status, bool is_made) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return is_made;
    case absl::StatusCode::kOk:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInternal:
      return false;
    default:
      return true;
  }
}

void Set(const char* key, std::optional<double> value, Json* result) {
  if (value.has_value()) (*result)[key] = *value;
}

}  // namespace

MeasuredCopy::MeasuredCopy(Client& client, const Subject& subject, bool json)
    : client_(client),
      subject_(subject),
      model_(subject.model.name()),
      copy_(CopyName(model_)),
      json_(json) {}

absl::Status MeasuredCopy::CheckName() {
  v1::GetModelRequest request;
  request.set_name(copy_);
  const absl::Status status = client_.GetModel(request).status();
  if (absl::IsNotFound(status)) return absl::OkStatus();
  RETURN_IF_ERROR(status);
  return absl::AlreadyExistsError(
      absl::StrCat("'", copy_,
                   "' is on the server already, which is the name that a "
                   "second copy of '",
                   model_,
                   "' gets here; if no other compare is at "
                   "work on it, one was killed: ounce unload ",
                   copy_, " ends it"));
}

absl::Status MeasuredCopy::Judge(const std::string& spec) {
  v1::InspectRequest request;
  request.set_model(model_);
  request.set_plan(spec);
  return client_.Inspect(request).status();
}

MeasuredCopy::Outcome MeasuredCopy::Measure(const std::string& spec,
                                            const std::string& place,
                                            const std::string& folder,
                                            Json* result) {
  doing_ = absl::StrCat(place, " ", spec);
  const absl::Status built = Build(spec, result);
  // Otherwise nothing is there, or it is another's.
  const bool may_be_there = built.ok() || absl::IsCancelled(built) ||
                            absl::IsDeadlineExceeded(built) ||
                            absl::IsUnavailable(built);
  absl::Status measured = built;
  if (built.ok()) {
    measured = subject_.pictures.empty() ? MeasureText(result)
                                         : MeasurePictures(result);
  }
  absl::Status saved = absl::OkStatus();
  if (measured.ok() && !folder.empty()) saved = Save(folder, result);
  if (!json_) shown_.End();
  if (may_be_there) Unload(client_, copy_);
  // Nothing that follows would come to an end either.
  if (absl::IsCancelled(saved) || absl::IsDeadlineExceeded(saved) ||
      absl::IsUnavailable(saved)) {
    measured = saved;
  }
  return {measured, ConcernsAll(measured, /*is_made=*/built.ok()), saved};
}

void MeasuredCopy::Tell(const std::string& bar, const std::string& stage,
                        int64_t done, int64_t total) {
  if (json_) return;
  shown_.Show(absl::StrCat(doing_, " ", bar), absl::StrCat(doing_, ": ", stage),
              done, total);
}

absl::Status MeasuredCopy::Build(const std::string& spec, Json* result) {
  v1::QuantizeRequest request;
  request.set_model(model_);
  request.set_plan(spec);
  request.set_as(copy_);
  for (const std::string& picture : subject_.pictures) {
    request.add_pictures(picture);
  }
  v1::QuantizeReport report;
  RETURN_IF_ERROR(
      client_.Quantize(request, [&](const v1::QuantizeProgress& progress) {
        if (progress.has_report()) report = progress.report();
        Tell(ProgressBar(progress), StageName(progress.stage()),
             progress.tensors_done(), progress.tensors_total());
        return true;
      }));
  AddReport(report, result);
  return absl::OkStatus();
}

absl::Status MeasuredCopy::MeasureText(Json* result) {
  v1::EvaluateRequest request;
  request.set_model(copy_);
  request.set_text(subject_.text);
  request.set_window(static_cast<uint32_t>(subject_.window));
  request.set_stride(static_cast<uint32_t>(subject_.stride));
  request.set_compare_with_floats(true);
  request.set_text_name(subject_.text_name);
  v1::TextQuality quality;
  RETURN_IF_ERROR(
      client_.Evaluate(request, [&](const v1::EvaluateProgress& progress) {
        if (progress.has_report()) quality = progress.report().quality();
        Tell(ProgressBar(progress), "evaluating", progress.tokens_done(),
             progress.tokens_total());
        return true;
      }));
  Json& figures = *result;
  figures["perplexity"] = quality.perplexity();
  figures["bits_per_byte"] = quality.bits_per_byte();
  figures["kl_divergence"] = quality.floats().mean_kl_divergence();
  figures["top1_agreement"] = quality.floats().top1_agreement();
  figures["float_perplexity"] = quality.floats().perplexity();
  figures["counted_tokens"] = quality.counted_tokens();
  Tell("generating", "generating", 0, 0);
  ASSIGN_OR_RETURN(
      const TextSpeed speed,
      MeasureTextSpeed(client_, copy_, subject_.ids, subject_.prompt_tokens,
                       subject_.new_tokens));
  Set("tokens_per_second", speed.tokens_per_second, result);
  Set("tokens_per_second_of_8", speed.tokens_per_second_of_8, result);
  Set("first_token_seconds", speed.first_token_seconds, result);
  Set("cpu_seconds_per_token", speed.per_token.cpu_seconds, result);
  Set("joules_per_token", speed.per_token.joules, result);
  return absl::OkStatus();
}

absl::Status MeasuredCopy::MeasurePictures(Json* result) {
  Tell("detecting", "detecting", 0, 0);
  ASSIGN_OR_RETURN(const PictureSpeed speed,
                   MeasurePictureSpeed(client_, copy_, subject_.pictures));
  Set("seconds_per_picture", speed.seconds, result);
  Set("cpu_seconds_per_picture", speed.per_picture.cpu_seconds, result);
  Set("joules_per_picture", speed.per_picture.joules, result);
  return absl::OkStatus();
}

absl::Status MeasuredCopy::Save(const std::string& folder, Json* result) {
  v1::SaveModelRequest request;
  request.set_model(copy_);
  request.set_folder(folder);
  v1::SaveModelReport report;
  const absl::Status status =
      client_.SaveModel(request, [&](const v1::SaveModelProgress& progress) {
        if (progress.has_report()) report = progress.report();
        Tell(ProgressBar(progress), "saving", progress.bytes_done(),
             progress.bytes_total());
        return true;
      });
  if (status.ok()) {
    (*result)["saved"] = {{"folder", report.folder()},
                          {"format", report.format()},
                          {"weight_bytes", report.weight_bytes()}};
  } else {
    (*result)["not_saved"] = ToJson(status);
  }
  return status;
}

}  // namespace ounce::client
