// A folder that lives as long as the object, for tests that read files.
//
//   TempFolder folder;
//   const std::string path = folder.WriteFile("config.json", "{}");
#ifndef OUNCE_TESTS_TESTING_TEMP_FOLDER_H_
#define OUNCE_TESTS_TESTING_TEMP_FOLDER_H_

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

#include "base/check.h"

namespace ounce::testing {

// Ownership: the destructor removes the folder and all that is in it.
class TempFolder {
 public:
  TempFolder() {
    std::string path =
        (std::filesystem::temp_directory_path() / "ounce_test_XXXXXX").string();
    OUNCE_CHECK(mkdtemp(path.data()) != nullptr, "no temporary folder");
    path_ = path;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // The path of `name` in the folder, whether it exists or not.
  std::string Path(std::string_view name) const {
    return (path_ / name).string();
  }

  // Makes folders in between, replaces what was there, returns the path.
  std::string WriteFile(std::string_view name, std::string_view bytes) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream out(file, std::ios::binary | std::ios::trunc);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    out.close();
    OUNCE_CHECK(out.good(), "a file could not be written");
    return file.string();
  }

 private:
  std::filesystem::path path_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_TEMP_FOLDER_H_
