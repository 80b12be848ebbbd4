// The detect command as it is typed, with a server made up here.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/command.h"
#include "client/draw.h"
#include "client/picture_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "image/decode.h"
#include "tests/client/mock_client.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::client {
namespace {

using ::testing::AllOf;
using ::testing::AnyNumber;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::TempFolder;

// A grey PNG.
std::string Png(int64_t width, int64_t height) {
  image::Rgb8 picture = *image::Rgb8::Create(height, width);
  std::memset(picture.data(), 128, picture.num_bytes());
  return *DrawDetections(picture, {});
}

// One object over the left half, whose label is the picture's width.
absl::StatusOr<v1::DetectObjectsResponse> Half(
    const v1::DetectObjectsRequest& request) {
  const auto info = image::Inspect(request.image());
  if (!info.ok()) return info.status();
  v1::DetectObjectsResponse response;
  response.set_image_width(static_cast<int32_t>(info->width));
  response.set_image_height(static_cast<int32_t>(info->height));
  response.set_decode_seconds(0.012);
  response.set_model_seconds(0.345);
  response.set_model_version(2);
  response.set_method("linear:bits=4");
  v1::Detection* detection = response.add_detections();
  detection->set_label(absl::StrCat("w", info->width));
  detection->set_score(0.987f);
  detection->mutable_box()->set_x_max(static_cast<float>(info->width) / 2);
  detection->mutable_box()->set_y_max(static_cast<float>(info->height));
  return response;
}

struct Ended {
  int code = -1;
  std::string out, err;
};

class CommandsDetectTest : public ::testing::Test {
 protected:
  CommandsDetectTest() {
    ON_CALL(client_, DetectObjects).WillByDefault(Half);
    EXPECT_CALL(client_, DetectObjects).Times(AnyNumber());
  }

  Ended Run(std::vector<std::string> args, bool json = false) {
    CLI::App app;
    Command command;
    AddDetectCommand(app, &command);
    std::reverse(args.begin(), args.end());
    args.emplace_back("detect");
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    Ended ended;
    try {
      app.parse(args);
      ended.code = command(client_, json);
    } catch (const CLI::ParseError& error) {
      ended.code = kWrongUsage;
      std::cerr << error.what();
    }
    ended.out = ::testing::internal::GetCapturedStdout();
    ended.err = ::testing::internal::GetCapturedStderr();
    return ended;
  }

  static std::vector<nlohmann::json> Lines(const std::string& out) {
    std::vector<nlohmann::json> lines;
    std::istringstream in(out);
    for (std::string line; std::getline(in, line);) {
      lines.push_back(nlohmann::json::parse(line));
    }
    return lines;
  }

  std::string WritePng(const std::string& name, int width = 400,
                       int height = 300) {
    return folder_.WriteFile(name, Png(width, height));
  }

