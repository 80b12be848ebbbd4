#include "server/service/tokens.h"

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::Not;
using testing::StatusIs;

// Of "abc" and of "secret".
constexpr char kAbc[] =
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr char kSecret[] =
    "2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B";

class TokensTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& text) {
    return folder_.WriteFile("tokens", text);
  }

  const testing::TempFolder folder_;
};

TEST_F(TokensTest, LetsATokenDoWhatItsScopesSay) {
  ASSERT_OK_AND_ASSIGN(const auto tokens,
                       Tokens::Read(Write(absl::StrCat(
                           "# who calls\n\nci\tinfer,admin ", kAbc,
                           "  # since May\r\nweb infer ", kSecret, "\n"))));
  EXPECT_THAT(tokens->Check("Bearer abc", Scope::kInfer), IsOk());
  EXPECT_THAT(tokens->Check("bearer  abc", Scope::kAdmin), IsOk());
  EXPECT_THAT(tokens->Check("Bearer secret", Scope::kInfer), IsOk());
  EXPECT_THAT(
      tokens->Check("Bearer secret", Scope::kAdmin),
      StatusIs(absl::StatusCode::kPermissionDenied,
               "the token 'web' lacks the scope admin, which this call needs"));
  EXPECT_EQ(tokens->NameOf("Bearer secret"), "web");
  EXPECT_EQ(tokens->NameOf("Bearer wrong"), "");
}

TEST_F(TokensTest, RefusesAllElseWithoutRepeatingIt) {
  ASSERT_OK_AND_ASSIGN(const auto tokens,
                       Tokens::Read(Write(absl::StrCat("ci infer ", kAbc))));
  EXPECT_THAT(tokens->Check("", Scope::kInfer),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       HasSubstr("a token is needed")));
  for (const std::string& header :
       {std::string("Bearer secret"), std::string("Bearer "),
        std::string("Bearer ab"), std::string("Bearer abcd"),
        absl::StrCat("Bearer ", kAbc), "Bearer " + std::string(100'000, 's')}) {
    EXPECT_THAT(
        tokens->Check(header, Scope::kInfer),
        StatusIs(absl::StatusCode::kUnauthenticated,
                 AllOf(HasSubstr("is not known"), Not(HasSubstr("secret")))));
  }
  EXPECT_THAT(tokens->Check("Basic abc", Scope::kInfer),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       AllOf(HasSubstr("must be 'Bearer TOKEN'"),
                             Not(HasSubstr("abc")))));
}

TEST_F(TokensTest, SaysWhatIsWrongWithAFileAndQuotesNoLine) {
  const auto says = [&](const std::string& text, const std::string& what) {
    EXPECT_THAT(Tokens::Read(Write(text)).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("token_file: "), HasSubstr(what),
                               Not(HasSubstr("s3cret")))));
  };
  says(absl::StrCat("ci infer ", kAbc, "\ns3cret\n"),
       "line 2: must be NAME SCOPES SHA-256, has 1 word;");
  says("ci infer s3cret\n", "line 1: the SHA-256 must be 64 hexadecimal");
  says(absl::StrCat("c/i infer ", kAbc), "line 1: the name must be");
  says(absl::StrCat("ci all ", kAbc), "line 1: the scopes must be infer");
  says("# nobody\n", "holds no token");
  says(std::string(2 << 20, '#'), "larger than 1 MiB");
  EXPECT_THAT(Tokens::Read(folder_.Path("nothing")).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("No such file or directory")));
}

TEST_F(TokensTest, TakesANewFileAndKeepsTheOldOneWhenItIsBroken) {
  const std::string path = Write(absl::StrCat("ci infer ", kAbc));
  ASSERT_OK_AND_ASSIGN(const auto tokens, Tokens::Read(path));
  // Both, for a while.
  Write(absl::StrCat("ci infer ", kAbc, "\nci infer ", kSecret));
  EXPECT_THAT(tokens->Reload(), IsOk());
  EXPECT_THAT(tokens->Check("Bearer abc", Scope::kInfer), IsOk());
  EXPECT_THAT(tokens->Check("Bearer secret", Scope::kInfer), IsOk());
  Write(absl::StrCat("ci infer ", kSecret));
  EXPECT_THAT(tokens->Reload(), IsOk());
  EXPECT_FALSE(tokens->Check("Bearer abc", Scope::kInfer).ok());
  Write("half a li");
  EXPECT_FALSE(tokens->Reload().ok());
  EXPECT_THAT(tokens->Check("Bearer secret", Scope::kInfer), IsOk());
}

}  // namespace
}  // namespace ounce::server
