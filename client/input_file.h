// Reads what is to be sent, whole.
#ifndef OUNCE_CLIENT_INPUT_FILE_H_
#define OUNCE_CLIENT_INPUT_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace ounce::client {

// "-" is "stdin"; others are their own name.
std::string InputName(const std::string& path);

// Of a path, without its folders.
std::string FileName(const std::string& path);

// What a server may call the text of this file in figures and cards; empty if
// it would not take the name.
std::string TextName(const std::string& path);

// Of one kind, for messages: `what` it is ("picture"), and what to do about one
// that is larger than `max_bytes`.
struct InputKind {
  const char* what;
  const char* advice;
  int64_t max_bytes;
};

// The bytes of the file, or of stdin if `path` is "-".
// Errors: name the file. What open(2) and read(2) say; kInvalidArgument when it
//   is a folder; kResourceExhausted above max_bytes, without reading on.
absl::StatusOr<std::string> ReadInput(const std::string& path,
                                      const InputKind& kind);

// The same of a text to measure a model on, of which a server takes 4 MiB.
absl::StatusOr<std::string> ReadText(const std::string& path,
                                     const char* advice);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_INPUT_FILE_H_
