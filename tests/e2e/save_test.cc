// Models of a real server, saved to folders from which it loads them again.
#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/e2e/serving.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using testing::Finished;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::StatusIs;
using ::testing::UnorderedElementsAre;

class SaveTest : public testing::ServingTest {
 protected:
  SaveTest() { std::filesystem::create_directory(folder_.Path("root")); }

  void StartSaving(const std::string& model) {
    Start({"--model", model, "--save_root", folder_.Path("root")});
  }
  absl::StatusOr<v1::SaveModelReport> Save(
      const std::string& folder, const std::string& format = "",
      const std::function<bool(const v1::SaveModelProgress&)>& on_message =
          [](const v1::SaveModelProgress&) { return true; }) {
    v1::SaveModelRequest request;
    request.set_model("tiny");
    request.set_folder(folder);
    request.set_format(format);
    v1::SaveModelReport report;
    const absl::Status status =
        client_->SaveModel(request, [&](const v1::SaveModelProgress& progress) {
          if (progress.has_report()) report = progress.report();
          return on_message(progress);
        });
    if (!status.ok()) return status;
    return report;
  }
  absl::Status Load(const std::string& name, const std::string& path) {
    v1::LoadModelRequest request;
    request.set_name(name);
    request.set_path(path);
    return client_->LoadModel(request).status();
  }
  std::string TextOf(const std::string& model) {
    v1::GenerateRequest request = Request("def fibonacci(n):\n    ", 60);
    request.set_model(model);
    const auto generated = Generate(request);
    EXPECT_OK(generated);
    return generated.ok() ? generated->first : "";
  }
  std::vector<std::string> InRoot() {
    std::vector<std::string> names;
    for (const auto& entry :
         std::filesystem::directory_iterator(folder_.Path("root"))) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }
};

TEST_F(SaveTest, WhatIsSavedLoadsToTheSameTokens) {
  StartSaving(absl::StrCat("tiny=", testing::kTinyModel, ",method=linear"));
  const Finished cli =
      Cli({"save", "tiny", "variants/int8", "--format", "ounce"});
  ASSERT_EQ(cli.code, 0) << cli.err;
  const std::string folder =
      std::filesystem::canonical(folder_.Path("root/variants/int8")).string();
  EXPECT_THAT(
      cli.out,
      AllOf(HasSubstr("tiny v1 (linear) saved in the format ounce"),
            ContainsRegex("model.safetensors +[0-9.]+ MiB\n"),
            ContainsRegex("tokenizer.json +"), ContainsRegex("README.md +"),
            HasSubstr("ounce load NAME '" + folder + "' serves it\n")));
  EXPECT_THAT(cli.err, HasSubstr("saving "));

  EXPECT_EQ(Cli({"load", "again", folder}).code, 0);
  const v1::Model saved = Model("tiny"), again = Model("again");
  EXPECT_EQ(again.method(), "linear");
  EXPECT_EQ(again.stored_bytes(), saved.stored_bytes());
  EXPECT_EQ(again.resident_bytes(), saved.resident_bytes());
  EXPECT_EQ(TextOf("again"), TextOf("tiny"));

  EXPECT_EQ(Metric("ounce_saves_total", {"model=\"tiny\"", "outcome=\"done\""}),
            1);
  EXPECT_GT(Metric("ounce_save_written_bytes_total", {"model=\"tiny\""}), 1e6);
  EXPECT_THAT(server_->err(), AllOf(HasSubstr("saved as ounce in"),
                                    Not(HasSubstr("variants"))));
}

TEST_F(SaveTest, TellsWhatItWroteAsJson) {
  StartSaving(absl::StrCat("tiny=", testing::kTinyModel, ",method=linear"));
  const Finished cli =
      Cli({"save", "tiny", "a", "--max_shard_bytes", "1000000", "--json"});
  ASSERT_EQ(cli.code, 0) << cli.err;
  const size_t last = cli.out.rfind('\n', cli.out.size() - 2);
  const auto message = nlohmann::json::parse(
      cli.out.substr(last == std::string::npos ? 0 : last + 1));
  EXPECT_EQ(message["bytes_done"], message["bytes_total"]);
  const auto& report = message["report"];
  EXPECT_EQ(report["plan"], "linear");
  int shards = 0;
  for (const auto& file : report["files"]) {
    const std::string name = file["name"];
    shards += name.starts_with("model-0");
    EXPECT_EQ(file["bytes"],
              std::filesystem::file_size(folder_.Path("root/a/" + name)));
  }
  EXPECT_GT(shards, 1);
}

