// evaluate.
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "client/coco_annotations.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/input_file.h"
#include "client/picture_file.h"
#include "client/progress_line.h"
#include "client/report.h"

namespace ounce::client {
namespace {

struct EvaluateFlags {
  std::string model, text, annotations;
  std::vector<std::string> pictures;
  uint32_t window = 0;
  uint32_t stride = 0;
  bool floats = false;
};

// The picture files of a folder, by name; of a file, itself.
absl::StatusOr<std::vector<std::string>> PictureFiles(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    return std::vector<std::string>{path};
  }
  ASSIGN_OR_RETURN(std::vector<std::string> files, PicturesIn(path));
  if (files.empty()) {
    return absl::NotFoundError(
        absl::StrCat(path, ": has no files that end in ", PictureEndings()));
  }
  return files;
}

// The files that the annotations are of, in their order, and the objects.
absl::StatusOr<std::vector<std::string>> AddObjects(
    const std::string& path, const std::vector<std::string>& files,
    v1::EvaluateRequest* request) {
  ASSIGN_OR_RETURN(const std::string json,
                   ReadInput(path, {.what = "JSON",
                                    .advice = "keep the images that you have",
                                    .max_bytes = int64_t{1} << 30}));
  ASSIGN_OR_RETURN(const CocoAnnotations annotations,
                   ParseCocoAnnotations(InputName(path), json));
  if (annotations.num_unlisted > 0) {
    std::cerr << "ounce: " << Printable(InputName(path), 200)
              << ": annotations of images that it does not list, which do not "
                 "count: "
              << annotations.num_unlisted << ", the first of image "
              << annotations.first_unlisted << std::endl;
  }
  const std::vector<CocoImage>& images = annotations.images;
  std::map<std::string, std::string> by_name;
  for (const std::string& file : files) by_name[FileName(file)] = file;
  std::vector<std::string> annotated;
  for (const CocoImage& image : images) {
    const auto file = by_name.find(FileName(image.file_name));
    if (file == by_name.end()) continue;
    for (const v1::AnnotatedObject& object : image.objects) {
      v1::AnnotatedObject* added = request->add_objects();
      *added = object;
      added->set_picture(static_cast<uint32_t>(annotated.size()));
    }
    annotated.push_back(file->second);
  }
  if (annotated.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     ": is of none of the pictures; the first that it "
                     "is of is '",
                     images.front().file_name, "'"));
  }
  return annotated;
}

absl::Status AddPictures(const EvaluateFlags& flags,
                         v1::EvaluateRequest* request) {
  std::vector<std::string> files;
  for (const std::string& path : flags.pictures) {
    ASSIGN_OR_RETURN(const std::vector<std::string> more, PictureFiles(path));
    files.insert(files.end(), more.begin(), more.end());
  }
  if (!flags.annotations.empty()) {
    ASSIGN_OR_RETURN(files, AddObjects(flags.annotations, files, request));
  }
  ASSIGN_OR_RETURN(std::vector<std::string> pictures, ReadPictures(files));
  for (std::string& picture : pictures) {
    request->add_pictures(std::move(picture));
  }
  return absl::OkStatus();
}

absl::Status Evaluate(Client& client, const EvaluateFlags& flags, bool json) {
  v1::EvaluateRequest request;
  request.set_model(flags.model);
  if (flags.pictures.empty()) {
    ASSIGN_OR_RETURN(*request.mutable_text(),
                     ReadText(flags.text, "evaluate a part of it"));
    request.set_text_name(TextName(flags.text));
  } else {
    RETURN_IF_ERROR(AddPictures(flags, &request));
  }
  request.set_window(flags.window);
  request.set_stride(flags.stride);
  // There is nothing else to measure by without annotations.
  request.set_compare_with_floats(
      flags.floats || (!flags.pictures.empty() && flags.annotations.empty()));
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
                     progress.tokens_done() + progress.pictures_done(),
                     progress.tokens_total() + progress.pictures_total());
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
      "evaluate",
      "Measure how well a model predicts a text, or detects objects");
  auto flags = std::make_shared<EvaluateFlags>();
  sub->add_option("MODEL", flags->model, "A served model")
      ->required()
      ->type_name("");
  auto* text = sub->add_option("--text", flags->text,
                               "A file of UTF-8, at most 4 MiB; - is stdin")
                   ->type_name("FILE");
  auto* pictures =
      sub->add_option("--pictures", flags->pictures,
                      "In place of a text, of a model that detects objects:\n"
                      "picture files or folders of them, on which to compare\n"
                      "it with its float version")
          ->type_name("PATH")
          ->excludes(text);
  sub->add_option("--annotations", flags->annotations,
                  "What the pictures show, a JSON file in the form of\n"
                  "COCO's instances: measure average precision")
      ->type_name("FILE")
      ->needs(pictures);
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
                "Compare with the checkpoint's own floats too: KL divergence\n"
                "and top-1 agreement, or how far detections moved");
  sub->callback([flags, text, pictures, command] {
    if (text->empty() && pictures->empty()) {
      throw CLI::ValidationError("--text or --pictures is missing");
    }
    *command = [flags](Client& client, bool json) {
      return Report(Evaluate(client, *flags, json));
    };
  });
}

}  // namespace ounce::client
