// Judges the raw bytes of a request before a message is built of them. A
// serialized message may hold millions of empty strings, or of fields that
// nobody knows, each of which costs far more in memory than on the wire; what
// is refused here has cost no more than its own bytes.
//
//   bytes, in slices --> number and size of every field, depth, UTF-8 -->
//   parser
//
// One pass that ends at the first fault; copies nothing but strings that lie
// across two slices. What it accepts, protobuf parses.
#ifndef OUNCE_SERVER_SERVICE_MESSAGE_JUDGE_H_
#define OUNCE_SERVER_SERVICE_MESSAGE_JUDGE_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/zero_copy_stream.h>

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ounce::server {

// `size`: of all of `bytes`, at most 2^31 - 1.
// Errors: kInvalidArgument naming the field, for what request_limits.h forbids,
//   strings that are not UTF-8, groups, and bytes that are no such message;
//   kResourceExhausted for a request that is too large as a whole.
absl::Status JudgeMessage(google::protobuf::io::ZeroCopyInputStream* bytes,
                          size_t size,
                          const google::protobuf::Descriptor& type);

// The error about a text of `size` bytes of which the first `valid` are UTF-8.
absl::Status NotUtf8(absl::string_view field, size_t valid, size_t size);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_MESSAGE_JUDGE_H_
