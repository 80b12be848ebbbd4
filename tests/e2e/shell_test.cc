// ounce at a prompt: completion in the shells that are there, and top.
#include <sys/ioctl.h>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "tests/e2e/serving.h"
#include "tests/e2e/terminal.h"

namespace ounce {
namespace {

using ::testing::AllOf;
using testing::Finished;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::RunToEnd;
using testing::Terminal;

class ShellTest : public testing::ServingTest {
 protected:
  void SetUp() override {
    Start();
    // `ounce`, and the scripts for each shell, as a person would have them.
    std::filesystem::create_directory(folder_.Path("bin"));
    std::filesystem::create_symlink(OUNCE_CLI_BINARY,
                                    folder_.Path("bin/ounce"));
    for (const std::string shell : {"bash", "zsh", "fish"}) {
      folder_.WriteFile("ounce." + shell, Cli({"completion", shell}).out);
    }
  }

  std::vector<std::string> Env(std::vector<std::string> args) const {
    args.insert(
        args.begin(),
        {"env", absl::StrCat("PATH=", folder_.Path("bin"), ":", getenv("PATH")),
         "OUNCE_SERVER=" + inference_, "OUNCE_ADMIN=" + admin_,
         "HOME=" + folder_.Path("."), "TERM=xterm", "PS1=$ "});
    return args;
  }

  // What bash's function makes of the words, as readline splits them.
  std::string Bash(const std::string& words) {
    const Finished done = RunToEnd(
        Env({"bash", "--norc", "-c",
             absl::StrCat("source ", folder_.Path("ounce.bash"), "\n",
                          "[[ $(complete -p ounce) == *'-F _ounce ounce' ]] || "
                          "exit 9\n",
                          "COMP_WORDS=(", words, ")\n",
                          "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n",
                          "_ounce ounce\n", "echo \"${COMPREPLY[*]}\"\n")}));
    EXPECT_EQ(done.code, 0) << done.err;
    return done.out;
  }

