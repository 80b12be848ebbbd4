// detect.
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <future>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "client/command.h"
#include "client/command_line.h"
#include "client/draw.h"
#include "client/input_file.h"
#include "client/picture_file.h"
#include "client/report.h"
#include "image/decode.h"

namespace ounce::client {
namespace {

// Enough to keep a server's decoders and its model busy at the same time.
constexpr size_t kPicturesAtOnce = 4;

struct DetectFlags {
  std::string model;
  std::vector<std::string> pictures;
  std::optional<float> threshold;
  std::optional<uint32_t> max_detections;
  std::string draw;
};

struct Detected {
  absl::Status status = absl::OkStatus();  // names the picture
  // The server would say the same of any other picture.
  bool concerns_all = false;
  v1::DetectObjectsResponse response = {};
  absl::Status drawn = absl::OkStatus();
};

std::string DrawnPath(const DetectFlags& flags, size_t i) {
  const size_t num = flags.pictures.size();
  if (num == 1) return flags.draw;
  const std::string stem =
      flags.draw.substr(0, flags.draw.size() - std::string(".png").size());
  const auto digits = static_cast<int>(absl::StrCat(num).size());
  return absl::StrFormat("%s-%0*d.png", stem, digits, i + 1);
}

absl::Status DrawTo(const std::string& path, const std::string& name,
                    const std::string& bytes,
                    const v1::DetectObjectsResponse& response) {
  absl::StatusOr<image::Rgb8> decoded = image::Decode(bytes);
  if (!decoded.ok()) return WithContext(decoded.status(), name);
  const image::Rgb8& picture = *decoded;
  if (picture.width() != response.image_width() ||
      picture.height() != response.image_height()) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "%s: has %dx%d pixels here, but %dx%d to the server; are both of the "
        "same version?",
        name, picture.width(), picture.height(), response.image_width(),
        response.image_height()));
  }
  ASSIGN_OR_RETURN(const std::string png, DrawDetections(picture, response));
  return WriteFile(path, png);
}

bool ConcernsAll(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:            // the model
    case absl::StatusCode::kFailedPrecondition:  // it detects nothing
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:
      return true;
    default:
      return false;
  }
}

// One picture at a time is decoded here: it may take hundreds of megabytes.
Detected DetectIn(Client& client, const DetectFlags& flags, size_t i,
                  Mutex& drawing) {
  const std::string& path = flags.pictures[i];
  const std::string name = InputName(path);
  absl::StatusOr<std::string> bytes = ReadPicture(path);
  if (!bytes.ok()) return {.status = bytes.status()};
  v1::DetectObjectsRequest request;
  request.set_model(flags.model);
  request.set_image(*std::move(bytes));
  if (flags.threshold.has_value()) request.set_threshold(*flags.threshold);
  request.set_max_detections(flags.max_detections.value_or(0));
  absl::StatusOr<v1::DetectObjectsResponse> response =
      client.DetectObjects(request);
  if (!response.ok()) {
    const bool concerns_all = ConcernsAll(response.status());
    return {.status = concerns_all ? response.status()
                                   : WithContext(response.status(), name),
            .concerns_all = concerns_all};
  }
  Detected detected = {.response = *std::move(response)};
  if (!flags.draw.empty()) {
    const MutexLock lock(&drawing);
    detected.drawn =
        DrawTo(DrawnPath(flags, i), name, request.image(), detected.response);
  }
  return detected;
}

bool Draws(const DetectFlags& flags) { return !flags.draw.empty(); }

// The line of --json about a picture.
std::string JsonOf(const DetectFlags& flags, size_t i,
                   const Detected& detected) {
  nlohmann::ordered_json line = {{"file", flags.pictures[i]}};
  if (!detected.status.ok()) {
    line["error"] = ToJson(detected.status);
    return JsonLine(line);
  }
  line["response"] = ToJson(detected.response);
  if (Draws(flags) && detected.drawn.ok()) line["drawn"] = DrawnPath(flags, i);
  if (!detected.drawn.ok()) line["error"] = ToJson(detected.drawn);
  return JsonLine(line);
}

absl::Status ShowDetected(const DetectFlags& flags, size_t i,
                          const Detected& detected, bool json) {
  if (json) return Print(JsonOf(flags, i, detected));
  if (!detected.status.ok()) return absl::OkStatus();
  std::string text;
  if (flags.pictures.size() > 1) {
    text = absl::StrCat(i > 0 ? "\n" : "", InputName(flags.pictures[i]), "\n");
  }
  RETURN_IF_ERROR(Print(
      absl::StrCat(text, DetectionsText(detected.response, flags.threshold))));
  std::cerr << DetectionUsageText(flags.model, detected.response);
  if (Draws(flags) && detected.drawn.ok()) {
    std::cerr << " -> " << DrawnPath(flags, i);
  }
  std::cerr << std::endl;
  return absl::OkStatus();
}

