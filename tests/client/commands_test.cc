// Commands but detect as they are typed, with a server made up here.
#include <pty.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/command.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/mock_client.h"

namespace ounce::client {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::NiceMock;
using ::testing::Not;
using ::testing::Return;

struct Ended {
  int code = -1;
  std::string out, err;
};

class CommandsTest : public ::testing::Test {
 protected:
  Ended Run(std::vector<std::string> args, bool json = false) {
    CLI::App app;
    Command command;
    AddTextCommands(app, &command);
    AddModelCommands(app, &command);
    AddQuantizeCommand(app, &command);
    AddSaveCommand(app, &command);
    AddHealthCommand(app, &command);
    std::reverse(args.begin(), args.end());
    app.parse(args);
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    Ended ended;
    ended.code = command(client_, json);
    ended.out = ::testing::internal::GetCapturedStdout();
    ended.err = ::testing::internal::GetCapturedStderr();
    return ended;
  }

  // What GetModel says after a call that did not come to its end.
  void ThenGetModelSays(const absl::StatusOr<v1::Model>& model) {
    EXPECT_CALL(client_, WithTimeout).WillOnce([model](absl::Duration) {
      auto asked = std::make_unique<NiceMock<MockClient>>();
      ON_CALL(*asked, GetModel).WillByDefault(Return(model));
      return asked;
    });
  }

  static v1::Model Code() {
    v1::Model model;
    model.set_name("code");
    model.set_version(1);
    model.set_method("float16");
    return model;
  }

  // Messages of two tokens, "ab" each, then `status`.
  void Generates(int num_messages, absl::Status status, bool sampled = false) {
    EXPECT_CALL(client_, Generate)
        .WillRepeatedly(
            [=](const v1::GenerateRequest&,
                const std::function<bool(const v1::GenerateResponse&)>& take) {
              for (int i = 0; i < num_messages; ++i) {
                v1::GenerateResponse response;
                response.set_text("ab");
                response.add_token_ids(1);
                response.add_token_ids(2);
                if (sampled) response.set_seed(7);
                if (!take(response)) return absl::CancelledError("cancelled");
              }
              return status;
            });
  }