  const TempFolder folder_;
  MockClient client_;
};

TEST_F(CommandsDetectTest, PrintsATableAndWhatAnswered) {
  const Ended ended = Run({"detr", WritePng("a.png")});
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(ended.out,
            "LABEL   SCORE  X MIN  Y MIN  X MAX  Y MAX\n"
            "w400   0.9870    0.0    0.0  200.0  300.0\n");
  EXPECT_EQ(ended.err,
            "[400x300 pixels, 12 ms decoding, 345 ms in the model, 0 ms "
            "waiting; detr v2 linear:bits=4]\n");
}

TEST_F(CommandsDetectTest, SendsWhatTheFlagsSay) {
  const std::string path = WritePng("a.png");
  v1::DetectObjectsRequest seen;
  EXPECT_CALL(client_, DetectObjects)
      .Times(2)
      .WillRepeatedly([&](const v1::DetectObjectsRequest& request) {
        seen = request;
        return Half(request);
      });
  Run({"detr", path});
  EXPECT_EQ(seen.model(), "detr");
  EXPECT_EQ(seen.image(), Png(400, 300));
  EXPECT_FALSE(seen.has_threshold());
  EXPECT_EQ(seen.max_detections(), 0u);
  Run({"detr", path, "--threshold", "0", "--max", "3"});
  EXPECT_TRUE(seen.has_threshold());
  EXPECT_EQ(seen.threshold(), 0);
  EXPECT_EQ(seen.max_detections(), 3u);
}

TEST_F(CommandsDetectTest, SaysAboveWhichScoreThereIsNothing) {
  EXPECT_CALL(client_, DetectObjects)
      .WillRepeatedly([](const v1::DetectObjectsRequest& request) {
        auto response = Half(request);
        response->clear_detections();
        return response;
      });
  const std::string path = WritePng("a.png");
  EXPECT_EQ(Run({"detr", path}).out, "no objects with a score above 0.9\n");
  EXPECT_EQ(Run({"detr", path, "--threshold", "0.25"}).out,
            "no objects with a score above 0.25\n");
}

TEST_F(CommandsDetectTest, PrintsSeveralPicturesInOrder) {
  std::vector<std::string> args = {"detr"};
  for (int i = 0; i < 9; ++i) {
    args.push_back(WritePng(absl::StrCat(i, ".png"), 400 + i));
  }
  // The first ones take longest.
  EXPECT_CALL(client_, DetectObjects)
      .Times(9)
      .WillRepeatedly([](const v1::DetectObjectsRequest& request) {
        auto response = Half(request);
        std::this_thread::sleep_for(
            std::chrono::milliseconds(5 * (409 - response->image_width())));
        return response;
      });
  const Ended ended = Run(args);
  EXPECT_EQ(ended.code, 0);
  size_t at = 0;
  for (int i = 0; i < 9; ++i) {
    const size_t name =
        ended.out.find(absl::StrCat(args[i + 1], "\nLABEL"), at);
    ASSERT_NE(name, std::string::npos) << ended.out;
    at = ended.out.find(absl::StrCat("\nw", 400 + i, " "), name);
    ASSERT_NE(at, std::string::npos) << ended.out;
  }
}

TEST_F(CommandsDetectTest, PrintsAJsonLineForEachFile) {
  std::vector<std::string> args = {"detr"};
  for (int i = 0; i < 9; ++i) {
    args.push_back(WritePng(absl::StrCat(i, ".png"), 400 + i));
  }
  const Ended json = Run(args, /*json=*/true);
  EXPECT_THAT(json.err, IsEmpty());
  std::istringstream lines(json.out);
  std::string line;
  int i = 0;
  while (std::getline(lines, line)) {
    const auto parsed = nlohmann::json::parse(line);
    const auto& response = parsed["response"];
    EXPECT_EQ(parsed["file"], args[i + 1]);
    EXPECT_EQ(response["image_width"], 400 + i++);
    EXPECT_EQ(response["model_version"], 2);
    EXPECT_FALSE(parsed.contains("error"));
    EXPECT_FALSE(parsed.contains("drawn"));
    // Zero is a coordinate like any other.
    EXPECT_EQ(response["detections"][0]["box"]["x_min"], 0);
    EXPECT_EQ(response["detections"][0]["label_id"], 0);
  }
  EXPECT_EQ(i, 9);
}

TEST_F(CommandsDetectTest, SendsAFewPicturesAtATime) {
  std::atomic<int> num_running = 0, most = 0;
  EXPECT_CALL(client_, DetectObjects)
      .WillRepeatedly([&](const v1::DetectObjectsRequest& request) {
        const int now = ++num_running;
        int before = most;
        while (before < now && !most.compare_exchange_weak(before, now)) {
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        --num_running;
        return Half(request);
      });
  const std::string path = WritePng("a.png");
  std::vector<std::string> args = {"detr"};
  args.insert(args.end(), 12, path);
  EXPECT_EQ(Run(args).code, 0);
  EXPECT_GE(most, 2);
  EXPECT_LE(most, 4);
}

TEST_F(CommandsDetectTest, GoesOnAfterARefusedPictureAndEndsWithTheWorstCode) {
  const std::string good = WritePng("good.png");
  const std::string broken = folder_.WriteFile("broken.png", "no picture");
  const Ended ended = Run({"detr", broken, folder_.Path("none.png"),
                           folder_.WriteFile("empty.png", ""), good});
  EXPECT_EQ(ended.code, kRefused);
  EXPECT_THAT(ended.out, HasSubstr("w400"));
  EXPECT_THAT(ended.err,
              AllOf(HasSubstr(absl::StrCat("INVALID_ARGUMENT: ", broken, ": ")),
                    HasSubstr("NOT_FOUND: "), HasSubstr("none.png"),
                    HasSubstr("empty.png: is empty")));

  EXPECT_CALL(client_, DetectObjects)
      .WillOnce([](const v1::DetectObjectsRequest&) {
        return absl::DeadlineExceededError("too late");
      })
      .WillRepeatedly(Half);
  EXPECT_EQ(Run({"detr", good, broken}).code, kFailed);
}

TEST_F(CommandsDetectTest, GivesARefusedFileItsJsonLineToo) {
  const std::string good = WritePng("good.png");
  const std::string none = folder_.Path("none.png");
  const Ended ended =
      Run({"detr", good, none, good, "--draw", folder_.Path("drawn.png")},
          /*json=*/true);
  EXPECT_EQ(ended.code, kRefused);
  const auto lines = Lines(ended.out);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0]["drawn"], folder_.Path("drawn-1.png"));
  EXPECT_EQ(lines[1]["file"], none);
  EXPECT_EQ(lines[1]["error"]["code"], "NOT_FOUND");
  EXPECT_THAT(std::string(lines[1]["error"]["message"]),
              HasSubstr("No such file"));
  EXPECT_FALSE(lines[1].contains("response"));
  EXPECT_EQ(lines[2]["file"], good);
  EXPECT_TRUE(lines[2].contains("response"));
}

