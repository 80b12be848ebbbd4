// quantize.
#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/byte_size.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/picture_file.h"
#include "client/report.h"

namespace ounce::client {
namespace {

struct QuantizeFlags {
  std::string model, method, as;
  std::vector<std::string> include, exclude, pictures;
  bool convolutions = false;
  bool dry_run = false;
  bool all = false;
};

// All of them in one message, so their sizes add up.
absl::Status AddPictures(const std::vector<std::string>& paths,
                         v1::QuantizeRequest* request) {
  int64_t room = kMaxPictureBytes;
  for (const std::string& path : paths) {
    absl::StatusOr<std::string> bytes = ReadPicture(path);
    if (!bytes.ok()) return bytes.status();
    room -= static_cast<int64_t>(bytes->size());
    if (room < 0) {
      return absl::ResourceExhaustedError(absl::StrCat(
          path, ": the pictures up to this one have more than ",
          FormatByteSize(kMaxPictureBytes),
          ", which is more than the server takes; give fewer or smaller ones"));
    }
    request->add_pictures(*std::move(bytes));
  }
  return absl::OkStatus();
}

absl::Status Quantize(Client& client, const QuantizeFlags& flags, bool json) {
  v1::QuantizeRequest request;
  request.set_model(flags.model);
  request.set_method(flags.method);
  request.mutable_include()->Add(flags.include.begin(), flags.include.end());
  request.mutable_exclude()->Add(flags.exclude.begin(), flags.exclude.end());
  request.set_as(flags.as);
  request.set_dry_run(flags.dry_run);
  request.set_convolutions(flags.convolutions);
  RETURN_IF_ERROR(AddPictures(flags.pictures, &request));
  const bool terminal = isatty(STDERR_FILENO);
  int64_t next_tenth = 0;
  v1::QuantizeStage stage = v1::QUANTIZE_STAGE_UNSPECIFIED;
  v1::QuantizeReport report;
  const absl::Status status =
      client.Quantize(request, [&](const v1::QuantizeProgress& progress) {
        if (progress.has_report()) report = progress.report();
        if (json) {
          std::cout << ToJson(progress) << std::endl;
        } else if (terminal) {
          std::cerr << "\r\033[K" << ProgressBar(progress) << std::flush;
        } else {
          // A line per stage, and per tenth of the tensors.
          const int64_t tenth =
              progress.tensors_total() > 0
                  ? 10 * progress.tensors_done() / progress.tensors_total()
                  : 0;
          if (progress.stage() != stage || tenth >= next_tenth) {
            std::cerr << StageName(progress.stage());
            if (progress.tensors_total() > 0) {
              std::cerr << " " << progress.tensors_done() << "/"
                        << progress.tensors_total();
            }
            std::cerr << std::endl;
            next_tenth = tenth + 1;
          }
          stage = progress.stage();
        }
        return true;
      });
  if (terminal && !json) std::cerr << "\r\033[K" << std::flush;
  RETURN_IF_ERROR(status);
  if (!json) std::cout << ReportText(report, flags.all);
  return absl::OkStatus();
}

}  // namespace

void AddQuantizeCommand(CLI::App& app, Command* command) {
  auto* sub = app.add_subcommand(
      "quantize", "Serve a model in other bits, while it serves");
  auto flags = std::make_shared<QuantizeFlags>();
  sub->add_option("MODEL", flags->model, "A served model")
      ->required()
      ->type_name("");
  sub->add_option("SPEC", flags->method,
                  "name or name:key=value,... (ounce methods)")
      ->required()
      ->type_name("");
  sub->add_option("--include", flags->include,
                  "Only modules that match the glob [linear layers but heads]; "
                  "again for more")
      ->allow_extra_args(false)
      ->type_name("GLOB");
  sub->add_option("--exclude", flags->exclude,
                  "Leave alone modules that match; again for more")
      ->allow_extra_args(false)
      ->type_name("GLOB");
  sub->add_option("--as", flags->as,
                  "Serve the result under this name beside the old model")
      ->type_name("NAME");
  sub->add_flag("--convolutions", flags->convolutions,
                "Convolutions too, with their batch norm folded in");
  sub->add_option("--pictures", flags->pictures,
                  "Picture files, at most 64, on which to compare what a\n"
                  "model detects with what it detects in floats")
      ->type_name("FILE");
  sub->add_flag("--dry_run", flags->dry_run,
                "Report only; what is served stays as it is");
  sub->add_flag("--all", flags->all, "Show every tensor");
  sub->callback([flags, command] {
    *command = [flags](Client& client, bool json) {
      return Report(Quantize(client, *flags, json));
    };
  });
}

}  // namespace ounce::client
