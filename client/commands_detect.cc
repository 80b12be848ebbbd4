// detect.
#include <algorithm>
#include <cerrno>
#include <deque>
#include <filesystem>
#include <fstream>
#include <future>
#include <iostream>
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
#include "client/draw.h"
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
        "%s: %dx%d pixels found, the server found %dx%d; are both of one "
        "version?",
        name, picture.width(), picture.height(), response.image_width(),
        response.image_height()));
  }
  ASSIGN_OR_RETURN(const std::string png, DrawDetections(picture, response));
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << png;
  file.close();
  if (!file) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": write"));
  return absl::OkStatus();
}

bool ConcernsAll(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:            // the model
    case absl::StatusCode::kFailedPrecondition:  // it detects nothing
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kUnavailable:
      return true;
    default:
      return false;
  }
}

// One picture at a time is decoded here: it may take hundreds of megabytes.
Detected DetectIn(Client& client, const DetectFlags& flags, size_t i,
                  Mutex& drawing) {
  const std::string& path = flags.pictures[i];
  const std::string name = PictureName(path);
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

void Print(const DetectFlags& flags, size_t i, const Detected& detected,
           bool json) {
  if (json) {
    std::cout << ToJson(detected.response, /*whole=*/true) << std::endl;
    return;
  }
  if (flags.pictures.size() > 1) {
    std::cout << (i > 0 ? "\n" : "") << PictureName(flags.pictures[i]) << "\n";
  }
  std::cout << DetectionsText(detected.response, flags.threshold) << std::flush;
  std::cerr << DetectionUsageText(flags.model, detected.response);
  if (!flags.draw.empty() && detected.drawn.ok()) {
    std::cerr << " -> " << DrawnPath(flags, i);
  }
  std::cerr << std::endl;
}

// What is wrong with the line, if anything.
std::optional<std::string> WrongUsage(const DetectFlags& flags) {
  const std::vector<std::string>& pictures = flags.pictures;
  if (std::count(pictures.begin(), pictures.end(), "-") > 1) {
    return "stdin (-) can be read once only";
  }
  if (flags.draw.empty()) return std::nullopt;
  std::error_code error;
  const std::string folder =
      std::filesystem::absolute(flags.draw, error).parent_path();
  if (!std::filesystem::is_directory(folder, error)) {
    return absl::StrCat("--draw: no folder ", folder);
  }
  for (size_t i = 0; i < pictures.size(); ++i) {
    for (const std::string& picture : pictures) {
      const std::string drawn = DrawnPath(flags, i);
      if (std::filesystem::equivalent(drawn, picture, error)) {
        return absl::StrCat("--draw would overwrite ", picture,
                            "; give it another name");
      }
    }
  }
  return std::nullopt;
}

int Detect(Client& client, const DetectFlags& flags, bool json) {
  if (const auto wrong = WrongUsage(flags); wrong.has_value()) {
    std::cerr << *wrong << "\nRun with --help for more information."
              << std::endl;
    return kWrongUsage;
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
    if (detected.status.ok()) Print(flags, i, detected, json);
    code = std::max({code, Report(detected.status), Report(detected.drawn)});
    if (detected.concerns_all) {
      if (i + 1 < num) {
        std::cerr << "ounce: " << num - i - 1 << " more not tried" << std::endl;
      }
      break;
    }
  }
  return code;
}

std::string CheckPng(const std::string& path) {
  return absl::EndsWithIgnoreCase(path, ".png") && path.size() > 4
             ? ""
             : absl::StrCat("a name that ends in .png wanted, ", path,
                            " found");
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
                  "Objects with a score above this, 0 to 1 [0.9]")
      ->type_name("T");
  sub->add_option("--max", flags->max_detections,
                  "Objects at most, the best ones [100]")
      ->type_name("N");
  sub->add_option("--draw", flags->draw,
                  "Write the picture with its objects framed; of several\n"
                  "pictures OUT-1.png, OUT-2.png, ... in their order. A\n"
                  "small one is enlarged by a whole factor")
      ->type_name("OUT.png")
      ->check(CheckPng);
  sub->footer(absl::StrCat(
      "\nGoes on after a picture that was refused; such a one has no line in "
      "--json.\nEnds with the worst code: ounce --help.",
      sub->get_footer()));
  sub->callback([flags, command] {
    *command = [flags](Client& client, bool json) {
      return Detect(client, *flags, json);
    };
  });
}

}  // namespace ounce::client