TEST_F(CommandsDetectTest, GivesFilesThatWereNotTriedTheirJsonLines) {
  const std::string path = WritePng("a.png");
  EXPECT_CALL(client_, DetectObjects)
      .WillRepeatedly([](const v1::DetectObjectsRequest&) {
        return absl::NotFoundError("no model 'other'");
      });
  std::vector<std::string> args = {"other"};
  args.insert(args.end(), 6, path);
  const auto lines = Lines(Run(args, /*json=*/true).out);
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[5]["file"], path);
  EXPECT_EQ(lines[5]["error"]["code"], "NOT_FOUND");
  EXPECT_EQ(lines[5]["error"]["message"], "not tried: no model 'other'");
}

TEST_F(CommandsDetectTest, TriesNoFurtherPictureAfterACancellation) {
  const std::string path = WritePng("a.png");
  EXPECT_CALL(client_, DetectObjects)
      .WillRepeatedly([](const v1::DetectObjectsRequest&) {
        return absl::CancelledError("cancelled");
      });
  std::vector<std::string> args = {"detr"};
  args.insert(args.end(), 10, path);
  const Ended ended = Run(args);
  EXPECT_EQ(ended.code, kFailed);
  EXPECT_EQ(ended.err, "ounce: cancelled\nounce: 9 more not tried\n");
}

TEST_F(CommandsDetectTest, StopsWhereNoPictureWouldFareBetter) {
  const std::string path = WritePng("a.png");
  EXPECT_CALL(client_, DetectObjects)
      .Times(::testing::AtMost(4))
      .WillRepeatedly([](const v1::DetectObjectsRequest&) {
        return absl::NotFoundError("no model 'other'");
      });
  std::vector<std::string> args = {"other"};
  args.insert(args.end(), 10, path);
  const Ended ended = Run(args);
  EXPECT_EQ(ended.code, kRefused);
  EXPECT_EQ(ended.err,
            "ounce: NOT_FOUND: no model 'other'\nounce: 9 more not tried\n");
}

TEST_F(CommandsDetectTest, RefusesATooLargePictureBeforeSendingIt) {
  EXPECT_CALL(client_, DetectObjects).Times(0);
  const std::string large = folder_.WriteFile("a.png", "");
  ASSERT_EQ(truncate(large.c_str(), kMaxPictureBytes + 1), 0);
  const Ended ended = Run({"detr", large});
  EXPECT_EQ(ended.code, kRefused);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("a.png: is larger than"),
                               HasSubstr("send it smaller")));
}

// A server may be told to take more than its 32 MiB by default.
TEST_F(CommandsDetectTest, LetsTheServerSayWhatItTakes) {
  static constexpr size_t kBytes = 33 << 20;
  EXPECT_CALL(client_, DetectObjects)
      .WillOnce([](const v1::DetectObjectsRequest& request)
                    -> absl::StatusOr<v1::DetectObjectsResponse> {
        EXPECT_EQ(request.image().size(), kBytes);
        return absl::ResourceExhaustedError("too large for this one");
      });
  const std::string path = folder_.WriteFile("a.png", "");
  ASSERT_EQ(truncate(path.c_str(), kBytes), 0);
  EXPECT_THAT(Run({"detr", path}).err, HasSubstr("too large for this one"));
}

TEST_F(CommandsDetectTest, DrawsOnThePicture) {
  const std::string drawn = folder_.Path("drawn.png");
  const Ended ended = Run({"detr", WritePng("a.png"), "--draw", drawn});
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr(absl::StrCat("] -> ", drawn, "\n")));
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadPicture(drawn));
  ASSERT_OK_AND_ASSIGN(const image::Rgb8 picture, image::Decode(bytes));
  EXPECT_EQ(picture.width(), 400);
  EXPECT_EQ(picture.height(), 300);
  const uint8_t* edge = picture.row(150) + 3 * 200;
  EXPECT_GT(edge[2], edge[0] + 60);  // label 0 is blue
  EXPECT_EQ(picture.row(150)[3 * 300], 128);
}

