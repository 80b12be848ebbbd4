// quantize.
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/input_file.h"
#include "client/picture_file.h"
#include "client/progress_line.h"
#include "client/report.h"

namespace ounce::client {
namespace {

struct QuantizeFlags {
  std::string model, method, plan, as;
  std::vector<std::string> include, exclude, pictures, samples;
  bool probe = false;
  std::optional<double> max_perplexity_increase, max_kl, max_box_drift;
  bool convolutions = false;
  bool dry_run = false;
  bool all = false;
};

constexpr char kPlanHelp[] =
    R"(A PLAN is rules with single spaces between; the first that matches counts:
  SELECTOR=SPEC  SELECTOR: a glob over modules, @linear, @head, @embedding or
                 @convolution, or both, GLOB@head; SPEC may be keep
  SPEC           at the end: all other linear layers (a float method: all else)
What no rule is for keeps its dtype, as with keep. Reports show the plan.
  ounce quantize code --plan 'lm_head=keep *.mlp.*=bfloat16 linear'
)";

absl::Status Quantize(Client& client, const QuantizeFlags& flags, bool json) {
  v1::QuantizeRequest request;
  request.set_model(flags.model);
  request.set_method(flags.method);
  request.mutable_include()->Add(flags.include.begin(), flags.include.end());
  request.mutable_exclude()->Add(flags.exclude.begin(), flags.exclude.end());
  request.set_as(flags.as);
  request.set_dry_run(flags.dry_run);
  request.set_convolutions(flags.convolutions);
  request.set_plan(flags.plan);
  ASSIGN_OR_RETURN(std::vector<std::string> pictures,
                   ReadPictures(flags.pictures));
  for (std::string& picture : pictures) {
    request.add_pictures(std::move(picture));
  }
  for (const std::string& path : flags.samples) {
    ASSIGN_OR_RETURN(*request.add_texts(), ReadText(path, "take a part of it"));
  }
  request.set_probe(flags.probe);
  if (flags.max_perplexity_increase.has_value()) {
    request.set_max_perplexity_increase(*flags.max_perplexity_increase);
  }
  if (flags.max_kl.has_value()) request.set_max_kl(*flags.max_kl);
  if (flags.max_box_drift.has_value()) {
    request.set_max_box_drift(*flags.max_box_drift);
  }
  v1::QuantizeReport report;
  absl::Status written = absl::OkStatus();
  ProgressLine shown;
  absl::Status status =
      client.Quantize(request, [&](const v1::QuantizeProgress& progress) {
        if (progress.has_report()) report = progress.report();
        if (json) {
          written = Print(JsonLine(ToJson(progress)));
        } else {
          const bool samples =
              progress.stage() == v1::QUANTIZE_STAGE_EVALUATING;
          shown.Show(
              ProgressBar(progress), StageName(progress.stage()),
              samples ? progress.samples_done() : progress.tensors_done(),
              samples ? progress.samples_total() : progress.tensors_total());
        }
        return written.ok();
      });
  if (!json) shown.End();
  RETURN_IF_ERROR(written);
  if (absl::IsCancelled(status) || absl::IsDeadlineExceeded(status)) {
    return absl::Status(
        status.code(),
        absl::StrCat(status.message(), StillServes(client, flags.model)));
  }
  // What is refused for its quality has a report all the same.
  if (!status.ok() && report.refused().empty()) return status;
  if (!json) {
    RETURN_IF_ERROR(Print(ReportText(report, flags.model, flags.all)));
  }
  return status;
}

}  // namespace

void AddQuantizeCommand(CLI::App& app, Command* command) {
  auto* sub = app.add_subcommand(
      "quantize", "Quantize a model, or restore it, without stopping it");
  auto flags = std::make_shared<QuantizeFlags>();
  sub->add_option("MODEL", flags->model, "A served model")
      ->required()
      ->type_name("");
  auto* spec = sub->add_option("SPEC", flags->method,
                               "NAME or NAME:KEY=VALUE,... (ounce methods)")
                   ->type_name("");
  auto* plan =
      sub->add_option("--plan", flags->plan,
                      "In place of SPEC, --include, --exclude and\n"
                      "--convolutions: which modules get which SPEC, see below")
          ->type_name("PLAN")
          ->check(NotEmpty("a plan"))
          ->excludes(spec);
  sub->add_option("--include", flags->include,
                  "Only modules that match the glob (*, ?, [0-2]); may be\n"
                  "given several times [linear layers but heads]")
      ->allow_extra_args(false)
      ->type_name("GLOB");
  sub->add_option("--exclude", flags->exclude,
                  "Leave alone modules that match the glob; may be given\n"
                  "several times")
      ->allow_extra_args(false)
      ->type_name("GLOB");
  sub->add_option("--as", flags->as,
                  "Serve the result under this name, beside the model")
      ->type_name("NAME")
      ->check(NotEmpty("a name"));
  sub->add_flag("--convolutions", flags->convolutions,
                "Quantize convolutions too, batch norms folded in");
  sub->add_option("--pictures", flags->pictures,
                  "Picture files, at most 64, on which to compare what the\n"
                  "model detects with what its float version detects")
      ->type_name("FILE");
  sub->add_option("--samples", flags->samples,
                  "Texts, 4 MiB together, on which to measure a model that\n"
                  "generates text beside its float version, before it serves;\n"
                  "- is stdin")
      ->type_name("FILE");
  sub->add_flag("--probe", flags->probe,
                "In place of --samples or --pictures: the server's own");
  constexpr char kFromZero[] = "from 0";
  sub->add_option(Names("--max_perplexity_increase"),
                  flags->max_perplexity_increase,
                  "Serve the result only if its perplexity is above the\n"
                  "float version's by no more than this share: 0.01 is 1%")
      ->transform(Number(kFromZero))
      ->type_name("SHARE");
  sub->add_option(Names("--max_kl"), flags->max_kl,
                  "... if its KL divergence is at most so many nats a token")
      ->transform(Number(kFromZero))
      ->type_name("NATS");
  sub->add_option(Names("--max_box_drift"), flags->max_box_drift,
                  "... if boxes drift by at most so many pixels in the mean")
      ->transform(Number(kFromZero))
      ->type_name("PIXELS");
  sub->add_flag(Names("--dry_run"), flags->dry_run,
                "Report only; what is served stays as it is");
  sub->add_flag("--all", flags->all, "Show every tensor");
  PutAboveFooter(sub, kPlanHelp);
  sub->callback([flags, spec, plan, command] {
    if (spec->empty() && plan->empty()) {
      throw CLI::RequiredError("SPEC or --plan");
    }
    *command = [flags](Client& client, bool json) {
      return Report(Quantize(client, *flags, json));
    };
  });
}

}  // namespace ounce::client