  static bool Has(const std::string& shell) {
    return RunToEnd({"sh", "-c", "command -v " + shell}).code == 0;
  }
};

TEST_F(ShellTest, BashCompletesCommandsFlagsAndNames) {
  EXPECT_EQ(Bash("ounce quan"), "quantize\n");
  EXPECT_EQ(Bash("ounce generate ''"), "tiny\n");
  EXPECT_EQ(Bash("ounce generate tiny --max_n"), "--max_new_tokens\n");
  EXPECT_EQ(Bash("ounce quantize tiny linea"), "linear\n");
  EXPECT_EQ(Bash("ounce completion ''"), "bash zsh fish\n");
  EXPECT_EQ(Bash("ounce generate tiny ''"), "\n");
}

TEST_F(ShellTest, BashCompletesBehindColonsAndEqualSigns) {
  // "--server 127.0.0.1:PORT gen", split as readline does.
  const size_t colon = inference_.rfind(':');
  EXPECT_EQ(Bash(absl::StrCat("ounce --server ", inference_.substr(0, colon),
                              " : ", inference_.substr(colon + 1), " gener")),
            "generate\n");
  EXPECT_EQ(Bash("ounce load a b --method = linea"), "linear\n");
  EXPECT_EQ(Bash("ounce load a b --method ="),
            Bash("ounce load a b --method ''"));
}

TEST_F(ShellTest, BashCompletesFiles) {
  folder_.WriteFile("a picture.png", "");
  EXPECT_EQ(Bash(absl::StrCat("ounce detect tiny ", folder_.Path("a"))),
            folder_.Path("a picture.png") + "\n");
}

TEST_F(ShellTest, ServersThatDontAnswerAreNotWaitedFor) {
  EXPECT_EQ(Bash("ounce --server 127.0.0.1 : 1 generate ''"), "\n");
}

TEST_F(ShellTest, TabCompletesInBash) {
  Terminal bash(Env({"bash", "--norc", "--noprofile", "-i"}), 100);
  bash.Type(
      absl::StrCat("source ", folder_.Path("ounce.bash"), "; echo rea''dy\n"));
  ASSERT_TRUE(bash.Shows("ready")) << bash.screen();
  bash.Type("ounce tokeni\tti\t'a' | wc -w | sed 's/^/words:/'\n");
  EXPECT_TRUE(bash.Shows("tokenize tiny 'a'")) << bash.screen();
  EXPECT_TRUE(bash.Shows("words:1")) << bash.screen();
  bash.Type("exit\n");
  EXPECT_EQ(bash.Wait(), 0);
}

TEST_F(ShellTest, TabCompletesInZsh) {
  if (!Has("zsh")) GTEST_SKIP() << "no zsh";
  Terminal zsh(Env({"zsh", "-f", "-i"}), 100);
  zsh.Type(absl::StrCat("autoload -U compinit; compinit -u; source ",
                        folder_.Path("ounce.zsh"), "; echo rea''dy\n"));
  ASSERT_TRUE(zsh.Shows("ready")) << zsh.screen();
  zsh.Type("ounce tokeni\tti\t'a' | wc -w | sed 's/^/words:/'\n");
  EXPECT_TRUE(zsh.Shows("words:1")) << zsh.screen();
  zsh.Type("exit\n");
  EXPECT_EQ(zsh.Wait(), 0);
}

TEST_F(ShellTest, FishCompletes) {
  if (!Has("fish")) GTEST_SKIP() << "no fish";
  const auto complete = [&](const std::string& line) {
    return RunToEnd(Env({"fish", "--no-config", "-c",
                         absl::StrCat("source ", folder_.Path("ounce.fish"),
                                      "; complete -C '", line, "'")}))
        .out;
  };
  EXPECT_EQ(complete("ounce quan"),
            "quantize\tQuantize a model, or restore it, without stopping it\n");
  EXPECT_EQ(complete("ounce generate t"), "tiny\n");
}

TEST_F(ShellTest, CompletionRefusesAShellThatItDoesNotKnow) {
  const Finished done = Cli({"completion", "csh"});
  EXPECT_EQ(done.code, 2);
  EXPECT_THAT(done.err,
              HasSubstr("SHELL: must be bash, zsh or fish, is 'csh'"));
}

TEST_F(ShellTest, TopPrintsOnceWhereThereIsNoTerminal) {
  const Finished text = Cli({"top", "--interval", "0.05"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, AllOf(HasSubstr("ounce-server "), HasSubstr("\ntiny "),
                              HasSubstr(" 0.0 "), Not(HasSubstr("\033"))));
  const Finished json = Cli({"top", "--json", "--interval", "0.05"});
  const auto parsed = nlohmann::json::parse(json.out);
  EXPECT_EQ(parsed["models"][0]["name"], "tiny");
  EXPECT_EQ(parsed["models"][0]["tokens_per_second"], 0.0);
}

TEST_F(ShellTest, TopCountsTheTokensThatComeMeanwhile) {
  ASSERT_TRUE(Generate(Request("def ", 24)).ok());
  EXPECT_TRUE(
      WaitUntil([&] { return Model("tiny").generated_tokens() == 24; }));
}

TEST_F(ShellTest, TopCountsThePicturesThatComeMeanwhile) {
  ASSERT_EQ(
      Cli({"load", "shapes", OUNCE_SOURCE_ROOT "/embedded/detr-tiny"}).code, 0);
  const Finished found = Cli(
      {"detect", "shapes",
       OUNCE_SOURCE_ROOT "/embedded/detr-tiny/examples/shapes-300x300.png"});
  ASSERT_EQ(found.code, 0) << found.err;
  EXPECT_EQ(Model("shapes").detected_pictures(), 1);
  EXPECT_EQ(Model("tiny").detected_pictures(), 0);
  EXPECT_THAT(Cli({"top", "--interval", "0.05"}).out,
              HasSubstr(" 0.0 pictures "));
}

TEST_F(ShellTest, TopFillsATerminalUntilItIsInterrupted) {
  Terminal top(Env({"ounce", "top", "--interval", "0.02"}), 100);
  ASSERT_TRUE(top.Shows("\033[Hounce-server ")) << top.screen();
  ASSERT_TRUE(top.Shows(" 0.0 ")) << top.screen();  // of a second look
  // Then it waits for the server to come back.
  Stop();
  ASSERT_TRUE(top.Shows("nothing answers at ")) << top.screen();
  top.Type("\x03");
  EXPECT_EQ(top.Wait(), 128 + SIGINT);
  EXPECT_THAT(top.screen(), Not(HasSubstr("cancelled")));
}

TEST_F(ShellTest, TopSaysAtOnceThatThereIsNoServer) {
  const Finished done =
      RunToEnd({OUNCE_CLI_BINARY, "--admin", "127.0.0.1:1", "top"});
  EXPECT_EQ(done.code, 4);
  EXPECT_THAT(done.err, HasSubstr("nothing answers at 127.0.0.1:1"));
}

}  // namespace
}  // namespace ounce
