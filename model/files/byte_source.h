// The bytes of one file, read piece by piece into the caller's buffer.
//
// Weight files are read with pread and not through a mapping: a mapped file
// that someone truncates kills the process with SIGBUS, a short pread is a
// Status; and what is read never counts as resident memory of this process.
// The page cache still keeps the file warm for the next reader, and gives it
// back when memory is wanted elsewhere.
//
// Threads: const after it was made, so any thread may read.
#ifndef OUNCE_MODEL_FILES_BYTE_SOURCE_H_
#define OUNCE_MODEL_FILES_BYTE_SOURCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ounce::model {

// Whether somebody still wants what is being read: an error ends the work with
// that error. Empty: always. Threads: that of the reader.
using Proceed = std::function<absl::Status()>;

class ByteSource {
 public:
  virtual ~ByteSource() = default;

  // For messages: the path, as it was given.
  const std::string& name() const { return name_; }
  // Bytes, when it was opened.
  int64_t size() const { return size_; }

  // Reads exactly `length` bytes at `offset`.
  // Errors: kInvalidArgument for a range outside [0, size()); kDataLoss when
  // the file has become shorter or cannot be read.
  absl::Status Read(int64_t offset, int64_t length, void* out) const;

  // Asked now and then by what may read for long.
  absl::Status CheckProceed() const {
    return proceed_ ? proceed_() : absl::OkStatus();
  }

 protected:
  ByteSource(std::string name, int64_t size, Proceed proceed = nullptr)
      : name_(std::move(name)), size_(size), proceed_(std::move(proceed)) {}

 private:
  // The range is inside [0, size()) and not empty.
  virtual absl::Status ReadInside(int64_t offset, int64_t length,
                                  void* out) const = 0;

  const std::string name_;
  const int64_t size_;
  const Proceed proceed_;
};

// Errors: kNotFound; kInvalidArgument for what is not a regular file, a link
// that leads nowhere, or a Git LFS pointer in the file's place;
// kPermissionDenied; kResourceExhausted when no descriptor or memory is left;
// kDataLoss for any other failure to open it.
absl::StatusOr<std::unique_ptr<ByteSource>> OpenFile(const std::string& path,
                                                     Proceed proceed = nullptr);

// Bytes that somebody else keeps; they must outlive the source.
std::unique_ptr<ByteSource> BytesInMemory(std::string name,
                                          std::string_view bytes);

// `text` in single quotes, cut to a readable length and escaped: what a file
// says may be anything.
std::string Quoted(std::string_view text);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_FILES_BYTE_SOURCE_H_