  NiceMock<MockClient> client_;
};

TEST_F(CommandsTest, SaysAfterHowManyTokensACompletionEnded) {
  Generates(120, absl::UnavailableError("the server went away"));
  const Ended gone = Run({"generate", "code", "x"});
  EXPECT_EQ(gone.code, kFailed);
  EXPECT_THAT(
      gone.err,
      HasSubstr("ounce: UNAVAILABLE: the server went away after 240 tokens\n"));
  Generates(1, absl::CancelledError("cancelled"));
  EXPECT_EQ(Run({"generate", "code", "x"}).err,
            "ounce: cancelled after 2 tokens\n");
  Generates(0, absl::NotFoundError("no model 'code'"));
  EXPECT_EQ(Run({"generate", "code", "x"}).err,
            "ounce: NOT_FOUND: no model 'code'\n");
}

// What is not said is the model's to say.
TEST_F(CommandsTest, SendsOnlyWhatWasGiven) {
  v1::GenerateRequest sent;
  EXPECT_CALL(client_, Generate)
      .WillRepeatedly(
          [&](const v1::GenerateRequest& request,
              const std::function<bool(const v1::GenerateResponse&)>&) {
            sent = request;
            return absl::OkStatus();
          });
  Run({"generate", "code", "x"});
  EXPECT_FALSE(sent.has_max_new_tokens());
  EXPECT_EQ(sent.sampling().ByteSizeLong(), 0u);
  Run({"generate", "code", "x", "-n", "0", "-t", "0", "--top_k", "0", "--top_p",
       "0", "--min_p", "0", "--seed", "0"});
  EXPECT_TRUE(sent.has_max_new_tokens());
  EXPECT_TRUE(sent.sampling().has_temperature());
  EXPECT_TRUE(sent.sampling().has_top_k());
  EXPECT_TRUE(sent.sampling().has_top_p());
  EXPECT_TRUE(sent.sampling().has_min_p());
  EXPECT_FALSE(sent.sampling().has_repetition_penalty());
  EXPECT_TRUE(sent.sampling().has_seed());
}

TEST_F(CommandsTest, NotesFlagsThatHadNoEffect) {
  Generates(1, absl::OkStatus());
  EXPECT_THAT(
      Run({"generate", "code", "x", "--top-p", "0.9", "--seed", "1"}).err,
      HasSubstr("ounce: without --temperature the most probable token "
                "is taken: --top_p, --seed had no effect\n"));
  EXPECT_THAT(Run({"generate", "code", "x"}).err, Not(HasSubstr("no effect")));
  Generates(1, absl::OkStatus(), /*sampled=*/true);
  EXPECT_THAT(Run({"generate", "code", "x", "--top_p", "0.9"}).err,
              Not(HasSubstr("no effect")));
}

absl::Status Quantizing(
    const v1::QuantizeRequest&,
    const std::function<bool(const v1::QuantizeProgress&)>& take) {
  v1::QuantizeProgress progress;
  progress.set_stage(v1::QUANTIZE_STAGE_QUANTIZING);
  take(progress);
  return absl::CancelledError("cancelled");
}

TEST_F(CommandsTest, SaysWhatServesAfterACancelledQuantization) {
  EXPECT_CALL(client_, Quantize).WillRepeatedly(Quantizing);
  ThenGetModelSays(Code());
  const Ended cancelled = Run({"quantize", "code", "linear"});
  EXPECT_EQ(cancelled.code, kFailed);
  EXPECT_THAT(
      cancelled.err,
      HasSubstr("ounce: cancelled; code still serves version 1 (float16)\n"));

  EXPECT_CALL(client_, Quantize)
      .WillOnce(Return(absl::DeadlineExceededError("the deadline has passed")))
      .RetiresOnSaturation();
  ThenGetModelSays(Code());
  EXPECT_THAT(Run({"quantize", "code", "linear"}).err,
              HasSubstr("DEADLINE_EXCEEDED: the deadline has passed; code "
                        "still serves version 1 (float16)\n"));
  ThenGetModelSays(absl::UnavailableError("the server went away"));
  EXPECT_THAT(Run({"quantize", "code", "linear"}).err,
              HasSubstr("ounce: cancelled\n"));
}

v1::SaveModelProgress Saved() {
  v1::SaveModelProgress last;
  v1::SaveModelReport* report = last.mutable_report();
  report->set_model("code");
  report->set_version(2);
  report->set_plan("linear");
  report->set_folder("/models/saved/code");
  report->set_format("ounce");
  for (const auto& [name, bytes] :
       {std::pair("config.json", 1024), std::pair("model.safetensors", 4096)}) {
    v1::SavedFile* file = report->add_files();
    file->set_name(name);
    file->set_bytes(bytes);
  }
  return last;
}

TEST_F(CommandsTest, SavesAndShowsWhatWasWritten) {
  v1::SaveModelRequest sent;
  EXPECT_CALL(client_, SaveModel)
      .WillRepeatedly(
          [&](const v1::SaveModelRequest& request,
              const std::function<bool(const v1::SaveModelProgress&)>& take) {
            sent = request;
            v1::SaveModelProgress progress;
            progress.set_bytes_done(2048);
            progress.set_bytes_total(4096);
            take(progress);
            take(Saved());
            return absl::OkStatus();
          });
  const Ended done = Run({"save", "code", "saved/code", "--format", "ounce",
                          "--max-shard-bytes", "1000"});
  EXPECT_EQ(done.code, 0);
  EXPECT_EQ(sent.model(), "code");
  EXPECT_EQ(sent.folder(), "saved/code");
  EXPECT_EQ(sent.format(), "ounce");
  EXPECT_EQ(sent.max_shard_bytes(), 1000u);
  EXPECT_THAT(done.out,
              AllOf(HasSubstr("code v2 (linear) saved in the format ounce"),
                    ContainsRegex("config.json +1.00 KiB\n"),
                    ContainsRegex("model.safetensors +4.00 KiB\n"),
                    ContainsRegex("all +5.00 KiB\n"),
                    HasSubstr("ounce load NAME '/models/saved/code' serves it")));
  EXPECT_THAT(done.err, HasSubstr("saving 2048/4096\n"));
  const Ended as_json = Run({"save", "code", "saved/code"}, /*json=*/true);
  EXPECT_EQ(std::count(as_json.out.begin(), as_json.out.end(), '\n'), 2);
  EXPECT_EQ(as_json.err, "");
  EXPECT_EQ(sent.format(), "");
}

TEST_F(CommandsTest, SaysThatNothingIsLeftOfACancelledSave) {
  EXPECT_CALL(client_, SaveModel)
      .WillOnce(Return(absl::CancelledError("cancelled")))
      .WillOnce(Return(absl::AlreadyExistsError("folder: /a is there")));
  const Ended cancelled = Run({"save", "code", "a"});
  EXPECT_EQ(cancelled.code, kFailed);
  EXPECT_EQ(cancelled.err,
            "ounce: cancelled; nothing is left of 'a' on the server\n");
  const Ended refused = Run({"save", "code", "a"});
  EXPECT_EQ(refused.code, kRefused);
  EXPECT_EQ(refused.err, "ounce: ALREADY_EXISTS: folder: /a is there\n");
}

TEST_F(CommandsTest, SaysWhatBecameOfACancelledLoad) {
  EXPECT_CALL(client_, LoadModel)
      .WillRepeatedly(Return(absl::CancelledError("cancelled")));
  const auto load = [&] { return Run({"load", "code", "/models/code"}); };
  ThenGetModelSays(absl::NotFoundError("no model 'code'"));
  const Ended stopped = load();
  EXPECT_EQ(stopped.code, kFailed);
  EXPECT_EQ(stopped.err, "ounce: cancelled; 'code' is not served\n");
  ThenGetModelSays(Code());
  EXPECT_EQ(load().err,
            "ounce: cancelled; 'code' was loaded by then and is served: ounce "
            "unload code ends that\n");
  v1::Model loading = Code();
  loading.set_version(0);
  ThenGetModelSays(loading);
  EXPECT_EQ(load().err,
            "ounce: cancelled; the server still loads 'code': ounce models "
            "shows it\n");
}

TEST_F(CommandsTest, ShowsOnATerminalHowLongALoadTakes) {
  int owner = -1, terminal = -1;
  ASSERT_EQ(openpty(&owner, &terminal, nullptr, nullptr, nullptr), 0);
  std::string shown;
  EXPECT_CALL(client_, LoadModel).WillOnce([&](const v1::LoadModelRequest&) {
    while (shown.find("loading code: 1 s") == std::string::npos) {
      char bytes[256];
      const ssize_t num_read = read(owner, bytes, sizeof(bytes));
      if (num_read <= 0) break;
      shown.append(bytes, num_read);
    }
    return Code();
  });
  const int stderr_before = dup(STDERR_FILENO);
  ::testing::internal::CaptureStdout();
  dup2(terminal, STDERR_FILENO);
  CLI::App app;
  Command command;
  AddModelCommands(app, &command);
  app.parse("load code /models/code");
  const int code = command(client_, /*json=*/false);
  dup2(stderr_before, STDERR_FILENO);
  EXPECT_THAT(::testing::internal::GetCapturedStdout(), HasSubstr("code"));
  EXPECT_EQ(code, 0);
  EXPECT_THAT(shown, HasSubstr("\r\033[Kloading code: 1 s"));
  close(stderr_before);
  close(terminal);
  close(owner);
}

TEST_F(CommandsTest, ShowsWhatThePublicPortTellsWithoutTheAdminPort) {
  EXPECT_CALL(client_, ListModels)
      .WillRepeatedly(
          Return(absl::UnavailableError("nothing answers at \x1b[2Jhere")));
  EXPECT_CALL(client_, ListServedModels).WillRepeatedly([] {
    v1::ListServedModelsResponse response;
    v1::ServedModel* model = response.add_models();
    model->set_name("code");
    model->set_state(v1::MODEL_STATE_READY);
    model->add_tasks(v1::TASK_GENERATE);
    model->set_version(2);
    model->set_method("linear");
    model->set_architecture("codegen");
    return response;
  });
  const Ended models = Run({"models"});
  EXPECT_EQ(models.code, 0);
  EXPECT_THAT(models.out,
              ContainsRegex("MODEL +TASK +STATE +VERSION +METHOD +ARCHITECTURE"
                            "\ncode +generate +ready +2 +linear +codegen\n"));
  EXPECT_EQ(models.err,
            "ounce: sizes and load are left out, because only the admin port "
            "tells them: nothing answers at \xef\xbf\xbd[2Jhere\n");
  const Ended json = Run({"models"}, /*json=*/true);
  EXPECT_EQ(json.code, 0);
  EXPECT_THAT(json.out, HasSubstr("{\"models\":[{\"name\":\"code\""));

  EXPECT_CALL(client_, ListServedModels)
      .WillOnce(Return(absl::UnavailableError("nothing there either")));
  const Ended neither = Run({"models"});
  EXPECT_EQ(neither.code, kFailed);
  EXPECT_THAT(neither.err, HasSubstr("ounce: UNAVAILABLE: nothing answers"));
  EXPECT_THAT(neither.out, IsEmpty());
}

TEST_F(CommandsTest, EndsRunningRequestsOnlyIfForced) {
  std::vector<bool> forced;
  EXPECT_CALL(client_, UnloadModel)
      .WillRepeatedly([&](const v1::UnloadModelRequest& request) {
        forced.push_back(request.force());
        return v1::UnloadModelResponse();
      });
  EXPECT_EQ(Run({"unload", "code"}).out, "unloaded code\n");
  EXPECT_EQ(Run({"unload", "code", "--force"}).out, "unloaded code\n");
  EXPECT_THAT(forced, ElementsAre(false, true));
}

TEST_F(CommandsTest, SaysThatItIsNotReady) {
  EXPECT_CALL(client_, IsServing).WillOnce(Return(false));
  const Ended health = Run({"health"});
  EXPECT_EQ(health.code, kFailed);
  EXPECT_EQ(health.out, "not serving\n");
  EXPECT_THAT(health.err,
              HasSubstr("not ready: loading models, or shutting down"));
}

// --as "$NAME" with a name that is not set must not quantize what serves.
TEST_F(CommandsTest, TakesNoEmptyNameOrMethod) {
  EXPECT_CALL(client_, Quantize).Times(0);
  EXPECT_CALL(client_, LoadModel).Times(0);
  EXPECT_THROW(Run({"quantize", "code", "linear", "--as", ""}),
               CLI::ValidationError);
  EXPECT_THROW(Run({"load", "code", "/models/code", "--method", ""}),
               CLI::ValidationError);
}

TEST_F(CommandsTest, SaysWhyAModelMayNotServe) {
  EXPECT_CALL(client_, IsServing("models/code")).WillOnce(Return(false));
  EXPECT_THAT(Run({"health", "models/code"}).err,
              HasSubstr("it is being loaded or could not be"));
}

TEST_F(CommandsTest, LetsNoErrorWriteToTheTerminal) {
  EXPECT_CALL(client_, ListModels)
      .WillOnce(Return(absl::NotFoundError("no \x1b[2Jfile\nsecond line")));
  EXPECT_EQ(Run({"models"}).err,
            "ounce: NOT_FOUND: no \xef\xbf\xbd[2Jfile\nsecond line\n");
}

TEST_F(CommandsTest, PrintsNothingButJsonToStdout) {
  Generates(2, absl::OkStatus());
  const Ended ended = Run({"generate", "code", "x", "--echo"}, /*json=*/true);
  EXPECT_THAT(ended.err, IsEmpty());
  EXPECT_THAT(ended.out,
              AllOf(HasSubstr("{\"text\":\"ab\",\"token_ids\":[1,2]"),
                    HasSubstr("\"model_version\":0")));
}

}  // namespace
}  // namespace ounce::client
