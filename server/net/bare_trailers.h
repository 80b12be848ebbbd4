// What gRPC's core answers by itself, to a call that no service gets to see: a
// header block that it writes by hand, with neither tables nor Huffman's code,
//
//   [:status 200, content-type application/grpc,] grpc-status N,
//   grpc-message TEXT
//
// each field a literal with its name (RFC 7541, 6.2.2). So it can be read, and
// more fields put behind it, without what a connection's tables hold.
#ifndef OUNCE_SERVER_NET_BARE_TRAILERS_H_
#define OUNCE_SERVER_NET_BARE_TRAILERS_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace ounce::server {

struct BareTrailers {
  int code = 0;         // gRPC's
  std::string message;  // as it was given to gRPC
};

// Appends fields to the block of such trailers. Called on the thread of their
// connection, for an answer that is about to go out; does not throw.
using CompleteTrailers =
    std::function<void(const BareTrailers& trailers, std::string* block)>;

// Nothing if `block` holds anything else.
std::optional<BareTrailers> ReadBareTrailers(absl::string_view block);

// `name` in small letters; `value` in printable ASCII.
void AppendField(absl::string_view name, absl::string_view value,
                 std::string* block);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_NET_BARE_TRAILERS_H_