TEST_F(SaveTest, WithoutASaveRootNothingIsSaved) {
  Start();
  const Finished cli = Cli({"save", "tiny", folder_.Path("root/a")});
  EXPECT_EQ(cli.code, 3);
  EXPECT_THAT(cli.err, AllOf(HasSubstr("FAILED_PRECONDITION"),
                             HasSubstr("start it with --save_root DIR")));
  EXPECT_THAT(InRoot(), IsEmpty());
  EXPECT_EQ(client_->GetServer()->save_root(), "");
}

TEST_F(SaveTest, WritesNowhereButBelowItsRoot) {
  StartSaving(absl::StrCat("tiny=", testing::kTinyModel));
  EXPECT_EQ(client_->GetServer()->save_root(), folder_.Path("root"));
  std::filesystem::create_directory(folder_.Path("outside"));
  std::filesystem::create_directory_symlink(folder_.Path("outside"),
                                            folder_.Path("root/sly"));
  EXPECT_THAT(Save("../outside/a"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Save("a/../../outside/a"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  for (const std::string& path :
       {folder_.Path("outside/a"), std::string("sly/a"), std::string("/tmp")}) {
    EXPECT_THAT(Save(path), StatusIs(absl::StatusCode::kPermissionDenied,
                                     HasSubstr("not below --save_root")))
        << path;
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.Path("outside")));
  EXPECT_THAT(InRoot(), UnorderedElementsAre("sly"));
  ASSERT_OK(Save("a"));
  const Finished twice = Cli({"save", "tiny", "a"});
  EXPECT_EQ(twice.code, 3);
  EXPECT_THAT(twice.err, HasSubstr("is there already; name another one"));
  // Nothing of what calls named.
  EXPECT_THAT(server_->err(),
              AllOf(HasSubstr("model tiny: ALREADY_EXISTS: FOLDER_EXISTS"),
                    HasSubstr("PERMISSION_DENIED: PATH_NOT_ALLOWED"),
                    Not(HasSubstr("outside")), Not(HasSubstr("root/a"))));
}

TEST_F(SaveTest, ACancelledSaveLeavesNothing) {
  StartSaving("tiny=" + DeepModel() + ",method=linear");
  EXPECT_THAT(
      Save("a/b", "ounce", [](const v1::SaveModelProgress&) { return false; }),
      StatusIs(absl::StatusCode::kCancelled));
  EXPECT_TRUE(WaitUntil([&] {
    return Metric("ounce_saves_total",
                  {"model=\"tiny\"", "outcome=\"cancelled\""}) == 1;
  }));
  EXPECT_THAT(InRoot(), IsEmpty());
  EXPECT_EQ(Model("tiny").state(), v1::MODEL_STATE_READY);
  EXPECT_OK(Save("a/b", "ounce"));
}

TEST_F(SaveTest, AModelMayBeUnloadedWhileItIsSaved) {
  StartSaving("tiny=" + DeepModel() + ",method=linear");
  const auto other =
      client::Client::Create({.server = inference_, .admin = admin_});
  bool asked = false;
  const auto report =
      Save("a", "ounce", [&](const v1::SaveModelProgress& progress) {
        if (!std::exchange(asked, true) && !progress.has_report()) {
          v1::UnloadModelRequest unload;
          unload.set_name("tiny");
          EXPECT_OK(other->UnloadModel(unload));
        }
        return true;
      });
  ASSERT_OK(report);
  EXPECT_OK(Load("again", report->folder()));
  EXPECT_EQ(Model("again").method(), "linear");
}

TEST_F(SaveTest, HelpNamesTheFormatsThatTheServerHas) {
  Start();
  const std::string help = Cli({"save", "--help"}).out;
  const std::string methods = Cli({"methods"}).out;
  const auto known = client_->ListMethods();
  ASSERT_OK(known);
  EXPECT_GT(known->save_formats_size(), 2);
  for (const v1::SaveFormat& format : known->save_formats()) {
    EXPECT_THAT(help, ContainsRegex("[ \n]" + format.name() + "[ \n]"));
    EXPECT_THAT(methods,
                HasSubstr(format.name() + "  " + format.summary() + "\n"));
  }
  const Finished other = Cli({"save", "tiny", "a", "--format", "onnx"});
  EXPECT_EQ(other.code, 3);
}

}  // namespace
}  // namespace ounce
