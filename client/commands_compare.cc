// compare.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/comparison.h"
#include "client/input_file.h"
#include "client/picture_file.h"
#include "client/progress_line.h"
#include "client/report.h"
#include "client/speed.h"

namespace ounce::client {
namespace {

struct CompareFlags {
  std::string model, methods, text, pictures, out;
  uint32_t window = 0;
  uint32_t stride = 0;
  uint32_t tokens = 64;
  uint32_t prompt = 32;
};

// What all specs are measured by.
struct Subject {
  v1::Model model;
  std::string text;
  std::vector<int32_t> ids;  // the beginning of the text, for prompts
  int64_t window = 0;
  int64_t stride = 0;
  int64_t prompt_tokens = 0;
  int64_t new_tokens = 0;
  std::vector<std::string> pictures;  // bytes
};

// Of the second copy. The same for all runs, so that one which is left behind
// is met.
std::string CopyName(const std::string& model) {
  constexpr char kSuffix[] = ".compare";
  constexpr size_t kLongestName = 64;
  return model.substr(0, kLongestName - (sizeof(kSuffix) - 1)) + kSuffix;
}

std::vector<std::string> Specs(const std::string& methods) {
  std::vector<std::string> specs;
  for (const absl::string_view part : absl::StrSplit(methods, ';')) {
    const std::string spec(absl::StripAsciiWhitespace(part));
    if (spec.empty() || std::count(specs.begin(), specs.end(), spec) > 0) {
      continue;
    }
    specs.push_back(spec);
  }
  return specs;
}

// FNV-1a: whether a text is the one that it was.
std::string Fingerprint(const std::string& bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : bytes) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return absl::StrFormat("%016x", hash);
}

absl::StatusOr<std::vector<std::string>> FewPicturesIn(
    const std::string& folder) {
  constexpr size_t kMostPictures = 64;  // of one Quantize
  ASSIGN_OR_RETURN(std::vector<std::string> paths, PicturesIn(folder));
  if (paths.empty()) {
    return absl::NotFoundError(
        absl::StrCat("there is no ", PictureEndings(), " in '", folder, "'"));
  }
  if (paths.size() > kMostPictures) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", folder, "' has ", paths.size(),
                     " pictures, which may be ", kMostPictures, " at most"));
  }
  return paths;
}

bool Can(const v1::Model& model, v1::Task task) {
  return std::count(model.tasks().begin(), model.tasks().end(), task) > 0;
}

// The ids of its beginning.
absl::StatusOr<std::vector<int32_t>> IdsOf(Client& client,
                                           const std::string& model,
                                           const std::string& text) {
  constexpr size_t kBytes = 64 << 10;
  size_t end = std::min(text.size(), kBytes);
  while (end > 0 && end < text.size() &&
         (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) {
    --end;  // not within a character
  }
  v1::TokenizeRequest request;
  request.set_model(model);
  request.set_text(text.substr(0, end));
  ASSIGN_OR_RETURN(const v1::TokenizeResponse response,
                   client.Tokenize(request));
  return std::vector<int32_t>(response.token_ids().begin(),
                              response.token_ids().end());
}

absl::Status PrepareText(Client& client, const CompareFlags& flags,
                         Subject* subject, Json* settings) {
  if (flags.text.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", flags.model,
                     "' generates text; give the text to measure it on "
                     "with --text FILE"));
  }
  if (!flags.pictures.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", flags.model, "' generates text and sees no --pictures"));
  }
  ASSIGN_OR_RETURN(subject->text,
                   ReadText(flags.text, "compare on a part of it"));
  ASSIGN_OR_RETURN(subject->ids, IdsOf(client, flags.model, subject->text));
  if (subject->ids.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(InputName(flags.text), ": has no tokens"));
  }
  const int64_t positions = subject->model.max_positions();
  subject->prompt_tokens = std::min({int64_t{flags.prompt},
                                     static_cast<int64_t>(subject->ids.size()),
                                     std::max<int64_t>(1, positions / 2)});
  subject->new_tokens = flags.tokens;
  // What the server takes for 0.
  constexpr int64_t kDefaultWindow = 1024;
  subject->window =
      flags.window > 0 ? flags.window : std::min(kDefaultWindow, positions);
  subject->stride = flags.stride > 0 ? flags.stride : (subject->window + 1) / 2;
  (*settings)["text"] = FileName(InputName(flags.text));
  (*settings)["text_bytes"] = subject->text.size();
  (*settings)["text_fingerprint"] = Fingerprint(subject->text);
  (*settings)["window"] = subject->window;
  (*settings)["stride"] = subject->stride;
  (*settings)["prompt_tokens"] = subject->prompt_tokens;
  (*settings)["new_tokens"] = subject->new_tokens;
  return absl::OkStatus();
}

