#include "client/picture_file.h"

#include <cstdio>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::client {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using testing::StatusIs;

TEST(PictureFileTest, ReadsAllBytes) {
  const testing::TempFolder folder;
  std::string bytes(3'000'000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(i * 7);
  }
  ASSERT_OK_AND_ASSIGN(const std::string read,
                       ReadPicture(folder.WriteFile("a.png", bytes)));
  EXPECT_TRUE(read == bytes);
}

TEST(PictureFileTest, NamesWhatItCannotRead) {
  const testing::TempFolder folder;
  EXPECT_THAT(ReadPicture(folder.Path("none.png")),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("none.png"), HasSubstr("No such"))));
  EXPECT_THAT(ReadPicture(folder.path().string()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(folder.path().string()),
                             HasSubstr("is a folder"))));
  EXPECT_THAT(ReadPicture(folder.WriteFile("empty.png", "")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("empty.png: is empty"),
                             HasSubstr("JPEG, PNG or WebP"))));
}

TEST(PictureFileTest, RefusesWhatNoMessageHolds) {
  const testing::TempFolder folder;
  const std::string path = folder.WriteFile("a.png", "12345");
  EXPECT_OK(ReadPicture(path, 5));
  EXPECT_THAT(ReadPicture(path, 4),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("a.png: is larger than 4 B"),
                             HasSubstr("send it smaller"))));
  // Endless: it must not be read to its end.
  EXPECT_THAT(ReadPicture("/dev/zero"),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(PictureFileTest, NamesThePictureThatIsOneTooMany) {
  const testing::TempFolder folder;
  const std::string path = folder.WriteFile("a.png", "12345");
  EXPECT_OK(ReadPictures({path, path}, 10));
  EXPECT_THAT(ReadPictures({path, path}, 9).status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("a.png: the pictures up to this one"),
                             HasSubstr("more than 9 B"))));
  // "-" is no name.
  ASSERT_NE(freopen(path.c_str(), "r", stdin), nullptr);
  EXPECT_THAT(ReadPictures({path, "-"}, 9).status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       StartsWith("stdin: the pictures up to this one")));
}

TEST(PictureFileTest, FindsThePicturesOfAFolderByTheirEndings) {
  const testing::TempFolder folder;
  EXPECT_THAT(PicturesIn(folder.path().string()).value(), IsEmpty());
  const std::string last = folder.WriteFile("c.WebP", "");
  const std::string second = folder.WriteFile("b.jpeg", "");
  const std::string first = folder.WriteFile("a.b.PNG", "");
  const std::string third = folder.WriteFile("b.jpg", "");
  for (const char* other : {"jpg", ".jpg", "a.jpg.txt", "a.gif"}) {
    folder.WriteFile(other, "");
  }
  EXPECT_THAT(PicturesIn(folder.path().string()).value(),
              ElementsAre(first, second, third, last));
  EXPECT_EQ(PictureEndings(), ".jpg, .jpeg, .png or .webp");
}

TEST(PictureFileTest, NamesTheFolderThatItCannotRead) {
  const testing::TempFolder folder;
  EXPECT_THAT(PicturesIn(folder.Path("none")),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("none"), HasSubstr("No such"))));
  EXPECT_THAT(PicturesIn(folder.WriteFile("a.png", "")),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("cannot read the folder '"),
                             HasSubstr("a.png"))));
}

}  // namespace
}  // namespace ounce::client
