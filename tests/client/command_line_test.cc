#include "client/command_line.h"

#include <string>
#include <vector>

#include "client/command.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

struct Parsed {
  std::optional<int> code;
  std::string out, err;
  std::vector<std::string> words;
  uint32_t top_tokens = 0;
  float share = 0;
  bool really = false;
};

Parsed ParseWords(std::vector<const char*> args) {
  Parsed parsed;
  CLI::App app("A program.", "prog");
  app.formatter(std::make_shared<HelpFormatter>());
  app.require_subcommand(1);
  app.fallthrough();
  bool quiet = false;
  app.add_flag(Names("--be_quiet"), quiet, "Hush");
  CLI::App* repeat = app.add_subcommand("repeat", "Say it again");
  repeat->add_option("WORD", parsed.words, "A word")->required();
  repeat->add_option(Names("-k,--top_tokens"), parsed.top_tokens, "How many")
      ->type_name("K")
      ->transform(WholeNumber(1000));
  repeat->add_option("--share", parsed.share, "How much")
      ->transform(Number("from 0 to 1"));
  repeat->add_flag(Names("--really_do_it"), parsed.really, "Not a dry run");
  app.add_subcommand("quantize", "Make it small");
  args.insert(args.begin(), "prog");
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  parsed.code = Parse(app, static_cast<int>(args.size()), args.data());
  parsed.out = ::testing::internal::GetCapturedStdout();
  parsed.err = ::testing::internal::GetCapturedStderr();
  return parsed;
}

// The errors of a wrong line.
std::string Wrong(std::vector<const char*> args) {
  const Parsed parsed = ParseWords(std::move(args));
  EXPECT_EQ(parsed.code, kWrongUsage);
  EXPECT_THAT(parsed.out, IsEmpty());
  return parsed.err;
}

TEST(CommandLineTest, TakesFlagsWithUnderscoresOrDashes) {
  for (const char* flag : {"--top_tokens", "--top-tokens", "-k"}) {
    const Parsed parsed = ParseWords({"repeat", "a", flag, "7"});
    EXPECT_FALSE(parsed.code.has_value()) << parsed.err;
    EXPECT_EQ(parsed.top_tokens, 7u) << flag;
  }
  for (const char* flag : {"--really_do_it", "--really-do-it"}) {
    EXPECT_TRUE(ParseWords({"repeat", "a", flag}).really) << flag;
  }
}

TEST(CommandLineTest, ListsEachFlagOnceInItsOrder) {
  const std::string help = ParseWords({"repeat", "--help"}).out;
  EXPECT_THAT(
      help,
      AllOf(HasSubstr("-k,--top_tokens K "), HasSubstr("--really_do_it "),
            Not(HasSubstr("top-tokens")), Not(HasSubstr("really-do-it"))));
  EXPECT_LT(help.find("--top_tokens"), help.find("--share"));
  EXPECT_LT(help.find("--share"), help.find("--really_do_it"));
}

TEST(CommandLineTest, SuggestsTheCommandThatWasMeant) {
  EXPECT_THAT(Wrong({"repaet", "a"}),
              HasSubstr("prog: no command 'repaet'; did you mean 'repeat'?\n"));
  EXPECT_THAT(Wrong({"quantise"}), HasSubstr("did you mean 'quantize'?"));
  EXPECT_THAT(Wrong({"dance"}),
              AllOf(HasSubstr("no command 'dance'\n"),
                    HasSubstr("'prog help' lists the commands")));
  // A command's name in a later place; help for what is none.
  EXPECT_THAT(Wrong({"repaet", "quantize"}), HasSubstr("no command 'repaet'"));
  EXPECT_THAT(Wrong({"dance", "--help"}), HasSubstr("no command 'dance'"));
  EXPECT_THAT(Wrong({"help", "repeet"}), HasSubstr("did you mean 'repeat'?"));
  EXPECT_THAT(Wrong({}), HasSubstr("a command is missing"));
}

