// A folder that appears whole or not at all: written under a hidden name beside
// its own, put on the disk, then renamed.
#ifndef OUNCE_MODEL_SAVER_NEW_FOLDER_H_
#define OUNCE_MODEL_SAVER_NEW_FOLDER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace ounce::model {

// Whether an error of what is below came of the new folder or its disk, not of
// what is copied into it; and whether of a full disk.
bool IsOfNewFolder(const absl::Status& status);
bool IsOfFullDisk(const absl::Status& status);

// A file that is being written, anywhere in it.
// Threads: one at a time.
class NewFile {
 public:
  NewFile(int descriptor, std::string path);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  // Errors, with the path: kResourceExhausted for a full disk; kDataLoss.
  absl::Status WriteAt(int64_t offset, const void* data, int64_t bytes);
  // Waits until it is on the disk, and closes it. Errors: those of WriteAt.
  absl::Status Finish();

 private:
  int descriptor_;
  const std::string path_;
};

// Threads: one at a time.
class NewFolder {
 public:
  // `path` must not exist, its parent must. Errors: kAlreadyExists; kNotFound,
  // kPermissionDenied for the parent; kResourceExhausted unless `bytes` and a
  // little more are free where it lies.
  static absl::StatusOr<std::unique_ptr<NewFolder>> Make(
      const std::string& path, int64_t bytes);
  // Removes all of it, unless it was finished.
  ~NewFolder();

  // A new file of this name, of so many bytes, which are set aside. Errors:
  // those of NewFile.
  absl::StatusOr<std::unique_ptr<NewFile>> Create(const std::string& name,
                                                  int64_t bytes);
  // A whole file.
  absl::Status Write(const std::string& name, std::string_view content);
  // `proceed`, if any, is asked again and again; its error ends the work.
  absl::Status Copy(const std::string& name, const std::string& from,
                    const std::function<absl::Status()>& proceed = nullptr);
  // Where it is until then.
  const std::string& hidden_path() const { return hidden_; }
  // Gives the folder its name; all its files are on the disk. kAlreadyExists
  // if somebody else has it by now.
  absl::Status Finish();

 private:
  NewFolder(std::string path, std::string parent, std::string hidden);

  const std::string path_;
  const std::string parent_;
  const std::string hidden_;
  std::set<std::string> folders_;  // below it
  bool is_finished_ = false;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_SAVER_NEW_FOLDER_H_