absl::Status PreparePictures(const CompareFlags& flags, Subject* subject,
                             Json* settings) {
  if (flags.pictures.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", flags.model,
                     "' detects objects; give the pictures to measure it "
                     "on with --pictures DIR"));
  }
  if (!flags.text.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", flags.model, "' detects objects and reads no --text"));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> paths,
                   FewPicturesIn(flags.pictures));
  ASSIGN_OR_RETURN(subject->pictures, ReadPictures(paths));
  Json names = Json::array();
  for (const std::string& path : paths) names.push_back(FileName(path));
  (*settings)["pictures"] = std::move(names);
  (*settings)["pictures_fingerprint"] =
      Fingerprint(absl::StrJoin(subject->pictures, ""));
  return absl::OkStatus();
}

// What there is to measure, and, as a comparison without results, how.
absl::StatusOr<Json> Prepare(Client& client, const CompareFlags& flags,
                             Subject* subject) {
  v1::GetModelRequest request;
  request.set_name(flags.model);
  ASSIGN_OR_RETURN(subject->model, client.GetModel(request));
  ASSIGN_OR_RETURN(const v1::Server server, client.GetServer());
  Json settings = {{"model", flags.model},
                   {"path", subject->model.path()},
                   {"architecture", subject->model.architecture()},
                   {"parameters", subject->model.parameters()},
                   {"checkpoint_bytes", subject->model.checkpoint_bytes()},
                   {"compute", subject->model.compute()},
                   {"server_version", server.version()},
                   {"instruction_set", server.instruction_set()},
                   {"threads", server.threads()}};
  if (Can(subject->model, v1::TASK_GENERATE)) {
    RETURN_IF_ERROR(PrepareText(client, flags, subject, &settings));
  } else if (Can(subject->model, v1::TASK_DETECT_OBJECTS)) {
    RETURN_IF_ERROR(PreparePictures(flags, subject, &settings));
  } else {
    return absl::FailedPreconditionError(
        absl::StrCat("'", flags.model,
                     "' is not served yet, or does what this program does "
                     "not know"));
  }
  Json notes = Json::array();
  notes.push_back(
      "Of the weights that a spec stores: their bits, fields beside the codes "
      "included, and their error, the root mean square of the tensors' "
      "relative "
      "ones, each weighted by its elements.");
  notes.push_back(
      "Speeds are left out of what was over too soon to tell; more "
      "--new_tokens take longer.");
  if (!server.has_energy_joules()) {
    notes.push_back(
        "Joules are left out: the server can't read them (RAPL in "
        "/sys/class/powercap).");
  }
  return Json{{"model", flags.model},
              {"settings", std::move(settings)},
              {"notes", std::move(notes)},
              {"results", Json::array()}};
}