// Those from the `i`th on, which the server would refuse for the same reason.
absl::Status ShowNotTried(const DetectFlags& flags, size_t i,
                          const absl::Status& why, bool json) {
  const size_t num = flags.pictures.size();
  if (i < num) {
    std::cerr << "ounce: " << num - i << " more not tried" << std::endl;
  }
  const Detected not_tried = {.status = WithContext(why, "not tried")};
  for (; json && i < num; ++i) {
    RETURN_IF_ERROR(Print(JsonOf(flags, i, not_tried)));
  }
  return absl::OkStatus();
}

// What is wrong with the line, if anything.
std::optional<std::string> WrongUsage(const DetectFlags& flags) {
  const std::vector<std::string>& pictures = flags.pictures;
  if (std::count(pictures.begin(), pictures.end(), "-") > 1) {
    return "stdin (-) can be read once, is given several times";
  }
  if (flags.draw.empty()) return std::nullopt;
  std::error_code error;
  const std::string folder =
      std::filesystem::absolute(flags.draw, error).parent_path();
  if (!std::filesystem::is_directory(folder, error)) {
    return absl::StrCat("--draw: there is no folder '", folder, "'");
  }
  for (size_t i = 0; i < pictures.size(); ++i) {
    for (const std::string& picture : pictures) {
      const std::string drawn = DrawnPath(flags, i);
      if (std::filesystem::equivalent(drawn, picture, error)) {
        return absl::StrCat("--draw: would overwrite ", picture,
                            "; give it another name");
      }
    }
  }
  return std::nullopt;
}

int Detect(Client& client, const DetectFlags& flags, bool json) {
  if (const auto wrong = WrongUsage(flags); wrong.has_value()) {
    std::cerr << "ounce detect: " << *wrong
              << "\n'ounce help detect' tells more." << std::endl;
    return kWrongUsage;
  }
  if (std::count(flags.pictures.begin(), flags.pictures.end(), "-") > 0 &&
      isatty(STDIN_FILENO)) {
    std::cerr << "reading the picture from this terminal; end it with Ctrl-D"
              << std::endl;
  }
  Mutex drawing;
  const size_t num = flags.pictures.size();
  int code = 0;
  std::deque<std::future<Detected>> running;
  size_t num_sent = 0;
  for (size_t i = 0; i < num; ++i) {
    while (num_sent < num && num_sent < i + kPicturesAtOnce) {
      running.push_back(std::async(
          std::launch::async, [&client, &flags, &drawing, index = num_sent] {
            return DetectIn(client, flags, index, drawing);
          }));
      ++num_sent;
    }
    const Detected detected = running.front().get();
    running.pop_front();
    const absl::Status shown = ShowDetected(flags, i, detected, json);
    code = std::max(
        {code, Report(detected.status), Report(detected.drawn), Report(shown)});
    if (!shown.ok()) break;
    if (detected.concerns_all) {
      code = std::max(
          code, Report(ShowNotTried(flags, i + 1, detected.status, json)));
      break;
    }
  }
  return code;
}

std::string CheckPng(const std::string& path) {
  return absl::EndsWithIgnoreCase(path, ".png") && path.size() > 4
             ? ""
             : absl::StrCat("must end in .png, is '", path, "'");
}

}  // namespace

void AddDetectCommand(CLI::App& app, Command* command) {
  auto* sub = app.add_subcommand("detect", "Find objects in pictures");
  auto flags = std::make_shared<DetectFlags>();
  sub->add_option("MODEL", flags->model, "A served model")
      ->required()
      ->type_name("");
  sub->add_option("PICTURE", flags->pictures,
                  "JPEG, PNG or WebP files; - reads one from stdin")
      ->required()
      ->type_name("");
  sub->add_option("-t,--threshold", flags->threshold,
                  "Show objects with a score above this, 0 to 1 [0.9]")
      ->type_name("T")
      ->transform(Number("from 0 to 1"));
  sub->add_option("--max", flags->max_detections,
                  "Show this many objects at most, the best ones [100]")
      ->type_name("N")
      ->transform(WholeNumber(std::numeric_limits<uint32_t>::max()));
  sub->add_option("--draw", flags->draw,
                  "Write the picture with its objects framed; for several\n"
                  "pictures OUT-1.png, OUT-2.png, ... in their order. A\n"
                  "small one is enlarged by a whole factor")
      ->type_name("OUT.png")
      ->check(CheckPng);
  PutAboveFooter(
      sub,
      "Goes on after a picture that was refused, and exits with the worst "
      "code.\n--json prints a line per picture: {\"file\", \"response\"}, with "
      "\"drawn\" after --draw,\nor {\"file\", \"error\": {\"code\", "
      "\"message\"}}.\n");
  sub->callback([flags, command] {
    *command = [flags](Client& client, bool json) {
      return Detect(client, *flags, json);
    };
  });
}

}  // namespace ounce::client