TEST_F(CommandsDetectTest, NumbersTheDrawingsOfSeveralPictures) {
  const std::string path = WritePng("a.png");
  std::vector<std::string> args = {"detr", "--draw", folder_.Path("d.png")};
  args.insert(args.end(), 2, path);
  EXPECT_EQ(Run(args).code, 0);
  EXPECT_OK(ReadPicture(folder_.Path("d-1.png")));
  EXPECT_OK(ReadPicture(folder_.Path("d-2.png")));
  args.insert(args.end(), 8, path);
  EXPECT_EQ(Run(args).code, 0);
  EXPECT_OK(ReadPicture(folder_.Path("d-01.png")));
  EXPECT_OK(ReadPicture(folder_.Path("d-10.png")));
  EXPECT_FALSE(std::filesystem::exists(folder_.Path("d.png")));
}

TEST_F(CommandsDetectTest, RefusesToDrawOverAPicture) {
  EXPECT_CALL(client_, DetectObjects).Times(0);
  const std::string a = WritePng("a.png"), second = WritePng("b-2.png");
  const std::string bytes = *ReadPicture(a);
  const Ended itself =
      Run({"detr", a, "--draw", absl::StrCat(folder_.Path("."), "/a.png")});
  EXPECT_EQ(itself.code, kWrongUsage);
  EXPECT_THAT(itself.err, HasSubstr(absl::StrCat("would overwrite ", a)));
  EXPECT_EQ(Run({"detr", second, a, "--draw", folder_.Path("b.png")}).code,
            kWrongUsage);
  EXPECT_EQ(*ReadPicture(a), bytes);
}

TEST_F(CommandsDetectTest, RefusesLinesThatCannotBeMeant) {
  EXPECT_CALL(client_, DetectObjects).Times(0);
  const std::string path = WritePng("a.png");
  EXPECT_EQ(Run({"detr"}).code, kWrongUsage);
  EXPECT_THAT(Run({"detr", path, "--draw", "out.jpg"}).err,
              HasSubstr("must end in .png, is 'out.jpg'"));
  EXPECT_THAT(Run({"detr", "-", "-"}).err, HasSubstr("can be read once"));
  EXPECT_THAT(Run({"detr", path, "--threshold", "50%"}).err,
              HasSubstr("--threshold: must be from 0 to 1, is '50%'"));
  const Ended folder =
      Run({"detr", path, "--draw", folder_.Path("none/out.png")});
  EXPECT_EQ(folder.code, kWrongUsage);
  EXPECT_THAT(folder.err, HasSubstr("there is no folder"));
  const std::string circle = folder_.Path("circle");
  std::filesystem::create_directory_symlink("circle", circle);
  EXPECT_THAT(Run({"detr", path, "--draw", circle + "/out.png"}).err,
              HasSubstr("there is no folder"));
}

TEST_F(CommandsDetectTest, TellsOfADrawingThatCouldNotBeWritten) {
  std::filesystem::create_directory(folder_.Path("out.png"));
  const Ended ended =
      Run({"detr", WritePng("a.png"), "--draw", folder_.Path("out.png")});
  EXPECT_EQ(ended.code, kFailed);
  EXPECT_THAT(ended.out, HasSubstr("w400"));
  EXPECT_THAT(ended.err, AllOf(HasSubstr("out.png': Is a directory"),
                               Not(HasSubstr("->"))));
  const std::string full = folder_.Path("full.png");
  std::filesystem::create_symlink("/dev/full", full);
  const Ended json =
      Run({"detr", WritePng("a.png"), "--draw", full}, /*json=*/true);
  EXPECT_EQ(json.code, kFailed);
  const auto lines = Lines(json.out);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_TRUE(lines[0].contains("response"));
  EXPECT_THAT(std::string(lines[0]["error"]["message"]),
              HasSubstr("No space left on device"));
  EXPECT_FALSE(lines[0].contains("drawn"));
}

TEST_F(CommandsDetectTest, DrawsOnNoPictureOfAnotherSize) {
  EXPECT_CALL(client_, DetectObjects)
      .WillOnce([](const v1::DetectObjectsRequest& request) {
        auto response = Half(request);
        response->set_image_width(7);
        return response;
      });
  const Ended ended =
      Run({"detr", WritePng("a.png"), "--draw", folder_.Path("out.png")});
  EXPECT_EQ(ended.code, kRefused);
  EXPECT_THAT(ended.err, HasSubstr("has 400x300 pixels here, but 7x300 to "
                                   "the server"));
}

}  // namespace
}  // namespace ounce::client
