#include "client/completion.h"

#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::client {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::StartsWith;

class CompletionTest : public ::testing::Test {
 protected:
  CompletionTest() : app_("", "ounce") {
    app_.add_option("--server", server_, "Inference")->type_name("HOST:PORT");
    app_.add_flag("--json", json_, "As JSON");
    AddTextCommands(app_, &command_);
    AddDetectCommand(app_, &command_);
    AddModelCommands(app_, &command_);
    AddQuantizeCommand(app_, &command_);
    AddSaveCommand(app_, &command_);
    AddInspectCommand(app_, &command_);
    AddHealthCommand(app_, &command_);
    AddCompletionCommand(app_, &command_);
  }

  // The words alone; whether files fit too is in `files_`.
  std::vector<std::string> Words(const std::vector<std::string>& typed) {
    const Completion completion =
        Complete(app_, typed,
                 {.models =
                      [] {
                        return std::vector<std::string>{"code", "shapes"};
                      },
                  .methods =
                      [] {
                        return std::vector<std::string>{"float16", "linear"};
                      },
                  .formats =
                      [] {
                        return std::vector<std::string>{"gguf", "ounce"};
                      }});
    files_ = completion.files;
    std::vector<std::string> words;
    for (const auto& [word, help] : completion.words) words.push_back(word);
    return words;
  }

  std::string server_;
  bool json_ = false;
  bool files_ = false;
  Command command_;
  CLI::App app_;
};

TEST_F(CompletionTest, OffersCommands) {
  EXPECT_THAT(Words({""}), IsSupersetOf({"generate", "models", "help"}));
  EXPECT_THAT(Words({"de"}), ElementsAre("detokenize", "detect"));
  EXPECT_THAT(Words({"help", "unl"}), ElementsAre("unload"));
  EXPECT_THAT(Words({"--json", "--server", "a:1", "unl"}),
              ElementsAre("unload"));
}

TEST_F(CompletionTest, SaysWhatEachIs) {
  const Completion completion = Complete(app_, {"unl"}, {});
  ASSERT_EQ(completion.words.size(), 1u);
  EXPECT_EQ(completion.words[0].second, "Stop serving a model");
}

TEST_F(CompletionTest, OffersTheFlagsOfTheCommandAndOfAll) {
  const auto flags = Words({"generate", "-"});
  EXPECT_THAT(flags, IsSupersetOf({"--max_new_tokens", "--top_k", "--stop",
                                   "--server", "--json", "--help"}));
  EXPECT_THAT(flags, Each(StartsWith("--")));
  EXPECT_THAT(flags, Not(Contains("--draw")));
  EXPECT_THAT(Words({"--"}), Not(Contains("--top_k")));
}

TEST_F(CompletionTest, OffersAFlagInTheFormThatIsTyped) {
  EXPECT_THAT(Words({"generate", "--max"}), ElementsAre("--max_new_tokens"));
  EXPECT_THAT(Words({"generate", "--max-"}), ElementsAre("--max-new-tokens"));
}

TEST_F(CompletionTest, OffersModelsWhereOneIsMeant) {
  for (const char* command :
       {"generate", "detect", "quantize", "tokenize", "unload", "inspect"}) {
    EXPECT_THAT(Words({command, ""}), ElementsAre("code", "shapes")) << command;
    EXPECT_EQ(files_, command == std::string("inspect"));
  }
  EXPECT_THAT(Words({"generate", "--top_k", "5", "--json", "s"}),
              ElementsAre("shapes"));
  EXPECT_THAT(Words({"load", ""}), IsEmpty());  // a new name
  EXPECT_THAT(Words({"health", "models/s"}), ElementsAre("models/shapes"));
}

TEST_F(CompletionTest, OffersTheFormatsThatTheServerSavesIn) {
  EXPECT_THAT(Words({"save", "c"}), ElementsAre("code"));
  EXPECT_THAT(Words({"save", "code", "a", "--format", ""}),
              ElementsAre("gguf", "ounce"));
  EXPECT_THAT(Words({"save", "code", "a", "--format=o"}),
              ElementsAre("--format=ounce"));
}

TEST_F(CompletionTest, OffersNothingForAPromptOrANumber) {
  EXPECT_THAT(Words({"generate", "code", ""}), IsEmpty());
  EXPECT_FALSE(files_);
  EXPECT_THAT(Words({"generate", "code", "--top_k", ""}), IsEmpty());
  EXPECT_FALSE(files_);
}

TEST_F(CompletionTest, OffersFilesWhereOneIsMeant) {
  Words({"detect", "shapes", ""});
  EXPECT_TRUE(files_);
  Words({"detect", "shapes", "a.png", "b.png", ""});
  EXPECT_TRUE(files_);
  Words({"quantize", "code", "linear", "--samples", ""});
  EXPECT_TRUE(files_);
  Words({"quantize", "code", "linear", "--samples", "a.txt", ""});
  EXPECT_TRUE(files_);  // it takes several
  Words({"quantize", "code", "linear", "--samples=a"});
  EXPECT_TRUE(files_);
  EXPECT_THAT(
      Words({"quantize", "code", "linear", "--samples", "a.txt", "--pr"}),
      ElementsAre("--probe"));
}

TEST_F(CompletionTest, OffersMethodsWhereASpecIsMeant) {
  EXPECT_THAT(Words({"quantize", "code", "li"}), ElementsAre("linear"));
  EXPECT_THAT(Words({"load", "a", "b", "--method", ""}),
              ElementsAre("float16", "linear"));
  EXPECT_THAT(Words({"load", "a", "b", "--method=f"}),
              ElementsAre("--method=float16"));
}

TEST_F(CompletionTest, TakesTheServerFromTheLine) {
  Words({"--server", "there:1", "generate", ""});
  EXPECT_EQ(server_, "there:1");
  Words({"generate", "--server=elsewhere:2", ""});
  EXPECT_EQ(server_, "elsewhere:2");
  Words({"generate", "--server", "typ"});  // not whole yet
  EXPECT_EQ(server_, "elsewhere:2");
}

TEST_F(CompletionTest, KnowsNoFlagsBehindTwoDashes) {
  EXPECT_THAT(Words({"generate", "code", "--", "--to"}), IsEmpty());
}

TEST_F(CompletionTest, HasAScriptForEachShellThatItOffers) {
  const auto shells = Words({"completion", ""});
  EXPECT_THAT(shells, ElementsAre("bash", "zsh", "fish"));
  for (const std::string& shell : shells) {
    EXPECT_TRUE(
        absl::StrContains(CompletionScript(shell), "ounce __complete") ||
        absl::StrContains(CompletionScript(shell), "} __complete") ||
        absl::StrContains(CompletionScript(shell), "\" __complete"))
        << shell;
  }
  EXPECT_EQ(CompletionScript("sh"), "");
}

}  // namespace
}  // namespace ounce::client
