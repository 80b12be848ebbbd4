// How much of everything a request may hold: the one table. The judge of raw
// bytes (message_judge.h) enforces it before a message is built, so a check
// that follows may rely on it.
#ifndef OUNCE_SERVER_SERVICE_REQUEST_LIMITS_H_
#define OUNCE_SERVER_SERVICE_REQUEST_LIMITS_H_

#include <google/protobuf/descriptor.h>

#include <cstddef>
#include <string_view>

#include "absl/types/span.h"

namespace ounce::server {

// Of one request to generate text, in every protocol.
inline constexpr size_t kMaxPromptBytes = size_t{1} << 20;
inline constexpr int kMaxStops = 16;
inline constexpr size_t kMaxStopBytes = 256;

// 0 bytes: as many as the server's largest message has.
struct FieldLimit {
  std::string_view field;  // its full name, without the package
  // If it is repeated, or in a message that is: in all of these together.
  int max_elements = 1;
  size_t max_bytes = 256;  // of each element, if it is string or bytes
};
struct MessageLimit {
  std::string_view message;
  size_t max_bytes = size_t{64} << 10;
};

absl::Span<const FieldLimit> FieldLimits();

// The row of a field. Without one: a singular field has the defaults above, a
// repeated one may hold nothing.
FieldLimit LimitOf(const google::protobuf::FieldDescriptor& field);
// Bytes of a whole request of this type.
size_t MaxBytesOf(const google::protobuf::Descriptor& message);

// A singular field that is given again replaces the earlier value, so often.
inline constexpr int kMaxOccurrences = 16;
// Fields that a message does not have, as a newer client may send them.
inline constexpr int kMaxUnknownFields = 256;
inline constexpr size_t kMaxUnknownBytes = size_t{64} << 10;
// Messages in messages; ours are two deep.
inline constexpr int kMaxDepth = 16;

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_REQUEST_LIMITS_H_
