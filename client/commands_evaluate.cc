// evaluate.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/input_file.h"
#include "client/progress_line.h"
#include "client/report.h"

namespace ounce::client {
namespace {

struct EvaluateFlags {
  std::string model, text;
  uint32_t window = 0;
  uint32_t stride = 0;
  bool floats = false;
};

absl::Status Evaluate(Client& client, const EvaluateFlags& flags, bool json) {
  v1::EvaluateRequest request;
  request.set_model(flags.model);
  ASSIGN_OR_RETURN(*request.mutable_text(),
                   ReadInput(flags.text, {.what = "text",
                                          .advice = "evaluate a part of it",
                                          .max_bytes = int64_t{4} << 20}));
  request.set_window(flags.window);
  request.set_stride(flags.stride);
  request.set_compare_with_floats(flags.floats);
  v1::EvaluateReport report;
  absl::Status written = absl::OkStatus();
  ProgressLine shown;
  const absl::Status status =
      client.Evaluate(request, [&](const v1::EvaluateProgress& progress) {
        if (progress.has_report()) report = progress.report();
        if (json) {
          written = Print(JsonLine(ToJson(progress)));
        } else {
          shown.Show(ProgressBar(progress), "evaluating",
                     progress.tokens_done(), progress.tokens_total());
        }
        return written.ok();
      });
  if (!json) shown.End();
  RETURN_IF_ERROR(written);
  RETURN_IF_ERROR(status);
  if (json) return absl::OkStatus();
  return Print(EvaluationText(report));
}

}  // namespace

void AddEvaluateCommand(CLI::App& app, Command* command) {
  constexpr uint64_t kLargest = UINT32_MAX;
  auto* sub = app.add_subcommand(
      "evaluate", "Measure how well a model predicts a text: perplexity");
  auto flags = std::make_shared<EvaluateFlags>();
  sub->add_option("MODEL", flags->model, "A served model that generates text")
      ->required()
      ->type_name("");
  sub->add_option("--text", flags->text,
                  "A file of UTF-8, at most 4 MiB; - is stdin")
      ->required()
      ->type_name("FILE");
  sub->add_option("--window", flags->window,
                  "Tokens that the model sees at a time [1024, or as many\n"
                  "as it has positions]")
      ->transform(WholeNumber(kLargest))
      ->type_name("N");
  sub->add_option("--stride", flags->stride,
                  "Tokens from one window to the next; fewer take longer\n"
                  "[half a window]")
      ->transform(WholeNumber(kLargest))
      ->type_name("N");
  sub->add_flag("--floats", flags->floats,
                "Compare with the checkpoint's own floats too: KL divergence,\n"
                "top-1 agreement");
  sub->callback([flags, command] {
    *command = [flags](Client& client, bool json) {
      return Report(Evaluate(client, *flags, json));
    };
  });
}

}  // namespace ounce::client
