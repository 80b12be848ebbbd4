// Frames of HTTP/2 as a client or a server writes them, for tests.
#ifndef OUNCE_TESTS_SERVER_NET_HTTP2_FRAMES_H_
#define OUNCE_TESTS_SERVER_NET_HTTP2_FRAMES_H_

#include <cstdint>
#include <string>

namespace ounce::testing {

inline constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum FrameType {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kReset = 3,
  kSettings = 4,
  kPing = 6,
  kGoAway = 7,
  kWindowUpdate = 8,
  kContinuation = 9
};
inline constexpr int kEndStream = 1;
inline constexpr int kAck = 1;
inline constexpr int kEndHeaders = 4;

inline std::string Number(uint32_t number, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) {
    text.push_back(static_cast<char>(number >> (8 * i)));
  }
  return text;
}

inline std::string Frame(FrameType type, int flags, uint32_t stream,
                         const std::string& payload = "") {
  return Number(static_cast<uint32_t>(payload.size()), 3) +
         static_cast<char>(type) + static_cast<char>(flags) +
         Number(stream, 4) + payload;
}

inline std::string Start() { return kPreface + Frame(kSettings, 0, 0); }

// A header field, uncompressed; name and value are shorter than 127 bytes.
inline std::string Field(const std::string& name, const std::string& value) {
  return std::string(1, '\0') + static_cast<char>(name.size()) + name +
         static_cast<char>(value.size()) + value;
}

// What gRPC wants of a call to `path`, such as /ounce.v1.Inference/Tokenize.
inline std::string CallFields(const std::string& path) {
  return Field(":method", "POST") + Field(":scheme", "http") +
         Field(":path", path) + Field(":authority", "test") +
         Field("te", "trailers") + Field("content-type", "application/grpc");
}

// A message with gRPC's prefix.
inline std::string Message(const std::string& bytes) {
  return std::string(1, '\0') + Number(static_cast<uint32_t>(bytes.size()), 4) +
         bytes;
}

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_SERVER_NET_HTTP2_FRAMES_H_