// What would be the same for every other spec.
bool ConcernsAll(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kInternal:
      return false;
    default:
      return true;
  }
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
  Mutex mu;
  CondVar never;
  const MutexLock lock(&mu);
  for (int i = 0; i < kMostTries; ++i) {
    status = asking->UnloadModel(request).status();
    if (status.ok() || absl::IsNotFound(status)) return;
    if (!absl::IsAborted(status)) break;
    never.WaitFor(&mu, absl::Milliseconds(20));
  }
  std::cerr << "ounce: '" << copy << "' may still be served ("
            << PrintableLines(status.message()) << "); ounce unload " << copy
            << " ends it" << std::endl;
}

class Comparing {
 public:
  Comparing(Client& client, const Subject& subject, bool json)
      : client_(client),
        subject_(subject),
        model_(subject.model.name()),
        copy_(CopyName(model_)),
        json_(json) {}

  absl::Status CheckCopy() {
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

  // Figures of one spec, into `result`. `place` tells which one it is: "2/7".
  absl::Status Measure(const std::string& spec, const std::string& place,
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
    if (!json_) shown_.End();
    if (may_be_there) Unload(client_, copy_);
    // The copy was made, so what is wrong with the request is so for all.
    if (built.ok() && absl::IsInvalidArgument(measured)) {
      return absl::FailedPreconditionError(std::string(measured.message()));
    }
    return measured;
  }

 private:
  void Tell(const std::string& bar, const std::string& stage, int64_t done,
            int64_t total) {
    if (json_) return;
    shown_.Show(absl::StrCat(doing_, " ", bar),
                absl::StrCat(doing_, ": ", stage), done, total);
  }

  absl::Status Build(const std::string& spec, Json* result) {
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

  absl::Status MeasureText(Json* result) {
    v1::EvaluateRequest request;
    request.set_model(copy_);
    request.set_text(subject_.text);
    request.set_window(static_cast<uint32_t>(subject_.window));
    request.set_stride(static_cast<uint32_t>(subject_.stride));
    request.set_compare_with_floats(true);
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

  absl::Status MeasurePictures(Json* result) {
    Tell("detecting", "detecting", 0, 0);
    ASSIGN_OR_RETURN(const PictureSpeed speed,
                     MeasurePictureSpeed(client_, copy_, subject_.pictures));
    Set("seconds_per_picture", speed.seconds, result);
    Set("cpu_seconds_per_picture", speed.per_picture.cpu_seconds, result);
    Set("joules_per_picture", speed.per_picture.joules, result);
    return absl::OkStatus();
  }

  static void Set(const char* key, std::optional<double> value, Json* result) {
    if (value.has_value()) (*result)[key] = *value;
  }

  Client& client_;
  const Subject& subject_;
  const std::string model_;
  const std::string copy_;
  const bool json_;
  std::string doing_;
  ProgressLine shown_;
};

bool IsDone(const Json& comparison, const std::string& spec) {
  for (const Json& result : comparison["results"]) {
    if (result["spec"] == spec && !result.contains("error")) return true;
  }
  return false;
}

// In place of an earlier result of its spec.
void Put(Json result, Json* comparison) {
  for (Json& other : (*comparison)["results"]) {
    if (other["spec"] != result["spec"]) continue;
    other = std::move(result);
    return;
  }
  (*comparison)["results"].push_back(std::move(result));
}

int Compare(Client& client, const CompareFlags& flags, bool json) {
  const std::vector<std::string> specs = Specs(flags.methods);
  // From here on an interrupt lets the copy be unloaded.
  const auto open = client.HoldOpen();
  Subject subject;
  absl::StatusOr<Json> prepared = Prepare(client, flags, &subject);
  if (!prepared.ok()) return Report(prepared.status());
  Json comparison = *std::move(prepared);
  std::error_code error;
  std::filesystem::create_directories(flags.out, error);
  if (error) {
    return Report(absl::DataLossError(absl::StrCat(
        "cannot make the folder '", flags.out, "': ", error.message())));
  }
  absl::StatusOr<std::optional<Json>> before =
      ReadComparison(flags.out, comparison);
  if (!before.ok()) return Report(before.status());
  if (before->has_value()) comparison = **std::move(before);

  Comparing comparing(client, subject, json);
  if (const absl::Status status = comparing.CheckCopy(); !status.ok()) {
    return Report(status);
  }
  int code = 0;
  size_t num_done = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    const std::string& spec = specs[i];
    if (IsDone(comparison, spec)) {
      ++num_done;
      continue;
    }
    Json result = {{"spec", spec}};
    const absl::Status status = comparing.Measure(
        spec, absl::StrCat(i + 1, "/", specs.size()), &result);
    if (!status.ok()) {
      code = std::max(
          code,
          Report(ConcernsAll(status) ? status : WithContext(status, spec)));
      if (ConcernsAll(status)) break;
      result = {{"spec", spec}, {"error", ToJson(status)}};
    }
    absl::Status written = json ? Print(JsonLine(result)) : absl::OkStatus();
    Put(std::move(result), &comparison);
    written.Update(WriteComparison(flags.out, comparison));
    if (!written.ok()) return std::max(code, Report(written));
  }
  if (num_done > 0) {
    std::cerr << "ounce: " << num_done << " of " << specs.size()
              << " were measured before" << std::endl;
  }
  if (json || comparison["results"].empty()) return code;
  return std::max(code, Report(Print(ComparisonTable(comparison))));
}

}  // namespace

void AddCompareCommand(CLI::App& app, Command* command) {
  constexpr uint64_t kLargest = UINT32_MAX;
  auto* sub = app.add_subcommand(
      "compare", "Measure a model by several methods, side by side");
  auto flags = std::make_shared<CompareFlags>();
  sub->add_option("MODEL", flags->model, "A served model")
      ->required()
      ->type_name("");
  sub->add_option("--methods", flags->methods,
                  "SPECs (ounce methods) or PLANs (ounce quantize --help)\n"
                  "with ; between; keep is the checkpoint as it is")
      ->required()
      ->check(NotEmpty("specs with ; between"))
      ->type_name("'SPEC;...'");
  sub->add_option("--out", flags->out,
                  "A folder for results.json, .csv and .md")
      ->required()
      ->check(NotEmpty("a folder"))
      ->type_name("DIR");
  sub->add_option("--text", flags->text,
                  "What a model that generates text is measured on: a file of\n"
                  "UTF-8, at most 4 MiB; - is stdin")
      ->type_name("FILE");
  sub->add_option("--pictures", flags->pictures,
                  "What a model that detects objects is measured on: a folder\n"
                  "of at most 64 picture files")
      ->type_name("DIR");
  sub->add_option("--window", flags->window,
                  "Of the perplexity, as ounce evaluate has them [1024, or as\n"
                  "many as the model has positions]")
      ->transform(WholeNumber(kLargest))
      ->type_name("N");
  sub->add_option("--stride", flags->stride, "[half a window]")
      ->transform(WholeNumber(kLargest))
      ->type_name("N");
  sub->add_option(Names("--new_tokens"), flags->tokens,
                  "Of each stream whose speed is measured [64]")
      ->transform(WholeNumber(kLargest))
      ->type_name("N");
  sub->add_option(Names("--prompt_tokens"), flags->prompt, "Before them [32]")
      ->transform(WholeNumber(kLargest))
      ->type_name("N");
  sub->footer(absl::StrCat(
      "Each is made beside MODEL under the name MODEL.compare, measured and "
      "unloaded; MODEL\nserves on as it is. What is in --out already is not "
      "measured again.\n",
      sub->get_footer()));
  sub->callback([flags, command] {
    if (Specs(flags->methods).empty()) {
      throw CLI::ValidationError("--methods", "must be specs with ; between");
    }
    if (flags->tokens == 0 || flags->prompt == 0) {
      throw CLI::ValidationError("--new_tokens, --prompt_tokens",
                                 "must be above 0");
    }
    *command = [flags](Client& client, bool json) {
      return Compare(client, *flags, json);
    };
  });
}

}  // namespace ounce::client
