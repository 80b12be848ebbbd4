// save.
#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/progress_line.h"
#include "client/report.h"

namespace ounce::client {
namespace {

struct SaveFlags {
  std::string model, folder, format;
  uint64_t max_shard_bytes = 0;
};

// A test holds the list to what servers tell.
constexpr char kSaveHelp[] =
    R"(DIR is a new folder below the server's --save_root: ounce load NAME of the
path that is told serves it. Weights are as the version that serves stores them;
the model serves on meanwhile. Ctrl-C leaves nothing behind.
FORMATs, as far as the server has them (ounce methods says what each is):
  checkpoint safetensors bitsandbytes hqq compressed-tensors gptq awq gguf ounce
)";

absl::Status Save(Client& client, const SaveFlags& flags, bool json) {
  v1::SaveModelRequest request;
  request.set_model(flags.model);
  request.set_folder(flags.folder);
  request.set_format(flags.format);
  request.set_max_shard_bytes(flags.max_shard_bytes);
  v1::SaveModelReport report;
  absl::Status written = absl::OkStatus();
  ProgressLine shown;
  const absl::Status status =
      client.SaveModel(request, [&](const v1::SaveModelProgress& progress) {
        if (progress.has_report()) report = progress.report();
        if (json) {
          written = Print(JsonLine(ToJson(progress)));
        } else {
          shown.Show(ProgressBar(progress), "saving", progress.bytes_done(),
                     progress.bytes_total());
        }
        return written.ok();
      });
  if (!json) shown.End();
  RETURN_IF_ERROR(written);
  if (absl::IsCancelled(status) || absl::IsDeadlineExceeded(status)) {
    return absl::Status(status.code(),
                        absl::StrCat(status.message(), "; nothing is left of '",
                                     flags.folder, "' on the server"));
  }
  RETURN_IF_ERROR(status);
  return json ? absl::OkStatus() : Print(SavedText(report));
}

}  // namespace

void AddSaveCommand(CLI::App& app, Command* command) {
  auto* sub = app.add_subcommand(
      "save", "Write a model, as it is stored now, to a folder on the server");
  auto flags = std::make_shared<SaveFlags>();
  sub->add_option("MODEL", flags->model, "A served model")
      ->required()
      ->type_name("");
  sub->add_option("DIR", flags->folder, "The folder to make on the server")
      ->required()
      ->check(NotEmpty("a folder"))
      ->type_name("");
  sub->add_option("--format", flags->format,
                  "How to lay it out, see below [the first that can hold the\n"
                  "model]")
      ->check(NotEmpty("a format"))
      ->type_name("FORMAT");
  sub->add_option(Names("--max_shard_bytes"), flags->max_shard_bytes,
                  "Most bytes of one file of weights [5000000000]")
      ->transform(WholeNumber(std::numeric_limits<int64_t>::max()))
      ->type_name("N");
  PutAboveFooter(sub, kSaveHelp);
  sub->callback([flags, command] {
    *command = [flags](Client& client, bool json) {
      return Report(Save(client, *flags, json));
    };
  });
}

}  // namespace ounce::client