TEST(CommandLineTest, HasACommandForHelp) {
  const Parsed all = ParseWords({"help"});
  EXPECT_EQ(all.code, 0);
  EXPECT_EQ(all.out, ParseWords({"--help"}).out);
  EXPECT_THAT(all.out, AllOf(HasSubstr("repeat "), HasSubstr("help ")));
  const Parsed one = ParseWords({"help", "repeat"});
  EXPECT_EQ(one.code, 0);
  EXPECT_EQ(one.out, ParseWords({"repeat", "--help"}).out);
}

TEST(CommandLineTest, SaysWhichFlagIsUnknown) {
  EXPECT_THAT(Wrong({"repeat", "a", "--top-token", "--foo"}),
              HasSubstr("prog repeat: no flag '--top-token'; did you mean "
                        "--top-tokens?\n'prog help repeat' tells more.\n"));
  EXPECT_THAT(Wrong({"repeat", "a", "--top_token"}),
              HasSubstr("did you mean --top_tokens?"));
  EXPECT_THAT(Wrong({"--be_quit", "repeat", "a"}),
              HasSubstr("did you mean --be_quiet?"));
  EXPECT_THAT(Wrong({"quantize", "a"}),
              HasSubstr("prog quantize: unexpected 'a'; quote"));
}

TEST(CommandLineTest, SaysWhereTextWithADashGoes) {
  EXPECT_THAT(Wrong({"repeat"}), HasSubstr("prog repeat: WORD is missing\n"));
  EXPECT_THAT(Wrong({"repeat", "-x foo"}),
              HasSubstr("goes last, after --: prog repeat ... -- '-x foo'"));
  EXPECT_EQ(ParseWords({"repeat", "-k", "3", "--", "-x foo"}).words,
            std::vector<std::string>{"-x foo"});
  EXPECT_EQ(ParseWords({"repeat", "- x"}).words,
            std::vector<std::string>{"- x"});
}

TEST(CommandLineTest, SaysWhatANumberMustBe) {
  for (const char* number : {"abc", "-1", "1001", "1.5", "", "0x10"}) {
    EXPECT_THAT(Wrong({"repeat", "a", "-k", number}),
                HasSubstr(std::string("prog repeat: --top_tokens: must be a "
                                      "whole number from 0 to 1000, is '") +
                          number + "'\n"));
  }
  EXPECT_THAT(Wrong({"repeat", "a", "--share", "50%"}),
              HasSubstr("prog repeat: --share: must be from 0 to 1, is '50%'"));
  EXPECT_THAT(Wrong({"repeat", "a", "--share"}),
              HasSubstr("--share: needs a value"));
  EXPECT_THAT(Wrong({"repeat", "a", "-k", "1", "-k", "2"}),
              HasSubstr("--top_tokens: may be given once"));
  EXPECT_EQ(ParseWords({"repeat", "a", "--share", "0.25"}).share, 0.25f);
  // CLI11 would read an octal number.
  EXPECT_EQ(ParseWords({"repeat", "a", "-k", "010"}).top_tokens, 10u);
}

TEST(CommandLineTest, SaysWhatAFlagMayBe) {
  EXPECT_THAT(
      Wrong({"repeat", "a", "--really_do_it=maybe"}),
      HasSubstr("prog repeat: --really_do_it: must be true or false, is "
                "'maybe'\n"));
}

TEST(CommandLineTest, SuggestsOnlyWhatIsClose) {
  const std::vector<std::string> known = {"generate", "models", "load"};
  EXPECT_EQ(DidYouMean("genrate", known), "generate");
  EXPECT_EQ(DidYouMean("modles", known), "models");
  EXPECT_EQ(DidYouMean("model", known), "models");
  EXPECT_EQ(DidYouMean("laod", known), "load");
  EXPECT_EQ(DidYouMean("unlaod", known), "");
  EXPECT_EQ(DidYouMean("x", known), "");
  EXPECT_EQ(DidYouMean("", known), "");
}

}  // namespace
}  // namespace ounce::client
