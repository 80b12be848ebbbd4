// compare.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/comparison.h"
#include "client/comparison_subject.h"
#include "client/measured_copy.h"
#include "client/variant_names.h"
#include "google/rpc/error_details.pb.h"

namespace ounce::client {
namespace {

struct CompareFlags {
  SubjectFlags subject;
  std::string methods, out, save;
};

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

// What was measured of it; null if nothing was.
const Json* MeasuredOf(const Json& comparison, const std::string& spec) {
  for (const Json& result : comparison["results"]) {
    if (result["spec"] == spec && !result.contains("error")) return &result;
  }
  return nullptr;
}

// The same, or null if it is to be saved too and was not.
const Json* DoneOf(const Json& comparison, const std::string& spec,
                   bool is_saved) {
  const Json* measured = MeasuredOf(comparison, spec);
  return measured != nullptr && (!is_saved || measured->contains("saved"))
             ? measured
             : nullptr;
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

// Whether the server says that the plan is none, whatever the model is.
bool IsAboutPlan(const absl::Status& status) {
  const absl::optional<absl::Cord> payload =
      status.GetPayload("type.googleapis.com/google.rpc.BadRequest");
  google::rpc::BadRequest details;
  if (!payload.has_value() || !details.ParseFromString(std::string(*payload))) {
    return false;
  }
  return std::any_of(
      details.field_violations().begin(), details.field_violations().end(),
      [](const auto& violation) { return violation.field() == "plan"; });
}

// Why this model can't be stored by some of the specs, by these.
using Refusals = std::map<std::string, absl::Status>;

// All that are still to be measured, before the first of them is: what is no
// spec at all, each by name, is an error.
absl::StatusOr<Refusals> Judge(const std::vector<std::string>& specs,
                               const Json& comparison, bool is_saved,
                               MeasuredCopy* copy) {
  Refusals refusals;
  std::vector<std::string> no_specs;
  for (const std::string& spec : specs) {
    if (DoneOf(comparison, spec, is_saved) != nullptr) continue;
    const absl::Status status = copy->Judge(spec);
    if (IsAboutPlan(status)) {
      no_specs.push_back(absl::StrCat("  ", spec, ": ", status.message()));
    } else if (absl::IsInvalidArgument(status) ||
               absl::IsUnimplemented(status)) {
      refusals[spec] = status;
    } else {
      RETURN_IF_ERROR(status);
    }
  }
  if (no_specs.empty()) return refusals;
  return absl::InvalidArgumentError(absl::StrCat(
      "--methods: ", no_specs.size(), " of ", specs.size(),
      " can't be, and nothing was measured:\n", absl::StrJoin(no_specs, "\n")));
}

absl::Status CheckSaves(Client& client) {
  ASSIGN_OR_RETURN(const v1::Server server, client.GetServer());
  if (!server.save_root().empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "--save: the server saves nothing, as it was started without "
      "--save_root; "
      "start it with --save_root DIR, or leave --save out");
}

int Compare(Client& client, const CompareFlags& flags, bool json) {
  const std::vector<std::string> specs = Specs(flags.methods);
  const std::vector<std::string> names = VariantNames(specs);
  const bool saves = !flags.save.empty();
  // From here on an interrupt lets the copy be unloaded.
  const auto open = client.HoldOpen();
  Subject subject;
  absl::StatusOr<Json> prepared =
      PrepareComparison(client, flags.subject, &subject);
  if (!prepared.ok()) return Report(prepared.status());
  Json comparison = *std::move(prepared);
  absl::StatusOr<std::optional<Json>> before =
      ReadComparison(flags.out, comparison);
  if (!before.ok()) return Report(before.status());
  if (before->has_value()) comparison = **std::move(before);

  MeasuredCopy copy(client, subject, json);
  absl::Status status = copy.CheckName();
  if (status.ok() && saves) status = CheckSaves(client);
  if (!status.ok()) return Report(status);
  const absl::StatusOr<Refusals> refusals =
      Judge(specs, comparison, saves, &copy);
  if (!refusals.ok()) return Report(refusals.status());
  std::error_code error;
  std::filesystem::create_directories(flags.out, error);
  if (error) {
    return Report(absl::DataLossError(absl::StrCat(
        "cannot make the folder '", flags.out, "': ", error.message())));
  }
  int code = 0;
  size_t num_done = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    const std::string& spec = specs[i];
    if (const Json* done = DoneOf(comparison, spec, saves)) {
      ++num_done;
      if (!json) continue;
      status = Print(JsonLine(*done));
      if (!status.ok()) return std::max(code, Report(status));
      continue;
    }
    Json result = {{"spec", spec}};
    const auto refusal = refusals->find(spec);
    const auto [failed, concerns_all, saved] =
        refusal != refusals->end()
            ? MeasuredCopy::Outcome{.status = refusal->second}
            : copy.Measure(spec, absl::StrCat(i + 1, "/", specs.size()),
                           saves ? absl::StrCat(flags.save, "/", names[i]) : "",
                           &result);
    if (concerns_all) {
      code = std::max(code, Report(failed));
      break;
    }
    if (!failed.ok()) {
      code = std::max(code, Report(WithContext(failed, spec)));
      result = {{"spec", spec}, {"error", ToJson(failed)}};
    } else if (!saved.ok()) {
      code = std::max(
          code, Report(WithContext(saved, absl::StrCat(spec, ": not saved"))));
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
  SubjectFlags& subject = flags->subject;
  sub->add_option("MODEL", subject.model, "A served model")
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
  sub->add_option(
         "--save", flags->save,
         "Keep what is measured: a folder each in this one, below the\n"
         "server's --save_root (ounce save --help)")
      ->check(NotEmpty("a folder"))
      ->type_name("FOLDER");
  sub->add_option("--text", subject.text,
                  "What a model that generates text is measured on: a file of\n"
                  "UTF-8, at most 4 MiB; - is stdin")
      ->type_name("FILE");
  sub->add_option("--pictures", subject.pictures,
                  "What a model that detects objects is measured on: a folder\n"
                  "of at most 64 picture files")
      ->type_name("DIR");
  sub->add_option("--window", subject.window,
                  "Of the perplexity, as ounce evaluate has them [1024, or as\n"
                  "many as the model has positions]")
      ->transform(WholeNumber(kLargest))
      ->type_name("N");
  sub->add_option("--stride", subject.stride, "[half a window]")
      ->transform(WholeNumber(kLargest))
      ->type_name("N");
  sub->add_option(Names("--new_tokens"), subject.tokens,
                  "Of each stream whose speed is measured [64]")
      ->transform(WholeNumber(kLargest))
      ->type_name("N");
  sub->add_option(Names("--prompt_tokens"), subject.prompt, "Before them [32]")
      ->transform(WholeNumber(kLargest))
      ->type_name("N");
  PutAboveFooter(
      sub,
      "Each is made beside MODEL under the name MODEL.compare, measured and "
      "unloaded; MODEL\nserves on as it is. What is in --out already is not "
      "measured again, unless it is\nto be saved and was not.\n");
  sub->callback([flags, command] {
    if (Specs(flags->methods).empty()) {
      throw CLI::ValidationError("--methods", "must be specs with ; between");
    }
    if (flags->subject.tokens == 0 || flags->subject.prompt == 0) {
      throw CLI::ValidationError("--new_tokens, --prompt_tokens",
                                 "must be above 0");
    }
    *command = [flags](Client& client, bool json) {
      return Compare(client, *flags, json);
    };
  });
}

}  // namespace ounce::client
