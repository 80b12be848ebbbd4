#include "client/picture_file.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/byte_size.h"
#include "base/status_macros.h"
#include "client/input_file.h"

namespace ounce::client {
namespace {

constexpr const char* kEndings[] = {".jpg", ".jpeg", ".png", ".webp"};

bool IsPicture(const std::filesystem::path& file) {
  const std::string ending = absl::AsciiStrToLower(file.extension().string());
  return std::count(std::begin(kEndings), std::end(kEndings), ending) > 0;
}

}  // namespace

absl::StatusOr<std::string> ReadPicture(const std::string& path,
                                        int64_t max_bytes) {
  absl::StatusOr<std::string> bytes =
      ReadInput(path, {.what = "picture",
                       .advice = "models look at about a megapixel, so send it "
                                 "smaller or as a JPEG",
                       .max_bytes = max_bytes});
  if (bytes.ok() && bytes->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        InputName(path), ": is empty, not a JPEG, PNG or WebP file"));
  }
  return bytes;
}

absl::StatusOr<std::vector<std::string>> ReadPictures(
    const std::vector<std::string>& paths, int64_t max_bytes) {
  int64_t room = max_bytes;
  std::vector<std::string> pictures;
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(std::string bytes, ReadPicture(path));
    room -= static_cast<int64_t>(bytes.size());
    if (room < 0) {
      return absl::ResourceExhaustedError(absl::StrCat(
          InputName(path), ": the pictures up to this one have more than ",
          FormatByteSize(max_bytes),
          ", the most that a server takes; give fewer or smaller ones"));
    }
    pictures.push_back(std::move(bytes));
  }
  return pictures;
}

absl::StatusOr<std::vector<std::string>> PicturesIn(const std::string& folder) {
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  std::vector<std::string> paths;
  for (; !error && entry != end(entry); entry.increment(error)) {
    if (IsPicture(entry->path())) paths.push_back(entry->path().string());
  }
  if (error) {
    return absl::ErrnoToStatus(
        error.value(), absl::StrCat("cannot read the folder '", folder, "'"));
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string PictureEndings() {
  const auto last = std::end(kEndings) - 1;
  return absl::StrCat(absl::StrJoin(std::begin(kEndings), last, ", "), " or ",
                      *last);
}

}  // namespace ounce::client
